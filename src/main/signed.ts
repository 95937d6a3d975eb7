import type { Agent } from '../agent/agent.js';
import { sleep, type Clock } from '../lib/clock.js';

/** How long SVIDs are waited for that cannot be signed. */
const WAIT_MS = 10_000;
const POLL_MS = 5;

/**
 * Resolves when every registration has its SVID or was refused one, or after a bounded wait: what is served from then on
 * is served at once. Rejects with the signal's reason.
 */
export async function untilSigned(
  agent: Pick<Agent, 'ready' | 'stats'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const until = clock.monotonic() + WAIT_MS;
  for (;;) {
    const { svids, failing, registrations } = agent.stats();
    if (agent.ready.value && svids + failing >= registrations) return;
    if (clock.monotonic() >= until) return;
    await sleep(clock, POLL_MS, signal);
  }
}
