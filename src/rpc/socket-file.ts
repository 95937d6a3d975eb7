import type { Stats } from 'node:fs';
import { chmod, link, lstat, mkdir, readdir, rename, rm, unlink } from 'node:fs/promises';
import type { Server } from 'node:net';
import { connect } from 'node:net';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { SignetError } from '../lib/errors.js';
import { fileSystemHint } from '../lib/file-system-hint.js';
import type { Random } from '../lib/random.js';

/** A socket file that cannot be made, with the reason as its code. */
export class SocketFileError extends SignetError {}

/** `sun_path` holds 108 bytes, the last of them zero (unix(7)). */
const LONGEST_PATH = 107;
/** A socket under a temporary name gets its own one in a moment. */
const TEMPORARY_NAME = /^\.[0-9a-f]{2,11}$/;
/** One that has had it for longer than this, and does not answer, is nobody's. Milliseconds. */
const ABANDONED_MS = 1_000;

export interface SocketFileOptions {
  /** Absolute. */
  readonly path: string;
  /** Permission bits of the socket file: who may connect needs write permission. */
  readonly mode: number;
  /** Permission bits of directories that must be made on the way; 0755 unless said. */
  readonly directoryMode?: number;
  /**
   * Whether it takes the place of a socket that answers, too: at no moment is there none at the path. Such a file is left
   * when its owner ends, so that the next one can do the same. What owners left under temporary names when they were killed
   * is removed.
   */
  readonly takeOver?: boolean;
}

/** A socket file that this process made. */
export interface SocketFile {
  readonly path: string;
  /** Removes the file, if it is still the one that was made; never one that others take over. */
  remove(): Promise<void>;
  /** Whether the path leads to the file that was made: not once another process has taken it over. */
  isCurrent(): Promise<boolean>;
}

/**
 * Makes `server` listen at a path, so that the path appears at once with its mode, or not at all: the socket is bound
 * under a temporary name in the same directory, gets its mode, and is linked to its name. What a dead process left is
 * replaced; a socket that still answers is never taken away, unless `takeOver` says so.
 *
 * Until the promise resolves, connections may come in under the temporary name; the caller must refuse them.
 *
 * Errors: SocketPathInvalid, SocketPathTooLong, SocketInUse, SocketPathTaken (another kind of file is there),
 * SocketFileFailed (the file system says no; see `cause`).
 */
export async function listenAt(
  server: Server,
  options: SocketFileOptions,
  random: Random,
): Promise<SocketFile> {
  const { path } = options;
  checkPath(path);
  const directory = dirname(path);
  try {
    await mkdir(directory, { recursive: true, mode: options.directoryMode ?? 0o755 });
    const takeOver = options.takeOver ?? false;
    if (takeOver) await refuseOtherKinds(path);
    else await clearStale(path, () => temporaryName(path, random));
    const temporary = temporaryName(path, random);
    await bind(server, temporary);
    try {
      await chmod(temporary, options.mode);
      const made = await lstat(temporary);
      if (takeOver) {
        await replace(temporary, path);
        // What cannot be looked at stays: nothing depends on it.
        await clearAbandoned(directory, made).catch(() => undefined);
      } else await publish(temporary, path);
      return {
        path,
        // A look and a removal are two steps, between which the next owner may come.
        remove: () => (takeOver ? Promise.resolve() : removeIfSame(path, made)),
        isCurrent: async () => {
          const found = await statOrUndefined(path);
          return found !== undefined && same(found, made);
        },
      };
    } finally {
      await rm(temporary, { force: true });
    }
  } catch (error) {
    server.close();
    if (error instanceof SocketFileError) throw error;
    throw new SocketFileError('SocketFileFailed', `cannot listen at ${path}: ${describe(error)}`, {
      cause: error,
    });
  }
}

/** Throws unless the path can be bound. */
export function checkPath(path: string): void {
  if (!isAbsolute(path) || path.includes('\0') || basename(path) === '')
    throw new SocketFileError(
      'SocketPathInvalid',
      `the socket path ${JSON.stringify(path)} is not absolute: give one that starts with /`,
    );
  const size = Buffer.byteLength(path);
  if (size > LONGEST_PATH)
    throw new SocketFileError(
      'SocketPathTooLong',
      `the socket path ${path} has ${size} bytes, and the kernel takes ${LONGEST_PATH}: use a shorter directory (for signet dev: --state)`,
    );
}

/** Beside the path, hidden, and never longer than the path itself where that can be. */
function temporaryName(path: string, random: Random): string {
  const length = Math.max(3, Math.min(12, basename(path).length));
  const letters = Buffer.from(random.bytes(length))
    .toString('hex')
    .slice(0, length - 1);
  const temporary = join(dirname(path), `.${letters}`);
  checkPath(temporary);
  return temporary;
}

/** Takes away what a dead process left at the path, without a moment in which a live socket could be taken. */
async function clearStale(path: string, aside: () => string): Promise<void> {
  const found = await refuseOtherKinds(path);
  if (found === undefined) return;
  if (await answers(path)) throw inUse(path);
  const moved = aside();
  try {
    await rename(path, moved);
  } catch (error) {
    // Another process has taken it away just now; who of us gets the name, the link decides.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  // Between the look and the move another process may have put its own socket there: give it back.
  if (!same(await lstat(moved), found)) {
    await link(moved, path).catch(() => undefined);
    await unlink(moved);
    throw inUse(path);
  }
  await unlink(moved);
}

/** The socket at the path, if there is one. Throws where another kind of file is. */
async function refuseOtherKinds(path: string): Promise<Stats | undefined> {
  const found = await statOrUndefined(path);
  if (found === undefined || found.isSocket()) return found;
  throw new SocketFileError(
    'SocketPathTaken',
    `${path} exists and is no socket: choose another path, or remove it`,
  );
}

/** Looks again, as late as can be: a rename takes the place of any kind of file. */
async function replace(temporary: string, path: string): Promise<void> {
  await refuseOtherKinds(path);
  await rename(temporary, path);
}

/** Removes sockets that a process killed in the middle of {@link listenAt} left. `made` tells what time it is there. */
async function clearAbandoned(directory: string, made: Stats): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!TEMPORARY_NAME.test(name)) continue;
    const path = join(directory, name);
    const found = await statOrUndefined(path);
    // One that is bound and does not listen yet answers as little, but it is young.
    if (found?.isSocket() !== true || made.mtimeMs - found.mtimeMs < ABANDONED_MS) continue;
    if (!(await answers(path))) await rm(path, { force: true });
  }
}

async function publish(temporary: string, path: string): Promise<void> {
  try {
    // A link, not a rename: it fails when another process was faster.
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw inUse(path);
    throw error;
  }
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: 4096 }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

/** True when somebody accepts connections there. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy();
      // Anything but a clear "nobody listens" counts as alive: a full backlog, or no permission.
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

async function removeIfSame(path: string, made: Stats): Promise<void> {
  const found = await statOrUndefined(path);
  if (found !== undefined && same(found, made)) await rm(path, { force: true });
}

async function statOrUndefined(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function same(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

function inUse(path: string): SocketFileError {
  return new SocketFileError(
    'SocketInUse',
    `another process listens at ${path}: stop it, or choose another path`,
  );
}

function describe(error: unknown): string {
  const hint = fileSystemHint(error);
  if (hint !== undefined) return hint;
  return error instanceof Error ? error.message : String(error);
}
