interface Entry<T> {
  readonly value: T;
  readonly weight: number;
}

/** Bounds of a {@link TokenCache}. */
export interface CacheBounds {
  readonly entries: number;
  /** The sum of the weights of all entries. */
  readonly weight: number;
}

/** Keeps the values that were used last, within bounds of number and weight. */
export class TokenCache<T> {
  readonly #bounds: CacheBounds;
  /** In the order of last use, oldest first. */
  readonly #entries = new Map<string, Entry<T>>();
  #weight = 0;

  constructor(bounds: CacheBounds) {
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#entries.size;
  }

  get weight(): number {
    return this.#weight;
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: T, weight: number): void {
    this.delete(key);
    this.#entries.set(key, { value, weight });
    this.#weight += weight;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#bounds.entries && this.#weight <= this.#bounds.weight) return;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#weight -= entry.weight;
  }

  /** Keeps only the values for which `keep` is true. */
  sweep(keep: (value: T) => boolean): void {
    for (const [key, { value }] of this.#entries) if (!keep(value)) this.delete(key);
  }
}
