import { afterEach, beforeEach } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/lib/logger.js';
import { encodeFrame } from '../../src/rpc/authority/frames.js';
import { connectUnix, type RpcConnection } from '../../src/rpc/client.js';
import type { ListenUnixOptions, RpcListener } from '../../src/rpc/listener.js';
import { createRpcServer, type RpcServer, type RpcServerOptions } from '../../src/rpc/server.js';
import type { CallContext } from '../../src/rpc/service.js';

/** How every HTTP/2 client begins (RFC 9113 §3.4), and empty settings. */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const settings = encodeFrame({ type: 4, flags: 0, stream: 0 }, Buffer.alloc(0));

/** Servers and connections of one test, in a directory of its own; all closed after it. */
export interface RpcFixture {
  readonly directory: string;
  /** Called in reverse after the test. */
  readonly closers: (() => Promise<void> | void)[];
  serverWith(options?: Partial<RpcServerOptions>): RpcServer;
  listen(server: RpcServer, options?: Partial<ListenUnixOptions>): Promise<RpcListener>;
  dial(path?: string): RpcConnection;
}

/** Call it once at the top of a test file. */
export function rpcFixture(): RpcFixture {
  let directory = '';
  const closers: (() => Promise<void> | void)[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'signet-rpc-'));
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    await rm(directory, { recursive: true, force: true });
  });
  return {
    get directory() {
      return directory;
    },
    closers,
    serverWith(options = {}) {
      const server = createRpcServer({ logger: silentLogger, standardServices: false, ...options });
      closers.push(() => server.close());
      return server;
    },
    listen: (server, options = {}) =>
      server.listenUnix({
        path: join(directory, 'api.sock'),
        mode: 0o600,
        name: 'shared',
        peerCredentials: false,
        ...options,
      }),
    dial(path = join(directory, 'api.sock')) {
      const connection = connectUnix(path);
      closers.push(() => connection.close());
      return connection;
    },
  };
}

/** Resolves when a context's signal is aborted, with its reason. */
export function aborted(context: CallContext): Promise<unknown> {
  return new Promise((resolve) => {
    if (context.signal.aborted) resolve(context.signal.reason);
    context.signal.addEventListener('abort', () => resolve(context.signal.reason), { once: true });
  });
}
