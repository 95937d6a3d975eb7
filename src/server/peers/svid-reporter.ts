import { Backoff } from '../../lib/backoff.js';
import { sleep, type Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Watched } from '../../lib/watched.js';
import type { IssuedSvid } from '../issued-svids.js';
import type { SvidLedger } from '../svid-ledger.js';
import { addressOfReplica } from './leader-address.js';

/** How another replica is told. */
export interface PeerLink {
  /** Rejects when it could not be told. */
  report(svids: readonly IssuedSvid[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** What a reporter is made of. */
export interface SvidReporterOptions {
  readonly ledger: SvidLedger;
  /** Identity of the leader in elections, if one is known. */
  readonly leader: Watched<string | undefined>;
  /** Our own identity. */
  readonly self: string;
  /** Nothing is sent before the first report. */
  readonly connect: (address: string) => PeerLink;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** SVIDs are told of together: statuses follow them at a distance. Milliseconds. */
const DELAY_MS = 5_000;
/** In one report: about 80 bytes each, and a server takes 1 MiB. */
const MOST_IN_REPORT = 5_000;
const RETRY = { initialMs: 1_000, maxMs: 10_000 };

/**
 * Tells the leader of the X.509-SVIDs that are known here: all when it begins to lead, then those that come. Runs until the
 * signal is aborted. What could not be told is told again; nothing queues up but the IDs of registrations.
 */
export async function reportSvids(options: SvidReporterOptions, signal: AbortSignal): Promise<void> {
  const changes = new Changes(options.ledger);
  const ends = [
    options.ledger.watch((id) => changes.note(id)),
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

async function reportTo(
  address: string,
  leads: () => boolean,
  changes: Changes,
  { connect, clock, random, logger }: SvidReporterOptions,
  signal: AbortSignal,
): Promise<void> {
  const link = connect(address);
  const backoff = new Backoff(RETRY, random);
  let told = false;
  changes.all();
  try {
    while (leads() && !signal.aborted) {
      const batch = changes.take(MOST_IN_REPORT);
      if (batch.length === 0) {
        await changes.untilSome(signal);
        // Also when the leader changes: the next one is told by itself.
        if (leads()) await sleep(clock, DELAY_MS, signal).catch(() => undefined);
        continue;
      }
      try {
        await link.report(batch, signal);
        backoff.reset();
        told = false;
      } catch (thrown) {
        changes.putBack(batch);
        const { code, message } = SignetError.from(thrown);
        if (!told && !signal.aborted)
          logger.info('the leader cannot be told of SVIDs; it is tried again', {
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

/** Registrations whose SVID the leader has yet to hear of. */
class Changes {
  readonly #ledger: SvidLedger;
  readonly #ids = new Set<string>();
  #wake: (() => void) | undefined;
  /** Nobody is told now, so nothing is noted: the next leader is told of everything. */
  #paused = true;

  constructor(ledger: SvidLedger) {
    this.#ledger = ledger;
  }

  note(id: string): void {
    if (this.#paused) return;
    this.#ids.add(id);
    this.#wake?.();
  }

  leaderChanged(): void {
    this.#wake?.();
  }

  all(): void {
    this.#paused = false;
    for (const { registrationId } of this.#ledger.all()) this.#ids.add(registrationId);
  }

  take(most: number): readonly IssuedSvid[] {
    const taken: IssuedSvid[] = [];
    for (const id of this.#ids) {
      if (taken.length >= most) break;
      this.#ids.delete(id);
      const svid = this.#ledger.get(id);
      if (svid !== undefined) taken.push(svid);
    }
    return taken;
  }

  putBack(svids: readonly IssuedSvid[]): void {
    for (const { registrationId } of svids) this.#ids.add(registrationId);
  }

  async untilSome(signal: AbortSignal): Promise<void> {
    if (this.#ids.size === 0) await this.#woken(signal);
  }

  async untilLeaderChanges(signal: AbortSignal): Promise<void> {
    this.#paused = true;
    this.#ids.clear();
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
