import { mkdirSync, rmdirSync, statfsSync, statSync } from 'node:fs';
import { platform } from 'node:os';
import { dirname } from 'node:path';
import { fileSystemHint } from '../../lib/file-system-hint.js';
import { MountError, type MountPlace, type Mounts, type MountState } from './mounts.js';
import { pin, pinEntry, pinParent, pinReadable, type PinnedDirectory } from './pinned.js';

/** The calls that Node has no binding for. All return -1 and set errno on failure. */
export interface MountCalls {
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): number;
  umount2(target: string, flags: number): number;
  flock(fd: number, operation: number): number;
  errno(): number;
  /** The name of an errno value, e.g. `EBUSY`. */
  errnoName(value: number): string;
}

/** mount(2). */
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
/** umount2(2). */
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
/** flock(2). */
const LOCK_EX = 2;
/** statfs(2). */
const TMPFS_MAGIC = 0x01021994;

const RESTRICTED = MS_NOSUID | MS_NODEV | MS_NOEXEC;
/** So many mounts on top of one another are taken away; more means that something else is wrong. */
const MOST_STACKED = 64;

/**
 * The mounts of this process's mount namespace. The FFI library is loaded on the first call only.
 *
 * @throws MountError `MountUnsupported`
 */
export async function linuxMounts(): Promise<Mounts> {
  if (platform() !== 'linux')
    throw new MountError('MountUnsupported', 'volumes are mounted on Linux only: run the agent there');
  return mountsWith(await loadCalls());
}

/** The mounts over given system calls. */
export function mountsWith(calls: MountCalls): Mounts {
  const check = (result: number, what: string): void => {
    if (result === 0) return;
    const reason = calls.errnoName(calls.errno());
    const hint = reason === 'EPERM' ? ': the agent needs the right to mount (run it privileged)' : '';
    throw new MountError('MountFailed', `${what}: ${reason}${hint}`);
  };

  /** Takes mounts away until none is left at the entry. */
  const unmountAll = (parent: PinnedDirectory, name: string): void => {
    const path = `${parent.path}/${name}`;
    for (let count = 0; count < MOST_STACKED; count++) {
      if (calls.umount2(path, UMOUNT_NOFOLLOW) === 0) continue;
      let reason = calls.errnoName(calls.errno());
      if (reason === 'EBUSY') {
        // A process still uses it: it goes when the last one does.
        if (calls.umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) === 0) continue;
        reason = calls.errnoName(calls.errno());
      }
      // EINVAL: nothing is mounted there.
      if (reason === 'EINVAL' || reason === 'ENOENT') return;
      throw new MountError('MountFailed', `cannot unmount ${name}: ${reason}`);
    }
    throw new MountError('MountFailed', `more than ${MOST_STACKED} mounts lie on top of one another`);
  };

  const remove = (parent: PinnedDirectory, name: string): void => {
    unmountAll(parent, name);
    try {
      rmdirSync(`${parent.path}/${name}`);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT')
        throw new MountError('MountFailed', `cannot remove the directory ${name}: ${code ?? 'unknown'}`);
    }
  };

  return {
    ensureMemory(directory, { bytes, files }) {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      // Two agents that start at one time must not cover one another's file system. Closing unlocks.
      const lock = pinReadable(dirname(directory));
      try {
        check(calls.flock(lock.fd, LOCK_EX), 'cannot lock the state directory');
        if (isMemory(directory)) return false;
        const data = `size=${bytes},nr_inodes=${files},mode=0700`;
        check(calls.mount('signet', directory, 'tmpfs', RESTRICTED, data), `cannot mount ${directory}`);
        return true;
      } finally {
        lock.close();
      }
    },
    bind(source, place) {
      withParent(place, (parent, name) => {
        if (parent === undefined)
          throw new MountError('MountFailed', `the directory that ${place.path} is to be in is not there`);
        const from = pin(source);
        try {
          mkdirOrThere(`${parent.path}/${name}`);
          try {
            bindEntry(from, parent, name);
          } catch (error) {
            remove(parent, name);
            throw error;
          }
        } finally {
          from.close();
        }
      });
    },
    unbind(place) {
      withParent(place, (parent, name) => {
        if (parent !== undefined) remove(parent, name);
      });
    },
    look: (source, place) =>
      withParent(place, (parent, name): MountState => {
        const entry = parent === undefined ? undefined : pinEntry(parent, name);
        if (entry === undefined) return 'absent';
        try {
          return same(entry, source) ? 'source' : 'other';
        } finally {
          entry.close();
        }
      }),
    space(directory) {
      const { blocks, bavail, bsize } = statfsSync(directory);
      return { total: blocks * bsize, available: bavail * bsize };
    },
  };

  function bindEntry(from: PinnedDirectory, parent: PinnedDirectory, name: string): void {
    const under = pinned(parent, name);
    try {
      if (!sameStat(under, from))
        check(calls.mount(from.path, under.path, null, MS_BIND, null), 'cannot mount the volume');
    } finally {
      under.close();
    }
    // What was held lies under the mount now: look again, and make sure that it is what was mounted.
    const mounted = pinned(parent, name);
    try {
      if (!sameStat(mounted, from))
        throw new MountError('MountPathRefused', `${name} was replaced while it was mounted`);
      const flags = MS_REMOUNT | MS_BIND | MS_RDONLY | RESTRICTED;
      check(calls.mount('none', mounted.path, null, flags, null), 'cannot make the volume read-only');
    } finally {
      mounted.close();
    }
  }
}

