import type { SourceWorkload } from '../../access/policy/model.js';
import type { Registration, RegistrationSubject } from '../../identity/registration/registration.js';
import { SignetError } from '../../lib/errors.js';
import { type Watched, WatchedValue } from '../../lib/watched.js';
import type { HeldPolicyItem, PolicyItem, PolicyUpdate } from '../../rpc/node-api.js';
import { readItem, type HeldObject } from './held-object.js';

/** One change of one object. */
interface HeldChange {
  readonly kind: string;
  readonly key: string;
  readonly before?: HeldObject;
  readonly after?: HeldObject;
}

/** Numbers for health and metrics. */
export interface PolicyStoreStats {
  readonly items: number;
  /** Of their JSON. */
  readonly characters: number;
  /** Since when the server is away, and what it says is not known; undefined while it is followed. Milliseconds since the epoch. */
  readonly staleSince: number | undefined;
}

/** How much is held at most. */
export interface PolicyStoreLimits {
  readonly items: number;
  readonly characters: number;
}

const DEFAULT_LIMITS: PolicyStoreLimits = { items: 200_000, characters: 256 * 1024 * 1024 };

/** Who holds which ID, as far as it is known on this node. */
type Holding = Pick<Registration, 'subject' | 'identity' | 'spiffeId'>;

/**
 * What this node was sent to decide by: policies, the pods of the node, and what these policies ask of others. To those who
 * compile and decide it is a store to read, and the registrations beside it. It keeps what it has while the server is away.
 */
export class PolicyStore {
  readonly #nodeName: string;
  readonly #limits: PolicyStoreLimits;
  readonly #kinds = new Map<string, Map<string, HeldObject>>();
  readonly #revisions = new Map<string, { readonly revision: string; readonly characters: number }>();
  readonly #subscribers = new Set<(changes: readonly HeldChange[]) => void>();
  readonly #synced = new WatchedValue(false);
  #sources: ReadonlyMap<string, SourceWorkload> = new Map();
  #characters = 0;
  #staleSince: number | undefined;

