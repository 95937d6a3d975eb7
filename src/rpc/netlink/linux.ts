import { endianness, platform } from 'node:os';
import { CaptureError, type Capture } from './capture.js';
import { captureRules } from './capture-rules.js';
import { nftBatch, readAcknowledgements, type Acknowledgement } from './messages.js';

/** The calls that Node has no binding for. All return -1 and set errno on failure. */
export interface NetlinkCalls {
  socket(domain: number, type: number, protocol: number): number;
  send(fd: number, bytes: Buffer, length: number, flags: number): number;
  recv(fd: number, bytes: Buffer, length: number, flags: number): number;
  close(fd: number): number;
  errno(): number;
  /** The name of an errno value, e.g. `EPERM`. */
  errnoName(value: number): string;
}

/** socket(2), netlink(7) */
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
/** An acknowledgement repeats the message that it is about, and ours are small. */
const RECEIVE_BYTES = 65_536;

/**
 * Puts a capture in place in the network namespace of this process, in one step: all of it or nothing. Doing it again
 * replaces it.
 *
 * @throws CaptureError
 */
export async function captureInbound(capture: Capture): Promise<void> {
  if (platform() !== 'linux' || endianness() !== 'LE')
    throw new CaptureError('CaptureUnsupported', 'traffic is captured on little-endian Linux only');
  captureWith(await loadCalls(), capture);
}

/** The same over given system calls. */
export function captureWith(calls: NetlinkCalls, capture: Capture): void {
  const fail = (what: string, error: number): never => {
    const reason = calls.errnoName(error);
    throw new CaptureError(...why(what, reason));
  };
  const fd = calls.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) fail('cannot speak to the packet filter of the kernel', calls.errno());
  try {
    const rules = captureRules(capture);
    const batch = nftBatch(rules);
    if (calls.send(fd, batch, batch.length, 0) !== batch.length)
      fail('the rules cannot be handed to the kernel', calls.errno());
    const heard = new Set<number>();
    for (const { sequence, error } of answers(calls, fd)) {
      if (error !== 0) fail('the kernel does not take the rules', error);
      heard.add(sequence);
    }
    // Silence is no consent.
    if (heard.size < rules.length)
      throw new CaptureError('CaptureFailed', 'the kernel did not say that it has taken the rules');
  } finally {
    calls.close(fd);
  }
}

/** The kernel has answered before send(2) comes back (nfnetlink works in the sender's call). */
function* answers(calls: NetlinkCalls, fd: number): Iterable<Acknowledgement> {
  const bytes = Buffer.alloc(RECEIVE_BYTES);
  for (;;) {
    const length = calls.recv(fd, bytes, bytes.length, MSG_DONTWAIT);
    if (length <= 0) return;
    yield* readAcknowledgements(bytes.subarray(0, length));
  }
}

function why(what: string, reason: string): readonly [string, string] {
  if (reason === 'EPERM')
    return [
      'CaptureFailed',
      `${what}: ${reason}: it takes the capability NET_ADMIN, as root of the container`,
    ];
  if (['EPROTONOSUPPORT', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'ENOENT'].includes(reason))
    return [
      'CaptureUnsupported',
      `${what}: ${reason}: the node's kernel needs nf_tables with nat and redirection (Linux 5.2)`,
    ];
  return ['CaptureFailed', `${what}: ${reason}`];
}

async function loadCalls(): Promise<NetlinkCalls> {
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process runs on, whichever that is.
    const library = koffi.load(null);
    const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
    return {
      socket: library.func(
        'int socket(int domain, int type, int protocol)',
      ) as unknown as NetlinkCalls['socket'],
      send: library.func(
        'long send(int fd, const void *bytes, size_t length, int flags)',
      ) as unknown as NetlinkCalls['send'],
      recv: library.func(
        'long recv(int fd, _Out_ uint8_t *bytes, size_t length, int flags)',
      ) as unknown as NetlinkCalls['recv'],
      close: library.func('int close(int fd)') as unknown as NetlinkCalls['close'],
      errno: () => koffi.errno(),
      errnoName: (value) => names.get(value) ?? `errno ${value}`,
    };
  } catch (error) {
    throw new CaptureError(
      'CaptureUnsupported',
      'the library that speaks to the kernel (koffi) does not load here: install its package for this platform',
      { cause: error },
    );
  }
}
