import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';

/**
 * Wakes the handler of one call. A poke that comes while the handler is busy is remembered, any number of them as one:
 * so a handler that then looks at the newest state never misses a change and never queues one.
 */
export class Waiter {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #poked = false;
  #wake: (() => void) | undefined;
  #fail: ((reason: unknown) => void) | undefined;

  /** @param signal the call's: when it is aborted, whatever is awaited here rejects with its reason */
  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
    this.#onAbort = () => this.#fail?.(signal.reason);
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  poke(): void {
    this.#poked = true;
    this.#wake?.();
  }

  /** Resolves when poked, at once if that has happened since the last wait, or after `timeoutMs`. */
  async wait(timeoutMs?: number): Promise<void> {
    this.#signal.throwIfAborted();
    if (!this.#poked) {
      const timer = timeoutMs === undefined ? undefined : this.#clock.after(timeoutMs, () => this.#wake?.());
      try {
        await this.guard(new Promise<void>((resolve) => (this.#wake = resolve)));
      } finally {
        timer?.cancel();
        this.#wake = undefined;
      }
    }
    this.#poked = false;
  }

  /** `work`, but rejecting as soon as the call ends, whether or not `work` ever settles. One at a time. */
  guard<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#signal.aborted) {
        reject(this.#signal.reason as Error);
        work.catch(() => undefined);
        return;
      }
      this.#fail = reject;
      // Cleared before the caller goes on, or it would clear what the caller's next guard has set.
      work.then(
        (value) => {
          this.#fail = undefined;
          resolve(value);
        },
        (error: unknown) => {
          this.#fail = undefined;
          reject(SignetError.from(error));
        },
      );
    });
  }

  /** Ends it; the call's signal holds on to nothing of ours. */
  close(): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}

/** Pokes many waiters without holding up everything else: some per turn of the event loop. */
export class PokeQueue {
  readonly #perTurn: number;
  readonly #waiting = new Set<Waiter>();
  #running = false;

  constructor(perTurn = 32) {
    this.#perTurn = perTurn;
  }

  add(waiters: Iterable<Waiter>): void {
    for (const waiter of waiters) this.#waiting.add(waiter);
    if (this.#running || this.#waiting.size === 0) return;
    this.#running = true;
    setImmediate(() => this.#turn());
  }

  /** Forgets a waiter whose call has ended. */
  remove(waiter: Waiter): void {
    this.#waiting.delete(waiter);
  }

  #turn(): void {
    let left = this.#perTurn;
    for (const waiter of this.#waiting) {
      if (left-- === 0) break;
      this.#waiting.delete(waiter);
      waiter.poke();
    }
    this.#running = this.#waiting.size > 0;
    if (this.#running) setImmediate(() => this.#turn());
  }
}
