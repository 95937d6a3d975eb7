import { isEdited, ownerOf, withoutManagedFields } from './applied-content.js';
import { keyOf } from './kind-table.js';
import { isLater } from './resource-version.js';
import type { ApiObject } from './watch.js';

/** An object of a set, as last seen. */
export interface MirroredObject {
  readonly object: ApiObject;
  readonly owner: string | undefined;
  /** Somebody else has written into it. */
  readonly edited: boolean;
  /** We have written it, and the watch has not shown it yet. */
  readonly unseen: boolean;
}

/** A change of the mirror. */
export interface MirrorChange {
  readonly key: string;
  readonly before: MirroredObject | undefined;
  readonly after: MirroredObject | undefined;
}

/**
 * The objects of a set of one type: as the watch shows them, and as our own writes were answered, whichever is newer.
 * What the watch shows late never covers a later write of ours.
 */
export class AppliedMirror {
  synced = false;
  readonly #set: string;
  readonly #manager: string;
  readonly #objects = new Map<string, MirroredObject>();
  /** Deleted by us, and maybe still shown by what comes late: uid by key. */
  readonly #deleted = new Map<string, string>();

  constructor(set: string, manager: string) {
    this.#set = set;
    this.#manager = manager;
  }

  get(key: string): MirroredObject | undefined {
    return this.#objects.get(key);
  }

  entries(): IterableIterator<[string, MirroredObject]> {
    return this.#objects.entries();
  }

  /** The watch has listed these; they are all, but for what was written a moment ago. */
  replace(objects: readonly ApiObject[]): MirrorChange[] {
    this.synced = true;
    const present = new Map(objects.map((object) => [keyOf(object), object]));
    for (const [key, uid] of this.#deleted)
      if (present.get(key)?.metadata.uid !== uid) this.#deleted.delete(key);
    const gone = [...this.#objects.keys()].filter((key) => !present.has(key));
    return [
      ...gone.flatMap((key) => this.#drop(key)),
      // An older version than the watch has shown is that of an API server restored from a backup.
      ...objects.flatMap((object) => this.#take(object, false, this.get(keyOf(object))?.unseen !== true)),
    ];
  }

  /** The watch shows it. */
  put(object: ApiObject): MirrorChange[] {
    return this.#take(object, false, false);
  }

  /** The answer to a write of ours. */
  wrote(object: ApiObject): void {
    this.#take(object, true, false);
  }

  #take(object: ApiObject, unseen: boolean, anyVersion: boolean): MirrorChange[] {
    const key = keyOf(object);
    const { uid, resourceVersion } = object.metadata;
    if (this.#deleted.get(key) === uid) return [];
    const before = this.#objects.get(key);
    const known = before?.object.metadata;
    const same = known?.uid === uid && known.resourceVersion === resourceVersion;
    if (known?.uid === uid && !same && !anyVersion && !isLater(resourceVersion, known.resourceVersion))
      return [];
    const after = {
      object: withoutManagedFields(object),
      owner: ownerOf(object, this.#set),
      edited: isEdited(object, this.#manager),
      unseen: unseen && !same,
    };
    this.#objects.set(key, after);
    return same ? [] : [{ key, before, after }];
  }

  /** The watch says that it is gone, or that it is no longer of the set. */
  remove(object: ApiObject): MirrorChange[] {
    const key = keyOf(object);
    const { uid, resourceVersion } = object.metadata;
    if (this.#deleted.get(key) === uid) this.#deleted.delete(key);
    const known = this.#objects.get(key)?.object.metadata;
    // We may have made it anew meanwhile, or taken it back.
    if (known?.uid !== uid || isLater(known.resourceVersion, resourceVersion)) return [];
    return this.#drop(key);
  }

  /** We have deleted it. */
  deleted(key: string, uid: string): void {
    // The watch may have said so before the answer came.
    if (this.#objects.get(key)?.object.metadata.uid !== uid) return;
    this.#deleted.set(key, uid);
    this.#objects.delete(key);
  }

  /** Nothing can be said any more: the kind is served no longer. */
  clear(): MirrorChange[] {
    this.synced = false;
    this.#deleted.clear();
    return [...this.#objects.keys()].flatMap((key) => this.#drop(key));
  }

  #drop(key: string): MirrorChange[] {
    const before = this.#objects.get(key);
    this.#objects.delete(key);
    return before === undefined ? [] : [{ key, before, after: undefined }];
  }
}