function withParent<T>(place: MountPlace, act: (parent: PinnedDirectory | undefined, name: string) => T): T {
  const [parent, name] = pinParent(place);
  try {
    return act(parent, name);
  } finally {
    parent?.close();
  }
}

function pinned(parent: PinnedDirectory, name: string): PinnedDirectory {
  const entry = pinEntry(parent, name);
  if (entry === undefined) throw new MountError('MountFailed', `${name} was removed while it was mounted`);
  return entry;
}

function mkdirOrThere(path: string): void {
  try {
    mkdirSync(path, { mode: 0o750 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    // In the kubelet's directory, not where the volume is.
    const hint = fileSystemHint(error);
    const reason = `${code ?? 'unknown'}${hint === undefined ? '' : `: ${hint}`}`;
    throw new MountError('MountFailed', `cannot make the volume's directory in that of its pod: ${reason}`, {
      cause: error,
    });
  }
}

function isMemory(directory: string): boolean {
  return (
    statfsSync(directory).type === TMPFS_MAGIC && statSync(directory).dev !== statSync(dirname(directory)).dev
  );
}

function same(entry: PinnedDirectory, source: string): boolean {
  let other: PinnedDirectory;
  try {
    other = pin(source);
  } catch {
    return false;
  }
  try {
    return sameStat(entry, other);
  } finally {
    other.close();
  }
}

function sameStat(one: PinnedDirectory, other: PinnedDirectory): boolean {
  const [a, b] = [one.stat(), other.stat()];
  return a.dev === b.dev && a.ino === b.ino;
}

async function loadCalls(): Promise<MountCalls> {
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process runs on, whichever that is.
    const library = koffi.load(null);
    const mount = library.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ) as unknown as MountCalls['mount'];
    const umount2 = library.func(
      'int umount2(const char *target, int flags)',
    ) as unknown as MountCalls['umount2'];
    const flock = library.func('int flock(int fd, int operation)') as unknown as MountCalls['flock'];
    const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
    return {
      ...{ mount, umount2, flock },
      errno: () => koffi.errno(),
      errnoName: (value) => names.get(value) ?? `errno ${value}`,
    };
  } catch (error) {
    throw new MountError(
      'MountUnsupported',
      'the library that mounts volumes (koffi) does not load here: install its package for this platform',
      { cause: error },
    );
  }
}
