import type { PolicyStore } from '../agent/access/policy-store.js';
import type { Agent } from '../agent/agent.js';
import { sleep, type Clock } from '../lib/clock.js';

/** How long is waited for what cannot be had. */
const WAIT_MS = 10_000;
const POLL_MS = 5;

/**
 * Resolves when every registration has its SVID or was refused one, or after a bounded wait: what is served from then on
 * is served at once. Rejects with the signal's reason.
 */
export function untilSigned(
  agent: Pick<Agent, 'ready' | 'stats'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  return until(
    () => {
      const { svids, failing, registrations } = agent.stats();
      return agent.ready.value && svids + failing >= registrations;
    },
    clock,
    signal,
  );
}

/** The same for the policies: nothing is allowed before they have come. */
export function untilFollowed(
  policies: Pick<PolicyStore, 'synced'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  return until(() => policies.synced.value, clock, signal);
}

async function until(done: () => boolean, clock: Clock, signal: AbortSignal): Promise<void> {
  const end = clock.monotonic() + WAIT_MS;
  while (!done() && clock.monotonic() < end) await sleep(clock, POLL_MS, signal);
}
