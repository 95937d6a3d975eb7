import { WatchedValue } from '../../src/lib/watched.js';
import type { Store, StoreChange, StoredObject } from '../../src/store/store.js';

/** A store that holds what a test puts into it. */
export class MemoryStore implements Store {
  readonly synced: WatchedValue<boolean>;
  /** Every status that was written, in order. */
  readonly written: { readonly kind: string; readonly key: string; readonly status: unknown }[] = [];
  /** Set to make the next writes of statuses fail. */
  failWrites = 0;
  readonly #objects = new Map<string, StoredObject>();
  readonly #statuses = new Map<string, unknown>();
  readonly #subscribers = new Set<(changes: readonly StoreChange[]) => void>();

  constructor(synced = true) {
    this.synced = new WatchedValue(synced);
  }

  /** Adds or changes objects, as one batch. */
  put(...objects: readonly StoredObject[]): void {
    this.#change(
      objects.map((after) => {
        const key = keyOf(after);
        const before = this.get(after.kind, key);
        this.#objects.set(`${after.kind}/${key}`, after);
        return { kind: after.kind, key, ...(before === undefined ? {} : { before }), after };
      }),
    );
  }

  /** Takes objects away, as one batch. */
  remove(...objects: readonly StoredObject[]): void {
    this.#change(
      objects.map((before) => {
        const key = keyOf(before);
        this.#objects.delete(`${before.kind}/${key}`);
        this.#statuses.delete(`${before.kind}/${key}`);
        return { kind: before.kind, key, before };
      }),
    );
  }

  list(kind: string): readonly StoredObject[] {
    return [...this.#objects.values()].filter((object) => object.kind === kind);
  }

  get(kind: string, key: string): StoredObject | undefined {
    return this.#objects.get(`${kind}/${key}`);
  }

  subscribe(onChanges: (changes: readonly StoreChange[]) => void): () => void {
    this.#subscribers.add(onChanges);
    return () => this.#subscribers.delete(onChanges);
  }

  /** How many subscribe now. */
  get subscribers(): number {
    return this.#subscribers.size;
  }

  async writeStatus(kind: string, key: string, status: unknown): Promise<void> {
    if (this.failWrites > 0) {
      this.failWrites -= 1;
      throw new Error('the store is not there');
    }
    this.written.push({ kind, key, status });
    this.#statuses.set(`${kind}/${key}`, status);
  }

  status(kind: string, key: string): unknown {
    return this.#statuses.get(`${kind}/${key}`);
  }

  #change(changes: readonly StoreChange[]): void {
    for (const subscriber of [...this.#subscribers]) subscriber(changes);
  }
}

function keyOf({ metadata }: StoredObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}
