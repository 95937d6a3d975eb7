import type { Clock, Timer } from '../../../lib/clock.js';
import { WatchedValue, type Watched } from '../../../lib/watched.js';
import type { Revocation } from '../../../resources/revocation.js';
import type { Store } from '../../../store/store.js';
import { isInForce, Revocations } from './revocations.js';

const KIND = 'Revocation';
/** The wall clock is looked at again at least this often, since it may jump. */
const LONGEST_LOOK_MS = 30_000;

/** The revocations that hold now, as the store has them and the clock says. */
export interface RevocationBook {
  readonly inForce: Watched<Revocations>;
  /** Changes with {@link inForce}, when serial numbers do. */
  readonly serials: Watched<readonly string[]>;
  close(): void;
}

/** Follows the store from now on. The store must have been read: what is not known yet cannot be refused. */
export function openRevocationBook(store: Store, clock: Clock): RevocationBook {
  const inForce = new WatchedValue(new Revocations([]));
  const serials = new WatchedValue<readonly string[]>([]);
  let known = '';
  let timer: Timer | undefined;

  const look = (): void => {
    timer?.cancel();
    const now = clock.now();
    const all = (store.list(KIND) as readonly Revocation[]).filter((one) => isInForce(one, now));
    const sorted = all.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const ends = sorted
      .map(({ spec }) => Date.parse(spec.until ?? '') - now)
      .filter((left) => !Number.isNaN(left));
    timer = ends.length === 0 ? undefined : clock.after(Math.min(LONGEST_LOOK_MS, ...ends), look);
    const text = JSON.stringify(sorted.map(({ metadata, spec }) => [metadata.uid, spec]));
    if (text === known) return;
    known = text;
    const next = new Revocations(sorted);
    if (next.serials.join() !== serials.value.join()) serials.set(next.serials);
    inForce.set(next);
  };
  const unsubscribe = store.subscribe((changes) => {
    if (changes.some(({ kind }) => kind === KIND)) look();
  });
  look();
  return {
    inForce,
    serials,
    close() {
      unsubscribe();
      timer?.cancel();
    },
  };
}
