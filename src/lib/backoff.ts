import type { Random } from './random.js';

/** Exponential back-off with jitter. Times in milliseconds. */
export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  /** Growth per attempt; 2 unless said. */
  readonly factor?: number;
  /** Share of the delay that is drawn at random, 0..1; 0.2 unless said. */
  readonly jitter?: number;
}

/** The delay before attempt number `attempt` (0 = the first retry). */
export function backoffDelay(options: BackoffOptions, attempt: number, random: Random): number {
  const factor = options.factor ?? 2;
  const jitter = options.jitter ?? 0.2;
  const base = Math.min(options.maxMs, options.initialMs * factor ** Math.min(attempt, 64));
  return base * (1 - jitter + 2 * jitter * random.fraction());
}

/** Counts attempts: `next()` grows, `reset()` starts over. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: Random;
  #attempt = 0;

  constructor(options: BackoffOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  next(): number {
    return backoffDelay(this.#options, this.#attempt++, this.#random);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
