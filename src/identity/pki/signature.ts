import type { KeyObject } from 'node:crypto';
import { verify } from 'node:crypto';
import type { DerNode } from './der.js';
import { TAG } from './der.js';
import { expectTag, readOid } from './der-read.js';
import { NULL, oid, sequence } from './der-write.js';
import { refuse } from './errors.js';
import type { KeyType } from './keys.js';
import { spkiPem } from './keys.js';
import { OID } from './oids.js';

interface Algorithm {
  readonly key: 'ec' | 'rsa' | 'ed25519';
  /** Null where the algorithm hashes by itself. */
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null;
}

/** What is accepted in certificates and CSRs: nothing with MD5 or SHA-1, no DSA. */
const ALGORITHMS: ReadonlyMap<string, Algorithm> = new Map([
  [OID.ecdsaWithSha256, { key: 'ec', digest: 'sha256' }],
  [OID.ecdsaWithSha384, { key: 'ec', digest: 'sha384' }],
  [OID.ecdsaWithSha512, { key: 'ec', digest: 'sha512' }],
  [OID.sha256WithRsa, { key: 'rsa', digest: 'sha256' }],
  [OID.sha384WithRsa, { key: 'rsa', digest: 'sha384' }],
  [OID.sha512WithRsa, { key: 'rsa', digest: 'sha512' }],
  [OID.ed25519, { key: 'ed25519', digest: null }],
]);

const ECDSA_SHA256 = sequence(oid(OID.ecdsaWithSha256));
const ECDSA_SHA384 = sequence(oid(OID.ecdsaWithSha384));
const ED25519 = sequence(oid(OID.ed25519));
const RSA_SHA256 = sequence(oid(OID.sha256WithRsa), NULL);

/** The AlgorithmIdentifier (DER) that a signer of this key type uses. */
export function signatureAlgorithm(type: KeyType): Uint8Array {
  switch (type) {
    case 'ec-p256':
      return ECDSA_SHA256;
    case 'ec-p384':
      return ECDSA_SHA384;
    case 'ed25519':
      return ED25519;
    case 'rsa-2048':
    case 'rsa-4096':
      return RSA_SHA256;
  }
}

/**
 * Whether `signature` over `data` is by `publicKey` under the algorithm named.
 *
 * @param algorithm an AlgorithmIdentifier
 * @throws PkiError `SignatureInvalid` when the algorithm is not accepted, `DerInvalid` when it is malformed
 */
export function verifySignature(
  algorithm: DerNode,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: KeyObject,
): boolean {
  const { key, digest } = acceptedAlgorithm(algorithm);
  return publicKey.asymmetricKeyType === key && verify(digest, data, publicKey, signature);
}

/**
 * The same with a key that is used once: makes no KeyObject, which would take a third of the time.
 *
 * @param spki SubjectPublicKeyInfo
 * @param keyType what keyTypeOfSpki said of it
 * @throws PkiError as verifySignature, and `KeyInvalid` when the key cannot be read
 */
export function verifySignatureBySpki(
  algorithm: DerNode,
  data: Uint8Array,
  signature: Uint8Array,
  spki: Uint8Array,
  keyType: KeyType,
): boolean {
  const { key, digest } = acceptedAlgorithm(algorithm);
  if (keyType.split('-')[0] !== key) return false;
  try {
    return verify(digest, data, spkiPem(spki), signature);
  } catch (cause) {
    refuse('KeyInvalid', 'the public key cannot be read', cause);
  }
}

/** Reads an AlgorithmIdentifier; refuses all that {@link ALGORITHMS} does not hold. */
function acceptedAlgorithm(algorithm: DerNode): Algorithm {
  const what = 'the signature algorithm';
  const [oidNode, parameters, ...more] = expectTag(algorithm, TAG.sequence, what).children;
  const name = readOid(oidNode, what);
  const known = ALGORITHMS.get(name);
  if (known === undefined) {
    refuse(
      'SignatureInvalid',
      `signature algorithm ${name} is not accepted; use ECDSA or RSA with SHA-256, SHA-384 or SHA-512, or Ed25519`,
    );
  }
  const rsaNull = known.key === 'rsa' && parameters?.tag === TAG.nul;
  if (more.length > 0 || (parameters !== undefined && !rsaNull)) {
    refuse('SignatureInvalid', `signature algorithm ${name} has parameters that it may not have`);
  }
  return known;
}
