import type { Clock } from '../../lib/clock.js';

/** An answer that was longer under way says too little; milliseconds. */
const LONGEST_TRIP_MS = 2_000;
/** The Date header has whole seconds, cut off. */
const RESOLUTION_MS = 999;

/**
 * How far the clock of this machine is from the API server's, as the Date header of its answers tells (RFC 9110 §6.6.1).
 * Each is good to about a second, which is enough: what matters are minutes.
 */
export class ClockSkew {
  readonly #clock: Clock;
  #aheadMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** By how much ours is ahead, in milliseconds; negative when it is behind, 0 within a second; undefined before any answer. */
  get aheadMs(): number | undefined {
    return this.#aheadMs;
  }

  /** To be called when a request is sent; what it returns, with the Date header of the answer when that begins. */
  sent(): (date: string | undefined) => void {
    const wall = this.#clock.now();
    const began = this.#clock.monotonic();
    return (date) => {
      const server = Date.parse(date ?? '');
      const trip = this.#clock.monotonic() - began;
      if (Number.isNaN(server) || trip > LONGEST_TRIP_MS) return;
      // Somewhere between the two moments, ours was what the server's was.
      const least = wall - (server + RESOLUTION_MS);
      const most = this.#clock.now() - server;
      // Ours was set meanwhile.
      if (most < least) return;
      this.#aheadMs = least <= 0 && most >= 0 ? 0 : (least + most) / 2;
    };
  }
}
