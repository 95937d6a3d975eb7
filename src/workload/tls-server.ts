import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { systemClock } from '../lib/clock.js';
import { BugError, SignetError } from '../lib/errors.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import { guardHandshakes } from '../rpc/tls/guard.js';
import type { PeerAuthorizer } from './authorizer.js';
import type { PeerError } from './errors.js';
import { peerIdOf, verifyPeer } from './peer.js';
import { serverContext, tlsServerOptions } from './tls-options.js';
import type { X509Source } from './x509-source.js';

export interface GuardOptions {
  /** Told of each peer that was refused, in the handshake or right after it. */
  readonly onRefused?: (error: PeerError, remote: string | undefined) => void;
  /** Told when a new SVID could not be put into use; the old one stays. */
  readonly onRotationFailed?: (error: SignetError) => void;
}

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
  guardHandshakes(server, {
    context: () => context,
    clientCertificate: 'required',
    clock: systemClock,
    verify: (chain) => verifyPeer(chain, source, authorize),
    ...(options.onRefused === undefined ? {} : { refused: options.onRefused }),
  });
  server.once('close', stop);
  return stop;
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
