import { hash } from 'node:crypto';
import { TAG, contextTag, parseDer } from './der.js';
import { expectTag, readBitString } from './der-read.js';
import { encode, namedBits, octetString, oid, sequence, smallInteger, TRUE } from './der-write.js';
import { KEY_USAGES } from './extensions.js';
import { encodeName } from './names.js';
import { OID } from './oids.js';

/**
 * The subject of an X.509-SVID, but for the common name of one that has DNS names. Not empty, since some TLS stacks trip
 * over that; the name that counts is the URI.
 */
export const SVID_SUBJECT: Uint8Array = encodeName([{ type: 'organization', value: 'Signet' }]);
/** The longest common name (RFC 5280 appendix A.1, ub-common-name); some readers refuse longer ones. */
const MAX_COMMON_NAME = 64;

/**
 * The common name of an SVID with these DNS names: the first of them, as SPIRE has it, for programs that know peers by
 * nothing else (PostgreSQL, MySQL, MongoDB). None where it would be too long.
 */
export function commonNameOf(dnsNames: readonly string[]): string | undefined {
  const [first] = dnsNames;
  return first === undefined || first.length > MAX_COMMON_NAME ? undefined : first;
}

type KeyUsage = (typeof KEY_USAGES)[number];

/** One extension (RFC 5280 §4.1), DER. */
export function extension(name: string, critical: boolean, value: Uint8Array): Uint8Array {
  return critical ? sequence(oid(name), TRUE, octetString(value)) : sequence(oid(name), octetString(value));
}

/** keyUsage, critical (X509-SVID §4.3). */
export function keyUsageExtension(usages: readonly KeyUsage[]): Uint8Array {
  return extension(OID.keyUsage, true, namedBits(usages.map((usage) => KEY_USAGES.indexOf(usage))));
}

/** basicConstraints, critical, of a CA. */
export function caConstraints(pathLength: number | undefined): Uint8Array {
  const length = pathLength === undefined ? [] : [smallInteger(pathLength)];
  return extension(OID.basicConstraints, true, sequence(TRUE, ...length));
}

/** basicConstraints, critical, of a leaf: cA is false by default. */
export const LEAF_CONSTRAINTS: Uint8Array = extension(OID.basicConstraints, true, sequence());

/** extendedKeyUsage of an SVID: both roles (X509-SVID §4.4). */
export const TLS_BOTH_ROLES: Uint8Array = extension(
  OID.extendedKeyUsage,
  false,
  sequence(oid(OID.serverAuth), oid(OID.clientAuth)),
);

/** authorityKeyIdentifier with the signer's key ID. */
export function authorityKeyIdentifier(keyId: Uint8Array): Uint8Array {
  return extension(OID.authorityKeyIdentifier, false, sequence(encode(contextTag(0, false), keyId)));
}

/** subjectKeyIdentifier. */
export function subjectKeyIdentifier(keyId: Uint8Array): Uint8Array {
  return extension(OID.subjectKeyIdentifier, false, octetString(keyId));
}

/** How many bytes a key ID has. */
export const KEY_ID_BYTES = 20;

/**
 * The key ID of a public key: the first 160 bits of the SHA-256 of its bits (RFC 7093 §2 method 1), so nothing needs
 * SHA-1.
 *
 * @param publicKeyBits the content of SubjectPublicKeyInfo's bit string
 */
export function keyIdOfBits(publicKeyBits: Uint8Array): Uint8Array {
  return hash('sha256', publicKeyBits, 'buffer').subarray(0, KEY_ID_BYTES);
}

/** The key ID of a SubjectPublicKeyInfo, DER. Throws PkiError `DerInvalid`. */
export function keyIdOfSpki(spki: Uint8Array): Uint8Array {
  const node = expectTag(parseDer(spki, 'the public key'), TAG.sequence, 'the public key');
  return keyIdOfBits(readBitString(node.children[1], 'the public key'));
}
