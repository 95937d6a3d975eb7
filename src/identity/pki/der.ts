import forge from 'node-forge';
import { refuse } from './errors.js';

/** One DER element. All byte fields are views into the parsed input, not copies. */
export interface DerNode {
  /** The identifier octet: class, constructed bit and tag number, e.g. 0x30 for SEQUENCE. */
  readonly tag: number;
  /** Content octets, without the header. */
  readonly content: Uint8Array;
  /** The whole element, header included: what signatures and name comparisons are made over. */
  readonly der: Uint8Array;
  /** Elements inside; empty for a primitive element. */
  readonly children: readonly DerNode[];
}

/** Identifier octets that X.509 uses (X.690 §8.1.2). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  nul: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The identifier octet of a context-specific tag. */
export function contextTag(number: number, constructed: boolean): number {
  return 0x80 | (constructed ? 0x20 : 0) | number;
}

/** What a parse may cost at most. */
export interface DerLimits {
  readonly maxBytes: number;
}

/** Deeper than any certificate; extension values are parsed apart. */
const MAX_DEPTH = 16;
const DEFAULT_LIMITS: DerLimits = { maxBytes: 64 * 1024 };

/**
 * Parses exactly one DER element that fills `bytes`. What is valid BER but not DER (indefinite or long-winded lengths,
 * padded integers, constructed strings) is refused, so a parsed element has one encoding only.
 *
 * @throws PkiError `DerInvalid`
 */
export function parseDer(bytes: Uint8Array, what: string, limits: DerLimits = DEFAULT_LIMITS): DerNode {
  if (bytes.length > limits.maxBytes) {
    refuse('DerInvalid', `${what} has ${bytes.length} bytes; ${limits.maxBytes} are allowed`);
  }
  // forge works on binary strings; they live inside this function only.
  const binary = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  let tree: forge.asn1.Asn1;
  let canonical: string;
  try {
    tree = fromDer(binary, {
      strict: true,
      parseAllBytes: true,
      decodeBitStrings: false,
      maxDepth: MAX_DEPTH,
    });
    canonical = forge.asn1.toDer(tree).getBytes();
  } catch (cause) {
    refuse('DerInvalid', `${what} is not DER: ${cause instanceof Error ? cause.message : 'unreadable'}`);
  }
  // One encoding per value: this also makes the views below exact, since every header is minimal.
  if (canonical !== binary) {
    refuse('DerInvalid', `${what} is not DER: its encoding is not the canonical one`);
  }
  return view(tree, bytes, 0, what);
}

// The published types lack the options that 1.4 has.
const fromDer = forge.asn1.fromDer as unknown as (
  bytes: string,
  options: { strict: boolean; parseAllBytes: boolean; decodeBitStrings: boolean; maxDepth: number },
) => forge.asn1.Asn1;

/** Lays forge's tree over the input. */
function view(tree: forge.asn1.Asn1, bytes: Uint8Array, start: number, what: string): DerNode {
  const tag = bytes[start];
  if (tag === undefined) refuse('DerInvalid', `${what} is not DER: it ends too early`);
  const header = headerAt(bytes, start, what);
  const contentStart = start + header.size;
  const end = contentStart + header.length;
  const children: DerNode[] = [];
  if (tree.constructed) {
    let at = contentStart;
    for (const child of tree.value as forge.asn1.Asn1[]) {
      const node = view(child, bytes, at, what);
      children.push(node);
      at += node.der.length;
    }
    if (at !== end) refuse('DerInvalid', `${what} is not DER: lengths do not add up`);
  }
  const content = bytes.subarray(contentStart, end);
  checkForm(tag, content, what);
  return { tag, content, der: bytes.subarray(start, end), children };
}

/** Rules of DER that neither the tree nor its re-encoding shows. */
function checkForm(tag: number, content: Uint8Array, what: string): void {
  if ((tag & 0x1f) === 0x1f)
    refuse('DerInvalid', `${what} uses a multi-byte tag, which no X.509 structure has`);
  if ((tag & 0xc0) === 0) {
    const number = tag & 0x1f;
    const mustNest = number === 0x10 || number === 0x11;
    if (mustNest !== ((tag & 0x20) !== 0)) {
      refuse('DerInvalid', `${what} is not DER: tag 0x${tag.toString(16)} has the wrong form`);
    }
  }
  if (tag === TAG.boolean && !(content.length === 1 && (content[0] === 0 || content[0] === 0xff))) {
    refuse('DerInvalid', `${what} is not DER: a BOOLEAN is neither 00 nor FF`);
  }
  if (tag === TAG.integer && content.length === 0)
    refuse('DerInvalid', `${what} is not DER: an INTEGER is empty`);
}

interface Header {
  /** Bytes of identifier and length. */
  readonly size: number;
  /** Bytes of content. */
  readonly length: number;
}

/** Reads one definite, minimal header and checks that its content lies inside `bytes`. */
function headerAt(bytes: Uint8Array, start: number, what: string): Header {
  const first = bytes[start + 1];
  if (first === undefined) refuse('DerInvalid', `${what} is not DER: it ends too early`);
  let size = 2;
  let length = first;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) refuse('DerInvalid', `${what} is not DER: length of ${count} bytes`);
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + (bytes[start + 2 + i] ?? 0);
    size += count;
    if (length < 0x80 || bytes[start + 2] === 0)
      refuse('DerInvalid', `${what} is not DER: a length is padded`);
  }
  if (start + size + length > bytes.length)
    refuse('DerInvalid', `${what} is not DER: it is cut off or its length is wrong`);
  return { size, length };
}

/**
 * Cuts a run of DER elements apart by their headers, without parsing them.
 *
 * @throws PkiError `DerInvalid`, also when there are more than `maxCount`
 */
export function splitDer(bytes: Uint8Array, what: string, maxCount: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (parts.length === maxCount)
      refuse('DerInvalid', `${what} holds more than ${maxCount} elements, which is the limit`);
    const { size, length } = headerAt(bytes, at, what);
    parts.push(bytes.subarray(at, at + size + length));
    at += size + length;
  }
  return parts;
}
