import type { FrameHeader } from './frames.js';
import {
  FRAME_HEADER_BYTES,
  Flag,
  FrameType,
  MAX_FRAME_BYTES,
  PREFACE,
  headerBlockOf,
  readFrameHeader,
} from './frames.js';
import { BlockReader, HeaderBlockError, readRepresentation, staticField } from './hpack.js';
import { isLegalAuthority } from './legal.js';

/**
 * What the first bytes of a connection say.
 * - `more`: nothing yet.
 * - `waiting`: nothing yet, and the client has said all that it says before it hears from the server.
 * - `plain`: the HTTP/2 server may have the connection as it is.
 * - `rewrite`: the first call has an authority that Node refuses, or what comes first is unusual.
 */
export type Sniffed = 'more' | 'waiting' | 'plain' | 'rewrite';

/** Reads the first bytes of a connection as far as its first call's authority. Never throws. */
export function sniff(bytes: Buffer): Sniffed {
  const known = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, known, 0, known) !== 0) return 'plain'; // no HTTP/2: the server says so
  let settings = false;
  let end = PREFACE.length;
  for (const { frame, start } of frames(bytes)) {
    if (frame.length > MAX_FRAME_BYTES) return 'plain'; // the server refuses it
    end = start + frame.length;
    if (frame.type === FrameType.headers) return sniffHeaders(bytes, frame, start);
    if (frame.type === FrameType.settings) settings = true;
    else if (frame.type !== FrameType.windowUpdate && frame.type !== FrameType.priority) return 'rewrite';
  }
  return settings && bytes.length === end ? 'waiting' : 'more';
}

/** Where the first acknowledgement of settings stands, if it has come. The bytes begin with the preface. */
export function findSettingsAck(bytes: Buffer): number | undefined {
  for (const { frame, start } of frames(bytes))
    if (frame.type === FrameType.settings && (frame.flags & Flag.ack) !== 0)
      return start - FRAME_HEADER_BYTES;
  return undefined;
}

/** The frames after the preface, each as soon as its header is there. */
function* frames(bytes: Buffer): Generator<{ frame: FrameHeader; start: number }, void, void> {
  let start = PREFACE.length + FRAME_HEADER_BYTES;
  while (start <= bytes.length) {
    const frame = readFrameHeader(bytes, start - FRAME_HEADER_BYTES);
    yield { frame, start };
    start += frame.length + FRAME_HEADER_BYTES;
  }
}

function sniffHeaders(bytes: Buffer, frame: FrameHeader, start: number): Sniffed {
  if ((frame.flags & Flag.endHeaders) === 0) return 'rewrite';
  const end = start + frame.length;
  if (bytes.length < end) return 'more';
  const block = headerBlockOf(frame.flags, bytes.subarray(start, end));
  return block !== undefined && hasLegalAuthority(block) ? 'plain' : 'rewrite';
}

/** Whether the first header block of a connection surely has an authority that Node takes. */
function hasLegalAuthority(block: Buffer): boolean {
  try {
    const reader = new BlockReader(block);
    while (!reader.done) {
      const { kind, index } = readRepresentation(reader);
      if (kind === 'size') continue;
      // The table of a fresh connection is empty: a higher index is the block's own, and rare.
      const field = index === 0 ? undefined : staticField(index);
      if (index !== 0 && field === undefined) return false;
      const name = field?.[0] ?? reader.string();
      if (name === ':authority') return isLegalAuthority(kind === 'indexed' ? '' : reader.string());
      if (kind !== 'indexed') reader.rawString();
    }
    return false;
  } catch (error) {
    if (error instanceof HeaderBlockError) return false;
    throw error;
  }
}
