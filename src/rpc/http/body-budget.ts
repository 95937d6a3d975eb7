/** What one request holds of the budget. */
export interface BodyAccount {
  /** Takes so many bytes more; false when there are no more to have. */
  take(bytes: number): boolean;
  /** Gives all back. */
  close(): void;
}

/** Bounds the memory that all request bodies take together. One peer never gets more than half: the others are served on. */
export class BodyBudget {
  readonly #max: number;
  readonly #byPeer = new Map<string, number>();
  #taken = 0;

  constructor(maxBytes: number) {
    this.#max = maxBytes;
  }

  /** Bytes that are taken. */
  get taken(): number {
    return this.#taken;
  }

  open(peer: string): BodyAccount {
    let held = 0;
    let open = true;
    return {
      take: (bytes) => {
        const ofPeer = (this.#byPeer.get(peer) ?? 0) + bytes;
        if (!open || this.#taken + bytes > this.#max || ofPeer > this.#max / 2) return false;
        held += bytes;
        this.#taken += bytes;
        this.#byPeer.set(peer, ofPeer);
        return true;
      },
      close: () => {
        if (!open) return;
        open = false;
        this.#taken -= held;
        const left = (this.#byPeer.get(peer) ?? 0) - held;
        if (left > 0) this.#byPeer.set(peer, left);
        else this.#byPeer.delete(peer);
      },
    };
  }
}