  constructor(nodeName: string, limits: Partial<PolicyStoreLimits> = {}) {
    this.#nodeName = nodeName;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** True once the whole has come; nothing may be decided before. */
  get synced(): Watched<boolean> {
    return this.#synced;
  }

  /** Identities are known by name alone: there are others, so a list of them would be wrong. */
  list(kind: string): readonly HeldObject[] {
    return IDENTITIES.includes(kind) ? [] : [...(this.#kinds.get(kind)?.values() ?? [])];
  }

  get(kind: string, key: string): HeldObject | undefined {
    return this.#kinds.get(kind)?.get(key);
  }

  subscribe(onChanges: (changes: readonly HeldChange[]) => void): () => void {
    const subscriber = (changes: readonly HeldChange[]): void => onChanges(changes);
    this.#subscribers.add(subscriber);
    return () => void this.#subscribers.delete(subscriber);
  }

  /** The IDs of the pods of this node, and those that identities give out which policies name. */
  *all(): Iterable<Holding> {
    for (const { identities = [], metadata } of this.list('Pod')) {
      const { namespace = '', name, uid } = metadata;
      const subject: RegistrationSubject = { kind: 'pod', namespace, name, uid };
      for (const { identity, spiffeId } of identities) yield { subject, identity, spiffeId };
    }
    for (const kind of IDENTITIES) {
      for (const { identities = [] } of this.#kinds.get(kind)?.values() ?? [])
        for (const { identity, spiffeId } of identities) yield { subject: SOMEBODY, identity, spiffeId };
    }
  }

  /** What is known now of whoever holds an ID; it stays what it is when more is known later. */
  sources(): (uri: string) => SourceWorkload | undefined {
    const sources = this.#sources;
    return (uri) => sources.get(uri);
  }

  /** What need not be sent again. */
  held(): readonly HeldPolicyItem[] {
    // Before the first whole, what is there may be a part.
    if (!this.#synced.value) return [];
    return [...this.#revisions].map(([key, { revision }]) => ({ key, revision }));
  }

  stats(): PolicyStoreStats {
    return {
      items: this.#revisions.size,
      characters: this.#characters,
      staleSince: this.#synced.value ? this.#staleSince : undefined,
    };
  }

  /** The server is followed, or is lost since now. */
  follows(lostAt: number | undefined): void {
    this.#staleSince = lostAt === undefined ? undefined : (this.#staleSince ?? lostAt);
  }

  /**
   * Takes an update in: all of it or nothing.
   *
   * @throws SignetError `PoliciesInvalid`
   */
  take({ snapshot, upserts, removed }: PolicyUpdate): void {
    if (!snapshot && !this.#synced.value)
      throw invalid('the server did not begin with the whole state of this node');
    const items = new Map(upserts.map((item) => [item.key, item]));
    const gone = new Set(snapshot ? this.#revisions.keys() : removed);
    for (const key of items.keys()) gone.delete(key);
    this.#checkSize(items, gone);
    const changed = [...items.values()].filter(
      ({ key, revision }) => this.#revisions.get(key)?.revision !== revision,
    );
    const read = changed.map((item) => ({ item, object: readItem(item, this.#nodeName) }));
    const changes = [
      ...[...gone].flatMap((key) => this.#remove(key)),
      ...read.map(({ item, object }) => this.#put(item, object)),
    ];
    if (changes.some(({ kind }) => kind === 'Source')) this.#readSources();
    this.#synced.set(true);
    if (changes.length > 0) for (const subscriber of [...this.#subscribers]) subscriber(changes);
  }

  #checkSize(items: ReadonlyMap<string, PolicyItem>, gone: ReadonlySet<string>): void {
    let { characters } = this.stats();
    let size = this.#revisions.size;
    for (const key of gone) {
      const known = this.#revisions.get(key);
      if (known === undefined) continue;
      size -= 1;
      characters -= known.characters;
    }
    for (const { key, json } of items.values()) {
      const known = this.#revisions.get(key);
      if (known === undefined) size += 1;
      characters += json.length - (known?.characters ?? 0);
    }
    if (size > this.#limits.items || characters > this.#limits.characters)
      throw invalid(
        `the server sent ${size} items of ${characters} characters; ${this.#limits.items} and ${this.#limits.characters} are held at most`,
      );
  }

  #remove(whole: string): readonly HeldChange[] {
    const known = this.#revisions.get(whole);
    if (known === undefined) return [];
    const { kind, key } = nameOf(whole);
    const before = this.get(kind, key);
    this.#revisions.delete(whole);
    this.#characters -= known.characters;
    this.#kinds.get(kind)?.delete(key);
    return before === undefined ? [] : [{ kind, key, before }];
  }

  #put({ key: whole, revision, json }: PolicyItem, after: HeldObject): HeldChange {
    const { kind, key } = nameOf(whole);
    const before = this.get(kind, key);
    this.#characters += json.length - (this.#revisions.get(whole)?.characters ?? 0);
    this.#revisions.set(whole, { revision, characters: json.length });
    const table = this.#kinds.get(kind) ?? new Map<string, HeldObject>();
    this.#kinds.set(kind, table.set(key, after));
    return { kind, key, ...(before === undefined ? {} : { before }), after };
  }

  #readSources(): void {
    this.#sources = new Map(
      this.list('Source').flatMap(({ metadata, source }) =>
        source === undefined ? [] : [[metadata.name, source]],
      ),
    );
  }
}

const IDENTITIES: readonly string[] = ['WorkloadIdentity', 'ClusterWorkloadIdentity'];
/** Who holds an ID that an identity gives out elsewhere: it does not matter, so nobody is told apart. */
const SOMEBODY: RegistrationSubject = { kind: 'pod', namespace: '', name: '', uid: '' };

function nameOf(whole: string): { readonly kind: string; readonly key: string } {
  const slash = whole.indexOf('/');
  return { kind: whole.slice(0, slash), key: whole.slice(slash + 1) };
}

function invalid(message: string): SignetError {
  return new SignetError('PoliciesInvalid', message);
}
