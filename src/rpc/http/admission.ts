import type { Socket } from 'node:net';
import type { ConnectionPool, Share } from '../connections.js';
import type { Refusals } from '../refusals.js';

/** Counts the connections of one listener, of all and of each peer, and closes those that are too many. */
export class Admission {
  readonly #pool: ConnectionPool;
  readonly #share: Share;
  readonly #maxPerPeer: number;
  readonly #refusals: Refusals;
  readonly #byPeer = new Map<string, number>();
  #open = false;

  constructor(pool: ConnectionPool, share: Share, maxPerPeer: number, refusals: Refusals) {
    this.#pool = pool;
    this.#share = share;
    this.#maxPerPeer = maxPerPeer;
    this.#refusals = refusals;
  }

  /** From now on connections are let in. */
  open(): void {
    this.#open = true;
  }

  close(): void {
    this.#open = false;
  }

  /** Takes a place for the connection until it closes, or closes it. */
  enter(socket: Socket): boolean {
    if (!this.#open || !this.#pool.enter(this.#share))
      return this.refuse(socket, this.#open ? 'too many connections' : 'not open');
    socket.once('close', () => this.#pool.leave(this.#share));
    return true;
  }

  /** Takes one of the places of a peer, likewise. */
  enterPeer(socket: Socket, peer: string): boolean {
    const count = (this.#byPeer.get(peer) ?? 0) + 1;
    if (count > this.#maxPerPeer) return this.refuse(socket, `too many connections of ${peer}`);
    this.#byPeer.set(peer, count);
    socket.once('close', () => {
      const left = (this.#byPeer.get(peer) ?? 0) - 1;
      if (left > 0) this.#byPeer.set(peer, left);
      else this.#byPeer.delete(peer);
    });
    return true;
  }

  refuse(socket: Socket, reason: string): false {
    socket.destroy();
    this.#refusals.add(reason, this.#share.count);
    return false;
  }
}
