import { concatBytes } from './bytes.js';
import { contextTag, TAG } from './der.js';
import { readTime } from './der-read.js';
import { encode, header, oid, smallInteger, time } from './der-write.js';
import { BugError } from '../../lib/errors.js';
import type { KeyType } from './keys.js';
import { OID } from './oids.js';
import {
  authorityKeyIdentifier,
  KEY_ID_BYTES,
  keyUsageExtension,
  LEAF_CONSTRAINTS,
  SVID_SUBJECT,
  TLS_BOTH_ROLES,
} from './profile.js';

/** The parts of an SVID that are the same for all of one authority and profile, encoded once. */
export interface SvidTemplate {
  /** AlgorithmIdentifier of the signature. */
  readonly algorithm: Uint8Array;
  /** AlgorithmIdentifier and issuer, as they stand together in the signed part. */
  readonly algorithmAndIssuer: Uint8Array;
  /** All extensions but subjectKeyIdentifier and subjectAltName. */
  readonly extensions: Uint8Array;
}

/** What is spliced into a template. */
export interface SvidHoles {
  /** Unsigned, big-endian, without leading zero bytes. */
  readonly serial: Uint8Array;
  /** Both validity times, encoded. */
  readonly notBefore: Uint8Array;
  readonly notAfter: Uint8Array;
  /** SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  readonly subjectKeyId: Uint8Array;
  /** In the subject; of the characters that DNS names have. */
  readonly commonName: string | undefined;
  /** First the URI, then the DNS names; checked ASCII. */
  readonly names: readonly { readonly tag: number; readonly text: string }[];
}

/** version v3, [0] EXPLICIT. */
export const VERSION_3: Uint8Array = encode(contextTag(0, true), smallInteger(2));
export const EXTENSIONS_TAG: number = contextTag(3, true);
export const URI_TAG: number = contextTag(6, false);
export const DNS_TAG: number = contextTag(2, false);
/** subjectKeyIdentifier up to the key ID itself, whose size is fixed. */
export const SKI_PREFIX: Uint8Array = concatBytes([
  header(TAG.sequence, 9 + KEY_ID_BYTES),
  oid(OID.subjectKeyIdentifier),
  header(TAG.octetString, 2 + KEY_ID_BYTES),
  header(TAG.octetString, KEY_ID_BYTES),
]);
export const SAN_OID: Uint8Array = oid(OID.subjectAltName);
/** The relative names of every SVID's subject: SVID_SUBJECT without the header, which is 2 bytes. */
export const SUBJECT_PREFIX: Uint8Array = SVID_SUBJECT.subarray(2);
export const CN_OID: Uint8Array = oid(OID.commonName);

/** The template of an authority. RSA subjects may also encipher keys (X509-SVID §4.3). */
export function svidTemplate(options: {
  readonly algorithm: Uint8Array;
  readonly issuer: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  readonly rsaSubject: boolean;
}): SvidTemplate {
  return {
    algorithm: options.algorithm,
    algorithmAndIssuer: concatBytes([options.algorithm, options.issuer]),
    extensions: concatBytes([
      keyUsageExtension(options.rsaSubject ? ['digitalSignature', 'keyEncipherment'] : ['digitalSignature']),
      TLS_BOTH_ROLES,
      LEAF_CONSTRAINTS,
      authorityKeyIdentifier(options.authorityKeyId),
    ]),
  };
}

/** An SVID without its signature. */
export interface SvidDraft {
  /** The signed part (TBSCertificate); a view into the draft. */
  readonly tbs: Uint8Array;
  /**
   * Completes the certificate in place. One allocation serves the draft and the certificate: allocating is what costs
   * most here beside the signature.
   */
  seal(signature: Uint8Array): Uint8Array;
}

/** Certificates of SVIDs have 256 to 65535 bytes, so their header has this size. */
const CERTIFICATE_HEADER = 4;
/** The longest signature, RSA-4096, with its bit string's header. */
const SIGNATURE_SPACE: Readonly<Record<KeyType, number>> = {
  'ec-p256': 75,
  'ec-p384': 107,
  ed25519: 67,
  'rsa-2048': 261,
  'rsa-4096': 517,
};

/** Splices the holes into a template. `signerType` says how much room the signature needs. */
export function draftSvid(template: SvidTemplate, holes: SvidHoles, signerType: KeyType): SvidDraft {
  const sizes = measure(template, holes);
  const tbsEnd = CERTIFICATE_HEADER + sizeOf(sizes.tbs);
  const der = Buffer.allocUnsafeSlow(tbsEnd + template.algorithm.length + SIGNATURE_SPACE[signerType]);
  const out = new Output(der, CERTIFICATE_HEADER);
  writeTbs(out, template, holes, sizes);
  if (out.at !== tbsEnd) throw new BugError(`the signed part ends at ${out.at} instead of ${tbsEnd}`);
  out.bytes(template.algorithm);
  return {
    tbs: der.subarray(CERTIFICATE_HEADER, tbsEnd),
    seal(signature) {
      out.header(TAG.bitString, signature.length + 1);
      out.byte(0);
      out.bytes(signature);
      const length = out.at - CERTIFICATE_HEADER;
      if (new Output(der, 0).header(TAG.sequence, length) !== CERTIFICATE_HEADER)
        throw new BugError(`an SVID of ${length} bytes`);
      return der.subarray(0, out.at);
    },
  };
}

