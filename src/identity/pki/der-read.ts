import type { DerNode } from './der.js';
import { TAG } from './der.js';
import { refuse } from './errors.js';

/** The element, if it has this identifier octet; else a PkiError `DerInvalid` that names `what`. */
export function expectTag(node: DerNode | undefined, tag: number, what: string): DerNode {
  if (node?.tag !== tag) {
    refuse('DerInvalid', `${what} is missing or has the wrong type (expected tag 0x${tag.toString(16)})`);
  }
  return node;
}

/** OBJECT IDENTIFIER as dotted text. */
export function readOid(node: DerNode | undefined, what: string): string {
  const bytes = expectTag(node, TAG.oid, what).content;
  const last = bytes.at(-1);
  if (last === undefined || last >= 0x80) refuse('DerInvalid', `${what} is no object identifier`);
  let text = '';
  let arc = 0;
  let fresh = true;
  for (const byte of bytes) {
    if (fresh && byte === 0x80) refuse('DerInvalid', `${what} has a padded arc`);
    if (arc > 2 ** 45) refuse('DerInvalid', `${what} has an arc that is too large`);
    arc = arc * 128 + (byte & 0x7f);
    fresh = byte < 0x80;
    if (!fresh) continue;
    // The first two arcs share a number (X.690 §8.19.4).
    const root = Math.min(2, Math.floor(arc / 40));
    text = text === '' ? `${root}.${arc - root * 40}` : `${text}.${arc}`;
    arc = 0;
  }
  return text;
}

/** INTEGER that must be non-negative and small, such as a version or a path length. */
export function readSmallInteger(node: DerNode | undefined, what: string): number {
  const { content } = expectTag(node, TAG.integer, what);
  if ((content[0] ?? 0) >= 0x80) refuse('DerInvalid', `${what} is negative`);
  if (content.length > 4) refuse('DerInvalid', `${what} is larger than any that makes sense`);
  return content.reduce((value, byte) => value * 256 + byte, 0);
}

/** BIT STRING whose bits fill whole bytes: keys and signatures. */
export function readBitString(node: DerNode | undefined, what: string): Uint8Array {
  const { content } = expectTag(node, TAG.bitString, what);
  if (content[0] !== 0) refuse('DerInvalid', `${what} has loose bits`);
  return content.subarray(1);
}

/** BIT STRING of named bits: the positions that are set. */
export function readNamedBits(node: DerNode | undefined, what: string): number[] {
  const { content } = expectTag(node, TAG.bitString, what);
  const unused = content[0];
  const bytes = content.subarray(1);
  if (unused === undefined || unused > 7 || (bytes.length === 0 && unused !== 0)) {
    refuse('DerInvalid', `${what} is no bit string`);
  }
  const count = bytes.length * 8 - unused;
  const set: number[] = [];
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    if (((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) === 0) continue;
    if (bit >= count) refuse('DerInvalid', `${what} sets bits past its end`);
    set.push(bit);
  }
  return set;
}

/** IA5 text; bytes above ASCII are refused, so that no two readers see different names. */
export function readAscii(content: Uint8Array, what: string): string {
  for (const byte of content) {
    if (byte < 0x20 || byte > 0x7e)
      refuse('DerInvalid', `${what} holds a character that is not printable ASCII`);
  }
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('latin1');
}

/** UTCTime or GeneralizedTime in the forms RFC 5280 §4.1.2.5 allows (seconds, `Z`). Milliseconds since the epoch. */
export function readTime(node: DerNode | undefined, what: string): number {
  if (node?.tag !== TAG.utcTime && node?.tag !== TAG.generalizedTime)
    refuse('DerInvalid', `${what} is missing or is no time`);
  const { content } = node;
  const short = node.tag === TAG.utcTime;
  const at = short ? 2 : 4;
  if (content.length !== at + 11 || content[at + 10] !== LETTER_Z) refuse('DerInvalid', `${what} ${FORM}`);
  const end = twoDigits(content, at - 2);
  const century = short ? (end >= 50 ? 19 : 20) : twoDigits(content, 0);
  const ms = dateAt(content, at, century * 100 + end) + timeOfDayAt(content, at + 4);
  if (Number.isNaN(ms)) refuse('DerInvalid', `${what} ${FORM}`);
  return ms;
}

/** Midnight of the day whose month and day stand at `at`; NaN when there is no such day. */
function dateAt(content: Uint8Array, at: number, year: number): number {
  const month = twoDigits(content, at);
  const midnight = Date.UTC(year, month - 1, twoDigits(content, at + 2));
  // Date.UTC rolls over; a real day lies inside its month. Comparisons with NaN are false.
  const real =
    year >= 1900 &&
    month >= 1 &&
    month <= 12 &&
    midnight >= Date.UTC(year, month - 1, 1) &&
    midnight < Date.UTC(year, month, 1);
  return real ? midnight : NaN;
}

/** Milliseconds since midnight; NaN when it is no time. */
function timeOfDayAt(content: Uint8Array, at: number): number {
  const hour = twoDigits(content, at);
  const minute = twoDigits(content, at + 2);
  const second = twoDigits(content, at + 4);
  const real = hour <= 23 && minute <= 59 && second <= 59;
  return real ? ((hour * 60 + minute) * 60 + second) * 1000 : NaN;
}

const FORM = 'is no date in the form that RFC 5280 asks for';
const LETTER_Z = 0x5a;

/** The number that two decimal digits make; NaN for anything else. */
function twoDigits(content: Uint8Array, at: number): number {
  const tens = (content[at] ?? 0) - 0x30;
  const ones = (content[at + 1] ?? 0) - 0x30;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : NaN;
}
