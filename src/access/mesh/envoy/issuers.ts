import type { RenderedIssuer } from '../renderer.js';
import type { Json } from './predicate.js';

/** A token issuer as Envoy is told of it. */
export interface EnvoyIssuer extends RenderedIssuer {
  /** Its keys come later, with the filter that verifies. */
  readonly keysServed?: boolean;
}

/** What an issuer may use unless the TrustDomain says otherwise. */
export const USUAL_ALGORITHMS: readonly string[] = ['RS256', 'ES256', 'PS256', 'EdDSA', 'Ed25519'];

/** Under what the jwt_authn filter puts the claims of a token that it has verified. */
export const CLAIMS = 'signet';

/** Under what it puts the header, which also says whose token it is. */
export const headerKey = ({ issuer }: EnvoyIssuer): string => `signet header ${issuer}`;

/** Whether Envoy can get the keys. */
export const isUsable = (issuer: EnvoyIssuer): boolean =>
  issuer.keysServed === true || issuer.jwksUri !== undefined || publicKeys(issuer) !== undefined;

/** The issuer's public keys, as JSON text. Shared secrets are left out: whoever verifies with one could sign with it. */
export function publicKeys({ jwks }: EnvoyIssuer): string | undefined {
  if (jwks === undefined) return undefined;
  const keys = (JSON.parse(jwks) as { readonly keys?: readonly Json[] }).keys ?? [];
  const usable = keys.filter(({ kty }) => kty !== 'oct');
  return usable.length === 0 ? undefined : JSON.stringify({ keys: usable });
}
