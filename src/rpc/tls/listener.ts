import type { ServerHttp2Session } from 'node:http2';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import {
  endConnections,
  nameConnection,
  type Connection,
  type ConnectionPool,
  type Share,
} from '../connections.js';
import type { RpcLimits } from '../limits.js';
import { Refusals } from '../refusals.js';
import { StatusError } from '../service.js';
import { followContext, type LiveContext } from './context.js';
import { receiveTls } from './handshake.js';
import { admitPeer, type PeerAuthorizer, type TlsIdentity, type VerifiedPeer } from './identity.js';
import { startLifetime, type Lifetime } from './lifetime.js';
import { defaultTlsLimits, type TlsLimits } from './limits.js';

/** A listener that cannot be opened. */
export class ListenError extends SignetError {}

export interface ListenTlsOptions {
  /** An IP address of this machine. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Becomes `Peer.listener`. */
  readonly name: string;
  /** Who we are and whom we believe; both may change, and each handshake takes the newest. */
  readonly identity: TlsIdentity;
  /**
   * `required` unless said. With `optional`, a client that shows none is let in as nobody: `Peer.spiffeId` is absent. One
   * that shows a certificate which does not verify is refused all the same.
   */
  readonly clientCertificate?: 'required' | 'optional';
  /** Which verified peers are let in; all unless said. */
  readonly authorize?: PeerAuthorizer;
  /** At most so many connections; `maxConnectionsPerListener` unless said. */
  readonly maxConnections?: number;
  readonly limits?: Partial<TlsLimits>;
}

/** A TLS port that is open. */
export interface TlsRpcListener {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Open connections whose handshake is done. */
  readonly connections: number;
  /** Stops listening, ends its calls with `Unavailable`, closes its connections. */
  close(): Promise<void>;
}

/** What a listener needs of its server. */
export interface TlsListenerParts {
  readonly options: ListenTlsOptions;
  readonly maxConnections: number;
  readonly pool: ConnectionPool;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly limits: Pick<RpcLimits, 'firstCallMs'>;
  /** Hands a connection to the HTTP/2 server; the session is there at once. */
  readonly inject: (socket: TLSSocket) => ServerHttp2Session;
  readonly onClose: () => void;
}

/** One connection whose handshake is done. */
interface Open extends Connection {
  readonly lifetime: Lifetime;
  /** As the peer showed it; empty for nobody. */
  readonly chain: readonly Uint8Array[];
}

/** RFC 7301 §3.1. */
const H2 = Uint8Array.from([2, 0x68, 0x32]);
/** Connections that are verified anew in one turn, after a bundle has changed. */
const RECHECKED_A_TURN = 16;

/** A TCP port that speaks TLS 1.3 and HTTP/2, and hands on connections only of peers that were verified. */
export class TlsListener implements TlsRpcListener {
  readonly #parts: TlsListenerParts;
  readonly #limits: TlsLimits;
  readonly #server: Server;
  readonly #share: Share;
  readonly #refusals: Refusals;
  readonly #context: LiveContext;
  readonly #handshakes = new Set<Socket>();
  readonly #open = new Set<Open>();
  readonly #byPeer = new Map<string, number>();
  readonly #stopTrust: () => void;
  #trustChanges = 0;
  #accepting = false;
  #closed: Promise<void> | undefined;

  constructor(parts: TlsListenerParts) {
    const { options, clock, logger } = parts;
    this.#parts = parts;
    this.#limits = { ...defaultTlsLimits, ...options.limits };
    this.#share = { name: options.name, max: parts.maxConnections, count: 0 };
    this.#refusals = new Refusals(clock, logger);
    this.#context = followContext(options.identity, ({ message }) =>
      logger.error('a new SVID cannot be used; the one before stays', { error: message }),
    );
    this.#stopTrust = options.identity.onTrustChange(() => void this.#recheck());
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  get name(): string {
    return this.#parts.options.name;
  }

  get address(): string {
    return this.#parts.options.address;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? this.#parts.options.port;
  }

  get connections(): number {
    return this.#open.size;
  }

