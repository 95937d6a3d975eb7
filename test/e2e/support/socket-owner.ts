/**
 * A process that serves at a unix socket and takes it over from others: `node --import run-typescript.mjs socket-owner.ts
 * <path>`. Each line of its stdin is a command, answered by a line: `open` → `opened`, `current` → `true` or `false`,
 * `close` → `closed`.
 */
import { createInterface } from 'node:readline';
import { silentLogger } from '../../../src/lib/logger.js';
import type { RpcListener } from '../../../src/rpc/listener.js';
import { createRpcServer } from '../../../src/rpc/server.js';

const [, , path = ''] = process.argv;
const server = createRpcServer({ logger: silentLogger });
let listener: RpcListener | undefined;

const commands: Readonly<Record<string, () => Promise<string>>> = {
  async open() {
    listener = await server.listenUnix({
      ...{ path, mode: 0o666, takeOver: true, name: 'taken', peerCredentials: false },
    });
    return 'opened';
  },
  current: async () => String(await listener?.isCurrent()),
  async close() {
    await listener?.close();
    return 'closed';
  },
};

for await (const command of createInterface(process.stdin)) {
  const answer = await commands[command]?.();
  process.stdout.write(`${answer ?? 'what?'}\n`);
}
process.exit();
