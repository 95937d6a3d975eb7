import { sleep, type Clock } from '../lib/clock.js';
import type { OpenSocket } from './open-sockets.js';

/** What another agent may take over from this one. */
export interface RelievedParts {
  /** Sockets of the agent itself. */
  readonly sockets: readonly Pick<OpenSocket, 'isCurrent'>[];
  /** Resolves when those of the CSI driver, and all volumes with them, are another's. */
  readonly driverEnded: Promise<unknown> | undefined;
  readonly clock: Clock;
  /** How long it is waited for. Milliseconds. */
  readonly graceMs: number;
}

const LOOK_MS = 100;

/**
 * Resolves when another agent serves all that this one served, or after the grace: until then whoever asks here still gets
 * an answer. True when it was relieved.
 */
export async function untilRelieved({
  sockets,
  driverEnded,
  clock,
  graceMs,
}: RelievedParts): Promise<boolean> {
  const stop = new AbortController();
  const relieved = async (): Promise<boolean> => {
    await driverEnded;
    while (!stop.signal.aborted) {
      const current = await Promise.all(sockets.map((socket) => socket.isCurrent()));
      if (!current.includes(true)) return true;
      await sleep(clock, LOOK_MS, stop.signal).catch(() => undefined);
    }
    return false;
  };
  const late = sleep(clock, graceMs, stop.signal).then(
    () => false,
    () => false,
  );
  try {
    return await Promise.race([relieved(), late]);
  } finally {
    stop.abort();
  }
}
