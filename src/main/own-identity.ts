import { openOwnSvid } from '../agent/own-svid.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { KeyType } from '../identity/pki/keys.js';
import { isTrustedBy, verifyX509Svid } from '../identity/pki/svid.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { spiffeId, type SpiffeId } from '../identity/spiffe/id.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { TlsIdentity, VerifiedPeer } from '../rpc/tls/identity.js';

/** What a process that has the CA at hand is called by. */
export interface OwnIdentityOptions {
  readonly ca: Pick<CertificateAuthority, 'signX509' | 'taints' | 'trustDomain'>;
  /** Under `/signet/`, which no registration can have (`ReservedId`). */
  readonly path: string;
  /** For clients that know the process by a host name; none unless said. */
  readonly dnsNames?: readonly string[];
  readonly keyType: KeyType;
  /** Of those that are signed from now on. */
  readonly ttlSeconds: () => number;
  /** The bundle of the own trust domain, or of a federated one. */
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  /** Calls `listener` whenever one of those bundles has changed. */
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** An identity of Signet's own that rotates until it is closed. */
export interface OwnIdentity extends TlsIdentity {
  readonly spiffeId: SpiffeId;
  close(): void;
}

/**
 * Has the CA sign an SVID for this process itself, with a new key each time: at half-life, and at once when its authority
 * is tainted or not in the bundle any more. The key never leaves this process. What is over is not shown any more.
 *
 * @throws CaError when the first one cannot be signed
 */
export async function openOwnIdentity(options: OwnIdentityOptions): Promise<OwnIdentity> {
  const { ca, clock, random, logger, keyType, dnsNames = [] } = options;
  const id = spiffeId(ca.trustDomain, options.path);
  const { svid, close } = await openOwnSvid({
    ...{ name: id.uri, keyType, clock, random, logger },
    request: ({ spki }) => ca.signX509({ spki, spiffeId: id, dnsNames, ttlSeconds: options.ttlSeconds() }),
    tainted: {
      get value() {
        return ca.taints.value.x509;
      },
      watch: (onChange) => ca.taints.watch(({ x509 }) => onChange(x509)),
    },
    isTrusted: (chain, now) => isTrustedBy(options.bundleOf(ca.trustDomain), chain, now),
    onTrustChange: options.onTrustChange,
  });
  return {
    spiffeId: id,
    svid,
    verifyPeer: (chain) => verifyPeer(chain, options.bundleOf, clock.now()),
    onTrustChange: options.onTrustChange,
    close,
  };
}

/**
 * Who showed this chain.
 *
 * @throws SignetError with the reason why it proves nobody
 */
export function verifyPeer(
  chain: readonly Uint8Array[],
  bundleOf: (trustDomain: string) => TrustBundle | undefined,
  now: number,
): VerifiedPeer {
  const verified = verifyX509Svid({ chain, bundles: bundleOf, now });
  const { serial, notAfter } = verified.leaf;
  return { spiffeId: verified.id, serial, notAfter };
}
