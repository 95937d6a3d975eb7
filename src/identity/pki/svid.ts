import type { TrustBundle } from '../spiffe/bundle.js';
import type { SpiffeId } from '../spiffe/id.js';
import { checkX509SvidLeaf } from '../spiffe/x509-svid.js';
import type { Certificate } from './certificate.js';
import { parseCertificate } from './certificate.js';
import { verifyChain } from './chain.js';
import { refuse } from './errors.js';

/** What {@link verifyX509Svid} needs. */
export interface X509SvidVerification {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  /** The bundle of a trust domain, or undefined where there is none. */
  readonly bundles: (trustDomain: string) => TrustBundle | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Verifies an X.509-SVID (X509-SVID §5): the leaf profile, then the path to an authority of the trust domain that the
 * leaf names. Authorities of other trust domains are never looked at, so none can vouch for a foreign identity.
 *
 * @throws X509SvidError when the leaf is no SVID; PkiError `ChainUntrusted` without a bundle, and those of verifyChain
 */
export function verifyX509Svid(options: X509SvidVerification): { id: SpiffeId; leaf: Certificate } {
  const [first] = options.chain;
  if (first === undefined) refuse('ChainEmpty', 'there is no certificate');
  const id = checkX509SvidLeaf(parseCertificate(first));
  const bundle = options.bundles(id.trustDomain);
  if (bundle === undefined)
    refuse('ChainUntrusted', `there is no bundle of trust domain "${id.trustDomain}"`);
  const { leaf } = verifyChain({ chain: options.chain, roots: bundle.x509Authorities, now: options.now });
  return { id, leaf };
}

/**
 * Whether those who have this bundle trust an SVID of one's own at that time (milliseconds since the epoch). Without a bundle
 * nothing speaks against it.
 */
export function isTrustedBy(
  bundle: TrustBundle | undefined,
  chain: readonly Uint8Array[],
  now: number,
): boolean {
  if (bundle === undefined) return true;
  try {
    verifyX509Svid({ chain, bundles: () => bundle, now });
    return true;
  } catch {
    return false;
  }
}
