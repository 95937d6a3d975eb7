import type { KeyObject, VerifyKeyObjectInput } from 'node:crypto';
import { constants, verify } from 'node:crypto';

/** Which key an algorithm of RFC 7518 §3, RFC 8037 or RFC 9864 needs, and how node:crypto verifies with it. */
interface Algorithm {
  readonly key: 'rsa' | 'P-256' | 'P-384' | 'P-521' | 'Ed25519';
  readonly digest: string | null;
  readonly options: Omit<VerifyKeyObjectInput, 'key'>;
  /** Undefined where it depends on the key. */
  readonly signatureBytes?: number;
}

const PSS = constants.RSA_PKCS1_PSS_PADDING;
const PKCS1 = constants.RSA_PKCS1_PADDING;
/** R and S in fixed width (RFC 7518 §3.4), not DER. */
const RAW = { dsaEncoding: 'ieee-p1363' } as const;
const ED25519: Algorithm = { key: 'Ed25519', digest: null, options: {}, signatureBytes: 64 };

const ALGORITHMS = new Map<string, Algorithm>([
  ['RS256', { key: 'rsa', digest: 'sha256', options: { padding: PKCS1 } }],
  ['RS384', { key: 'rsa', digest: 'sha384', options: { padding: PKCS1 } }],
  ['RS512', { key: 'rsa', digest: 'sha512', options: { padding: PKCS1 } }],
  // The salt is as long as the digest (RFC 7518 §3.5).
  ['PS256', { key: 'rsa', digest: 'sha256', options: { padding: PSS, saltLength: 32 } }],
  ['PS384', { key: 'rsa', digest: 'sha384', options: { padding: PSS, saltLength: 48 } }],
  ['PS512', { key: 'rsa', digest: 'sha512', options: { padding: PSS, saltLength: 64 } }],
  ['ES256', { key: 'P-256', digest: 'sha256', options: RAW, signatureBytes: 64 }],
  ['ES384', { key: 'P-384', digest: 'sha384', options: RAW, signatureBytes: 96 }],
  ['ES512', { key: 'P-521', digest: 'sha512', options: RAW, signatureBytes: 132 }],
  ['EdDSA', ED25519],
  ['Ed25519', ED25519],
]);

/** All that can be configured. Nothing symmetric and no "none": a public key is no secret to share. */
export const SUPPORTED_ALGORITHMS: readonly string[] = [...ALGORITHMS.keys()];
/** What an issuer may use unless its configuration says otherwise. */
export const DEFAULT_ALGORITHMS: readonly string[] = ['RS256', 'ES256', 'PS256', 'EdDSA', 'Ed25519'];
/** JWT-SVID §2.1: the three families over SHA-2, and no EdDSA. */
export const SVID_ALGORITHMS: readonly string[] = SUPPORTED_ALGORITHMS.filter((name) => /^[REP]S/.test(name));

/** The algorithms that a key of this kind (`rsa`, or the name of its curve) can verify. */
export function algorithmsOf(kind: string): readonly string[] {
  return SUPPORTED_ALGORITHMS.filter((name) => ALGORITHMS.get(name)?.key === kind);
}

/**
 * Whether `signature` is one of `input` by the key. False, too, for an unknown algorithm and a key of another kind.
 * Synchronous: a hop to the thread pool takes longer than the verification itself.
 */
export function isSignedBy(algorithm: string, key: KeyObject, input: Buffer, signature: Buffer): boolean {
  const how = ALGORITHMS.get(algorithm);
  if (how === undefined) return false;
  if (how.signatureBytes !== undefined && signature.length !== how.signatureBytes) return false;
  try {
    return verify(how.digest, input, { key, ...how.options }, signature);
  } catch {
    return false;
  }
}
