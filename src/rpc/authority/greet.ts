import type { Settings } from 'node:http2';
import { getPackedSettings } from 'node:http2';
import type { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, FrameType, encodeFrame } from './frames.js';
import { RewritingSocket } from './rewriting-socket.js';
import { findSettingsAck, sniff } from './sniff.js';

/** Where a connection goes once its first call is seen. */
export interface Destinations {
  /** The HTTP/2 server may read the socket itself, which costs least; what was read already is in the socket. */
  plain(socket: Socket): void;
  /** The HTTP/2 server must read through this stream. */
  rewritten(stream: RewritingSocket): void;
}

/** More than the preface, its settings and one header block as any client sends it. */
const MAX_SNIFFED_BYTES = 48 * 1024;
/** A client that sends its first call in more pieces goes the sure way. */
const MAX_SNIFFED_CHUNKS = 16;

/** The server's preface (RFC 9113 §3.4), with the same settings that the HTTP/2 server will send. */
export function settingsFrame(settings: Settings): Buffer {
  return encodeFrame({ type: FrameType.settings, flags: 0, stream: 0 }, getPackedSettings(settings));
}

/**
 * Reads a fresh connection up to its first call, and decides whether its `:authority` must be rewritten.
 *
 * Many clients (Go, Java) say nothing before they have the server's SETTINGS, so those are sent here when the client
 * waits for them. The HTTP/2 server will send its own later, which is allowed at any time; of the two acknowledgements
 * the first is ours, and is taken out. `settings` is that frame, from {@link settingsFrame}. Returns at once; `destinations` is called at most once, later or now. The caller
 * bounds the time.
 */
export function greet(socket: Socket, settings: Buffer, destinations: Destinations): void {
  let seen: Buffer = Buffer.alloc(0);
  let chunks = 0;
  let greeted = false;

  const leave = (): void => {
    socket.removeListener('data', onData);
    socket.pause();
  };
  const onData = (chunk: Buffer): void => {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    chunks++;
    const verdict = sniff(seen);
    if (verdict === 'waiting' && !greeted) {
      greeted = true;
      socket.write(settings);
      return;
    }
    const rest = greeted ? withoutSettingsAck(seen) : seen;
    if ((verdict === 'plain' || verdict === 'rewrite') && rest !== undefined) {
      leave();
      if (verdict === 'plain') {
        socket.unshift(rest);
        destinations.plain(socket);
      } else destinations.rewritten(new RewritingSocket(socket, rest));
      return;
    }
    if (seen.length <= MAX_SNIFFED_BYTES && chunks <= MAX_SNIFFED_CHUNKS) return;
    leave();
    // Our SETTINGS are not acknowledged yet: the server would not understand what comes. No client does this.
    if (rest === undefined) socket.destroy();
    else destinations.rewritten(new RewritingSocket(socket, rest));
  };
  socket.on('data', onData);
}

/** The bytes without the first acknowledgement of settings, which was meant for ours; undefined if it has not come. */
function withoutSettingsAck(bytes: Buffer): Buffer | undefined {
  const at = findSettingsAck(bytes);
  return at === undefined
    ? undefined
    : Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + FRAME_HEADER_BYTES)]);
}
