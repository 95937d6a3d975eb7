import type { SpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import type { Watched } from '../../lib/watched.js';
import { PeerError } from './errors.js';

/** What one end of a connection shows, and proves with its key. A value: the next one replaces it as a whole. */
export interface TlsSvid {
  /** The chain, PEM, leaf first, without the root. */
  readonly cert: string;
  /** The private key, PKCS#8 in PEM. It goes into TLS contexts and nowhere else. */
  readonly key: string;
  /** End of the leaf; milliseconds since the epoch. */
  readonly notAfter: number;
}

/** The other end of a connection, as its certificate was verified. */
export interface VerifiedPeer {
  readonly spiffeId: SpiffeId;
  /** Of the certificate; lower-case hex without leading zero bytes. */
  readonly serial: string;
  /** End of the certificate; milliseconds since the epoch. */
  readonly notAfter: number;
}

/** Who this process is on TLS connections, and whom it believes. Both change while it runs. */
export interface TlsIdentity {
  /** The newest SVID; undefined while there is none, and then no handshake succeeds. */
  readonly svid: Watched<TlsSvid | undefined>;
  /**
   * Verifies a chain (DER, leaf first, as it was sent) by X509-SVID §5: against the bundle of the trust domain that its
   * own SPIFFE ID names, and no other. TLS has proven already that the peer holds the leaf's key.
   *
   * @throws SignetError with the reason
   */
  verifyPeer(chain: readonly Uint8Array[]): VerifiedPeer;
  /**
   * Calls `listener` whenever {@link verifyPeer} may refuse what it took before: a bundle has changed. Returns a
   * function that ends this.
   */
  onTrustChange(listener: () => void): () => void;
}

/** Whether a peer that was verified is let in. */
export type PeerVerdict = { readonly allowed: true } | { readonly allowed: false; readonly reason: string };

/** Decides on the peer of a connection, after its SVID was verified. */
export type PeerAuthorizer = (peer: SpiffeId) => PeerVerdict;

/**
 * Verifies a chain and asks whether its holder is let in.
 *
 * @throws PeerError
 */
export function admitPeer(
  chain: readonly Uint8Array[],
  verify: TlsIdentity['verifyPeer'],
  authorize?: PeerAuthorizer,
): VerifiedPeer {
  if (chain.length === 0) throw new PeerError('PeerCertificateMissing', 'the peer showed no certificate');
  let peer: VerifiedPeer;
  try {
    peer = verify(chain);
  } catch (thrown) {
    const { message } = SignetError.from(thrown);
    throw new PeerError('PeerSvidInvalid', `the peer's certificate is refused: ${message}`, {
      cause: thrown,
    });
  }
  const verdict = authorize?.(peer.spiffeId);
  if (verdict?.allowed !== false) return peer;
  throw new PeerError('PeerNotAuthorized', `the peer is refused: ${verdict.reason}`, {
    spiffeId: peer.spiffeId.uri,
  });
}
