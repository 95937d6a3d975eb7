import type { Socket } from 'node:net';
import type { SecureContext, Server } from 'node:tls';
import type { Clock } from '../../lib/clock.js';
import type { SignetError } from '../../lib/errors.js';
import { followContext } from './context.js';
import type { PeerError } from './errors.js';
import { HANDSHAKE_TIMEOUT_MS, receiveTls } from './handshake.js';
import { admitPeer, type PeerAuthorizer, type TlsIdentity, type VerifiedPeer } from './identity.js';

/** How the handshakes of a server are done. */
export interface Guard {
  /** The context of a handshake that begins now; without one the connection is closed. */
  context(): SecureContext | undefined;
  readonly clientCertificate: 'required' | 'optional';
  readonly clock: Clock;
  /** Throws PeerError. */
  verify(chain: readonly Uint8Array[]): VerifiedPeer;
  /** Told of each peer that was refused, in the handshake or right after it. */
  refused?(error: PeerError, remote: string | undefined): void;
}

/**
 * Takes over the handshakes of a TLS server of `node:tls`, `https` or `http2`, before it listens: `secureConnection` is
 * emitted only for peers that were let in; the others are closed before the server, and whatever listens on it, sees
 * them. `peerOf(socket)` tells who it is.
 */
export function guardHandshakes(server: Server, guard: Guard): void {
  // Node's own listener would hand over whom OpenSSL lets in.
  server.removeAllListeners('connection');
  server.on('connection', (raw: Socket) => {
    const context = guard.context();
    const { remoteAddress } = raw;
    if (context === undefined) {
      raw.on('error', () => undefined);
      raw.destroy();
      return;
    }
    // Where tls, https and http2 keep what they were asked for, in the form that the socket wants.
    const { ALPNProtocols } = server as { readonly ALPNProtocols?: Uint8Array };
    receiveTls(raw, {
      context,
      clientCertificate: guard.clientCertificate,
      ...(ALPNProtocols === undefined ? {} : { alpn: ALPNProtocols }),
      clock: guard.clock,
      timeoutMs: HANDSHAKE_TIMEOUT_MS,
      verify: (chain) => guard.verify(chain),
      accepted: (socket) => server.emit('secureConnection', socket),
      refused: (error, socket, broke) => {
        guard.refused?.(error, remoteAddress);
        if (broke !== undefined) server.emit('tlsClientError', broke, socket);
      },
    });
  });
}

/** How {@link guardWithIdentity} lets peers in. */
export interface IdentityGuardOptions {
  readonly clock: Clock;
  /** `required` unless said. */
  readonly clientCertificate?: 'required' | 'optional';
  /** Any peer that the identity verifies, unless said. */
  readonly authorize?: PeerAuthorizer;
  readonly onRefused?: (error: PeerError, remote: string | undefined) => void;
  /** Told when a new SVID could not be put into use; the old one stays. */
  readonly onRotationFailed?: (error: SignetError) => void;
}

/**
 * Guards a server, e.g. of `https.createServer({ ...TLS_BOUNDS })`, with an identity: each handshake shows the newest
 * SVID, and verifies by the newest bundles. Open connections stay; a server that keeps them long bounds their age.
 *
 * @returns a function that ends the following of the identity
 */
export function guardWithIdentity(
  server: Server,
  identity: TlsIdentity,
  options: IdentityGuardOptions,
): () => void {
  const context = followContext(identity, (error) => options.onRotationFailed?.(error));
  guardHandshakes(server, {
    context: () => context.current,
    clientCertificate: options.clientCertificate ?? 'required',
    clock: options.clock,
    verify: (chain) => admitPeer(chain, (shown) => identity.verifyPeer(shown), options.authorize),
    ...(options.onRefused === undefined ? {} : { refused: options.onRefused }),
  });
  server.once('close', () => context.close());
  return () => context.close();
}
