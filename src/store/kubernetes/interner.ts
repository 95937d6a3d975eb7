/** How many values are remembered; beyond that it begins anew, and only sharing is lost. */
const MOST = 50_000;

/**
 * Makes equal values one: pods of a Deployment have the same labels and containers, which are kept once. Values must be
 * JSON, and must never be changed.
 */
export class Interner {
  readonly #known = new Map<string, unknown>();

  /** The first of the values that are equal to this one. */
  share<T>(value: T): T {
    if (value === undefined) return value;
    const key = JSON.stringify(value);
    const known = this.#known.get(key);
    if (known !== undefined) return known as T;
    if (this.#known.size >= MOST) this.#known.clear();
    this.#known.set(key, value);
    return value;
  }
}
