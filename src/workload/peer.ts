import { verifyX509Svid } from '../identity/pki/svid.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import { admitPeer, type VerifiedPeer } from '../rpc/tls/identity.js';
import { peerOf } from '../rpc/tls/peer.js';
import type { PeerAuthorizer } from './authorizer.js';
import type { X509Source } from './x509-source.js';

/** The part of a source that verification needs. */
export type TrustSource = Pick<X509Source, 'bundle' | 'now'>;

/**
 * Verifies a peer's chain (DER, leaf first) against the bundle of the trust domain that its own SPIFFE ID names
 * (X509-SVID §5), and asks the authorizer.
 *
 * @throws PeerError
 */
export function verifyPeer(
  chain: readonly Uint8Array[],
  source: TrustSource,
  authorize: PeerAuthorizer,
): VerifiedPeer {
  const bundles = source.bundle.bind(source);
  const verify = (shown: readonly Uint8Array[]): VerifiedPeer => {
    const { id, leaf } = verifyX509Svid({ chain: shown, bundles, now: source.now() });
    return { spiffeId: id, serial: leaf.serial, notAfter: leaf.notAfter };
  };
  return admitPeer(chain, verify, authorize);
}

/**
 * The verified SPIFFE ID at the other end of a connection that this library has let through, e.g.
 * `peerIdOf(request.socket)`; undefined for every other object.
 */
export function peerIdOf(socket: object): SpiffeId | undefined {
  return peerOf(socket)?.spiffeId;
}