/** Lengths of content; the header of each element adds to what it is in. */
interface Sizes {
  readonly serial: number;
  readonly subject: number;
  readonly names: number;
  readonly alternativeNames: number;
  readonly extensions: number;
  readonly tbs: number;
}

function measure(template: SvidTemplate, holes: SvidHoles): Sizes {
  const serial = holes.serial.length + ((holes.serial[0] ?? 0) >= 0x80 ? 1 : 0);
  const subject = SUBJECT_PREFIX.length + sizeOfCommonName(holes.commonName);
  let names = 0;
  for (const { text } of holes.names) names += sizeOf(text.length);
  const alternativeNames = SAN_OID.length + sizeOf(sizeOf(names));
  const extensions = template.extensions.length + SKI_PREFIX.length + KEY_ID_BYTES + sizeOf(alternativeNames);
  const tbs =
    VERSION_3.length +
    sizeOf(serial) +
    template.algorithmAndIssuer.length +
    sizeOf(holes.notBefore.length + holes.notAfter.length) +
    sizeOf(subject) +
    holes.spki.length +
    sizeOf(sizeOf(extensions));
  return { serial, subject, names, alternativeNames, extensions, tbs };
}

function writeTbs(out: Output, template: SvidTemplate, holes: SvidHoles, sizes: Sizes): void {
  out.header(TAG.sequence, sizes.tbs);
  out.bytes(VERSION_3);
  out.header(TAG.integer, sizes.serial);
  // A set top bit would make the number negative.
  if (sizes.serial > holes.serial.length) out.byte(0);
  out.bytes(holes.serial);
  out.bytes(template.algorithmAndIssuer);
  out.header(TAG.sequence, holes.notBefore.length + holes.notAfter.length);
  out.bytes(holes.notBefore);
  out.bytes(holes.notAfter);
  out.header(TAG.sequence, sizes.subject);
  out.bytes(SUBJECT_PREFIX);
  if (holes.commonName !== undefined) writeCommonName(out, holes.commonName);
  out.bytes(holes.spki);
  out.header(EXTENSIONS_TAG, sizeOf(sizes.extensions));
  out.header(TAG.sequence, sizes.extensions);
  out.bytes(template.extensions);
  out.bytes(SKI_PREFIX);
  out.bytes(holes.subjectKeyId);
  out.header(TAG.sequence, sizes.alternativeNames);
  out.bytes(SAN_OID);
  out.header(TAG.octetString, sizeOf(sizes.names));
  out.header(TAG.sequence, sizes.names);
  for (const { tag, text } of holes.names) {
    out.header(tag, text.length);
    out.text(text);
  }
}

function sizeOfCommonName(text: string | undefined): number {
  return text === undefined ? 0 : sizeOf(sizeOf(CN_OID.length + sizeOf(text.length)));
}

/** A relative name of one attribute. PrintableString has all characters of DNS names. */
function writeCommonName(out: Output, text: string): void {
  const attribute = CN_OID.length + sizeOf(text.length);
  out.header(TAG.set, sizeOf(attribute));
  out.header(TAG.sequence, attribute);
  out.bytes(CN_OID);
  out.header(TAG.printableString, text.length);
  out.text(text);
}

/** Writes forward into a buffer. */
class Output {
  readonly #buffer: Buffer;
  at: number;

  constructor(buffer: Buffer, at: number) {
    this.#buffer = buffer;
    this.at = at;
  }

  byte(value: number): void {
    this.#buffer[this.at++] = value;
  }

  bytes(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.at);
    this.at += bytes.length;
  }

  text(text: string): void {
    this.at += this.#buffer.write(text, this.at, 'latin1');
  }

  /** Identifier and minimal length; returns where the content begins. */
  header(tag: number, length: number): number {
    if (length > 0xffff) throw new BugError(`an element of ${length} bytes in an SVID`);
    this.byte(tag);
    if (length >= 0x100) {
      this.byte(0x82);
      this.byte(length >> 8);
    } else if (length >= 0x80) {
      this.byte(0x81);
    }
    this.byte(length & 0xff);
    return this.at;
  }
}

/** How long an element with so much content is, header included. */
function sizeOf(length: number): number {
  if (length < 0x80) return length + 2;
  return length < 0x100 ? length + 3 : length + 4;
}

/**
 * Encodes times and remembers the last one: in one second, most certificates share theirs. Each new encoding is read
 * back before it is used.
 */
export function timeEncoder(): (ms: number) => Uint8Array {
  let lastSecond = NaN;
  let last: Uint8Array = new Uint8Array();
  return (ms) => {
    const second = Math.floor(ms / 1000);
    if (second !== lastSecond) {
      const encoded = time(ms);
      const readBack = readTime(
        { tag: encoded[0] ?? 0, content: encoded.subarray(2), der: encoded, children: [] },
        'time',
      );
      if (readBack !== second * 1000) throw new BugError(`time ${ms} was encoded as ${readBack}`);
      last = encoded;
      lastSecond = second;
    }
    return last;
  };
}
