import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { isIP, type Socket } from 'node:net';
import { connect, type SecureContext, type TLSSocket } from 'node:tls';
import { Backoff } from '../../lib/backoff.js';
import { ClockWatch } from '../../lib/clock-watch.js';
import type { Clock, Timer } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import { contextOf } from './context.js';
import { PeerError } from './errors.js';
import { HANDSHAKE_TIMEOUT_MS } from './handshake.js';
import {
  admitPeer,
  type PeerAuthorizer,
  type TlsIdentity,
  type TlsSvid,
  type VerifiedPeer,
} from './identity.js';
import { notePeer, shownChain } from './peer.js';

/** Whom a client connects to, and as whom. */
export interface TlsDialOptions {
  readonly host: string;
  readonly identity: TlsIdentity;
  /** Which server is the right one; its host name has no say. */
  readonly authorizeServer: PeerAuthorizer;
  /** Whether the client shows its SVID (then it must have one) or comes as nobody; it shows it unless said. */
  readonly showSvid?: boolean;
  readonly clock: Clock;
  readonly random: Random;
  /** An attempt to connect hangs: nothing answers, nothing refuses. It cannot be ended from here. */
  readonly onStalled?: () => void;
}

/** Between attempts to connect, in milliseconds. */
const BACKOFF = { initialMs: 100, maxMs: 5000 };
/**
 * How long the network may take to connect, in milliseconds. The kernel would ask again after 1, 3, 7, 15, 31 and 63 seconds, and
 * give up after two minutes: a server that has come back meanwhile, or another one, would wait for the next of these.
 */
const CONNECT_TIMEOUT_MS = 5_000;
/** The longest time between two looks at the wall clock, which may jump. Milliseconds. */
const LONGEST_LOOK_MS = 30_000;

/** The library's own form of "how to secure a connection", by its structure: it is not exported. */
type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/**
 * Channel credentials that live: each connection shows the SVID of its moment, and verifies the server by the bundles of
 * its moment, before a byte of a call is sent. A connection ends when the server's certificate does, or is trusted no
 * more. Attempts are spaced out on the given clock.
 */
export class SvidChannelCredentials extends ChannelCredentials {
  readonly #options: TlsDialOptions;

  constructor(options: TlsDialOptions) {
    super();
    this.#options = options;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    _target: unknown,
    _options: unknown,
    callCredentials?: CallCredentials,
  ): SecureConnector {
    return new Connector(this.#options, callCredentials ?? CallCredentials.createEmpty());
  }
}

class Connector implements SecureConnector {
  readonly #options: TlsDialOptions;
  readonly #callCredentials: CallCredentials;
  readonly #backoff: Backoff;
  readonly #destroyed = new AbortController();
  readonly #watch: ClockWatch;
  /** Monotonic: no attempt before. Moved on by each, and back by one that succeeds. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #context: { readonly svid: TlsSvid | undefined; readonly context: SecureContext } | undefined;
  /** Runs while the network connects. */
  #connecting: Timer | undefined;

  constructor(options: TlsDialOptions, callCredentials: CallCredentials) {
    this.#options = options;
    this.#callCredentials = callCredentials;
    this.#backoff = new Backoff(BACKOFF, options.random);
    this.#watch = new ClockWatch(options.clock);
  }

  /** The library asks this before each attempt; if it rejects, the attempt has failed. */
  async waitForReady(): Promise<void> {
    const { clock, onStalled } = this.#options;
    this.#connecting?.cancel();
    const rest = this.#notBefore - clock.monotonic();
    // The server's certificate may be good by the time as it is now.
    if (rest > 0 && (await this.#watch.sleep(rest, this.#destroyed.signal))) this.#backoff.reset();
    this.#notBefore = clock.monotonic() + this.#backoff.next();
    // Made before there is a connection, so that none is opened for nothing.
    this.#currentContext();
    if (onStalled !== undefined) this.#connecting = clock.after(CONNECT_TIMEOUT_MS, onStalled);
  }

  async connect(raw: Socket): Promise<{ socket: Socket; secure: boolean }> {
    this.#connecting?.cancel();
    // Nobody waits for it any more: the library closes it.
    this.#destroyed.signal.throwIfAborted();
    const socket = await dial(raw, this.#currentContext(), this.#options);
    this.#backoff.reset();
    this.#notBefore = Number.NEGATIVE_INFINITY;
    return { socket, secure: true };
  }

  getCallCredentials(): CallCredentials {
    return this.#callCredentials;
  }

  destroy(): void {
    this.#connecting?.cancel();
    this.#destroyed.abort(new SignetError('Stopped', 'the connection was closed'));
  }

  #currentContext(): SecureContext {
    const { identity, showSvid = true } = this.#options;
    const svid = showSvid ? identity.svid.value : undefined;
    if (showSvid && svid === undefined)
      throw new SignetError('SvidMissing', 'there is no SVID to connect with yet');
    if (this.#context === undefined || this.#context.svid !== svid)
      this.#context = { svid, context: contextOf(svid) };
    return this.#context.context;
  }
}

/** Secures a connection. Rejects with PeerError, or what TLS or the network says; the connection is closed then. */
function dial(raw: Socket, context: SecureContext, options: TlsDialOptions): Promise<TLSSocket> {
  const { host, clock } = options;
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: raw,
      secureContext: context,
      ALPNProtocols: ['h2'],
      // OpenSSL would take the authorities of all trust domains for one pool: we verify, below.
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const refuse = (error: unknown): void => {
      timeout.cancel();
      // Not in this turn: Node's own listener for the end of the handshake comes after ours, and needs the socket.
      queueMicrotask(() => socket.destroy());
      reject(error instanceof Error ? error : SignetError.from(error));
    };
    const timeout = clock.after(HANDSHAKE_TIMEOUT_MS, () =>
      refuse(new PeerError('PeerSvidInvalid', 'the TLS handshake took too long')),
    );
    socket.on('error', refuse);
    socket.once('close', () => refuse(new PeerError('PeerSvidInvalid', 'the server left in the handshake')));
    // Before Node's own listener, after which the peer's chain may be forgotten.
    socket.prependOnceListener('secure', () => {
      try {
        follow(socket, options);
        timeout.cancel();
        resolve(socket);
      } catch (error) {
        refuse(error);
      }
    });
  });
}

/**
 * Verifies the server, now and whenever a bundle changes, and closes the connection when its certificate ends.
 *
 * @throws PeerError
 */
function follow(socket: TLSSocket, { identity, authorizeServer, clock }: TlsDialOptions): void {
  const chain = shownChain(socket);
  const verify = (): VerifiedPeer => admitPeer(chain, (shown) => identity.verifyPeer(shown), authorizeServer);
  const peer = verify();
  if (socket.alpnProtocol !== 'h2')
    throw new PeerError('PeerSvidInvalid', 'the server does not speak HTTP/2 (ALPN h2)');
  notePeer(socket, peer);
  let timer: Timer;
  const look = (): void => {
    // The second that is named is still inside (RFC 5280 §4.1.2.5); the server itself goes before.
    const left = peer.notAfter + 1000 - clock.now();
    if (left <= 0) socket.destroy(new PeerError('PeerSvidInvalid', 'the certificate of the server is over'));
    else timer = clock.after(Math.max(1, Math.min(left, LONGEST_LOOK_MS)), look);
  };
  look();
  const stop = identity.onTrustChange(() => {
    try {
      verify();
    } catch (error) {
      socket.destroy(SignetError.from(error));
    }
  });
  socket.once('close', () => {
    timer.cancel();
    stop();
  });
}
