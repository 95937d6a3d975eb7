import { closeSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { endianness, platform } from 'node:os';
import type { HeldPeerCredentials, PeerCredentialsReader } from './reader.js';
import { PeerCredentialsError } from './reader.js';

/** The two calls that Node has no binding for. Both return -1 and set errno on failure. */
interface SystemCalls {
  getsockopt(fd: number, level: number, name: number, value: Buffer, size: Buffer): number;
  poll(fds: Buffer, count: number, timeoutMs: number): number;
  errno(): number;
  /** The name of an errno value, e.g. `ENOPROTOOPT`. */
  errnoName(value: number): string;
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** Since Linux 6.5. */
const SO_PEERPIDFD = 77;
const POLLIN = 1;
const MAX_INTERRUPTIONS = 100;

/**
 * The reader for Linux. The FFI library is loaded on the first call only, since few processes need it.
 * Throws PeerCredentialsError `PeerUnsupported` on other systems, and where the FFI library does not load.
 */
export async function linuxPeerCredentials(): Promise<PeerCredentialsReader> {
  if (platform() !== 'linux' || endianness() !== 'LE')
    throw new PeerCredentialsError(
      'PeerUnsupported',
      'peer credentials are read on little-endian Linux only: use per-pod sockets, or run the agent on Linux',
    );
  return peerCredentialsReader(await loadSystemCalls());
}

/** The reader over given system calls; `procDirectory` is where the fallback looks for start times. */
export function peerCredentialsReader(calls: SystemCalls, procDirectory = '/proc'): PeerCredentialsReader {
  let pidfds = true;
  return {
    readUser: (socket) => identityOf(calls, descriptorOf(socket)).uid,
    read(socket) {
      const fd = descriptorOf(socket);
      const identity = identityOf(calls, fd);
      // unix(7): a peer outside our pid namespace has no pid here.
      if (identity.pid <= 0)
        throw new PeerCredentialsError(
          'PeerUnknown',
          'the caller is outside this process’s pid namespace: run the agent with hostPID, or use per-pod sockets',
        );
      if (pidfds) {
        const answer = option(calls, fd, SO_PEERPIDFD, 4);
        if (answer !== undefined) return heldByPidfd(calls, identity, answer.readInt32LE(0));
        pidfds = false;
      }
      return heldByStartTime(identity, procDirectory);
    },
  };
}

type Identity = Pick<HeldPeerCredentials, 'pid' | 'uid' | 'gid'>;

function identityOf(calls: SystemCalls, fd: number): Identity {
  const ucred = option(calls, fd, SO_PEERCRED, 12);
  if (ucred === undefined)
    throw new PeerCredentialsError('PeerUnreadable', 'the kernel has no credentials for this socket');
  return { pid: ucred.readInt32LE(0), uid: ucred.readUInt32LE(4), gid: ucred.readUInt32LE(8) };
}

/** The kernel keeps the process object, so its number cannot be taken by another. */
function heldByPidfd(calls: SystemCalls, identity: Identity, pidfd: number): HeldPeerCredentials {
  let open = true;
  return {
    ...identity,
    isAlive(): boolean {
      if (!open) return false;
      // pidfd_open(2): readable once the process has ended, even while nobody has waited for it.
      const entry = Buffer.alloc(8);
      entry.writeInt32LE(pidfd, 0);
      entry.writeInt16LE(POLLIN, 4);
      for (let tries = 0; tries < MAX_INTERRUPTIONS; tries++) {
        const ready = calls.poll(entry, 1, 0);
        if (ready >= 0) return ready === 0;
        // A signal to us, a profiler's for one, says nothing of the peer (poll(2)). Any other failure does not vouch.
        if (calls.errnoName(calls.errno()) !== 'EINTR') return false;
      }
      return false;
    },
    close(): void {
      if (!open) return;
      open = false;
      closeSync(pidfd);
    },
  };
}

/**
 * For older kernels: a process is the same one while its start time is. Read as soon after accept as can be, it leaves
 * the moment between connect and now, in which the number would have to be reused.
 */
function heldByStartTime(identity: Identity, procDirectory: string): HeldPeerCredentials {
  const started = startTime(procDirectory, identity.pid);
  if (started === undefined)
    throw new PeerCredentialsError('PeerGone', `the caller, process ${identity.pid}, has ended already`);
  let open = true;
  return {
    ...identity,
    isAlive: () => open && startTime(procDirectory, identity.pid) === started,
    close: () => {
      open = false;
    },
  };
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)); undefined when the process is gone or only waited for. */
export function startTime(procDirectory: string, pid: number): string | undefined {
  let text: string;
  try {
    text = readFileSync(`${procDirectory}/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The second field is the program's name in parentheses and may hold anything, also ") ".
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  if (state === undefined || state === 'Z' || state === 'X') return undefined;
  return fields[19];
}

/** A socket option's value; undefined when the kernel does not know the option. */
function option(calls: SystemCalls, fd: number, name: number, size: number): Buffer | undefined {
  const value = Buffer.alloc(size);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(size);
  if (calls.getsockopt(fd, SOL_SOCKET, name, value, length) === 0) {
    if (length.readUInt32LE() !== size)
      throw new PeerCredentialsError('PeerUnreadable', `socket option ${name} has an unknown size`);
    return value;
  }
  const error = calls.errnoName(calls.errno());
  if (error === 'ENOPROTOOPT') return undefined;
  if (error === 'ESRCH' || (name === SO_PEERPIDFD && error === 'EINVAL'))
    throw new PeerCredentialsError('PeerGone', 'the caller has ended already');
  throw new PeerCredentialsError('PeerUnreadable', `the kernel refuses socket option ${name}: ${error}`);
}

/** Node gives no public way to a socket's descriptor. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } | null };
  const fd = handle?.fd;
  if (typeof fd !== 'number' || fd < 0)
    throw new PeerCredentialsError('PeerUnreadable', 'the connection has closed already');
  return fd;
}

async function loadSystemCalls(): Promise<SystemCalls> {
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process runs on, whichever that is.
    const library = koffi.load(null);
    const getsockopt = library.func(
      'int getsockopt(int fd, int level, int name, void *value, void *size)',
    ) as unknown as SystemCalls['getsockopt'];
    const poll = library.func(
      'int poll(void *fds, unsigned long count, int timeout)',
    ) as unknown as SystemCalls['poll'];
    const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
    return {
      getsockopt,
      poll,
      errno: () => koffi.errno(),
      errnoName: (value) => names.get(value) ?? `errno ${value}`,
    };
  } catch (error) {
    throw new PeerCredentialsError(
      'PeerUnsupported',
      'the library that reads peer credentials (koffi) does not load here: install its package for this platform, or use per-pod sockets',
      { cause: error },
    );
  }
}
