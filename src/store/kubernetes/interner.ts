/** How many values a generation holds: what is common is among them, and what is not costs little. */
const MOST = 8_192;

/**
 * Makes equal values one: pods of a Deployment have the same labels and containers, which are kept once. Values must be
 * JSON, and must never be changed. Remembers those of late, by two generations: when the young one is full the old one is
 * forgotten, and only sharing is lost.
 */
export class Interner {
  #young = new Map<string, unknown>();
  #old = new Map<string, unknown>();

  /** How many values are remembered. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** The first of the values that are equal to this one. */
  share<T>(value: T): T {
    if (value === undefined) return value;
    const key = JSON.stringify(value);
    const young = this.#young.get(key);
    if (young !== undefined) return young as T;
    const known = this.#old.get(key) ?? value;
    if (this.#young.size >= MOST) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, known);
    return known as T;
  }
}
