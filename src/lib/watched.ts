/**
 * A value that changes, and those who watch it. A watcher that is slow sees only the newest value: nothing queues up,
 * so memory is bounded whatever a watcher does.
 */
export interface Watched<T> {
  readonly value: T;
  /** Called synchronously on each change, not for the present value. Returns a function that ends the watch. */
  watch(onChange: (value: T) => void): () => void;
}

/** True while both are; told of when it changes, however often one of them does. */
export function bothOf(one: Watched<boolean>, other: Watched<boolean>): Watched<boolean> {
  const both = (): boolean => one.value && other.value;
  return {
    get value() {
      return both();
    },
    watch(onChange) {
      let told = both();
      const look = (): void => {
        const now = both();
        if (now === told) return;
        told = now;
        onChange(now);
      };
      const ends = [one.watch(look), other.watch(look)];
      return () => ends.forEach((end) => end());
    },
  };
}

/** What is made of another value, as JSON has it; told of when it is other than before. */
export function derived<T, U>(from: Watched<T>, make: (value: T) => U): Watched<U> {
  return {
    get value() {
      return make(from.value);
    },
    watch(onChange) {
      let told = JSON.stringify(make(from.value));
      return from.watch((value) => {
        const made = make(value);
        const text = JSON.stringify(made);
        if (text === told) return;
        told = text;
        onChange(made);
      });
    },
  };
}

/** A Watched that its owner can set. */
export class WatchedValue<T> implements Watched<T> {
  #value: T;
  readonly #watchers = new Set<(value: T) => void>();

  constructor(initial: T) {
    this.#value = initial;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    for (const watcher of [...this.#watchers]) if (this.#watchers.has(watcher)) watcher(value);
  }

  watch(onChange: (value: T) => void): () => void {
    // A wrapper of its own, so the same function may watch twice.
    const watcher = (value: T): void => onChange(value);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** How many watch now; for tests of leaks and for metrics. */
  get watchers(): number {
    return this.#watchers.size;
  }
}
