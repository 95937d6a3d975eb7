import { backoffDelay, type BackoffOptions } from '../lib/backoff.js';
import type { Random } from '../lib/random.js';
import { MinHeap } from './min-heap.js';

/** How urgent a signature is. Lower is sooner. */
export const Priority = {
  /** A caller waits for it. */
  RealTime: 0,
  /** A registration that came: its SVID should be here before the workload asks. */
  Warmup: 1,
  /** The present SVID still serves. */
  Background: 2,
} as const;
export type Priority = (typeof Priority)[keyof typeof Priority];

interface Item {
  priority: Priority;
  /** Refusals in a row. */
  attempts: number;
  state: 'ready' | 'waiting' | 'taken' | 'idle';
  /** Changed while it was taken: to be signed again, this urgently. */
  again: Priority | undefined;
  /** When it is ready again, in monotonic milliseconds, while it waits. */
  readyAt: number;
}

/**
 * Which registrations are to be signed, in which order. Each waits for its own back-off, so that one that is refused
 * stands in nobody's way. Pure: times are monotonic milliseconds that the caller passes in.
 */
export class SigningQueue {
  readonly #backoff: BackoffOptions;
  readonly #random: Random;
  readonly #items = new Map<string, Item>();
  readonly #ready: readonly [Set<string>, Set<string>, Set<string>] = [new Set(), new Set(), new Set()];
  /** May hold stale entries; the item's state decides. */
  readonly #waiting = new MinHeap<string>();

  constructor(backoff: BackoffOptions, random: Random) {
    this.#backoff = backoff;
    this.#random = random;
  }

  /**
   * Wants `id` signed. One that is queued already only becomes more urgent; one that waits for its back-off goes on
   * waiting, unless `fresh` says that what it waits for has changed.
   */
  add(id: string, priority: Priority, fresh = false): void {
    const item = this.#items.get(id);
    if (item === undefined) {
      this.#items.set(id, { priority, attempts: 0, state: 'ready', again: undefined, readyAt: 0 });
      this.#ready[priority].add(id);
      return;
    }
    if (fresh) item.attempts = 0;
    switch (item.state) {
      case 'taken':
        // What is on its way serves, unless it was asked for before the change.
        if (fresh) item.again = item.again === undefined ? priority : min(item.again, priority);
        return;
      case 'waiting':
        item.priority = min(item.priority, priority);
        if (fresh) this.#makeReady(id, item);
        return;
      case 'ready':
        if (priority >= item.priority) return;
        this.#ready[item.priority].delete(id);
        item.priority = priority;
        this.#ready[priority].add(id);
        return;
      case 'idle':
        // Its last refusal was final: only a change makes it worth asking.
        if (!fresh) return;
        item.priority = priority;
        this.#makeReady(id, item);
        return;
    }
  }

  /** A caller waits: what is queued becomes urgent; what is not, stays so. */
  urge(id: string): void {
    const state = this.#items.get(id)?.state;
    if (state === 'ready' || state === 'waiting') this.add(id, Priority.RealTime);
  }

  /** Forgets `id`, whatever its state. */
  remove(id: string): void {
    const item = this.#items.get(id);
    if (item === undefined) return;
    this.#items.delete(id);
    this.#ready[item.priority].delete(id);
  }

  /** Takes up to `most` that may be signed at `now`, the most urgent first; none less urgent than `least`. */
  take(most: number, now: number, least: Priority = Priority.Background): string[] {
    this.#wake(now);
    const taken: string[] = [];
    for (const [priority, ready] of this.#ready.entries()) {
      if (priority > least) break;
      for (const id of ready) {
        if (taken.length >= most) return taken;
        const item = this.#items.get(id);
        ready.delete(id);
        if (item === undefined) continue;
        item.state = 'taken';
        taken.push(id);
      }
    }
    return taken;
  }

  /** `id` was signed. */
  done(id: string): void {
    const item = this.#items.get(id);
    if (item?.state !== 'taken') return;
    if (item.again === undefined) {
      this.#items.delete(id);
      return;
    }
    item.attempts = 0;
    this.#requeue(id, item);
  }

  /** `id` was refused: it waits for its back-off, or, when asking again is pointless, until it changes. */
  refused(id: string, now: number, retryable: boolean): void {
    const item = this.#items.get(id);
    if (item?.state !== 'taken') return;
    if (item.again !== undefined) {
      this.#requeue(id, item);
      return;
    }
    if (!retryable) {
      item.state = 'idle';
      return;
    }
    item.state = 'waiting';
    item.readyAt = now + backoffDelay(this.#backoff, item.attempts++, this.#random);
    this.#waiting.push(item.readyAt, id);
  }

  /** `id` was not even asked for (the server could not be reached): it is ready again, no attempt counted. */
  release(id: string): void {
    const item = this.#items.get(id);
    if (item?.state !== 'taken') return;
    if (item.again !== undefined) item.priority = min(item.priority, item.again);
    item.again = undefined;
    this.#makeReady(id, item);
  }

  /** What waits is ready at once, as if it had not been refused: what it was refused for may have changed. */
  wakeAll(): void {
    for (const [id, item] of this.#items) {
      item.attempts = 0;
      if (item.state === 'waiting') this.#makeReady(id, item);
    }
  }

  /** When something may become ready, in monotonic milliseconds; undefined when nothing waits. */
  get nextReadyAt(): number | undefined {
    for (;;) {
      const first = this.#waiting.peek();
      if (first === undefined) return undefined;
      if (this.#isDue(first)) return first.key;
      this.#waiting.pop();
    }
  }

  /** Whether something of this urgency or more is ready at `now`. */
  hasReady(now: number, least: Priority = Priority.Background): boolean {
    this.#wake(now);
    return this.#ready.some((ready, priority) => priority <= least && ready.size > 0);
  }

  /** How many are queued, waiting or taken. */
  get size(): number {
    return this.#items.size;
  }

  #wake(now: number): void {
    for (;;) {
      const first = this.#waiting.peek();
      if (first === undefined || first.key > now) return;
      this.#waiting.pop();
      const item = this.#items.get(first.value);
      if (item !== undefined && this.#isDue(first)) this.#makeReady(first.value, item);
    }
  }

  /** False for an entry of the heap that a later one, or none, has replaced. */
  #isDue(entry: { readonly key: number; readonly value: string }): boolean {
    const item = this.#items.get(entry.value);
    return item?.state === 'waiting' && item.readyAt === entry.key;
  }

  #requeue(id: string, item: Item): void {
    item.priority = item.again ?? item.priority;
    item.again = undefined;
    this.#makeReady(id, item);
  }

  #makeReady(id: string, item: Item): void {
    item.state = 'ready';
    this.#ready[item.priority].add(id);
  }
}

function min(one: Priority, other: Priority): Priority {
  return one < other ? one : other;
}