  /** @throws ListenError `AddressInUse`, `ListenFailed` */
  async open(): Promise<void> {
    const { address, port } = this.#parts.options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(error, address, port)));
      this.#server.listen({ host: address, port, backlog: 4096 }, resolve);
    });
    this.#server.on('error', ({ message }) =>
      this.#parts.logger.error('a listener failed', { error: message }),
    );
    this.#accepting = true;
  }

  /** New connections are closed at once from now on, and those in their handshake. */
  refuse(): void {
    this.#accepting = false;
    for (const socket of this.#handshakes) socket.destroy();
  }

  /** Tells all clients to go once their calls are done. */
  drain(): void {
    this.refuse();
    for (const { lifetime } of this.#open) lifetime.retire('the server is stopping; try again');
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.refuse();
    this.#stopTrust();
    this.#context.close();
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const reason = new StatusError('Unavailable', 'the server is closing this port; try again');
    await endConnections([...this.#open], reason);
    await stopped;
    this.#parts.onClose();
  }

  #accept(raw: Socket): void {
    const context = this.#context.current;
    raw.on('error', () => undefined);
    if (!this.#accepting || context === undefined) {
      raw.destroy();
      this.#refuse(this.#accepting ? 'there is no SVID to show' : 'not open');
      return;
    }
    this.#makeRoom();
    const { clock, options } = this.#parts;
    const remote = raw.remoteAddress;
    let chain: readonly Uint8Array[] = [];
    const socket = receiveTls(raw, {
      context,
      clientCertificate: options.clientCertificate ?? 'required',
      alpn: H2,
      clock,
      timeoutMs: this.#limits.handshakeMs,
      verify: (shown) => {
        chain = shown;
        return this.#verify(shown);
      },
      accepted: (_, peer) => {
        this.#handshakes.delete(socket);
        const refusal = this.#admit(socket, peer, chain, remote);
        if (refusal === undefined) return;
        socket.destroy();
        this.#refuse(refusal);
      },
      refused: ({ message }) => {
        this.#handshakes.delete(socket);
        this.#refuse(message);
      },
    });
    this.#handshakes.add(socket);
  }

  /** Gives up the oldest handshake when there are too many: whoever stalls them locks nobody out. */
  #makeRoom(): void {
    if (this.#handshakes.size < this.#limits.maxHandshakes) return;
    const [oldest] = this.#handshakes;
    if (oldest === undefined) return;
    this.#handshakes.delete(oldest);
    oldest.destroy();
  }

  #verify(chain: readonly Uint8Array[]): VerifiedPeer {
    const { identity, authorize } = this.#parts.options;
    return admitPeer(chain, (shown) => identity.verifyPeer(shown), authorize);
  }

  /** Takes the connection, or says why not. */
  #admit(
    socket: TLSSocket,
    peer: VerifiedPeer | undefined,
    chain: readonly Uint8Array[],
    remote: string | undefined,
  ): string | undefined {
    const { pool } = this.#parts;
    if (socket.alpnProtocol !== 'h2') return 'the client does not offer HTTP/2 (ALPN h2)';
    if (!this.#accepting) return 'not open';
    const key = peer?.spiffeId.uri ?? `address ${remote ?? 'unknown'}`;
    const count = this.#byPeer.get(key) ?? 0;
    if (count >= this.#limits.maxConnectionsPerPeer) return `too many connections of ${key}`;
    if (!pool.enter(this.#share)) return 'too many connections';
    this.#byPeer.set(key, count + 1);
    socket.once('close', () => {
      pool.leave(this.#share);
      this.#leavePeer(key);
    });
    this.#begin(socket, peer, chain, remote);
    return undefined;
  }

  #leavePeer(key: string): void {
    const count = (this.#byPeer.get(key) ?? 0) - 1;
    if (count > 0) this.#byPeer.set(key, count);
    else this.#byPeer.delete(key);
  }

  #begin(
    socket: TLSSocket,
    peer: VerifiedPeer | undefined,
    chain: readonly Uint8Array[],
    remote: string | undefined,
  ): void {
    const { pool, clock, random, logger, options, limits, inject } = this.#parts;
    const connectionId = pool.nextId();
    socket.on('error', (error: Error) => logger.debug('a connection broke', { error: error.message }));
    nameConnection(socket, connectionId);
    const session = inject(socket);
    const lifetime = startLifetime({
      clock,
      limits: this.#limits,
      fraction: random.fraction(),
      notAfter: Math.min(peer?.notAfter ?? Infinity, options.identity.svid.value?.notAfter ?? Infinity),
      session,
      end: (reason) => void endConnections([connection], new StatusError('Unavailable', reason)),
    });
    const connection: Open = {
      peer: {
        ...{ listener: this.name, connectionId },
        ...(peer === undefined
          ? {}
          : { spiffeId: peer.spiffeId, certificate: { serial: peer.serial, notAfter: peer.notAfter } }),
        ...(remote === undefined ? {} : { remoteAddress: remote }),
      },
      calls: new Set(),
      ...{ socket, lifetime, chain },
    };
    pool.add(connection);
    this.#open.add(connection);
    const firstCall = clock.after(limits.firstCallMs, () => socket.destroy());
    session.once('stream', () => firstCall.cancel());
    socket.once('close', () => {
      this.#open.delete(connection);
      firstCall.cancel();
      lifetime.over();
    });
  }

  /** After a bundle has changed: closes the connections whose peer would be refused now. */
  async #recheck(): Promise<void> {
    const change = ++this.#trustChanges;
    let checked = 0;
    for (const connection of [...this.#open]) {
      if (++checked % RECHECKED_A_TURN === 0) await turn();
      // A later change checks all of them again.
      if (change !== this.#trustChanges) return;
      if (connection.chain.length === 0 || connection.socket.destroyed) continue;
      try {
        this.#verify(connection.chain);
      } catch (thrown) {
        const { message } = SignetError.from(thrown);
        this.#refuse(message);
        void endConnections([connection], new StatusError('Unavailable', `connect anew: ${message}`));
      }
    }
  }

  #refuse(reason: string): void {
    this.#refusals.add(reason, this.#open.size);
  }
}

function listenError(error: NodeJS.ErrnoException, address: string, port: number): ListenError {
  const where = `${address.includes(':') ? `[${address}]` : address}:${port}`;
  return error.code === 'EADDRINUSE'
    ? new ListenError(
        'AddressInUse',
        `another process listens at ${where}: stop it, or choose another port`,
        {
          cause: error,
        },
      )
    : new ListenError('ListenFailed', `cannot listen at ${where}: ${error.message}`, { cause: error });
}
