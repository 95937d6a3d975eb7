import type { Watched } from '../lib/watched.js';

/** An object of any kind, as Kubernetes writes it. */
export interface StoredObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

/** One change of one object. `before` and `after` are never both undefined. */
export interface StoreChange<T extends StoredObject = StoredObject> {
  readonly kind: string;
  /** `namespace/name`, or `name` for cluster-scoped objects. */
  readonly key: string;
  readonly before?: T;
  readonly after?: T;
}

/**
 * The port through which everything reads, watches and writes resources. Implemented by a folder of YAML and by the
 * Kubernetes API. Reads are from memory and immediate; objects are values, never changed in place.
 */
export interface Store {
  /** True once the first full read is done; until then lists are incomplete. */
  readonly synced: Watched<boolean>;
  /** All objects of a kind, e.g. `list('WorkloadIdentity')`. */
  list(kind: string): readonly StoredObject[];
  get(kind: string, key: string): StoredObject | undefined;
  /**
   * Calls `onChanges` with each batch of changes that belong together (one save of a file, one watch event), after
   * they are visible to list and get. Returns a function that ends the subscription.
   */
  subscribe(onChanges: (changes: readonly StoreChange[]) => void): () => void;
  /**
   * Writes the status of an object; a no-op when it is equal to what is there. `asSeen`: only over what has been seen of
   * the object here; rejects with the code {@link STATUS_CONFLICT} where others have changed it since.
   */
  writeStatus(kind: string, key: string, status: unknown, how?: { readonly asSeen?: boolean }): Promise<void>;
  /** The status last written, if any. */
  status(kind: string, key: string): unknown;
}

/** Others have changed the object since it was last seen: what they wrote is to be looked at first. */
export const STATUS_CONFLICT = 'StatusConflict';

/** What is enough for those who only read and watch. */
export type StoreReader = Pick<Store, 'list' | 'get' | 'subscribe'>;
