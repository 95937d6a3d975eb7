import { StatusError } from '../../rpc/service.js';

interface Running {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

/** Operations that hold names (a volume's ID, a path): of two that share a name, never both run. */
export class Exclusive {
  readonly #running = new Map<string, Running>();

  /** How many names are held. */
  get size(): number {
    return this.#running.size;
  }

  holds(name: string): boolean {
    return this.#running.has(name);
  }

  /**
   * Runs it alone. Rejects with StatusError Aborted, as the CSI specification has it, when a name is held; with the
   * signal's reason when it failed after that was aborted.
   */
  async run<T>(
    names: readonly string[],
    signal: AbortSignal,
    act: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (names.some((name) => this.#running.has(name)))
      throw new StatusError('Aborted', 'an operation on this volume is under way: try again');
    const abort = new AbortController();
    const done = Promise.withResolvers<undefined>();
    for (const name of names) this.#running.set(name, { abort, done: done.promise });
    const until = AbortSignal.any([signal, abort.signal]);
    try {
      return await act(until);
    } catch (error) {
      // What was ended on purpose is told by its reason, whatever it failed with then.
      throw until.aborted ? until.reason : error;
    } finally {
      for (const name of names) this.#running.delete(name);
      done.resolve(undefined);
    }
  }

  /** Tells whatever holds the names to end, and waits until it has. */
  async end(names: readonly string[], reason: StatusError): Promise<void> {
    const ended = names.flatMap((name) => this.#running.get(name) ?? []);
    for (const { abort } of ended) abort.abort(reason);
    await Promise.all(ended.map(({ done }) => done));
  }

  /** The same for all. */
  endAll(reason: StatusError): Promise<void> {
    return this.end([...this.#running.keys()], reason);
  }
}
