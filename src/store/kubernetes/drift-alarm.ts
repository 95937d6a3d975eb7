import type { Clock, Timer } from '../../lib/clock.js';
import { TokenBucket } from '../../lib/token-bucket.js';

/** An object that is changed again and again is told of at once so often, and then once in a while. */
const BURST = 5;
const PAUSE_MS = 30_000;
/** Beyond so many objects, those that have come to rest are forgotten. */
const MOST = 1_000;

interface Unrest {
  readonly bucket: TokenBucket;
  timer: Timer | undefined;
}

/**
 * Tells whose objects have drifted, at once; but a fight with somebody who changes an object whenever we repair it is
 * slowed down. Remembers nothing of objects that are at rest.
 */
export class DriftAlarm {
  readonly #clock: Clock;
  readonly #listeners = new Set<(owner: string) => void>();
  readonly #unrest = new Map<string, Unrest>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  listen(listener: (owner: string) => void): () => void {
    const own = (owner: string): void => listener(owner);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  raise(owner: string, id: string): void {
    if (this.#closed) return;
    let unrest = this.#unrest.get(id);
    if (unrest === undefined) {
      if (this.#unrest.size >= MOST) this.#forgetCalm();
      unrest = { bucket: new TokenBucket(this.#clock, 1000 / PAUSE_MS, BURST), timer: undefined };
      this.#unrest.set(id, unrest);
    }
    if (unrest.timer !== undefined) return;
    if (unrest.bucket.take()) {
      this.#tell(owner);
      return;
    }
    const waiting = unrest;
    waiting.timer = this.#clock.after(PAUSE_MS, () => {
      waiting.timer = undefined;
      waiting.bucket.take();
      this.#tell(owner);
    });
  }

  /** The object is as it should be. */
  calm(id: string): void {
    const unrest = this.#unrest.get(id);
    if (unrest?.timer === undefined && unrest?.bucket.full === true) this.#unrest.delete(id);
  }

  #forgetCalm(): void {
    for (const [id, { bucket, timer }] of this.#unrest)
      if (timer === undefined && bucket.full) this.#unrest.delete(id);
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#unrest.values()) timer?.cancel();
    this.#unrest.clear();
  }

  #tell(owner: string): void {
    for (const listener of [...this.#listeners]) listener(owner);
  }
}
