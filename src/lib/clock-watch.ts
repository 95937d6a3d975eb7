import { sleep, type Clock, type Timer } from './clock.js';

/** Less than this between two looks, in milliseconds, is drift, or a process that had to wait between reading two clocks. */
const SET_MS = 2_000;
/** How soon it is noticed, in milliseconds. */
const LOOK_MS = 1_000;

/**
 * Notices when the wall clock is set: by hand, by NTP that was late, or because the machine slept. What failed because of the
 * time may be possible then, and what was put off because it failed need not wait any longer.
 */
export class ClockWatch {
  readonly #clock: Clock;
  #aheadMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#aheadMs = aheadOf(clock);
  }

  /** Whether it was set since this was last asked, by whatever method. */
  wasSet(): boolean {
    const before = this.#aheadMs;
    this.#aheadMs = aheadOf(this.#clock);
    return Math.abs(this.#aheadMs - before) >= SET_MS;
  }

  /** As {@link Clock.after}, but earlier when the wall clock is set meanwhile: about a second after that. */
  after(delayMs: number, fire: (wasSet: boolean) => void): Timer {
    const due = this.#clock.monotonic() + delayMs;
    let timer: Timer;
    const arm = (): void => {
      const left = due - this.#clock.monotonic();
      timer = this.#clock.after(Math.min(left, LOOK_MS), () => {
        const wasSet = this.wasSet();
        if (wasSet || this.#clock.monotonic() >= due) fire(wasSet);
        else arm();
      });
    };
    arm();
    return { cancel: () => timer.cancel() };
  }

  /** Resolves after `delayMs`, or when the wall clock is set: whether it was. Rejects with the signal's reason. */
  async sleep(delayMs: number, signal?: AbortSignal): Promise<boolean> {
    const due = this.#clock.monotonic() + delayMs;
    for (;;) {
      const left = due - this.#clock.monotonic();
      await sleep(this.#clock, Math.min(Math.max(0, left), LOOK_MS), signal);
      if (this.wasSet()) return true;
      if (this.#clock.monotonic() >= due) return false;
    }
  }

  /** Calls `onSet` each time, until the signal is aborted; resolves then. */
  async follow(onSet: () => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted)
      try {
        if (await this.sleep(LOOK_MS, signal)) onSet();
      } catch (error) {
        if (!signal.aborted) throw error;
      }
  }
}

function aheadOf(clock: Clock): number {
  return clock.now() - clock.monotonic();
}
