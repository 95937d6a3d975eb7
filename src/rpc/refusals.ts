import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';

/** How often refusals are logged for one listener, in milliseconds: whoever floods it shall not flood the log. */
const REFUSAL_LOG_MS = 10_000;

/** Logs the connections that one listener refuses: the first at once, then at most one line in ten seconds, with their number. */
export class Refusals {
  readonly #clock: Clock;
  readonly #logger: Logger;
  #refused = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** `open` connections are there now. */
  add(reason: string, open: number): void {
    this.#refused++;
    const now = this.#clock.monotonic();
    if (now - this.#loggedAt < REFUSAL_LOG_MS) return;
    this.#loggedAt = now;
    this.#logger.warn('connections refused', { reason, refused: this.#refused, open });
    this.#refused = 0;
  }
}
