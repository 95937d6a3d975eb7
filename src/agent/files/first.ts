import { SignetError } from '../../lib/errors.js';

/** The promise of a first set: kept or broken once, whatever comes later. */
export class First {
  readonly done: Promise<void>;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #resolve: () => void = () => undefined;
  #reject: (error: SignetError) => void = () => undefined;
  #over = false;

  /** @param onAbort called when whoever waits has waited long enough; then {@link fail} is due */
  constructor(signal: AbortSignal, onAbort: () => void) {
    this.#signal = signal;
    this.#onAbort = onAbort;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever does not look at it does not care.
    this.done.catch(() => undefined);
    signal.addEventListener('abort', onAbort, { once: true });
  }

  /** Whether it is decided. */
  get over(): boolean {
    return this.#over;
  }

  /** Whether nobody waits any longer, and it is to be told why there is nothing. */
  get late(): boolean {
    return this.#signal.aborted && !this.#over;
  }

  succeed(): void {
    this.#end();
    this.#resolve();
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(SignetError.from(error));
  }

  #end(): void {
    this.#over = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}
