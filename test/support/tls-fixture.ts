import { afterEach } from '@jest/globals';
import { systemRandom } from '../../src/lib/random.js';
import { connectTls, type ConnectTlsOptions, type RpcConnection } from '../../src/rpc/client.js';
import { createRpcServer, type RpcServer, type RpcServerOptions } from '../../src/rpc/server.js';
import type { TlsSvid } from '../../src/rpc/tls/identity.js';
import type { ListenTlsOptions, TlsRpcListener } from '../../src/rpc/tls/listener.js';
import { NOON } from './certificates.js';
import { FakeClock } from './fake-clock.js';
import { recordingLogger, type RecordingLogger } from './recording-logger.js';
import { AnyAuthority, TestTlsIdentity } from './tls-identity.js';

const SERVER = 'spiffe://own.test/signet/agent';

/** A gRPC server with an identity on a clock that stands still, and who else there is. */
export interface TlsWorld {
  readonly clock: FakeClock;
  readonly log: RecordingLogger;
  readonly server: RpcServer;
  /** The server's: it trusts `own` and `other`. */
  readonly identity: TestTlsIdentity;
  readonly own: AnyAuthority;
  /** Of a federated trust domain. */
  readonly other: AnyAuthority;
  /** Of a trust domain that has no bundle. */
  readonly stranger: AnyAuthority;
  /** Has another key and our name. */
  readonly impostor: AnyAuthority;
  readonly listeners: TlsRpcListener[];
  listen(options?: Partial<ListenTlsOptions>): Promise<TlsRpcListener>;
  /** A client that trusts `own` and takes the server for whom it is. */
  dial(port: number, svid: TlsSvid | undefined, options?: Partial<ConnectTlsOptions>): RpcConnection;
}

/** Call it once at the top of a test file: everything is closed after each test. */
export function tlsFixture(): {
  /** A new world; `of` another one it has the clock and the authorities of that. */
  world(of?: TlsWorld | Partial<RpcServerOptions>): Promise<TlsWorld>;
} {
  const closers: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  return {
    async world(of = {}) {
      const known = 'clock' in of && 'own' in of ? of : undefined;
      const clock = known?.clock ?? new FakeClock(NOON);
      const own = known?.own ?? (await AnyAuthority.create('own.test', clock));
      const other = known?.other ?? (await AnyAuthority.create('other.test', clock));
      const stranger = known?.stranger ?? (await AnyAuthority.create('stranger.test', clock));
      const impostor = known?.impostor ?? (await AnyAuthority.create('own.test', clock));
      const identity = new TestTlsIdentity(clock, await own.issue(SERVER), [own, other]);
      const log = recordingLogger();
      const server = createRpcServer({
        ...{ logger: log, clock, standardServices: false },
        ...(known === undefined ? (of as Partial<RpcServerOptions>) : {}),
      });
      closers.push(() => server.close());
      const listeners: TlsRpcListener[] = [];
      return {
        ...{ clock, log, server, identity, own, other, stranger, impostor, listeners },
        async listen(options = {}) {
          const listener = await server.listenTls({
            ...{ address: '127.0.0.1', port: 0, name: 'api', identity },
            ...options,
          });
          listeners.push(listener);
          return listener;
        },
        dial(port, svid, options = {}) {
          const connection = connectTls({
            ...{ host: '127.0.0.1', port, clock, random: systemRandom },
            identity: new TestTlsIdentity(clock, svid, [own]),
            authorizeServer: ({ uri }) =>
              uri === SERVER ? { allowed: true } : { allowed: false, reason: 'not the server' },
            ...options,
          });
          closers.push(() => connection.close());
          return connection;
        },
      };
    },
  };
}

/** The options of `tls.connect` for an SVID. */
export function certificateOptions({ cert, key }: TlsSvid): { readonly cert: string; readonly key: string } {
  return { cert, key };
}
