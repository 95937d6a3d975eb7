import type { Issuer } from './issuers.js';
import type { KeySet, VerificationKey } from './key-set.js';

/** An issuer as others need it to verify its tokens as we do. */
export interface PublishedIssuer {
  /** The `iss` of its tokens. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  /** A JWK Set as JSON text; absent while there are no keys that may serve. */
  readonly jwks?: string;
}

/** Those that are told by `iss`. JWT-SVIDs need none, so the trust domains that sign them are not among these. */
export function publishedIssuers(issuers: readonly Issuer[]): readonly PublishedIssuer[] {
  return issuers.flatMap(({ settings, keys }) => {
    const { issuer, audiences, algorithms } = settings;
    if (issuer === undefined || settings.keys.kind === 'bundle') return [];
    const known = { issuer, audiences: [...audiences], algorithms: [...algorithms] };
    const { usable } = keys;
    return [usable === undefined || usable.keys.size === 0 ? known : { ...known, jwks: jwksOf(usable) }];
  });
}

const jwksOf = ({ keys }: KeySet): string => JSON.stringify({ keys: [...keys].map(jwkOf) });

function jwkOf({ key, keyId, named, algorithms }: VerificationKey): Record<string, unknown> {
  const [algorithm] = algorithms;
  // Programs that know only the older name of EdDSA (RFC 8037) would not take the key under its newer one (RFC 9864).
  const only = algorithms.length === 1 && algorithm !== 'Ed25519' ? { alg: algorithm } : {};
  return { ...key.export({ format: 'jwk' }), use: 'sig', ...(named ? { kid: keyId } : {}), ...only };
}
