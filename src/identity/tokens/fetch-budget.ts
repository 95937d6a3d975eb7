import type { Clock } from '../../lib/clock.js';

/** How many fetches tokens may cause within a time, over all issuers: tokens of strangers cost nothing to make. */
export class FetchBudget {
  readonly coolDownMs: number;
  readonly #most: number;
  readonly #clock: Clock;
  /** When the fetches of the last cool-down began; never more than `most`. */
  #taken: number[] = [];

  constructor(clock: Clock, coolDownMs: number, most: number) {
    this.#clock = clock;
    this.coolDownMs = coolDownMs;
    this.#most = most;
  }

  get available(): boolean {
    const now = this.#clock.monotonic();
    this.#taken = this.#taken.filter((at) => now - at < this.coolDownMs);
    return this.#taken.length < this.#most;
  }

  take(): void {
    this.#taken.push(this.#clock.monotonic());
  }
}
