import { isDeepStrictEqual } from 'node:util';
import { BugError } from '../../lib/errors.js';
import type { AnyObject } from '../../resources/validate-together.js';
import type { StoreChange, StoredObject } from '../store.js';
import { stableUid } from './workloads.js';

/** What one file puts in force: by `Kind key`, the first of each. */
export type Claims = ReadonlyMap<string, StoredObject>;

/** Two files that declare the same object. */
export interface Contest {
  readonly id: string;
  /** The file whose object is in force. */
  readonly winner: string;
  readonly losers: readonly string[];
}

interface Row {
  object: StoredObject;
  /** Files that declare it, in order; one in nearly all cases. Empty for a namespace that is only used. */
  owners: readonly string[];
}

/**
 * The objects in force, put together from the files. Where two files declare the same object the one whose path sorts
 * first wins, so that a folder means the same however it came about.
 */
export class ObjectTable {
  readonly #files = new Map<string, Claims>();
  readonly #kinds = new Map<string, Map<string, Row>>();
  readonly #lists = new Map<string, readonly StoredObject[]>();
  readonly #contested = new Set<string>();
  /** How many objects live in each namespace. */
  readonly #namespaceUse = new Map<string, number>();

  list(kind: string): readonly StoredObject[] {
    let list = this.#lists.get(kind);
    if (list === undefined) {
      list = [...(this.#kinds.get(kind)?.values() ?? [])].map(({ object }) => object);
      this.#lists.set(kind, list);
    }
    return list;
  }

  get(kind: string, key: string): StoredObject | undefined {
    return this.#kinds.get(kind)?.get(key)?.object;
  }

  /** The file whose object is in force. */
  fileOf(id: string): string | undefined {
    return this.#row(id)?.owners[0];
  }

  contests(): Contest[] {
    return [...this.#contested].sort().flatMap((id) => {
      const [winner, ...losers] = this.#row(id)?.owners ?? [];
      return winner === undefined ? [] : [{ id, winner, losers }];
    });
  }

  /** Replaces what a file puts in force; an empty map removes it. Returns what changed for readers. */
  apply(path: string, claims: Claims): StoreChange[] {
    const before = this.#files.get(path);
    if (claims.size === 0) this.#files.delete(path);
    else this.#files.set(path, claims);
    const changes = new Map<string, StoreChange>();
    const touched = new Set<string>();
    for (const [id] of before ?? []) {
      if (!claims.has(id)) this.#settle(id, this.#ownersWithout(id, path), changes, touched);
    }
    for (const [id, object] of claims) {
      if (before?.get(id) === object) continue;
      this.#settle(id, this.#ownersWith(id, path), changes, touched);
    }
    for (const namespace of touched) this.#settleNamespace(namespace, changes);
    // Namespaces first: what lives in one may depend on its labels.
    return [...changes.values()].sort((a, b) => rank(a) - rank(b));
  }

  #row(id: string): Row | undefined {
    const [kind, key] = splitId(id);
    return this.#kinds.get(kind)?.get(key);
  }

