import {
  FRAME_HEADER_BYTES,
  Flag,
  FrameType,
  MAX_FRAME_BYTES,
  PREFACE,
  encodeFrame,
  headerBlockOf,
  readFrameHeader,
} from './frames.js';
import type { FrameHeader } from './frames.js';
import type { HeaderField } from './hpack.js';
import { HeaderBlockError, HpackDecoder, encodeBlock } from './hpack.js';
import { isLegalAuthority } from './legal.js';

/** What a refused authority is replaced with: what most gRPC clients say on a unix socket. */
const REPLACEMENT = 'localhost';

/** The compressed bytes of one header block, and its fields as RFC 9113 §6.5.2 counts them. */
const MAX_BLOCK_BYTES = 64 * 1024;
/** Frames that one block may be spread over. */
const MAX_BLOCK_FRAMES = 32;

/**
 * Reads what a client sends on one HTTP/2 connection and gives it back with every `:authority` legal.
 *
 * Header blocks are decoded and written anew as plain literals, since a changed field would otherwise shift the
 * compression table that both ends share; every other frame passes as it is. Memory is one header block; the cost is
 * linear in what the client sends. Throws {@link HeaderBlockError} where an HTTP/2 server would have to close the
 * connection, too; the filter is then useless.
 */
export class AuthorityFilter {
  readonly #decoder = new HpackDecoder(MAX_BLOCK_BYTES);
  #needed = PREFACE.length;
  #reading: 'preface' | 'frame' | 'payload' | 'block' = 'preface';
  #frame: FrameHeader | undefined;
  /** The block that is being put together. */
  #block: { stream: number; flags: number; frames: number; bytes: number; parts: Buffer[] } | undefined;
  #parts: Buffer[] = [];

  /** What the server may read after these bytes came. */
  push(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let offset = 0;
    while (offset < chunk.length) {
      const piece = chunk.subarray(offset, offset + this.#needed);
      offset += piece.length;
      this.#needed -= piece.length;
      if (this.#reading === 'payload') out.push(piece);
      else this.#parts.push(piece);
      // An empty payload needs no byte, so one step may lead to the next.
      while (this.#needed === 0) this.#step(out);
    }
    return out;
  }

  #step(out: Buffer[]): void {
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    switch (this.#reading) {
      case 'preface':
        if (!bytes.equals(PREFACE)) throw new HeaderBlockError('this is no HTTP/2');
        out.push(bytes);
        this.#expect('frame', FRAME_HEADER_BYTES);
        return;
      case 'frame':
        this.#begin(bytes, out);
        return;
      case 'payload':
        this.#expect('frame', FRAME_HEADER_BYTES);
        return;
      case 'block':
        this.#collect(bytes, out);
        this.#expect('frame', FRAME_HEADER_BYTES);
        return;
    }
  }

  #expect(reading: 'frame' | 'payload' | 'block', bytes: number): void {
    this.#reading = reading;
    this.#needed = bytes;
  }

  #begin(bytes: Buffer, out: Buffer[]): void {
    const frame = readFrameHeader(bytes, 0);
    if (frame.length > MAX_FRAME_BYTES) throw new HeaderBlockError('a frame is too large');
    if ((frame.type === FrameType.continuation) !== (this.#block !== undefined))
      throw new HeaderBlockError('a header block is not in one piece');
    this.#frame = frame;
    if (frame.type === FrameType.headers || frame.type === FrameType.continuation) {
      this.#expect('block', frame.length);
      return;
    }
    out.push(bytes);
    this.#expect('payload', frame.length);
  }

  #collect(payload: Buffer, out: Buffer[]): void {
    const frame = this.#frame;
    if (frame === undefined) return;
    let part: Buffer | undefined = payload;
    if (this.#block === undefined) {
      part = headerBlockOf(frame.flags, payload);
      this.#block = { stream: frame.stream, flags: frame.flags, frames: 0, bytes: 0, parts: [] };
    }
    const block = this.#block;
    if (part === undefined || frame.stream !== block.stream)
      throw new HeaderBlockError('a header frame is malformed');
    block.parts.push(part);
    block.frames++;
    block.bytes += part.length;
    if (block.frames > MAX_BLOCK_FRAMES || block.bytes > MAX_BLOCK_BYTES)
      throw new HeaderBlockError(`the headers are larger than ${MAX_BLOCK_BYTES} bytes`);
    if ((frame.flags & Flag.endHeaders) === 0) return;
    this.#block = undefined;
    const fields = this.#decoder.decode(Buffer.concat(block.parts));
    out.push(...headerFrames(block.stream, block.flags, encodeBlock(legalized(fields))));
  }
}

/** The fields with an authority that Node takes. Trailers, which have none, stay as they are. */
function legalized(fields: readonly HeaderField[]): readonly HeaderField[] {
  const hasHost = fields.some(({ name }) => name === ':authority' || name === 'host');
  if (!hasHost && fields.some(({ name }) => name === ':method'))
    return [{ name: ':authority', value: REPLACEMENT, neverIndexed: false }, ...fields];
  return fields.map((field) =>
    field.name === ':authority' && !isLegalAuthority(field.value) ? { ...field, value: REPLACEMENT } : field,
  );
}

/** A block as one HEADERS frame and as many CONTINUATION frames as it takes. */
function headerFrames(stream: number, flags: number, block: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  let offset = 0;
  do {
    const part = block.subarray(offset, offset + MAX_FRAME_BYTES);
    offset += part.length;
    const last = offset >= block.length ? Flag.endHeaders : 0;
    frames.push(
      frames.length === 0
        ? encodeFrame({ type: FrameType.headers, flags: (flags & Flag.endStream) | last, stream }, part)
        : encodeFrame({ type: FrameType.continuation, flags: last, stream }, part),
    );
  } while (offset < block.length);
  return frames;
}
