import { isDeepStrictEqual } from 'node:util';
import type { StoreChange } from '../store.js';
import { statusOf } from './object-status.js';
import { isLater } from './resource-version.js';
import type { ApiObject } from './watch.js';

/** A status that we have written and the watch has not shown yet, as the API server has it. */
interface Written {
  readonly uid: string;
  readonly version: string;
  readonly status: unknown;
}

/** A status that the API server keeps otherwise than it was given: an older CRD drops fields, or others add some. */
interface Changed {
  readonly uid: string;
  readonly given: unknown;
  readonly kept: unknown;
}

/** The objects of one kind, as a reflector has shown them. */
export class KindTable {
  readonly kind: string;
  readonly #ownStatus: boolean;
  readonly #objects = new Map<string, ApiObject>();
  readonly #written = new Map<string, Written>();
  readonly #changed = new Map<string, Changed>();
  #list: readonly ApiObject[] | undefined;

  /** `ownStatus`: nobody but us writes the status, so a change of it alone is no news. */
  constructor(kind: string, ownStatus: boolean) {
    this.kind = kind;
    this.#ownStatus = ownStatus;
  }

  list(): readonly ApiObject[] {
    this.#list ??= [...this.#objects.values()];
    return this.#list;
  }

  get(key: string): ApiObject | undefined {
    return this.#objects.get(key);
  }

  get size(): number {
    return this.#objects.size;
  }

  /** The status last written, or else last seen. */
  status(key: string): unknown {
    const object = this.#objects.get(key);
    if (object === undefined) return undefined;
    const written = this.#written.get(key);
    return written?.uid === object.metadata.uid ? written.status : statusOf(object);
  }

  /** The version that the answer to {@link status} is of. */
  version(key: string): string | undefined {
    const object = this.#objects.get(key);
    const written = this.#written.get(key);
    return written !== undefined && written.uid === object?.metadata.uid
      ? written.version
      : object?.metadata.resourceVersion;
  }

  /** These are all there are. */
  replace(objects: readonly ApiObject[]): StoreChange[] {
    const present = new Set(objects.map(keyOf));
    const gone = [...this.#objects.keys()].filter((key) => !present.has(key));
    return [...gone.flatMap((key) => this.#remove(key)), ...objects.flatMap((object) => this.put(object))];
  }

  put(object: ApiObject): StoreChange[] {
    const key = keyOf(object);
    const before = this.#objects.get(key);
    const written = this.#written.get(key);
    if (written !== undefined && !isLater(written.version, object.metadata.resourceVersion))
      this.#written.delete(key);
    // After a resumed watch or a new list, most are as they were.
    if (before?.metadata.resourceVersion === object.metadata.resourceVersion) return [];
    this.#objects.set(key, object);
    this.#list = undefined;
    if (before === undefined) return [{ kind: this.kind, key, after: object }];
    if (before.metadata.uid === object.metadata.uid) {
      return this.#saysTheSame(before, object) ? [] : [{ kind: this.kind, key, before, after: object }];
    }
    // Another object of the same name: readers must see the end of the former one.
    return [
      { kind: this.kind, key, before },
      { kind: this.kind, key, after: object },
    ];
  }

  remove(object: ApiObject): StoreChange[] {
    return this.#remove(keyOf(object));
  }

  /** Whether writing this status would change nothing. */
  hasStatus(key: string, status: unknown): boolean {
    const present = this.status(key);
    if (isDeepStrictEqual(status, present)) return true;
    const changed = this.#changed.get(key);
    return (
      changed !== undefined &&
      changed.uid === this.#objects.get(key)?.metadata.uid &&
      isDeepStrictEqual(status, changed.given) &&
      isDeepStrictEqual(present, changed.kept)
    );
  }

  /** The API server has taken this status and answers with the object. The watch may have shown it, and later ones. */
  wrote(key: string, given: unknown, answer: ApiObject): void {
    const { uid, resourceVersion: version } = answer.metadata;
    const object = this.#objects.get(key);
    if (object?.metadata.uid !== uid) return;
    const kept = statusOf(answer);
    if (isDeepStrictEqual(given, kept)) this.#changed.delete(key);
    else this.#changed.set(key, { uid, given, kept });
    const seen = this.#written.get(key)?.version ?? object.metadata.resourceVersion;
    if (isLater(version, seen) && isLater(version, object.metadata.resourceVersion))
      this.#written.set(key, { uid, version, status: kept });
  }

  /** Whether readers would read the same in both. */
  #saysTheSame(before: ApiObject, after: ApiObject): boolean {
    const whatIsRead = (object: ApiObject): object => ({
      ...object,
      metadata: { ...object.metadata, resourceVersion: '' },
      ...(this.#ownStatus ? { status: undefined } : {}),
    });
    return isDeepStrictEqual(whatIsRead(before), whatIsRead(after));
  }

  #remove(key: string): StoreChange[] {
    const before = this.#objects.get(key);
    if (before === undefined) return [];
    this.#objects.delete(key);
    this.#written.delete(key);
    this.#changed.delete(key);
    this.#list = undefined;
    return [{ kind: this.kind, key, before }];
  }
}

/** `namespace/name`, or the name alone where there is no namespace. */
export function keyOf({ metadata }: Pick<ApiObject, 'metadata'>): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}
