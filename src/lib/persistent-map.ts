/** How many entries a bucket is meant for. */
const BUCKET = 16;
/** How many times as full buckets may get before there are more of them. */
const CROWDED = 4;

/**
 * A map by text that is never changed: `with` answers another one, and both hold from then on. A change copies one bucket
 * and the list of buckets, so that it costs next to nothing beside a map of many thousand entries.
 */
export class PersistentMap<V> {
  readonly #buckets: readonly ReadonlyMap<string, V>[];
  /** How many entries there are. */
  readonly size: number;

  private constructor(buckets: readonly ReadonlyMap<string, V>[], size: number) {
    this.#buckets = buckets;
    this.size = size;
  }

  static from<V>(entries: ReadonlyMap<string, V>): PersistentMap<V> {
    let count = 1;
    while (count * BUCKET < entries.size) count *= 2;
    const buckets = Array.from({ length: count }, () => new Map<string, V>());
    for (const [key, value] of entries) buckets[place(key, count)]?.set(key, value);
    return new PersistentMap(buckets, entries.size);
  }

  get(key: string): V | undefined {
    return this.#buckets[place(key, this.#buckets.length)]?.get(key);
  }

  /** The same but for one key; without it where `value` is undefined. */
  with(key: string, value: V | undefined): PersistentMap<V> {
    const count = this.#buckets.length;
    const at = place(key, count);
    const bucket = new Map(this.#buckets[at]);
    const before = bucket.size;
    if (value === undefined) bucket.delete(key);
    else bucket.set(key, value);
    const buckets = this.#buckets.with(at, bucket);
    const size = this.size + bucket.size - before;
    if (size > count * BUCKET * CROWDED)
      return PersistentMap.from(new Map(buckets.flatMap((one) => [...one])));
    return new PersistentMap(buckets, size);
  }
}

/** Which of `count` buckets a key is in; `count` is a power of two (FNV-1a). */
function place(key: string, count: number): number {
  if (count === 1) return 0;
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index++) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  }
  return (hash ^ (hash >>> 15)) & (count - 1);
}
