import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { KeyStoreError } from './errors.js';

/**
 * The few things that state on disk needs of an operating system. Each is one step that a crash may come before or
 * after; tests pass an implementation that stops at any of them.
 */
export interface FileOps {
  /** The whole file, or undefined when there is none. Refuses what is larger than `maxBytes`, no plain file, or open to others. */
  read(path: string, maxBytes: number): Promise<Uint8Array | undefined>;
  /** Makes a new file, mode 0600, and returns when its content is on the disk. Fails if the name is taken. */
  create(path: string, data: Uint8Array): Promise<void>;
  /** Atomic: `to` is the old file or the new one, never a mixture. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; one that is not there is removed already. */
  remove(path: string): Promise<void>;
  /** Returns when names made, changed and removed in the directory are on the disk. */
  syncDirectory(path: string): Promise<void>;
  /** Names in the directory. */
  list(path: string): Promise<string[]>;
}

const OTHERS = 0o077;

/** Files of the machine. */
export const diskFiles: FileOps = {
  async read(path, maxBytes) {
    let file;
    try {
      // A symbolic link could point to where others write.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      if (hasCode(error, 'ELOOP')) {
        throw new KeyStoreError(
          'StateUnsafe',
          `${path} is a symbolic link; put the file itself in its place`,
        );
      }
      throw error;
    }
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new KeyStoreError('StateUnsafe', `${path} is no plain file; remove it`);
      if ((stat.mode & OTHERS) !== 0) {
        throw new KeyStoreError(
          'StateUnsafe',
          `${path} has mode ${octal(stat.mode)}, so others can reach it; run: chmod 600 ${path}`,
        );
      }
      if (stat.size > maxBytes) {
        throw new KeyStoreError(
          'KeyDamaged',
          `${path} has ${stat.size} bytes, more than the ${maxBytes} it may have; restore it from a backup`,
        );
      }
      const data = new Uint8Array(stat.size);
      let at = 0;
      while (at < data.length) {
        const { bytesRead } = await file.read(data, at, data.length - at, at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return data.subarray(0, at);
    } finally {
      await file.close();
    }
  },

  async create(path, data) {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
  },

  rename: (from, to) => rename(from, to),

  async remove(path) {
    try {
      await unlink(path);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  },

  async syncDirectory(path) {
    const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },

  list: (path) => readdir(path),
};

/** The name under which a file is written before it takes its place. */
export function temporaryName(name: string): string {
  return `.${name}.tmp`;
}

/**
 * Replaces a file so that a crash at any moment leaves the old one or the new one, whole: temporary file, fsync,
 * rename, fsync of the directory. One writer at a time.
 */
export async function replaceFile(files: FileOps, path: string, data: Uint8Array): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, temporaryName(path.slice(directory.length + 1)));
  await files.remove(temporary);
  try {
    await files.create(temporary, data);
    await files.rename(temporary, path);
  } catch (error) {
    // A full disk must not keep the half that fitted. If this fails too, the first error is the one that matters.
    await files.remove(temporary).catch(() => undefined);
    throw error;
  }
  await files.syncDirectory(directory);
}

/**
 * Makes a directory, mode 0700, or checks one: a real directory, ours, closed to others.
 *
 * @throws KeyStoreError `StateUnsafe` with the command that mends it, `StateIo`
 */
export async function privateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) {
      throw new KeyStoreError('StateIo', `cannot make directory ${path}: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }
  const stat = await lstat(path);
  if (!stat.isDirectory()) throw new KeyStoreError('StateUnsafe', `${path} is no directory; name another`);
  if ((stat.mode & OTHERS) !== 0) {
    throw new KeyStoreError(
      'StateUnsafe',
      `state directory ${path} has mode ${octal(stat.mode)}, so others can reach the keys in it; run: chmod 700 ${path}`,
    );
  }
  const us = await ownUid();
  if (us !== undefined && stat.uid !== us) {
    throw new KeyStoreError(
      'StateUnsafe',
      `state directory ${path} belongs to user ${stat.uid}, and this program runs as user ${us}; run: chown ${us} ${path}`,
    );
  }
}

/** Our user id, as the kernel has it; undefined where there is no /proc. */
async function ownUid(): Promise<number | undefined> {
  try {
    return (await lstat('/proc/self/fd')).uid;
  } catch {
    return undefined;
  }
}

/** Whether an error carries this code of the operating system, e.g. `ENOSPC`. */
export function hasCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}

/** What went wrong, for a message: the words of the operating system. */
export function reasonOf(error: unknown): string {
  if (hasCode(error, 'ENOSPC')) return 'the disk is full (ENOSPC)';
  return typeof error === 'object' && error !== null && 'message' in error
    ? String(error.message)
    : String(error);
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
