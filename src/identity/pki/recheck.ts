import { contextTag, TAG } from './der.js';
import { refuse } from './errors.js';
import { KEY_ID_BYTES } from './profile.js';
import type { SvidHoles, SvidTemplate } from './template.js';
import { CN_OID, DNS_TAG, SAN_OID, SKI_PREFIX, SUBJECT_PREFIX, URI_TAG, VERSION_3 } from './template.js';

/**
 * Reads a finished SVID from its first byte to its last and compares each part with what was asked for.
 *
 * This is stricter than a general parse: whatever is not a hole of the template must be, byte for byte, the template,
 * which was put through the general parser and the SVID profile when the issuer was made. It shares no code with the
 * writer, only the constants, and it never trusts a length that the writer computed.
 *
 * @throws PkiError `IssuedInvalid`: the certificate must not leave
 */
export function recheckSvid(
  der: Uint8Array,
  template: SvidTemplate,
  holes: SvidHoles,
): { readonly tbs: Uint8Array; readonly signature: Uint8Array } {
  const walk = new Walk(der);
  const certificate = walk.open(TAG.sequence, 'certificate');
  if (certificate !== der.length) wrong('certificate');
  const tbsStart = walk.at;
  const tbs = walk.open(TAG.sequence, 'signed part');
  walk.exact(VERSION_3, 'version');
  checkSerial(walk.take(TAG.integer, 'serial'), holes.serial);
  walk.exact(template.algorithmAndIssuer, 'algorithm and issuer');
  const validity = walk.open(TAG.sequence, 'validity');
  walk.exact(holes.notBefore, 'notBefore');
  walk.exact(holes.notAfter, 'notAfter');
  walk.close(validity, 'validity');
  checkSubject(walk, holes.commonName, holes.names);
  walk.exact(holes.spki, 'public key');
  const wrapper = walk.open(contextTag(3, true), 'extensions');
  const extensions = walk.open(TAG.sequence, 'extensions');
  walk.exact(template.extensions, 'extensions');
  walk.exact(SKI_PREFIX, 'subjectKeyIdentifier');
  if (holes.subjectKeyId.length !== KEY_ID_BYTES) wrong('subjectKeyIdentifier');
  walk.exact(holes.subjectKeyId, 'subjectKeyIdentifier');
  checkNames(walk, holes.names);
  walk.close(extensions, 'extensions');
  walk.close(wrapper, 'extensions');
  walk.close(tbs, 'signed part');
  walk.exact(template.algorithm, 'outer algorithm');
  const bits = walk.take(TAG.bitString, 'signature');
  walk.close(certificate, 'certificate');
  if (bits[0] !== 0 || bits.length < 2) wrong('signature');
  return { tbs: der.subarray(tbsStart, tbs), signature: bits.subarray(1) };
}

/** The common name, if any, is one of the DNS names: it may not say of a workload what these do not. */
function checkSubject(walk: Walk, commonName: string | undefined, names: SvidHoles['names']): void {
  const subject = walk.open(TAG.sequence, 'subject');
  walk.exact(SUBJECT_PREFIX, 'subject');
  if (commonName !== undefined) {
    if (!names.some(({ tag, text }) => tag === DNS_TAG && text === commonName)) wrong('subject');
    const relative = walk.open(TAG.set, 'subject');
    const attribute = walk.open(TAG.sequence, 'subject');
    walk.exact(CN_OID, 'subject');
    walk.exactText(TAG.printableString, commonName, 'subject');
    walk.close(attribute, 'subject');
    walk.close(relative, 'subject');
  }
  walk.close(subject, 'subject');
}

function checkNames(walk: Walk, names: SvidHoles['names']): void {
  const extension = walk.open(TAG.sequence, 'subjectAltName');
  walk.exact(SAN_OID, 'subjectAltName');
  const value = walk.open(TAG.octetString, 'subjectAltName');
  const list = walk.open(TAG.sequence, 'subjectAltName');
  let uris = 0;
  for (const { tag, text } of names) {
    if (tag !== URI_TAG && tag !== DNS_TAG) wrong('subjectAltName');
    if (tag === URI_TAG) uris++;
    walk.exactText(tag, text, 'subjectAltName');
  }
  if (uris !== 1) wrong('subjectAltName');
  walk.close(list, 'subjectAltName');
  walk.close(value, 'subjectAltName');
  walk.close(extension, 'subjectAltName');
}

/** The serial must be positive, minimal, and the one asked for. */
function checkSerial(content: Uint8Array, serial: Uint8Array): void {
  const first = content[0] ?? 0xff;
  if (first >= 0x80 || (first === 0 && (content[1] ?? 0) < 0x80)) wrong('serial');
  const digits = first === 0 ? content.subarray(1) : content;
  if (Buffer.compare(digits, serial) !== 0) wrong('serial');
}

function wrong(part: string): never {
  refuse('IssuedInvalid', `the certificate that was made is wrong in its ${part}; it is not handed out`);
}

/** A position in DER that moves forward only, and never past the element it is in. */
class Walk {
  readonly #bytes: Buffer;
  /** Where the innermost open element ends. */
  #end: number;
  readonly #outer: number[] = [];
  at = 0;

  constructor(der: Uint8Array) {
    this.#bytes = Buffer.from(der.buffer, der.byteOffset, der.byteLength);
    this.#end = der.length;
  }

  /** Steps into an element; returns where it ends, for {@link close}. */
  open(tag: number, part: string): number {
    const end = this.#header(tag, part);
    this.#outer.push(this.#end);
    this.#end = end;
    return end;
  }

  /** Steps out of the innermost element, which must be used up. */
  close(end: number, part: string): void {
    if (this.at !== end || this.#end !== end) wrong(part);
    this.#end = this.#outer.pop() ?? wrong(part);
  }

  /** The content of a primitive element. */
  take(tag: number, part: string): Uint8Array {
    const end = this.#header(tag, part);
    const content = this.#bytes.subarray(this.at, end);
    this.at = end;
    return content;
  }

  /** The next bytes must be these. */
  exact(expected: Uint8Array, part: string): void {
    const end = this.at + expected.length;
    if (end > this.#end || this.#bytes.compare(expected, 0, expected.length, this.at, end) !== 0) wrong(part);
    this.at = end;
  }

  /** The next element must hold this text. */
  exactText(tag: number, text: string, part: string): void {
    const end = this.#header(tag, part);
    if (this.#bytes.toString('latin1', this.at, end) !== text) wrong(part);
    this.at = end;
  }

  /** Reads a minimal header; returns where the content ends. */
  #header(tag: number, part: string): number {
    const bytes = this.#bytes;
    if (bytes[this.at] !== tag) wrong(part);
    let length = bytes[this.at + 1] ?? wrong(part);
    let size = 2;
    if (length === 0x81) {
      length = bytes[this.at + 2] ?? wrong(part);
      size = 3;
      if (length < 0x80) wrong(part);
    } else if (length === 0x82) {
      length = (bytes[this.at + 2] ?? wrong(part)) * 256 + (bytes[this.at + 3] ?? wrong(part));
      size = 4;
      if (length < 0x100) wrong(part);
    } else if (length >= 0x80) {
      wrong(part);
    }
    this.at += size;
    const end = this.at + length;
    if (end > this.#end) wrong(part);
    return end;
  }
}
