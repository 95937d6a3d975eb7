import { SignetError } from '../../lib/errors.js';
import { decodeHuffman } from './huffman.js';

/** A header block that no HTTP/2 endpoint would take, or that is larger than we take. The connection is closed. */
export class HeaderBlockError extends SignetError {
  constructor(message: string) {
    super('HeaderBlock', message);
  }
}

/** A header field; bytes as latin1 strings. */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
  /** Must not be put into a table of an intermediary (RFC 7541 §6.2.3). */
  readonly neverIndexed: boolean;
}

/** RFC 7541 appendix A. */
const staticTable: readonly (readonly [name: string, value: string])[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** What an entry of the dynamic table costs beside its bytes (RFC 7541 §4.1). */
const ENTRY_OVERHEAD = 32;
/** SETTINGS_HEADER_TABLE_SIZE as our server leaves it. */
const TABLE_SIZE = 4096;

/** Reads the parts of a block, one after the other. */
export class BlockReader {
  readonly #block: Buffer;
  #offset = 0;

  constructor(block: Buffer) {
    this.#block = block;
  }

  get done(): boolean {
    return this.#offset >= this.#block.length;
  }

  /** The next byte, which stays. */
  peek(): number {
    const byte = this.#block[this.#offset];
    if (byte === undefined) throw new HeaderBlockError('the block ends early');
    return byte;
  }

  /** An integer with a prefix of so many bits (RFC 7541 §5.1). */
  integer(prefixBits: number): number {
    const mask = 2 ** prefixBits - 1;
    let value = this.peek() & mask;
    this.#offset++;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.peek();
      this.#offset++;
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new HeaderBlockError('a number is too large');
  }

  /** A string (RFC 7541 §5.2). */
  string(): string {
    const { huffman, bytes } = this.rawString();
    if (!huffman) return bytes.toString('latin1');
    const text = decodeHuffman(bytes);
    if (text === undefined) throw new HeaderBlockError('a Huffman code is invalid');
    return text;
  }

  /** A string as it stands. */
  rawString(): { huffman: boolean; bytes: Buffer } {
    const huffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const end = this.#offset + length;
    if (end > this.#block.length) throw new HeaderBlockError('a string is longer than its block');
    const bytes = this.#block.subarray(this.#offset, end);
    this.#offset = end;
    return { huffman, bytes };
  }
}

/** A representation's kind and the index of its name or field; 0 = a literal name follows (RFC 7541 §6). */
export interface Representation {
  readonly kind: 'indexed' | 'incremental' | 'plain' | 'never' | 'size';
  readonly index: number;
}

/** The first part of the next representation. */
export function readRepresentation(reader: BlockReader): Representation {
  const first = reader.peek();
  if ((first & 0x80) !== 0) return { kind: 'indexed', index: reader.integer(7) };
  if ((first & 0x40) !== 0) return { kind: 'incremental', index: reader.integer(6) };
  if ((first & 0x20) !== 0) return { kind: 'size', index: reader.integer(5) };
  return { kind: (first & 0x10) === 0 ? 'plain' : 'never', index: reader.integer(4) };
}

/** A field of the static table; undefined above it. */
export function staticField(index: number): readonly [name: string, value: string] | undefined {
  return staticTable[index - 1];
}

/** Decodes the header blocks of one direction of one connection, in order. */
export class HpackDecoder {
  readonly #maxListBytes: number;
  /** Newest first. */
  readonly #entries: (readonly [name: string, value: string])[] = [];
  #size = 0;
  #maxSize = TABLE_SIZE;

  /** `maxListBytes` bounds a block's fields, counted as RFC 9113 §6.5.2 does: one byte may stand for 4 KiB. */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  /** The fields of a whole block. Throws {@link HeaderBlockError}; the decoder is then useless. */
  decode(block: Buffer): HeaderField[] {
    const reader = new BlockReader(block);
    const fields: HeaderField[] = [];
    let listBytes = 0;
    while (!reader.done) {
      const field = this.#next(reader, fields.length === 0);
      if (field === undefined) continue;
      listBytes += field.name.length + field.value.length + ENTRY_OVERHEAD;
      if (listBytes > this.#maxListBytes)
        throw new HeaderBlockError(`the headers are larger than ${this.#maxListBytes} bytes`);
      fields.push(field);
    }
    return fields;
  }

  /** The next field, or undefined for an instruction to the table. */
  #next(reader: BlockReader, atStart: boolean): HeaderField | undefined {
    const { kind, index } = readRepresentation(reader);
    if (kind === 'size') {
      if (!atStart || index > TABLE_SIZE) throw new HeaderBlockError('a table size update is out of place');
      this.#maxSize = index;
      this.#evict();
      return undefined;
    }
    if (kind === 'indexed') {
      const [name, value] = this.#lookUp(index);
      return { name, value, neverIndexed: false };
    }
    const name = index === 0 ? reader.string() : this.#lookUp(index)[0];
    const value = reader.string();
    if (kind === 'incremental') this.#insert(name, value);
    return { name, value, neverIndexed: kind === 'never' };
  }

  #lookUp(index: number): readonly [name: string, value: string] {
    const field = staticField(index) ?? this.#entries[index - staticTable.length - 1];
    if (field === undefined) throw new HeaderBlockError(`there is no field ${index}`);
    return field;
  }

  #insert(name: string, value: string): void {
    this.#entries.unshift([name, value]);
    this.#size += name.length + value.length + ENTRY_OVERHEAD;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#maxSize) {
      const oldest = this.#entries.pop();
      if (oldest === undefined) return;
      this.#size -= oldest[0].length + oldest[1].length + ENTRY_OVERHEAD;
    }
  }
}

/** A block that says these fields and leaves every table as it is. */
export function encodeBlock(fields: readonly HeaderField[]): Buffer {
  const parts: Buffer[] = [];
  for (const { name, value, neverIndexed } of fields) {
    parts.push(Buffer.from([neverIndexed ? 0x10 : 0x00]), ...encodeString(name), ...encodeString(value));
  }
  return Buffer.concat(parts);
}

function encodeString(text: string): [Buffer, Buffer] {
  return [encodeLength(text.length), Buffer.from(text, 'latin1')];
}

/** A length with a prefix of seven bits and no Huffman flag. */
function encodeLength(length: number): Buffer {
  if (length < 127) return Buffer.from([length]);
  const bytes = [127];
  let left = length - 127;
  while (left >= 128) {
    bytes.push((left & 0x7f) | 0x80);
    left >>>= 7;
  }
  bytes.push(left);
  return Buffer.from(bytes);
}
