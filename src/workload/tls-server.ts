import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { BugError, SignetError } from '../lib/errors.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import type { PeerAuthorizer } from './authorizer.js';
import { PeerError } from './errors.js';
import { peerIdOf, verifySocket } from './peer.js';
import { tlsMaterial, tlsServerOptions } from './tls-options.js';
import type { X509Source } from './x509-source.js';

export interface GuardOptions {
  /** Told of each peer that was refused after the handshake, or in it when no certificate came. */
  readonly onRefused?: (error: PeerError, remote: string | undefined) => void;
  /** Told when a new SVID could not be put into use; the old one stays. */
  readonly onRotationFailed?: (error: SignetError) => void;
}

/**
 * Guards a TLS server made with {@link tlsServerOptions}: `secureConnection` is emitted only for peers whose SVID the
 * bundle of their own trust domain vouches for and whom the authorizer lets in; the others are destroyed before the
 * server, and whatever listens on it, sees them. New SVIDs and bundles are used from the next handshake on; open
 * connections stay.
 *
 * @returns a function that ends the following of the source; the guard stays
 */
export function guardServer(
  server: Server,
  source: X509Source,
  authorize: PeerAuthorizer,
  options: GuardOptions = {},
): () => void {
  const emit = server.emit.bind(server) as (event: string, ...values: unknown[]) => boolean;
  // Listeners of https and http2 sit on the event itself, so it has to be stopped before it is emitted.
  server.emit = (event: string, ...values: unknown[]): boolean => {
    if (event !== 'secureConnection') {
      if (event === 'tlsClientError') refusedInHandshake(values, options);
      return emit(event, ...values);
    }
    const socket = values[0] as TLSSocket;
    if (!admit(socket, source, authorize, options)) return true;
    return emit(event, ...values);
  };
  const stop = source.onUpdate(() => {
    try {
      server.setSecureContext(tlsMaterial(source));
    } catch (error) {
      options.onRotationFailed?.(SignetError.from(error));
    }
  });
  server.once('close', stop);
  return stop;
}

function admit(
  socket: TLSSocket,
  source: X509Source,
  authorize: PeerAuthorizer,
  { onRefused }: GuardOptions,
): boolean {
  try {
    // Belt and braces: with rejectUnauthorized Node lets no other socket come so far.
    if (!socket.authorized) throw new PeerError('PeerSvidInvalid', 'TLS did not authenticate the peer');
    verifySocket(socket, source, authorize);
    return true;
  } catch (thrown) {
    const error =
      thrown instanceof PeerError
        ? thrown
        : new PeerError('PeerSvidInvalid', 'the peer could not be checked', { cause: thrown });
    // The peer sees a reset; an error on a socket that nobody has been given must not end the process.
    socket.on('error', () => undefined);
    const { remoteAddress } = socket;
    socket.destroy();
    onRefused?.(error, remoteAddress);
    return false;
  }
}

function refusedInHandshake([error, socket]: readonly unknown[], { onRefused }: GuardOptions): void {
  const { code = '' } = error as { readonly code?: string };
  const missing = code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE';
  onRefused?.(
    new PeerError(
      missing ? 'PeerCertificateMissing' : 'PeerSvidInvalid',
      missing
        ? 'the peer showed no certificate'
        : `the TLS handshake failed${code === '' ? '' : `: ${code}`}`,
      { cause: error },
    ),
    (socket as TLSSocket | undefined)?.remoteAddress,
  );
}

/**
 * A TLS server that hands over only sockets of peers that were verified and let in, e.g. to `http2.Server` or to
 * grpc-js's connection injector. Not yet listening.
 */
export function createTlsServer(
  source: X509Source,
  authorize: PeerAuthorizer,
  onConnection: (socket: TLSSocket, peer: SpiffeId) => void,
  options: GuardOptions & Pick<TlsOptions, 'ALPNProtocols' | 'handshakeTimeout'> = {},
): Server {
  const { ALPNProtocols, handshakeTimeout } = options;
  const server = createServer({
    ...tlsServerOptions(source),
    ...(ALPNProtocols === undefined ? {} : { ALPNProtocols }),
    handshakeTimeout: handshakeTimeout ?? HANDSHAKE_TIMEOUT_MS,
  });
  guardServer(server, source, authorize, options);
  server.on('secureConnection', (socket) => {
    const peer = peerIdOf(socket);
    if (peer === undefined) throw new BugError('a socket passed the guard without a peer');
    onConnection(socket, peer);
  });
  return server;
}

/** Long enough for a slow network, short enough that half-open handshakes do not pile up. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
