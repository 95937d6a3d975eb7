import type { KeyObject } from 'node:crypto';
import { toHex, bytesEqual } from './bytes.js';
import type { DerNode } from './der.js';
import { contextTag, parseDer, splitDer, TAG } from './der.js';
import { expectTag, readBitString, readSmallInteger, readTime } from './der-read.js';
import { PkiError, refuse } from './errors.js';
import type { CertificateExtensions } from './extensions.js';
import { readExtensions } from './extensions.js';
import { publicKeyFromSpki } from './keys.js';
import { checkName, nameText } from './names.js';
import { verifySignature } from './signature.js';

/** The largest certificate that is read, in bytes. */
export const MAX_CERTIFICATE_BYTES = 64 * 1024;
/** The most certificates in one concatenation: a chain, or a bundle. */
export const MAX_CERTIFICATES = 256;

/** A parsed X.509 v3 certificate (RFC 5280). Its signature is not verified by parsing; chain.ts does that. */
export interface Certificate extends CertificateExtensions {
  /** The whole certificate. */
  readonly der: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** Lower-case hex without leading zero bytes. */
  readonly serial: string;
  /** Distinguished names, DER. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** The subject for people; never compare by it. */
  readonly subjectText: string;
  /** Milliseconds since the epoch; both ends are inside the validity. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** Made on first use. Throws PkiError `KeyInvalid` when the key cannot be read. */
  readonly publicKey: KeyObject;
  /** Whether this certificate's signature is by `key`. Throws PkiError for an algorithm that is not accepted. */
  isSignedBy(key: KeyObject): boolean;
}

const VERSION = contextTag(0, true);
const EXTENSIONS = contextTag(3, true);
const ISSUER_UNIQUE_ID = contextTag(1, false);
const SUBJECT_UNIQUE_ID = contextTag(2, false);

/**
 * Parses one certificate, DER. Anything after it, and anything that RFC 5280 §4 does not allow in a v3 certificate, is
 * refused. The result holds views into `der`, which must not be changed afterwards.
 *
 * @throws PkiError `CertificateInvalid`, with the reason
 */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) {
    refuse(
      'CertificateInvalid',
      `the certificate has ${der.length} bytes; ${MAX_CERTIFICATE_BYTES} are allowed`,
    );
  }
  try {
    return read(der);
  } catch (error) {
    if (error instanceof PkiError) throw new PkiError('CertificateInvalid', error.message, { cause: error });
    throw error;
  }
}

function read(der: Uint8Array): Certificate {
  const root = expectTag(parseDer(der, 'the certificate'), TAG.sequence, 'the certificate');
  const [tbsNode, outerAlgorithm, signatureNode, ...more] = root.children;
  if (more.length > 0) refuse('DerInvalid', 'the certificate has more parts than X.509 allows');
  const tbs = expectTag(tbsNode, TAG.sequence, 'the signed part');
  const [version, serial, algorithm, issuer, validity, subject, spki, ...optional] = tbs.children;
  if (readSmallInteger(expectTag(version, VERSION, 'the version').children[0], 'the version') !== 2) {
    refuse('DerInvalid', 'the certificate is not of version 3');
  }
  const signedAlgorithm = expectTag(algorithm, TAG.sequence, 'the signature algorithm');
  // RFC 5280 §4.1.1.2: the one that is signed and the one that is not must agree.
  if (!bytesEqual(signedAlgorithm.der, expectTag(outerAlgorithm, TAG.sequence, 'the outer algorithm').der)) {
    refuse('DerInvalid', 'the two signature algorithms of the certificate differ');
  }
  const times = expectTag(validity, TAG.sequence, 'the validity').children;
  const key = expectTag(spki, TAG.sequence, 'the public key');
  const subjectName = checkName(subject, 'the subject').der;
  const signature = readBitString(signatureNode, 'the signature');

  let publicKey: KeyObject | undefined;
  return {
    der,
    tbs: tbs.der,
    serial: readSerial(serial),
    issuer: checkName(issuer, 'the issuer').der,
    subject: subjectName,
    get subjectText() {
      return nameText(subjectName);
    },
    notBefore: readTime(times[0], 'notBefore'),
    notAfter: readTime(times[1], 'notAfter'),
    spki: key.der,
    get publicKey() {
      return (publicKey ??= publicKeyFromSpki(key.der));
    },
    ...readExtensions(extensionsOf(optional)),
    isSignedBy: (signer) => verifySignature(signedAlgorithm, tbs.der, signature, signer),
  };
}

/** The optional tail of the signed part: unique IDs are skipped, extensions are returned. */
function extensionsOf(optional: readonly DerNode[]): DerNode | undefined {
  let extensions: DerNode | undefined;
  let last = 0;
  for (const node of optional) {
    // Each at most once, in this order (RFC 5280 §4.1).
    const position = [ISSUER_UNIQUE_ID, SUBJECT_UNIQUE_ID, EXTENSIONS].indexOf(node.tag) + 1;
    if (position <= last) refuse('DerInvalid', 'the certificate has a part that X.509 does not allow there');
    last = position;
    if (node.tag === EXTENSIONS) extensions = node;
  }
  return extensions;
}

function readSerial(node: DerNode | undefined): string {
  const { content } = expectTag(node, TAG.integer, 'the serial number');
  if ((content[0] ?? 0) >= 0x80) refuse('DerInvalid', 'the serial number is negative');
  const digits = content[0] === 0 ? content.subarray(1) : content;
  if (digits.length > 20) {
    refuse('DerInvalid', `the serial number has ${digits.length} bytes; RFC 5280 allows 20`);
  }
  return toHex(digits);
}

/**
 * Cuts certificates that stand one after the other (as the Workload API sends them) apart.
 *
 * @throws PkiError `DerInvalid`
 */
export function splitCertificates(concatenatedDer: Uint8Array): Uint8Array[] {
  return splitDer(concatenatedDer, 'the list of certificates', MAX_CERTIFICATES);
}
