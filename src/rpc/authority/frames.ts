/** What a client says first (RFC 9113 §3.4). */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** The largest frame that our server allows (SETTINGS_MAX_FRAME_SIZE as it stands). */
export const MAX_FRAME_BYTES = 16_384;

export const FRAME_HEADER_BYTES = 9;

/** Frame types (RFC 9113 §6) that are told apart here. */
export const FrameType = {
  headers: 1,
  priority: 2,
  settings: 4,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = {
  ack: 0x1,
  endStream: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const;

export interface FrameHeader {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

/** The nine bytes at an offset; the caller knows that they are there. */
export function readFrameHeader(bytes: Buffer, offset: number): FrameHeader {
  return {
    length: bytes.readUIntBE(offset, 3),
    type: bytes.readUInt8(offset + 3),
    flags: bytes.readUInt8(offset + 4),
    stream: bytes.readUInt32BE(offset + 5) & 0x7fff_ffff,
  };
}

/** A frame's header and payload. */
export function encodeFrame(frame: Omit<FrameHeader, 'length'>, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes.writeUInt8(frame.type, 3);
  bytes.writeUInt8(frame.flags, 4);
  bytes.writeUInt32BE(frame.stream, 5);
  payload.copy(bytes, FRAME_HEADER_BYTES);
  return bytes;
}

/** The header block in a HEADERS payload, without padding and priority; undefined when they do not fit. */
export function headerBlockOf(flags: number, payload: Buffer): Buffer | undefined {
  let start = 0;
  let end = payload.length;
  if ((flags & Flag.padded) !== 0) {
    start = 1;
    end -= payload[0] ?? payload.length;
  }
  if ((flags & Flag.priority) !== 0) start += 5;
  return start <= end ? payload.subarray(start, end) : undefined;
}
