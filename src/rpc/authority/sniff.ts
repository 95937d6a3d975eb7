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
 * - `more`: nothing yet; `waiting` when the client has said all it says before it hears from the server.
 * - `plain`: the HTTP/2 server may have the connection as it is.
 * - `rewrite`: the first call has an authority that Node refuses, or what comes first is unusual.
 */
export type Sniffed =
  | { readonly verdict: 'more'; readonly waiting: boolean; readonly settingsAckAt?: number | undefined }
  | { readonly verdict: 'plain' | 'rewrite'; readonly settingsAckAt: number | undefined };

/** Reads the first bytes of a connection as far as its first call's authority. Never throws. */
export function sniff(bytes: Buffer): Sniffed {
  const known = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, known, 0, known) !== 0) return { verdict: 'plain', settingsAckAt: undefined }; // no HTTP/2: the server says so
  let offset = PREFACE.length;
  let settings = false;
  let settingsAckAt: number | undefined;
  while (bytes.length >= offset + FRAME_HEADER_BYTES) {
    const frame = readFrameHeader(bytes, offset);
    const start = offset + FRAME_HEADER_BYTES;
    const end = start + frame.length;
    switch (frame.type) {
      case FrameType.settings:
        if ((frame.flags & Flag.ack) === 0) settings = true;
        else settingsAckAt ??= offset;
        break;
      case FrameType.windowUpdate:
      case FrameType.priority:
        break;
      case FrameType.headers:
        return { ...sniffHeaders(bytes, frame, start), settingsAckAt };
      default:
        return { verdict: 'rewrite', settingsAckAt };
    }
    if (frame.length > MAX_FRAME_BYTES) return { verdict: 'plain', settingsAckAt };
    offset = end;
  }
  return { verdict: 'more', waiting: settings && bytes.length === offset };
}

function sniffHeaders(
  bytes: Buffer,
  frame: FrameHeader,
  start: number,
): { verdict: 'more'; waiting: false } | { verdict: 'plain' | 'rewrite' } {
  if (frame.length > MAX_FRAME_BYTES) return { verdict: 'plain' }; // the server refuses it
  if ((frame.flags & Flag.endHeaders) === 0) return { verdict: 'rewrite' };
  const end = start + frame.length;
  if (bytes.length < end) return { verdict: 'more', waiting: false };
  const block = headerBlockOf(frame.flags, bytes.subarray(start, end));
  return { verdict: block !== undefined && hasLegalAuthority(block) ? 'plain' : 'rewrite' };
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
