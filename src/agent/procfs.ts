import { closeSync, openSync, readlinkSync, readSync } from 'node:fs';

/** /proc/<pid>/status is about 1.5 KB; the Groups line may be long (65,536 groups at most, we read far fewer). */
const MAX_FILE_BYTES = 64 * 1024;

/** Used by one synchronous read at a time. A new one for each caller would be most of the garbage of a call. */
const scratch = Buffer.allocUnsafeSlow(MAX_FILE_BYTES);

/**
 * A file of procfs as far as 64 KB; undefined when it cannot be read. It answers from memory: reading it at once costs less
 * than a trip through the thread pool.
 */
export function readSmallFile(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return undefined;
  }
  try {
    let length = 0;
    for (;;) {
      const read = readSync(file, scratch, length, scratch.length - length, null);
      length += read;
      if (read === 0 || length === scratch.length) return scratch.toString('latin1', 0, length);
    }
  } catch {
    return undefined;
  } finally {
    closeSync(file);
  }
}

/** Where a link of procfs leads; undefined when it cannot be read. */
export function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
