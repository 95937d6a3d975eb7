import { closeSync, constants, fstatSync, openSync, type BigIntStats } from 'node:fs';
import { MountError, type MountPlace } from './mounts.js';

/** open(2): names a place in the tree and gives no right to read or write. Node has no name for it. */
const O_PATH = 0o10000000;
const DIRECTORY = O_PATH | constants.O_DIRECTORY;

/** A directory that is held by descriptor: its name may be moved or replaced, what is held stays. */
export interface PinnedDirectory {
  readonly fd: number;
  /** A path that leads to the held directory itself (proc_pid_fd(5)), for calls that take no descriptor. */
  readonly path: string;
  stat(): BigIntStats;
  close(): void;
}

function pinned(path: string, flags: number): PinnedDirectory {
  const fd = openSync(path, flags);
  return {
    fd,
    path: `/proc/self/fd/${fd}`,
    stat: () => fstatSync(fd, { bigint: true }),
    close: () => closeSync(fd),
  };
}

/** Holds a directory of our own; links on the way are followed. */
export function pin(path: string): PinnedDirectory {
  return pinned(path, DIRECTORY);
}

/** The same, opened for reading: a lock cannot be taken on what only names a place. */
export function pinReadable(path: string): PinnedDirectory {
  return pinned(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

/**
 * Holds one entry of a held directory, and what is mounted there; undefined where there is none.
 *
 * @throws MountError `MountPathRefused` where it is a link or no directory
 */
export function pinEntry(directory: PinnedDirectory, name: string): PinnedDirectory | undefined {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0'))
    throw new MountError('MountPathRefused', `${JSON.stringify(name)} is no name of a directory`);
  try {
    return pinned(`${directory.path}/${name}`, DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'ENOTDIR' || code === 'ELOOP')
      throw new MountError('MountPathRefused', `${JSON.stringify(name)} is a link or no directory`);
    throw error;
  }
}

/**
 * Holds the directory that a place is in, reached one component after the other; undefined where one is missing. The
 * second value is the name of the last component. With openat2(2) the kernel could walk, but it would not save a check
 * and is missing before Linux 5.6 and under older seccomp profiles.
 */
export function pinParent(place: MountPlace): readonly [PinnedDirectory | undefined, string] {
  const names = place.path.split('/');
  const last = names.pop() ?? '';
  let held = pin(place.root);
  for (const name of names) {
    let next: PinnedDirectory | undefined;
    try {
      next = pinEntry(held, name);
    } finally {
      held.close();
    }
    if (next === undefined) return [undefined, last];
    held = next;
  }
  return [held, last];
}
