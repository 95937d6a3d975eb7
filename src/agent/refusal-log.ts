import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { TokenBucket } from '../lib/token-bucket.js';

/** A caller that is refused comes again, and again: it is told of once in this time. Milliseconds. */
const AGAIN_MS = 300_000;
const MAX_CALLERS = 1_024;
/** Lines per second in the long run, and at once. */
const PER_SECOND = 5;
const BURST = 50;

/** Tells of callers that get no identity, for `signet logs`: a bounded number of lines, however many call and how often. */
export class RefusalLog {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #bucket: TokenBucket;
  /** When each was told of (monotonic), the latest last. */
  readonly #told = new Map<string, number>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#bucket = new TokenBucket(clock, PER_SECOND, BURST);
  }

  /** `who` asked for an identity, in this call, and has none. */
  refused(who: string, reason: string, requestId?: string): void {
    const now = this.#clock.monotonic();
    const last = this.#told.get(who);
    if (last !== undefined && now - last < AGAIN_MS) return;
    if (!this.#bucket.take()) return;
    this.#told.delete(who);
    this.#told.set(who, now);
    const [oldest] = this.#told.keys();
    if (this.#told.size > MAX_CALLERS && oldest !== undefined) this.#told.delete(oldest);
    this.#logger.info('identity refused', {
      ...{ source: who, reason },
      ...(requestId === undefined ? {} : { requestId }),
    });
  }
}
