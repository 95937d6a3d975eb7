import { refuse } from './errors.js';

/** One DER element. Its byte fields are views into the parsed input, made when asked for, not copies. */
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
 * A reader of our own rather than node-forge's: signatures are made over exact bytes, which forge's tree does not keep,
 * so the headers have to be walked here in any case; and this walk is stricter and several times faster. The tests hold
 * it against forge's.
 *
 * @throws PkiError `DerInvalid`
 */
export function parseDer(bytes: Uint8Array, what: string, limits: DerLimits = DEFAULT_LIMITS): DerNode {
  if (bytes.length > limits.maxBytes) {
    refuse('DerInvalid', `${what} has ${bytes.length} bytes; ${limits.maxBytes} are allowed`);
  }
  const root = readElement(bytes, 0, MAX_DEPTH, what);
  if (root.end !== bytes.length) refuse('DerInvalid', `${what} is not DER: there are bytes after its end`);
  return root;
}

const NO_CHILDREN: readonly DerNode[] = [];

/** Positions instead of views: most elements are only stepped over, and a typed array is a heavy object. */
class Element implements DerNode {
  readonly tag: number;
  readonly children: readonly DerNode[];
  readonly end: number;
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #contentStart: number;

  constructor(bytes: Uint8Array, start: number, header: Header, children: readonly DerNode[]) {
    this.#bytes = bytes;
    this.#start = start;
    this.#contentStart = start + header.size;
    this.tag = bytes[start] ?? 0;
    this.children = children;
    this.end = this.#contentStart + header.length;
  }

  get content(): Uint8Array {
    return this.#bytes.subarray(this.#contentStart, this.end);
  }

  get der(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.end);
  }
}

/** Reads the element at `start` and all inside it. */
function readElement(bytes: Uint8Array, start: number, depth: number, what: string): Element {
  const header = headerAt(bytes, start, what);
  const tag = bytes[start] ?? 0;
  const contentStart = start + header.size;
  checkForm(bytes, tag, contentStart, header.length, what);
  if ((tag & 0x20) === 0) return new Element(bytes, start, header, NO_CHILDREN);
  if (depth === 0) refuse('DerInvalid', `${what} is nested deeper than ${MAX_DEPTH} levels`);
  const end = contentStart + header.length;
  const children: DerNode[] = [];
  for (let at = contentStart; at < end;) {
    const child = readElement(bytes, at, depth - 1, what);
    if (child.end > end) refuse('DerInvalid', `${what} is not DER: an element ends after the one it is in`);
    children.push(child);
    at = child.end;
  }
  return new Element(bytes, start, header, children);
}

/** Rules of DER (X.690 §8.2, §8.3, §10, §11.1) about an element by itself. */
function checkForm(bytes: Uint8Array, tag: number, at: number, length: number, what: string): void {
  if ((tag & 0x1f) === 0x1f)
    refuse('DerInvalid', `${what} uses a multi-byte tag, which no X.509 structure has`);
  // Universal or context-specific; application and private tags exist in no X.509 structure.
  if ((tag & 0x40) !== 0)
    refuse('DerInvalid', `${what} has the tag 0x${tag.toString(16)}, which X.509 never uses`);
  if ((tag & 0x80) !== 0) return;
  const mustNest = (tag & 0x1e) === 0x10;
  if (mustNest !== ((tag & 0x20) !== 0)) {
    refuse('DerInvalid', `${what} is not DER: tag 0x${tag.toString(16)} has the wrong form`);
  }
  if (tag === TAG.integer) checkInteger(bytes, at, length, what);
  const first = bytes[at];
  if (tag === TAG.boolean && !(length === 1 && (first === 0 || first === 0xff))) {
    refuse('DerInvalid', `${what} is not DER: a BOOLEAN is neither 00 nor FF`);
  }
  if (tag === TAG.nul && length !== 0) refuse('DerInvalid', `${what} is not DER: a NULL has content`);
}

function checkInteger(bytes: Uint8Array, at: number, length: number, what: string): void {
  if (length === 0) refuse('DerInvalid', `${what} is not DER: an INTEGER is empty`);
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  if (length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    refuse('DerInvalid', `${what} is not DER: an INTEGER is padded`);
  }
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
