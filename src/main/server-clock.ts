import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { WatchedValue, type Watched } from '../lib/watched.js';
import type { Operations } from './operations.js';

/**
 * What is signed with a clock that is off is not valid yet, or too long. Kubernetes takes no certificate of a pod that begins
 * five minutes from its own time, of which the time before now that every SVID begins is a part.
 */
const MOST_MS = 4 * 60_000;
/** From here on it is told, and signed all the same. */
const TELL_MS = 30_000;
const LOOK_MS = 2_000;

/** The clock of this machine beside the API server's. */
export interface ServerClock {
  /** Why nothing may be signed; undefined when it may. */
  problem(): SignetError | undefined;
  /** Whether it may, looked at every other second. */
  readonly good: Watched<boolean>;
  /** Tells of what changes until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

/** Watches how far the clock is off, and shows it in the log, the metrics and at /readyz. */
export function watchClock(
  skew: { readonly aheadMs: number | undefined },
  { health, metrics }: Pick<Operations, 'health' | 'metrics'>,
  clock: Clock,
  logger: Logger,
): ServerClock {
  const off = (): number => Math.abs(skew.aheadMs ?? 0);
  const problem = (): SignetError | undefined =>
    off() < MOST_MS
      ? undefined
      : new SignetError(
          'ClockSkewed',
          `nothing is signed: ${textOf(skew.aheadMs ?? 0)}; set the clocks (NTP)`,
        );
  const good = new WatchedValue(true);
  metrics.readOne('clockSkew', () => (skew.aheadMs === undefined ? undefined : skew.aheadMs / 1000));
  health.ready.add('clock', () => problem()?.message);
  let told = 0;
  const look = (): void => {
    const isGood = problem() === undefined;
    if (isGood !== good.value) good.set(isGood);
    const level = off() >= MOST_MS ? 2 : off() >= TELL_MS ? 1 : 0;
    if (level === told) return;
    told = level;
    const text = textOf(skew.aheadMs ?? 0);
    if (level === 2)
      logger.error(`nothing is signed: ${text}; set the clocks (NTP)`, { code: 'ClockSkewed' });
    else if (level === 1) logger.warn(`${text}; from ${MOST_MS / 60_000} minutes on nothing is signed`);
    else logger.info('the clock agrees with that of the API server again');
  };
  return {
    problem,
    good,
    async run(signal) {
      while (!signal.aborted) {
        look();
        await sleep(clock, LOOK_MS, signal).catch(() => undefined);
      }
    },
  };
}

function textOf(aheadMs: number): string {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  return `the clock of this server is ${seconds} s ${aheadMs < 0 ? 'behind' : 'ahead of'} that of the API server`;
}
