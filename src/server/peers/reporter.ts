import { Backoff } from '../../lib/backoff.js';
import { sleep, type Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Watched } from '../../lib/watched.js';
import { addressOfReplica } from './leader-address.js';

/** How another replica is told. */
export interface PeerLink<T> {
  /** Rejects when it could not be told. */
  report(items: readonly T[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** What the leader is told of: items by key, each of which only grows truer. */
export interface Reported<T> {
  keys(): Iterable<string>;
  get(key: string): T | undefined;
  /** Calls `onChange` with the key of each item that is new or has changed. Returns what ends the watch. */
  watch(onChange: (key: string) => void): () => void;
}

/** What a reporter is made of. */
export interface ReporterOptions<T> {
  /** For the log: `SVIDs`. */
  readonly what: string;
  readonly items: Reported<T>;
  /** Identity of the leader in elections, if one is known. */
  readonly leader: Watched<string | undefined>;
  /** Our own identity. */
  readonly self: string;
  /** Nothing is sent before the first report. */
  readonly connect: (address: string) => PeerLink<T>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Items are told of together: statuses follow them at a distance. Milliseconds. */
const DELAY_MS = 5_000;
/** In one report: about 80 bytes each (300 where names are long), and a server takes 1 MiB. */
const MOST_IN_REPORT = 3_000;
const RETRY = { initialMs: 1_000, maxMs: 10_000 };

/**
 * Tells the leader of what is known here: all when it begins to lead, then what comes. Runs until the signal is aborted. What
 * could not be told is told again; nothing queues up but keys.
 */
export async function reportToLeader<T>(options: ReporterOptions<T>, signal: AbortSignal): Promise<void> {
  const changes = new Changes(options.items);
  const ends = [
    options.items.watch((key) => changes.note(key)),
    options.leader.watch(() => changes.leaderChanged()),
  ];
  try {
    while (!signal.aborted) {
      const leader = options.leader.value;
      const address = leader === undefined || leader === options.self ? undefined : addressOfReplica(leader);
      if (leader === undefined || address === undefined) await changes.untilLeaderChanges(signal);
      else await reportTo(address, () => options.leader.value === leader, changes, options, signal);
    }
  } finally {
    for (const end of ends) end();
  }
}

async function reportTo<T>(
  address: string,
  leads: () => boolean,
  changes: Changes<T>,
  { what, connect, clock, random, logger }: ReporterOptions<T>,
  signal: AbortSignal,
): Promise<void> {
  const link = connect(address);
  const backoff = new Backoff(RETRY, random);
  let told = false;
  changes.all();
  try {
    while (leads() && !signal.aborted) {
      const batch = changes.take(MOST_IN_REPORT);
      if (batch.size === 0) {
        await changes.untilSome(signal);
        // Also when the leader changes: the next one is told by itself.
        if (leads()) await sleep(clock, DELAY_MS, signal).catch(() => undefined);
        continue;
      }
      try {
        await link.report([...batch.values()], signal);
        backoff.reset();
        told = false;
      } catch (thrown) {
        changes.putBack(batch);
        const { code, message } = SignetError.from(thrown);
        if (!told && !signal.aborted)
          logger.info(`the leader cannot be told of ${what}; it is tried again`, {
            address,
            code,
            reason: message,
          });
        told = true;
        await sleep(clock, backoff.next(), signal).catch(() => undefined);
      }
    }
  } finally {
    link.close();
  }
}

/** Items that the leader has yet to hear of. */
class Changes<T> {
  readonly #items: Reported<T>;
  readonly #keys = new Set<string>();
  #wake: (() => void) | undefined;
  /** Nobody is told now, so nothing is noted: the next leader is told of everything. */
  #paused = true;

  constructor(items: Reported<T>) {
    this.#items = items;
  }

  note(key: string): void {
    if (this.#paused) return;
    this.#keys.add(key);
    this.#wake?.();
  }

  leaderChanged(): void {
    this.#wake?.();
  }

  all(): void {
    this.#paused = false;
    for (const key of this.#items.keys()) this.#keys.add(key);
  }

  take(most: number): ReadonlyMap<string, T> {
    const taken = new Map<string, T>();
    for (const key of this.#keys) {
      if (taken.size >= most) break;
      this.#keys.delete(key);
      const item = this.#items.get(key);
      if (item !== undefined) taken.set(key, item);
    }
    return taken;
  }

  putBack(taken: ReadonlyMap<string, T>): void {
    for (const key of taken.keys()) this.#keys.add(key);
  }

  async untilSome(signal: AbortSignal): Promise<void> {
    if (this.#keys.size === 0) await this.#woken(signal);
  }

  async untilLeaderChanges(signal: AbortSignal): Promise<void> {
    this.#paused = true;
    this.#keys.clear();
    await this.#woken(signal);
  }

  #woken(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake = undefined;
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wake = wake;
      signal.addEventListener('abort', wake, { once: true });
      if (signal.aborted) wake();
    });
  }
}
