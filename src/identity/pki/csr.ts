import type { KeyObject } from 'node:crypto';
import { sign } from 'node:crypto';
import { parseSpiffeId } from '../spiffe/id.js';
import type { DerNode } from './der.js';
import { contextTag, parseDer, TAG } from './der.js';
import { expectTag, readBitString, readOid, readSmallInteger } from './der-read.js';
import { bitString, encode, octetString, oid, sequence, setOfOne, smallInteger } from './der-write.js';
import { checkDnsName } from './dns-name.js';
import { refuse } from './errors.js';
import type { GeneralNames } from './general-names.js';
import { dnsName, NO_NAMES, readGeneralNames, uriName } from './general-names.js';
import type { KeyPair, KeyType } from './keys.js';
import { exportSpki, keyTypeOfSpki, publicKeyFromSpki } from './keys.js';
import { EMPTY_NAME } from './names.js';
import { OID } from './oids.js';
import { signatureAlgorithm, verifySignatureBySpki } from './signature.js';

/** The largest CSR that is read, in bytes. One with an RSA-4096 key and some names has about 2,000. */
export const MAX_CSR_BYTES = 8 * 1024;

/** A certification request (PKCS#10, RFC 2986) whose signature has been verified. */
export interface Csr {
  /** Made on first use; {@link spki} is the same key and costs nothing. */
  readonly publicKey: KeyObject;
  /** SubjectPublicKeyInfo, DER, as in the request. */
  readonly spki: Uint8Array;
  readonly keyType: KeyType;
  /** What the requester would like to be called: for messages only. A signer decides the names by itself. */
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
}

const ATTRIBUTES = contextTag(0, true);
const VERSION_1 = smallInteger(0);

/** Makes a CSR, DER, with an empty subject; the key type must be one that signs without waiting. */
export function createCsr(
  pair: KeyPair,
  options: { readonly uris?: readonly string[]; readonly dnsNames?: readonly string[] } = {},
): Uint8Array {
  const names = [
    ...(options.uris ?? []).map((uri) => uriName(parseSpiffeId(uri).uri)),
    ...(options.dnsNames ?? []).map((name) => {
      checkDnsName(name);
      return dnsName(name);
    }),
  ];
  const attributes =
    names.length === 0
      ? []
      : [
          sequence(
            oid(OID.extensionRequest),
            setOfOne(sequence(sequence(oid(OID.subjectAltName), octetString(sequence(...names))))),
          ),
        ];
  // Of the private half: its numbers are at hand, those of the public one must be computed.
  const spki = exportSpki(pair.privateKey);
  const info = sequence(VERSION_1, EMPTY_NAME, spki, encode(ATTRIBUTES, ...attributes));
  const digest = pair.type === 'ed25519' ? null : pair.type === 'ec-p384' ? 'sha384' : 'sha256';
  const signature = sign(digest, info, pair.privateKey);
  return sequence(info, signatureAlgorithm(pair.type), bitString(signature));
}

/**
 * Parses a CSR and verifies its proof of possession.
 *
 * @throws PkiError `CsrInvalid`, `DerInvalid`, `KeyUnsupported`, `KeyInvalid` or `SignatureInvalid`
 */
export function parseCsr(der: Uint8Array): Csr {
  const request = expectTag(parseDer(der, 'the CSR', { maxBytes: MAX_CSR_BYTES }), TAG.sequence, 'the CSR');
  const [info, algorithm, signature, ...more] = request.children;
  if (more.length > 0) refuse('CsrInvalid', 'the CSR has more parts than PKCS#10 allows');
  const [version, subject, key, attributes, ...rest] = expectTag(info, TAG.sequence, 'the CSR info').children;
  if (rest.length > 0) refuse('CsrInvalid', 'the CSR info has more parts than PKCS#10 allows');
  if (readSmallInteger(version, 'the CSR version') !== 0) refuse('CsrInvalid', 'the CSR is not of version 1');
  expectTag(subject, TAG.sequence, 'the CSR subject');
  const spki = expectTag(key, TAG.sequence, 'the CSR public key').der;
  const keyType = keyTypeOfSpki(spki);
  const names = requestedNames(attributes);
  const genuine = verifySignatureBySpki(
    expectTag(algorithm, TAG.sequence, 'the CSR signature algorithm'),
    expectTag(info, TAG.sequence, 'the CSR info').der,
    readBitString(signature, 'the CSR signature'),
    spki,
    keyType,
  );
  if (!genuine) {
    refuse(
      'SignatureInvalid',
      'the CSR is not signed by the key it holds; sign it with the private key of its public key',
    );
  }
  let publicKey: KeyObject | undefined;
  return {
    get publicKey() {
      return (publicKey ??= publicKeyFromSpki(spki));
    },
    spki,
    keyType,
    uris: names.uris,
    dnsNames: names.dnsNames,
  };
}

/** The subject alternative names that the request asks for (RFC 2985 §5.4.2). */
function requestedNames(attributes: DerNode | undefined): GeneralNames {
  if (attributes === undefined) return NO_NAMES;
  let names = NO_NAMES;
  for (const attribute of expectTag(attributes, ATTRIBUTES, 'the CSR attributes').children) {
    const [type, values] = expectTag(attribute, TAG.sequence, 'a CSR attribute').children;
    if (readOid(type, 'a CSR attribute') !== OID.extensionRequest) continue;
    const extensions = expectTag(values, TAG.set, 'the CSR extension request').children[0];
    for (const extension of expectTag(extensions, TAG.sequence, 'the CSR extensions').children) {
      if (readOid(extension.children[0], 'a CSR extension') !== OID.subjectAltName) continue;
      const value = expectTag(extension.children.at(-1), TAG.octetString, 'the CSR alternative names');
      const what = 'the CSR alternative names';
      names = readGeneralNames(parseDer(value.content, what), what);
    }
  }
  return names;
}
