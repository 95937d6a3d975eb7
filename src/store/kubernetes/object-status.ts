import type { StoredObject } from '../store.js';

/** The status that the object has, if any. */
export function statusOf(object: StoredObject): unknown {
  return (object as { readonly status?: unknown }).status;
}
