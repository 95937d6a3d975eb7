import { lstat, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { RpcListener } from '../../rpc/listener.js';
import type { RpcServer } from '../../rpc/server.js';

/** Ours; not there; or another process's. */
export type SocketState = 'own' | 'missing' | 'taken';

/** A socket that agents take over from one another, one server's only one. */
export class KeptSocket {
  readonly path: string;
  readonly #server: RpcServer;
  readonly #name: string;
  readonly #callerUid: number;
  #listener: RpcListener | undefined;
  #inode: bigint | undefined;

  constructor(server: RpcServer, path: string, name: string, callerUid: number) {
    this.path = path;
    this.#server = server;
    this.#name = name;
    this.#callerUid = callerUid;
  }

  /** Listens, in place of whoever does. Rejects with SocketFileError. */
  async open(): Promise<void> {
    await this.#listener?.close();
    this.#listener = await this.#server.listenUnix({
      ...{ path: this.path, name: this.#name, mode: 0o600, directoryMode: 0o750 },
      ...{ takeOver: true, peerCredentials: false, callerUid: this.#callerUid },
    });
    this.#inode = await inodeOf(this.path);
  }

  async state(): Promise<SocketState> {
    if (this.#listener !== undefined && (await this.#listener.isCurrent())) return 'own';
    return (await inodeOf(this.path)) === undefined ? 'missing' : 'taken';
  }

  /** Removes the socket's file if it is still ours. */
  async withdraw(): Promise<void> {
    if ((await this.state()) !== 'own') return;
    // Aside first: should another process have come this moment, it gets its socket back.
    const aside = join(dirname(this.path), `.${basename(this.path)}-old`);
    try {
      await rename(this.path, aside);
      if ((await inodeOf(aside)) === this.#inode) await rm(aside, { force: true });
      else await rename(aside, this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Ends its server. */
  close(): Promise<void> {
    return this.#server.close();
  }
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  try {
    return (await lstat(path, { bigint: true })).ino;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
