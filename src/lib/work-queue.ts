import { backoffDelay } from './backoff.js';
import type { Clock, Timer } from './clock.js';
import type { Random } from './random.js';

/** How soon a key is to be worked on: what just happened goes before what was there all along. */
export type Priority = 'live' | 'background';

/** What a queue is made of. Times in milliseconds. */
export interface WorkQueueOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** The wait before a key that failed is tried again: grows with each failure of that key. */
  readonly retry?: { readonly initialMs: number; readonly maxMs: number };
}

const RETRY = { initialMs: 50, maxMs: 60_000 };

/**
 * Keys to work on, with the semantics of client-go's work queue: a key is in it once however often it is added, and is
 * never handed out twice at a time; what is added while its key is worked on comes again afterwards. So its length is
 * bounded by the number of keys.
 */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #ready: Record<Priority, Set<string>> = { live: new Set(), background: new Set() };
  readonly #working = new Set<string>();
  /** Added while they were worked on. */
  readonly #again = new Map<string, Priority>();
  readonly #later = new Map<string, { readonly due: number; readonly timer: Timer }>();
  readonly #failures = new Map<string, number>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  #closed = false;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys that wait to be taken; those that wait for their time are not counted. */
  get length(): number {
    return this.#ready.live.size + this.#ready.background.size + this.#again.size;
  }

  /** Keys that are worked on now. */
  get working(): number {
    return this.#working.size;
  }

  add(key: string, priority: Priority = 'live'): void {
    if (this.#closed) return;
    this.#forgetTimer(key);
    if (this.#working.has(key)) {
      if (this.#again.get(key) !== 'live') this.#again.set(key, priority);
      return;
    }
    if (this.#ready.live.has(key)) return;
    if (priority === 'background') {
      this.#ready.background.add(key);
    } else {
      this.#ready.background.delete(key);
      this.#ready.live.add(key);
    }
    this.#serve();
  }

  /** Adds the key when the time is up; the soonest time asked for holds. */
  addAfter(key: string, delayMs: number): void {
    if (this.#closed) return;
    const due = this.#options.clock.monotonic() + delayMs;
    const waiting = this.#later.get(key);
    if (waiting !== undefined && waiting.due <= due) return;
    waiting?.timer.cancel();
    const timer = this.#options.clock.after(delayMs, () => {
      this.#later.delete(key);
      this.add(key);
    });
    this.#later.set(key, { due, timer });
  }

  /** The next key; undefined once the queue is closed. Each key taken must be given back with {@link done}. */
  take(): Promise<string | undefined> {
    const key = this.#next();
    if (key !== undefined || this.#closed) return Promise.resolve(key);
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  /** The key's work is over. */
  done(key: string): void {
    if (!this.#working.delete(key)) return;
    const priority = this.#again.get(key);
    if (priority === undefined) return;
    this.#again.delete(key);
    this.add(key, priority);
  }

  /** The key's work failed: it comes again, later each time. Call before {@link done}. */
  retry(key: string): number {
    const { random, retry = RETRY } = this.#options;
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const delayMs = backoffDelay(retry, failures, random);
    // What happened meanwhile is worked on at once: it may be the remedy.
    if (!this.#again.has(key)) this.addAfter(key, delayMs);
    return delayMs;
  }

  /** The key's work succeeded: its next failure is its first. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Drops everything; who waits for a key gets undefined. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#later.values()) timer.cancel();
    this.#later.clear();
    for (const keys of Object.values(this.#ready)) keys.clear();
    this.#again.clear();
    for (const give of this.#takers.splice(0)) give(undefined);
  }

  #next(): string | undefined {
    for (const keys of [this.#ready.live, this.#ready.background]) {
      const [key] = keys;
      if (key === undefined) continue;
      keys.delete(key);
      this.#working.add(key);
      return key;
    }
    return undefined;
  }

  #serve(): void {
    const give = this.#takers.shift();
    if (give === undefined) return;
    give(this.#next());
  }

  #forgetTimer(key: string): void {
    this.#later.get(key)?.timer.cancel();
    this.#later.delete(key);
  }
}
