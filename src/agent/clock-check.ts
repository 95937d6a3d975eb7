import { BACKDATE_MS } from '../identity/pki/backdate.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';

/** From here on it is told. Milliseconds. */
const TELL_MS = 60_000;

/**
 * Compares the clock of this node with that of the server, which shows in the SVIDs that it signs. Programs of the node, too,
 * judge SVIDs by the node's clock: the agent can tell of it, and cannot mend it.
 */
export class ClockCheck {
  readonly #clock: Clock;
  readonly #logger: Logger;
  #told = false;
  #aheadMs: number | undefined;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** By how much the node's clock was ahead when the last SVID came, to about a second; milliseconds. */
  get aheadMs(): number | undefined {
    return this.#aheadMs;
  }

  /** An SVID came that was signed this moment. */
  signed({ notBefore }: { readonly notBefore: number }): void {
    const aheadMs = this.#clock.now() - (notBefore + BACKDATE_MS);
    this.#aheadMs = aheadMs;
    const isOff = Math.abs(aheadMs) >= TELL_MS;
    if (isOff === this.#told) return;
    this.#told = isOff;
    if (!isOff) this.#logger.info('the clock of this node agrees with that of the server again');
    else
      this.#logger.warn(
        `the clock of this node is ${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs < 0 ? 'behind' : 'ahead of'} that of the server: its programs take good SVIDs for expired or not valid yet; set the clocks (NTP)`,
        { code: 'ClockSkewed' },
      );
  }
}
