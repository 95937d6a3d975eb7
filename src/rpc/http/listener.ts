import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { endConnections, type ConnectionPool } from '../connections.js';
import type { ListenUnixOptions } from '../listener.js';
import type { HeldPeerCredentials, PeerCredentialsReader } from '../peer/reader.js';
import { Refusals } from '../refusals.js';
import { StatusError, type Peer } from '../service.js';
import { listenAt } from '../socket-file.js';
import { TLS_BOUNDS } from '../tls/context.js';
import { guardWithIdentity } from '../tls/guard.js';
import { HANDSHAKE_TIMEOUT_MS } from '../tls/handshake.js';
import type { PeerAuthorizer, TlsIdentity, TlsSvid } from '../tls/identity.js';
import { peerOf } from '../tls/peer.js';
import { Admission } from './admission.js';
import type { HttpLimits } from './limits.js';

/** Where mutual TLS is served. */
export interface ListenHttpsOptions {
  /** An IP address. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Becomes `Peer.listener`. */
  readonly name: string;
  /** Who the server is, and whose SVIDs it takes. Both may change while it runs. */
  readonly identity: TlsIdentity;
  /** Who is let in of those. */
  readonly authorize: PeerAuthorizer;
}

/** Where TLS is served to clients that have no SVID and know the server by a DNS name: the API server. */
export interface ListenTlsOptions {
  /** An IP address. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Becomes `Peer.listener`. */
  readonly name: string;
  /** What the server shows; it may change, and each handshake shows the newest. */
  readonly svid: TlsIdentity['svid'];
}

/** Where everybody who reaches the port may read, without TLS: probes and metrics. */
export interface ListenPlainOptions {
  /** An IP address. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Becomes `Peer.listener`. */
  readonly name: string;
}

/** One socket that is open. */
export interface HttpListener {
  /** Of a unix socket: its path. Of a port: `address:port`. */
  readonly path: string;
  /** Whether the path leads here: not once another process has taken a unix socket over. */
  isCurrent(): Promise<boolean>;
  /**
   * Stops listening, answers what is under way with 503, closes its connections, removes a socket file unless it is one to
   * be taken over.
   */
  close(): Promise<void>;
}

/** What a listener needs of its server. */
export interface HttpListenerParts {
  readonly pool: ConnectionPool;
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: Random;
  /** Hands a connection on whose peer is known. */
  readonly serve: (socket: Socket, peer: Peer) => void;
  /** The connections of a listener are served no longer than what they do now. */
  readonly retire: (listener: string) => void;
}

function admissionOf(name: string, max: number, parts: HttpListenerParts): Admission {
  const { pool, limits, clock, logger } = parts;
  const refusals = new Refusals(clock, logger.child({ listener: name }));
  return new Admission(pool, { name, max, count: 0 }, limits.maxConnectionsPerPeer, refusals);
}

async function closeListener(server: Server, name: string, pool: ConnectionPool): Promise<void> {
  const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
  await endConnections(
    [...pool.of(name)],
    new StatusError('Unavailable', 'the server is closing this socket; try again', {
      code: 'ServerStopping',
    }),
  );
  await stopped;
}

/** Opens a unix socket. Errors: those of `listenAt` in socket-file.ts. */
export async function openUnix(
  options: ListenUnixOptions,
  reader: PeerCredentialsReader | undefined,
  parts: HttpListenerParts,
): Promise<HttpListener> {
  const { name, path } = options;
  const { pool, serve } = parts;
  const max = options.maxConnections ?? parts.limits.maxConnectionsPerListener;
  const admission = admissionOf(name, max, parts);
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    if (!admission.enter(socket)) return;
    let credentials: HeldPeerCredentials | undefined;
    try {
      credentials = reader?.read(socket);
    } catch (thrown) {
      admission.refuse(socket, SignetError.from(thrown).message);
      return;
    }
    if (credentials !== undefined) {
      const held = credentials;
      socket.once('close', () => held.close());
      if (!admission.enterPeer(socket, `process ${held.pid}`)) return;
    }
    const peer = { listener: name, connectionId: pool.nextId() };
    serve(socket, credentials === undefined ? peer : { ...peer, credentials });
  });
  const file = await listenAt(server, options, parts.random);
  server.on('error', (error) => parts.logger.error('a listener failed', { error: error.message }));
  admission.open();
  return {
    path,
    isCurrent: () => file.isCurrent(),
    async close() {
      admission.close();
      // Before the socket stops to answer, so that nobody takes the file for a dead process's meanwhile.
      await file.remove();
      await closeListener(server, name, pool);
    },
  };
}

/**
 * Opens a port for mutual TLS 1.3: each handshake shows the newest SVID and verifies by the newest bundles; when a bundle
 * changes, clients connect anew.
 *
 * @throws SignetError `ListenFailed`
 */
export async function openHttps(
  options: ListenHttpsOptions,
  parts: HttpListenerParts,
): Promise<HttpListener> {
  const { name, identity } = options;
  const { pool, serve, retire, clock, logger } = parts;
  const admission = admissionOf(name, parts.limits.maxConnectionsPerListener, parts);
  const server = createTlsServer({ ...TLS_BOUNDS, ALPNProtocols: ['http/1.1'] });
  guardWithIdentity(server, identity, {
    clock,
    authorize: options.authorize,
    onRefused: (error, remote) => logger.debug('a client was refused', { reason: error.message, remote }),
    onRotationFailed: (error) =>
      logger.error('a new SVID could not be put into use', { reason: error.message }),
  });
  const handshakes = boundHandshakes(server, parts.limits.maxHandshakes);
  server.on('secureConnection', (socket: TLSSocket) => {
    handshakes.done(socket);
    const verified = peerOf(socket);
    if (verified === undefined) {
      admission.refuse(socket, 'no SVID');
      return;
    }
    if (!admission.enter(socket) || !admission.enterPeer(socket, verified.spiffeId.uri)) return;
    const { spiffeId, serial, notAfter } = verified;
    const remote = socket.remoteAddress;
    serve(socket, {
      listener: name,
      connectionId: pool.nextId(),
      spiffeId,
      certificate: { serial, notAfter },
      ...(remote === undefined ? {} : { remoteAddress: remote }),
    });
  });
  const port = await listenTcp(server, options);
  const stop = identity.onTrustChange(() => retire(name));
  admission.open();
  return {
    path: portPath(options.address, port),
    isCurrent: () => Promise.resolve(true),
    async close() {
      stop();
      admission.close();
      await closeListener(server, name, pool);
    },
  };
}

