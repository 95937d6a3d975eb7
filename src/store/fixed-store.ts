import { WatchedValue } from '../lib/watched.js';
import type { Store, StoredObject } from './store.js';

/**
 * A store of these objects, which never change: what somebody read once. Statuses are those that the objects have. Of two
 * objects of one kind and name the later one counts.
 */
export function fixedStore(objects: Iterable<StoredObject>): Store {
  const kinds = new Map<string, Map<string, StoredObject>>();
  for (const object of objects) {
    const table = kinds.get(object.kind) ?? new Map<string, StoredObject>();
    kinds.set(object.kind, table.set(keyOf(object), object));
  }
  const get = (kind: string, key: string): StoredObject | undefined => kinds.get(kind)?.get(key);
  return {
    synced: new WatchedValue(true),
    list: (kind) => [...(kinds.get(kind)?.values() ?? [])],
    get,
    subscribe: () => () => undefined,
    writeStatus: () => Promise.resolve(),
    status: (kind, key) => (get(kind, key) as { readonly status?: unknown } | undefined)?.status,
  };
}

function keyOf({ metadata }: StoredObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}
