import type { JsonWebKey } from 'node:crypto';

/** A JWT authority: the public key under its key ID. */
export interface JwtAuthorityKey {
  readonly keyId: string;
  /** The public key as a JWK without `use` and `kid`; EC or RSA. */
  readonly jwk: JsonWebKey;
}

/**
 * The trust bundle of one trust domain (SPIFFE Trust Domain and Bundle §3). A value: never changed in place.
 * Its document form (JWKS) is read and written by bundle-document.ts.
 */
export interface TrustBundle {
  readonly trustDomain: string;
  /** CA certificates, DER. */
  readonly x509Authorities: readonly Uint8Array[];
  readonly jwtAuthorities: readonly JwtAuthorityKey[];
  /** Grows with each change of content (§4.1.1). */
  readonly sequence: number;
  /** How often a consumer should look again, in seconds (§4.1.2). */
  readonly refreshHintSeconds?: number;
}