/** Of clients that are not ours: one that may not speak TLS 1.3 speaks 1.2, with ciphers that are beyond doubt (RFC 9325 §4.2). */
const FOREIGN_BOUNDS = {
  minVersion: 'TLSv1.2',
  secureOptions: TLS_BOUNDS.secureOptions,
  ciphers: [
    ...['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'],
    ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
    ...['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ].join(':'),
} as const;

/**
 * Opens a port for TLS of the server alone: each handshake shows the newest SVID. Whoever reaches the port may ask.
 *
 * @throws SignetError `ListenFailed`
 */
export async function openTls(options: ListenTlsOptions, parts: HttpListenerParts): Promise<HttpListener> {
  const { name, svid } = options;
  const { pool, serve, logger } = parts;
  const admission = admissionOf(name, parts.limits.maxConnectionsPerListener, parts);
  const server = createTlsServer({
    ...FOREIGN_BOUNDS,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  });
  const handshakes = boundHandshakes(server, parts.limits.maxHandshakes);
  let shows = false;
  const show = (one: TlsSvid | undefined): void => {
    shows = one !== undefined;
    if (one === undefined) return;
    try {
      server.setSecureContext({ ...FOREIGN_BOUNDS, cert: one.cert, key: one.key });
    } catch (thrown) {
      logger.error('a new SVID could not be put into use', { reason: SignetError.from(thrown).message });
    }
  };
  show(svid.value);
  server.prependListener('connection', (raw: Socket) => {
    raw.on('error', () => undefined);
    if (!shows) admission.refuse(raw, 'there is no SVID to show');
  });
  server.on('tlsClientError', (error: Error) =>
    logger.debug('a client was refused', { reason: error.message }),
  );
  server.on('secureConnection', (socket: TLSSocket) => {
    handshakes.done(socket);
    socket.on('error', () => undefined);
    const remote = socket.remoteAddress;
    if (!admission.enter(socket) || !admission.enterPeer(socket, remote ?? 'nobody')) return;
    const peer = { listener: name, connectionId: pool.nextId() };
    serve(socket, remote === undefined ? peer : { ...peer, remoteAddress: remote });
  });
  const stop = svid.watch(show);
  let port: number;
  try {
    port = await listenTcp(server, options);
  } catch (error) {
    stop();
    throw error;
  }
  server.on('error', (error: Error) => logger.error('a listener failed', { error: error.message }));
  admission.open();
  return {
    path: portPath(options.address, port),
    isCurrent: () => Promise.resolve(true),
    async close() {
      stop();
      admission.close();
      await closeListener(server, name, pool);
    },
  };
}

/**
 * Opens a port without TLS, for what anybody may know.
 *
 * @throws SignetError `ListenFailed`
 */
export async function openPlain(
  options: ListenPlainOptions,
  parts: HttpListenerParts,
): Promise<HttpListener> {
  const { name } = options;
  const { pool, serve, logger } = parts;
  const admission = admissionOf(name, parts.limits.maxConnectionsPerListener, parts);
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    const remote = socket.remoteAddress;
    if (!admission.enter(socket) || !admission.enterPeer(socket, remote ?? 'nobody')) return;
    const peer = { listener: name, connectionId: pool.nextId() };
    serve(socket, remote === undefined ? peer : { ...peer, remoteAddress: remote });
  });
  const port = await listenTcp(server, options);
  server.on('error', (error) => logger.error('a listener failed', { error: error.message }));
  admission.open();
  return {
    path: portPath(options.address, port),
    isCurrent: () => Promise.resolve(true),
    async close() {
      admission.close();
      await closeListener(server, name, pool);
    },
  };
}

function portPath(address: string, port: number): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** Nobody is kept out by connections that never come to be: of too many handshakes the oldest is given up. */
function boundHandshakes(server: Server, max: number): { readonly done: (socket: Socket) => void } {
  // By address and port, which the socket that TLS makes of another has too.
  const nameOf = ({ remoteAddress = '', remotePort = 0 }: Socket): string => `${remoteAddress} ${remotePort}`;
  const open = new Map<string, Socket>();
  server.prependListener('connection', (raw: Socket) => {
    const name = nameOf(raw);
    open.set(name, raw);
    raw.once('close', () => {
      if (open.get(name) === raw) open.delete(name);
    });
    const [oldest] = open.values();
    if (open.size > max && oldest !== undefined) {
      open.delete(nameOf(oldest));
      oldest.destroy();
    }
  });
  return { done: (socket) => void open.delete(nameOf(socket)) };
}

function listenTcp(
  server: Server,
  { address, port }: Pick<ListenHttpsOptions, 'address' | 'port'>,
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new SignetError('ListenFailed', `cannot listen at ${address} port ${port}: ${error.message}`, {
          cause: error,
        }),
      ),
    );
    server.listen({ host: address, port, backlog: 512 }, () =>
      resolve((server.address() as AddressInfo).port),
    );
  });
}
