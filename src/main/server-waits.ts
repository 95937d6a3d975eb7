import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Store } from '../store/store.js';

const WAIT_MS = 250;
/** How often what is waited for is said again. */
const TELL_MS = 30_000;

/** What tells of waiting. */
export interface WaitOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * Waits for a value; a text says what is missing. It is told at first, when it changes, and now and then. Rejects with
 * the signal's reason.
 */
async function waitFor<T>(what: () => T | string, { clock, logger, signal }: WaitOptions): Promise<T> {
  let toldAt = Number.NEGATIVE_INFINITY;
  let told = '';
  for (;;) {
    const value = what();
    if (typeof value !== 'string') return value;
    const age = clock.monotonic() - toldAt;
    if ((value !== told && age > 1_000) || age >= TELL_MS) {
      logger.info(`waiting for ${value}`);
      told = value;
      toldAt = clock.monotonic();
    }
    await sleep(clock, WAIT_MS, signal);
  }
}

/** The kinds that are yet to be read; undefined when all have been. */
export function unread(store: Store & { readonly waitingFor: readonly string[] }): string | undefined {
  return store.synced.value ? undefined : `the API server's ${store.waitingFor.join(', ')}`;
}

/** Waits until everything was read once. */
export async function untilSynced(
  store: Store & { readonly waitingFor: readonly string[] },
  options: WaitOptions,
): Promise<void> {
  await waitFor(() => unread(store) ?? true, options);
}

/** Waits until this installation may serve the cluster: another one may own it. */
export async function untilOwned(
  owner: { readonly problem: { readonly value: string | undefined } },
  options: WaitOptions,
): Promise<void> {
  await waitFor(() => {
    const why = owner.problem.value;
    return why === undefined ? true : `this cluster: ${why}`;
  }, options);
}

/** The trust domain's settings, once there is a TrustDomain that can be used. */
export function untilSettled(store: Store, options: WaitOptions): Promise<TrustDomainSettings> {
  return waitFor(() => {
    try {
      const resource = findTrustDomain(store);
      return resource === undefined ? 'a TrustDomain resource' : trustDomainSettings({ resource });
    } catch (thrown) {
      return `a TrustDomain that can be used: ${SignetError.from(thrown).message}`;
    }
  }, options);
}
