import type { Clock } from '../../../lib/clock.js';
import { WatchedValue, type Watched } from '../../../lib/watched.js';

/** Why the bundle is not where it should be. */
export interface PublishTrouble {
  readonly reason: string;
  readonly message: string;
}

interface Place {
  /** Of the bundle that stands there; undefined while none does. */
  readonly sequence: number | undefined;
  readonly trouble: PublishTrouble | undefined;
  /** Whether a new authority waits for it. */
  readonly counts: boolean;
}

/**
 * What is known of where the bundle stands: a new authority is not to sign before all who verify can have it. A place that
 * only its owner can mend does not count: no namespace may hold up the authorities of all others.
 */
export class Distribution {
  readonly #clock: Clock;
  readonly #places = new Map<string, Place>();
  readonly #unpublished = new WatchedValue<PublishTrouble | undefined>(undefined);
  #whole: { readonly sequence: number; readonly at: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Why it is not wherever it should be, of the first place; undefined when it is. */
  get unpublished(): Watched<PublishTrouble | undefined> {
    return this.#unpublished;
  }

  /** For how long the bundle with this sequence, or a later one, has stood wherever it should; milliseconds. */
  distributedForMs(sequence: number): number {
    const whole = this.#whole;
    return whole === undefined || whole.sequence < sequence ? 0 : this.#clock.monotonic() - whole.at;
  }

  /** A place where the bundle is to be; nothing is known of it yet. */
  expect(key: string): void {
    if (!this.#places.has(key))
      this.#places.set(key, { sequence: undefined, trouble: undefined, counts: true });
  }

  /** The bundle stands there. */
  published(key: string, sequence: number): void {
    this.#note(key, { sequence, trouble: undefined, counts: true });
  }

  /** It could not be put there. `counts` when another attempt may do better. */
  failed(key: string, trouble: PublishTrouble, counts: boolean): void {
    this.#note(key, { sequence: this.#places.get(key)?.sequence, trouble, counts });
  }

  /** It is not asked for there any more. */
  forget(key: string): void {
    if (this.#places.delete(key)) this.#settle();
  }

  /** Another process may have led meanwhile. */
  reset(): void {
    this.#places.clear();
    this.#whole = undefined;
    this.#unpublished.set(undefined);
  }

  #note(key: string, place: Place): void {
    this.#places.set(key, place);
    this.#settle();
  }

  #settle(): void {
    let lowest = Number.POSITIVE_INFINITY;
    const troubles: PublishTrouble[] = [];
    for (const { sequence, trouble, counts } of this.#places.values()) {
      if (trouble !== undefined) troubles.push(trouble);
      if (counts) lowest = Math.min(lowest, trouble === undefined ? (sequence ?? -1) : -1);
    }
    // Lower than before: an earlier state was put back, and its bundles begin to spread.
    if (Number.isFinite(lowest) && lowest >= 0 && lowest !== this.#whole?.sequence)
      this.#whole = { sequence: lowest, at: this.#clock.monotonic() };
    const [first] = troubles;
    const more = troubles.length > 1 ? ` (and ${troubles.length - 1} other places)` : '';
    const shown =
      first === undefined ? undefined : { reason: first.reason, message: `${first.message}${more}` };
    if (shown?.message !== this.#unpublished.value?.message) this.#unpublished.set(shown);
  }
}