  #ownersWith(id: string, path: string): readonly string[] {
    const owners = this.#row(id)?.owners ?? [];
    if (owners.length === 0) return [path];
    return owners.includes(path) ? owners : [...owners, path].sort(comparePaths);
  }

  #ownersWithout(id: string, path: string): readonly string[] {
    return (this.#row(id)?.owners ?? []).filter((owner) => owner !== path);
  }

  /** Brings the row of an object in line with the files that declare it. */
  #settle(
    id: string,
    owners: readonly string[],
    changes: Map<string, StoreChange>,
    touched: Set<string>,
  ): void {
    if (owners.length > 1) this.#contested.add(id);
    else this.#contested.delete(id);
    const [kind, key] = splitId(id);
    const winner = owners[0];
    if (winner === undefined) {
      this.#remove(kind, key, changes, touched);
      return;
    }
    const claimed = this.#files.get(winner)?.get(id);
    if (claimed === undefined) throw new BugError(`file ${winner} owns ${id} without declaring it`);
    this.#put(kind, key, { object: claimed, owners }, changes, touched);
  }

  #put(kind: string, key: string, row: Row, changes: Map<string, StoreChange>, touched: Set<string>): void {
    let rows = this.#kinds.get(kind);
    if (rows === undefined) {
      rows = new Map<string, Row>();
      this.#kinds.set(kind, rows);
    }
    const present = rows.get(key);
    if (present === undefined) {
      rows.set(key, row);
      this.#use(row.object, 1, touched);
      this.#note(changes, kind, key, undefined, row.object);
      return;
    }
    present.owners = row.owners;
    const before = present.object;
    const { generation } = before.metadata;
    if (isDeepStrictEqual(withGeneration(row.object, generation), before)) return;
    present.object = withGeneration(row.object, generation + 1);
    this.#note(changes, kind, key, before, present.object);
  }

  #remove(kind: string, key: string, changes: Map<string, StoreChange>, touched: Set<string>): void {
    const rows = this.#kinds.get(kind);
    const row = rows?.get(key);
    if (rows === undefined || row === undefined) return;
    rows.delete(key);
    this.#use(row.object, -1, touched);
    this.#note(changes, kind, key, row.object, undefined);
  }

  #note(
    changes: Map<string, StoreChange>,
    kind: string,
    key: string,
    before: StoredObject | undefined,
    after: StoredObject | undefined,
  ): void {
    this.#lists.delete(kind);
    const id = `${kind} ${key}`;
    const first = changes.get(id);
    const original = first === undefined ? before : first.before;
    // Gone and back within one batch is no change.
    if (original === undefined && after === undefined) changes.delete(id);
    else {
      changes.set(id, {
        kind,
        key,
        ...(original === undefined ? {} : { before: original }),
        ...(after === undefined ? {} : { after }),
      });
    }
  }

  #use(object: StoredObject, by: 1 | -1, touched: Set<string>): void {
    const namespace = object.kind === 'Namespace' ? object.metadata.name : object.metadata.namespace;
    if (namespace === undefined) return;
    touched.add(namespace);
    if (object.kind === 'Namespace') return;
    const uses = (this.#namespaceUse.get(namespace) ?? 0) + by;
    if (uses === 0) this.#namespaceUse.delete(namespace);
    else this.#namespaceUse.set(namespace, uses);
  }

  /** A namespace that is used exists, declared or not. */
  #settleNamespace(name: string, changes: Map<string, StoreChange>): void {
    const used = this.#namespaceUse.has(name);
    const row = this.#kinds.get('Namespace')?.get(name);
    const unheard = new Set<string>();
    if (used && row === undefined) {
      this.#put('Namespace', name, { object: impliedNamespace(name), owners: [] }, changes, unheard);
    } else if (!used && row?.owners.length === 0) {
      this.#remove('Namespace', name, changes, unheard);
    }
  }
}

function impliedNamespace(name: string): StoredObject {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name,
      uid: stableUid('Namespace', '', name),
      generation: 1,
      labels: { 'kubernetes.io/metadata.name': name },
    },
  };
}

function withGeneration(object: StoredObject, generation: number): StoredObject {
  return object.metadata.generation === generation
    ? object
    : { ...object, metadata: { ...object.metadata, generation } };
}

/** The id of an object in claims: `Kind key`. */
export function idOf(object: AnyObject): string {
  const { name, namespace } = object.metadata;
  return namespace === undefined ? `${object.kind} ${name}` : `${object.kind} ${namespace}/${name}`;
}

function splitId(id: string): [string, string] {
  const space = id.indexOf(' ');
  return [id.slice(0, space), id.slice(space + 1)];
}

/** Code-unit order: the same on every machine and in every locale. */
export function comparePaths(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function rank(change: StoreChange): number {
  return change.kind === 'Namespace' ? 0 : 1;
}
