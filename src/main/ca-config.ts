import type { CaConfig } from '../identity/ca/config.js';
import { diskUpstream } from '../identity/ca/disk-upstream.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';

/** What the TrustDomain says of its authorities, wherever their state is kept. An upstream's files lie on this machine. */
export function caConfigOf({ keyTypes, ttlSeconds, jwtIssuer, upstreamDisk }: TrustDomainSettings): CaConfig {
  return {
    x509KeyType: keyTypes.x509Authority,
    jwtKeyType: keyTypes.jwtAuthority,
    authorityTtlSeconds: ttlSeconds.authority,
    ...(jwtIssuer === undefined ? {} : { jwtIssuer }),
    ...(upstreamDisk === undefined ? {} : { upstream: diskUpstream(upstreamDisk) }),
  };
}
