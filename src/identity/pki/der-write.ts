import { concatBytes } from './bytes.js';
import { TAG } from './der.js';
import { refuse } from './errors.js';

/** One DER element: identifier octet, minimal length, content. */
export function encode(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of content) length += part.length;
  return concatBytes([header(tag, length), ...content]);
}

/** Identifier and length octets. */
export function header(tag: number, length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(tag, length);
  if (length < 0x100) return Uint8Array.of(tag, 0x81, length);
  if (length < 0x1_0000) return Uint8Array.of(tag, 0x82, length >> 8, length & 0xff);
  if (length < 0x100_0000) {
    return Uint8Array.of(tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff);
  }
  refuse('DerInvalid', `an element of ${length} bytes is larger than anything X.509 needs`);
}

/** SEQUENCE of elements that are already encoded. */
export function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return encode(TAG.sequence, ...parts);
}

/** SET with one member, as names and CSR attributes use it. */
export function setOfOne(part: Uint8Array): Uint8Array {
  return encode(TAG.set, part);
}

/** INTEGER from an unsigned big-endian number. */
export function unsignedInteger(magnitude: Uint8Array): Uint8Array {
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++;
  const digits = magnitude.subarray(start);
  if (digits.length === 0) return encode(TAG.integer, Uint8Array.of(0));
  const first = digits[0] ?? 0;
  return first >= 0x80 ? encode(TAG.integer, Uint8Array.of(0), digits) : encode(TAG.integer, digits);
}

/** INTEGER from a small non-negative number. */
export function smallInteger(value: number): Uint8Array {
  return unsignedInteger(
    Uint8Array.of((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff),
  );
}

/** OBJECT IDENTIFIER from its dotted text, which must be one of ours: it is not checked. */
export function oid(dotted: string): Uint8Array {
  const arcs = dotted.split('.').map(Number);
  const [first = 0, second = 0, ...rest] = arcs;
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      groups.unshift((left & 0x7f) | 0x80);
    }
    bytes.push(...groups);
  }
  return encode(TAG.oid, Uint8Array.from(bytes));
}

/** BIT STRING whose bits fill whole bytes. */
export function bitString(bytes: Uint8Array): Uint8Array {
  return encode(TAG.bitString, Uint8Array.of(0), bytes);
}

/** BIT STRING of named bits, without trailing zero bits (X.690 §11.2.2). `bits` holds the positions that are set. */
export function namedBits(bits: readonly number[]): Uint8Array {
  const highest = Math.max(...bits);
  const bytes = new Uint8Array(Math.floor(highest / 8) + 1);
  for (const bit of bits) {
    const index = bit >> 3;
    bytes[index] = (bytes[index] ?? 0) | (0x80 >> (bit & 7));
  }
  return encode(TAG.bitString, Uint8Array.of(7 - (highest & 7)), bytes);
}

/** OCTET STRING. */
export function octetString(...content: readonly Uint8Array[]): Uint8Array {
  return encode(TAG.octetString, ...content);
}

/** Characters of an ASCII-only text; callers have checked that it is. */
export function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

/** BOOLEAN TRUE; FALSE is a default everywhere in X.509 and so never written. */
export const TRUE = Uint8Array.of(TAG.boolean, 1, 0xff);
/** NULL. */
export const NULL = Uint8Array.of(TAG.nul, 0);

/** GeneralizedTime begins with this instant (RFC 5280 §4.1.2.5), milliseconds. */
export const YEAR_2050 = Date.UTC(2050, 0, 1);
const YEAR_10000 = Date.UTC(10_000, 0, 1);

/**
 * A certificate time: UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). `ms` since the epoch, cut to
 * the second.
 */
export function time(ms: number): Uint8Array {
  if (!(ms >= 0 && ms < YEAR_10000)) {
    refuse(
      'IssueRefused',
      `time ${ms} ms lies outside what a certificate can say; give one from 1970 to 9999`,
    );
  }
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return ms < YEAR_2050
    ? encode(TAG.utcTime, ascii(`${digits.slice(2)}Z`))
    : encode(TAG.generalizedTime, ascii(`${digits}Z`));
}
