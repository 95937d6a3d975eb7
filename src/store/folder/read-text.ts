import type { FileHandle } from 'node:fs/promises';
import { open, realpath } from 'node:fs/promises';
import type { FolderLimits } from './scan.js';
import { codeOf, isInside, stampOf } from './scan.js';

/** What reading a file gave. */
export type ReadText =
  | { readonly kind: 'text'; readonly text: string; readonly stamp: string }
  | { readonly kind: 'gone' }
  /** `stamp` is empty where not even that could be had. */
  | { readonly kind: 'failed'; readonly message: string; readonly stamp: string };

/** Reads one file of the folder at `root`; never throws for what the file system says. */
export async function readText(root: string, path: string, limits: FolderLimits): Promise<ReadText> {
  let handle: FileHandle | undefined;
  let stamp = '';
  let realRoot: string;
  try {
    realRoot = await realpath(root);
  } catch (thrown) {
    // Not this file is gone, but all there was: an accident, which a scan reports.
    return { kind: 'failed', message: `cannot be read: ${root} is gone (${codeOf(thrown)})`, stamp };
  }
  try {
    const real = await realpath(path);
    if (!isInside(realRoot, real)) return { kind: 'gone' };
    handle = await open(real, 'r');
    const stats = await handle.stat({ bigint: true });
    // A FIFO or device of this name must not hold us up.
    if (!stats.isFile()) return { kind: 'gone' };
    stamp = stampOf(stats);
    if (stats.size > BigInt(limits.maxFileBytes)) {
      const message = `has ${stats.size} bytes; at most ${limits.maxFileBytes} are read: split it`;
      return { kind: 'failed', message, stamp };
    }
    const bytes = await readBounded(handle, Number(stats.size), limits.maxFileBytes);
    if (bytes === undefined) {
      return { kind: 'failed', message: `is longer than ${limits.maxFileBytes} bytes: split it`, stamp };
    }
    return { kind: 'text', text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), stamp };
  } catch (thrown) {
    const code = codeOf(thrown);
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'gone' };
    const message =
      code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'is not UTF-8 text' : `cannot be read (${code})`;
    return { kind: 'failed', message, stamp };
  } finally {
    await handle?.close();
  }
}

/** The whole file, though it grows meanwhile; undefined when it outgrows the bound. */
async function readBounded(
  handle: FileHandle,
  expected: number,
  most: number,
): Promise<Uint8Array | undefined> {
  let buffer = Buffer.allocUnsafe(expected + 1);
  let filled = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, filled, buffer.length - filled, filled);
    if (bytesRead === 0) return buffer.subarray(0, filled);
    filled += bytesRead;
    if (filled > most) return undefined;
    if (filled === buffer.length) buffer = Buffer.concat([buffer], Math.min(most + 1, buffer.length * 2));
  }
}
