import type { Socket } from 'node:net';
import { createServer, TLSSocket, type SecureContext, type Server, type TlsOptions } from 'node:tls';
import { BugError, SignetError } from '../lib/errors.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import type { PeerAuthorizer } from './authorizer.js';
import { PeerError } from './errors.js';
import { peerIdOf, verifySocket } from './peer.js';
import { serverContext, tlsServerOptions } from './tls-options.js';
import type { X509Source } from './x509-source.js';

export interface GuardOptions {
  /** Told of each peer that was refused, in the handshake or right after it. */
  readonly onRefused?: (error: PeerError, remote: string | undefined) => void;
  /** Told when a new SVID could not be put into use; the old one stays. */
  readonly onRotationFailed?: (error: SignetError) => void;
}

/** Long enough for a slow network, short enough that half-open handshakes do not pile up. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Guards a TLS server made with {@link tlsServerOptions} (of `node:tls`, `https` or `http2`), before it listens: it
 * takes over the handshakes, so that `secureConnection` is emitted only for peers whose SVID the bundle of their own
 * trust domain vouches for and whom the authorizer lets in. The others are closed before the server, and whatever
 * listens on it, sees them. New SVIDs and bundles are used from the next handshake on; open connections stay.
 *
 * @returns a function that ends the following of the source; the guard stays
 * @throws WorkloadError of `source.svid()`
 */
export function guardServer(
  server: Server,
  source: X509Source,
  authorize: PeerAuthorizer,
  options: GuardOptions = {},
): () => void {
  let context = serverContext(source);
  const stop = source.onUpdate(() => {
    try {
      context = serverContext(source);
    } catch (error) {
      options.onRotationFailed?.(SignetError.from(error));
    }
  });
  // Node's own listener would verify against all authorities at once, whatever their trust domain; and Node 24.21
  // forgets the peer's chain before anybody else can look at it (nodejs/node#65579).
  server.removeAllListeners('connection');
  server.on('connection', (raw: Socket) => {
    handshake({ server, raw, context, source, authorize, options });
  });
  server.once('close', stop);
  return stop;
}

interface Handshake {
  readonly server: Server;
  readonly raw: Socket;
  readonly context: SecureContext;
  readonly source: X509Source;
  readonly authorize: PeerAuthorizer;
  readonly options: GuardOptions;
}

function handshake({ server, raw, context, source, authorize, options }: Handshake): void {
  // Where tls, https and http2 keep what they were asked for, in the form that the socket wants.
  const { ALPNProtocols } = server as { readonly ALPNProtocols?: Uint8Array };
  const socket = new TLSSocket(raw, {
    isServer: true,
    secureContext: context,
    // Without a certificate the handshake fails.
    requestCert: true,
    rejectUnauthorized: true,
    ...(ALPNProtocols === undefined ? {} : { ALPNProtocols }),
  });
  const { remoteAddress } = raw;
  let handedOver = false;
  const refuse = (error: PeerError): void => {
    socket.destroy();
    options.onRefused?.(error, remoteAddress);
  };
  socket.setTimeout(HANDSHAKE_TIMEOUT_MS, () => {
    if (!handedOver) refuse(new PeerError('PeerSvidInvalid', 'the TLS handshake took too long'));
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    // An error on a socket that nobody has been given must not end the process.
    if (handedOver) return;
    refuse(refusedInHandshake(error));
    server.emit('tlsClientError', error, socket);
  });
  socket.once('secure', () => {
    socket.setTimeout(0);
    try {
      verifySocket(socket, source, authorize);
    } catch (thrown) {
      refuse(
        thrown instanceof PeerError
          ? thrown
          : new PeerError('PeerSvidInvalid', 'the peer could not be checked', { cause: thrown }),
      );
      return;
    }
    handedOver = true;
    // What Node's own listener sets; http2 waits for the second.
    Object.assign(socket, { authorized: true, secureConnecting: false });
    // Node reports errors of TLS by this event as long as it thinks that a handshake is going on.
    socket.on('_tlsError', (error: Error) => socket.destroy(error));
    server.emit('secureConnection', socket);
  });
}

function refusedInHandshake(error: NodeJS.ErrnoException): PeerError {
  if (error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') {
    return new PeerError('PeerCertificateMissing', 'the peer showed no certificate', { cause: error });
  }
  const code = error.code === undefined ? '' : `: ${error.code}`;
  return new PeerError('PeerSvidInvalid', `the TLS handshake failed${code}`, { cause: error });
}

/**
 * A TLS server that hands over only sockets of peers that were verified and let in, e.g. to `http2.Server` or to
 * grpc-js's connection injector. Not yet listening.
 */
export function createTlsServer(
  source: X509Source,
  authorize: PeerAuthorizer,
  onConnection: (socket: TLSSocket, peer: SpiffeId) => void,
  options: GuardOptions & Pick<TlsOptions, 'ALPNProtocols'> = {},
): Server {
  const { ALPNProtocols } = options;
  const server = createServer({
    ...tlsServerOptions(source),
    ...(ALPNProtocols === undefined ? {} : { ALPNProtocols }),
  });
  guardServer(server, source, authorize, options);
  server.on('secureConnection', (socket) => {
    const peer = peerIdOf(socket);
    if (peer === undefined) throw new BugError('a socket passed the guard without a peer');
    onConnection(socket, peer);
  });
  return server;
}
