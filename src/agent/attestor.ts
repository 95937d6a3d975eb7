import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { readlinkSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { ProcessFacts } from '../identity/registration/registration.js';
import type { PeerCredentials } from '../rpc/service.js';
import { checkAlive, createLocator, type CallerLocation } from './locator.js';
import { readSmallFile } from './procfs.js';

/** Finds out what the kernel knows of the process at the other end of the shared socket. */
export interface Attestor {
  /**
   * Whether the process that connected is one of a pod. Costs little, and reads nothing that the process can forge. Without
   * this, all are processes of the machine.
   *
   * @throws StatusError Unauthenticated when it cannot be told, or the process is gone: its pid may be another's by now
   */
  locate?(credentials: PeerCredentials): CallerLocation;
  /**
   * The facts of the process that connected, as deep as asked.
   *
   * @throws StatusError Unauthenticated when the process is gone: its pid may be another's by now
   */
  attest(credentials: PeerCredentials, depth: AttestationDepth): Promise<ProcessFacts>;
}

/**
 * How closely a process is looked at: its uid and gids, which cost nothing; also the path of its executable, which
 * costs looking at a file that may be on any file system; also its SHA-256, which costs reading that once.
 */
export type AttestationDepth = 'ids' | 'path' | 'digest';

export interface ProcAttestorOptions {
  /** Where procfs is; `/proc` unless a test says otherwise. */
  readonly proc?: string;
  /** Executables larger than this have no digest. */
  readonly maxDigestBytes: number;
  /** How many digests are kept; 256 unless said. */
  readonly maxDigests?: number;
  /** The agent's own pod, on a node with pods: callers are told apart by their cgroups then. */
  readonly ownPod?: string;
}

const DIGEST_CHUNK = 256 * 1024;

/** An attestor over procfs. */
export function createProcAttestor(options: ProcAttestorOptions): Attestor {
  const proc = options.proc ?? '/proc';
  const digests = new DigestCache(options.maxDigests ?? 256);
  const { ownPod } = options;
  return {
    ...(ownPod === undefined ? {} : { locate: createLocator(proc, ownPod) }),
    async attest(credentials, depth) {
      const directory = `${proc}/${credentials.pid}`;
      const supplementaryGids = readSupplementaryGids(`${directory}/status`);
      const executable =
        depth === 'ids'
          ? {}
          : await readExecutable(
              `${directory}/exe`,
              depth === 'digest' ? { digests, most: options.maxDigestBytes } : undefined,
            );
      // Last: what was read above is the caller's only if it lived all the while.
      checkAlive(credentials);
      return {
        uid: credentials.uid,
        gid: credentials.gid,
        supplementaryGids: supplementaryGids ?? [],
        ...executable,
      };
    },
  };
}

function readSupplementaryGids(path: string): readonly number[] | undefined {
  const groups = /^Groups:\t?([\d ]*)$/m.exec(readSmallFile(path) ?? '')?.[1];
  return groups
    ?.trim()
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
}

/**
 * Path and digest of the running executable; without those that cannot be had for sure.
 *
 * The link says the path as the process sees it, and in a mount namespace of its own a process may see its executable
 * wherever it likes. So the path counts only if, seen from here, the same file lies there.
 */
async function readExecutable(
  link: string,
  digesting: { readonly digests: DigestCache; readonly most: number } | undefined,
): Promise<{ path?: string; sha256?: string }> {
  let handle: FileHandle | undefined;
  try {
    const path = readlinkSync(link);
    handle = await open(link, 'r');
    const running = await handle.stat({ bigint: true });
    const sha256 =
      digesting === undefined ? undefined : await digesting.digests.of(handle, running, digesting.most);
    const there = await stat(path, { bigint: true }).catch(() => undefined);
    const samePath = there !== undefined && there.dev === running.dev && there.ino === running.ino;
    return { ...(samePath ? { path } : {}), ...(sha256 === undefined ? {} : { sha256 }) };
  } catch {
    // Gone, or another user's and we may not look: the facts that are left still count.
    return {};
  } finally {
    await handle?.close().catch(() => undefined);
  }
}

/** Digests by file, bounded, the least recently used go first. */
class DigestCache {
  readonly #most: number;
  readonly #digests = new Map<string, Promise<string | undefined>>();

  constructor(most: number) {
    this.#most = most;
  }

  of(handle: FileHandle, file: BigIntStats, mostBytes: number): Promise<string | undefined> {
    if (!file.isFile() || file.size > BigInt(mostBytes)) return Promise.resolve(undefined);
    // With the change time, which, unlike the modification time, the file's owner cannot set.
    const key = [file.dev, file.ino, file.size, file.mtimeNs, file.ctimeNs].join('/');
    const known = this.#digests.get(key);
    this.#digests.delete(key);
    const digest = known ?? this.#compute(key, handle, file, mostBytes);
    this.#digests.set(key, digest);
    for (const oldest of this.#digests.keys()) {
      if (this.#digests.size <= this.#most) break;
      this.#digests.delete(oldest);
    }
    return digest;
  }

  async #compute(
    key: string,
    handle: FileHandle,
    before: BigIntStats,
    mostBytes: number,
  ): Promise<string | undefined> {
    try {
      const hash = createHash('sha256');
      const buffer = Buffer.allocUnsafe(DIGEST_CHUNK);
      let at = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) break;
        at += bytesRead;
        if (at > mostBytes) throw new RangeError('the executable grew while it was read');
        hash.update(buffer.subarray(0, bytesRead));
      }
      const after = await handle.stat({ bigint: true });
      if (after.ctimeNs !== before.ctimeNs || after.size !== before.size)
        throw new RangeError('the executable changed while it was read');
      return hash.digest('hex');
    } catch {
      this.#digests.delete(key);
      return undefined;
    }
  }
}
