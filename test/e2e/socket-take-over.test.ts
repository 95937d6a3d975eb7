import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { start, type Program } from './support/process.js';
import { newScope } from './support/scope.js';

const HAND_OVERS = 200;
const CLIENTS = 8;

const here = dirname(fileURLToPath(import.meta.url));

/** Tells it to do something; gives its answer. */
async function tell(program: Program, command: string): Promise<string> {
  const from = program.lines.length;
  program.write(`${command}\n`);
  return program.line((line) => line, { from });
}

describe('a socket that one process takes over from another', () => {
  const scope = newScope();
  let path: string;
  let owners: readonly [Program, Program];

  beforeAll(() => {
    path = join(scope.folder(), 'api.sock');
    const command = [
      process.execPath,
      ...['--import', join(here, '../support/run-typescript.mjs'), '--disable-warning=ExperimentalWarning'],
      ...[join(here, 'support/socket-owner.ts'), path],
    ] as const;
    owners = [start(scope, command), start(scope, command)];
  });
  afterAll(() => scope.end());

  it('is there at every moment: whoever connects again is always let in', async () => {
    let [now, next] = owners;
    expect(await tell(now, 'open')).toBe('opened');
    const refused = new Set<string>();
    let connections = 0;
    let going = true;
    /** Connects, stays until it is closed, and connects again at once. */
    const client = async (stays: boolean): Promise<void> => {
      while (going)
        await new Promise<void>((resolve) => {
          const socket = connect({ path });
          socket.on('error', ({ code, message }: NodeJS.ErrnoException) => {
            // What it hears after it was let in is of the process that ends.
            if (socket.connecting || code === 'ENOENT' || code === 'ECONNREFUSED')
              refused.add(code ?? message);
          });
          socket.once('connect', () => {
            connections++;
            if (!stays) socket.destroy();
          });
          socket.resume();
          socket.once('close', () => resolve());
        });
    };
    const clients = Array.from({ length: CLIENTS }, (_, at) => client(at % 2 === 0));
    for (let at = 0; at < HAND_OVERS; at++) {
      expect(await tell(now, 'current')).toBe('true');
      expect(await tell(next, 'open')).toBe('opened');
      expect(await tell(now, 'current')).toBe('false');
      expect(await tell(now, 'close')).toBe('closed');
      [now, next] = [next, now];
    }
    going = false;
    expect([...refused]).toEqual([]);
    // Those that stay came back after each hand-over.
    expect(connections).toBeGreaterThan((HAND_OVERS * CLIENTS) / 2);
    expect(readdirSync(dirname(path))).toEqual(['api.sock']);
    expect(await tell(now, 'close')).toBe('closed');
    await Promise.all(clients);
    // Whoever comes next finds it, as after a process that was killed.
    expect(readdirSync(dirname(path))).toEqual(['api.sock']);
    expect(await tell(next, 'open')).toBe('opened');
  }, 60_000);
});
