import type { IdentityResource } from '../identity/registration/identity-rules.js';
import type { RegistrationDelta } from '../identity/registration/outcome.js';
import type { RegistrationBounds, RegistrationIndex } from '../identity/registration/registration-index.js';
import type { IdentityRef, ProcessFacts, Registration } from '../identity/registration/registration.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import type { Store, StoreChange, StoredObject } from '../store/store.js';
import { podFacts } from '../cluster/pod-facts.js';
import { IdentityStatusWriter } from './identity-status-writer.js';
import { IssuedSvids } from './issued-svids.js';
import { Ledger, type SvidLedger } from './svid-ledger.js';

/** What changed for one node. Removals come before changes: an ID in both went and came again. */
export interface NodeChange {
  readonly changed: readonly Registration[];
  /** IDs. */
  readonly removed: readonly string[];
}

/** The registrations, for those who serve nodes. */
export interface RegistrationView {
  /** False until the store is read; the registrations are incomplete until then. */
  readonly ready: Watched<boolean>;
  get(id: string): Registration | undefined;
  forNode(nodeName: string): readonly Registration[];
  /** Calls `onChange` once per batch of store changes that touches the node. Returns what ends the watch. */
  watch(nodeName: string, onChange: (change: NodeChange) => void): () => void;
  explainPod(uid: string, nodeName?: string, container?: string): string;
  explainProcess(facts: ProcessFacts): string;
}

/** What the controller is made of. */
export interface RegistrationControllerOptions {
  readonly store: Store;
  /** Empty; the controller alone changes it. */
  readonly index: RegistrationIndex;
  /** What the index was made with, as it changes; it never does unless given. */
  readonly bounds?: Watched<RegistrationBounds>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Statuses are written only while this is true; always unless given. */
  readonly leading?: Watched<boolean>;
  /** See IdentityStatusWriterOptions. */
  readonly settleMs?: number;
}

/** Keeps the registrations in step with the store, and the statuses of identities in step with both. */
export interface RegistrationController {
  readonly registrations: RegistrationView;
  /** For the statuses of identities: what X.509-SVIDs there are, as known here. */
  readonly svids: SvidLedger;
  /** Calls `onDelta` with each change, of any node, once everything is read. Returns what ends that. */
  onDelta(onDelta: (delta: RegistrationDelta) => void): () => void;
  /** Ends it; resolves when no status is being written any more. */
  close(): Promise<void>;
}

/** Starts at once: reads the store as soon as it is synced, and follows it from there. */
export function createRegistrationController(options: RegistrationControllerOptions): RegistrationController {
  const feed = new Feed(options);
  return {
    registrations: feed,
    svids: feed.ledger,
    onDelta: (onDelta) => feed.onDelta(onDelta),
    close: () => feed.close(),
  };
}

type Watcher = (change: NodeChange) => void;
/** By node, then by ID; undefined for what went. Processes are under the empty node. */
type NodeChanges = Map<string, Map<string, Registration | undefined>>;

class Feed implements RegistrationView {
  readonly ready = new WatchedValue(false);
  readonly ledger: Ledger;
  readonly #store: Store;
  readonly #index: RegistrationIndex;
  readonly #logger: Logger;
  readonly #statuses: IdentityStatusWriter;
  readonly #watchers = new Map<string, Set<Watcher>>();
  readonly #deltaWatchers = new Set<(delta: RegistrationDelta) => void>();
  readonly #ends: (() => void)[] = [];

  constructor({ store, index, bounds, clock, logger, leading, settleMs }: RegistrationControllerOptions) {
    this.#store = store;
    this.#index = index;
    this.#logger = logger;
    const issued = new IssuedSvids();
    this.#statuses = new IdentityStatusWriter({
      ...{ store, clock, logger, issued },
      ...(leading === undefined ? {} : { leading }),
      ...(settleMs === undefined ? {} : { settleMs }),
      outcome: (ref) => index.outcome(ref),
      all: () => this.#identities(),
    });
    this.ledger = new Ledger(index, issued, this.#statuses, clock);
    this.#ends.push(
      store.subscribe((changes) => {
        // What comes before the first full read is part of it.
        if (this.ready.value) this.#apply(changes);
      }),
    );
    if (bounds !== undefined) this.#ends.push(bounds.watch((now) => this.#bound(now)));
    if (store.synced.value) this.#load();
    else {
      this.#ends.push(
        store.synced.watch((synced) => {
          if (synced && !this.ready.value) this.#load();
        }),
      );
    }
  }

  get(id: string): Registration | undefined {
    return this.#index.get(id);
  }

  forNode(nodeName: string): readonly Registration[] {
    return this.#index.forNode(nodeName);
  }

  explainPod(uid: string, nodeName?: string, container?: string): string {
    return this.#index.explainPod(uid, nodeName, container);
  }

  explainProcess(facts: ProcessFacts): string {
    return this.#index.explainProcess(facts);
  }

  watch(nodeName: string, onChange: Watcher): () => void {
    // A wrapper of its own, so the same function may watch twice.
    const watcher: Watcher = (change) => onChange(change);
    const watchers = this.#watchers.get(nodeName) ?? new Set();
    this.#watchers.set(nodeName, watchers.add(watcher));
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0 && this.#watchers.get(nodeName) === watchers) this.#watchers.delete(nodeName);
    };
  }

  onDelta(onDelta: (delta: RegistrationDelta) => void): () => void {
    const watcher = (delta: RegistrationDelta): void => onDelta(delta);
    this.#deltaWatchers.add(watcher);
    return () => void this.#deltaWatchers.delete(watcher);
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0)) end();
    await this.#statuses.close();
  }

  /** Selectors before pods, so that each pod is computed once. */
  #load(): void {
    const changes = KINDS.flatMap((kind) =>
      this.#store.list(kind).map((after): StoreChange => ({ kind, key: keyOf(after), after })),
    );
    for (const change of changes) this.#take(this.#one(change));
    this.#logger.info('registrations computed', { objects: changes.length });
    this.ready.set(true);
  }

  /** Identities are read anew: what they leave unsaid is otherwise now. */
  #bound(bounds: RegistrationBounds): void {
    this.#index.bound(bounds);
    if (!this.ready.value) return;
    this.#apply(
      IDENTITIES.flatMap((kind) =>
        this.#store.list(kind).map((after): StoreChange => ({ kind, key: keyOf(after), after })),
      ),
    );
  }

  #apply(changes: readonly StoreChange[]): void {
    const nodes: NodeChanges = new Map();
    for (const change of changes) if (KINDS.includes(change.kind)) this.#take(this.#one(change), nodes);
    this.#notify(nodes);
  }

  #take(deltas: readonly RegistrationDelta[], nodes?: NodeChanges): void {
    for (const delta of deltas) {
      this.ledger.removed(delta);
      this.#statuses.changed(delta.outcomes);
      if (nodes === undefined) continue;
      for (const { nodeName, id } of delta.removed) changesOf(nodes, nodeName).set(id, undefined);
      for (const registration of delta.changed)
        changesOf(nodes, registration.nodeName).set(registration.id, registration);
      for (const watcher of this.#deltaWatchers) watcher(delta);
    }
  }

  #one(change: StoreChange): readonly RegistrationDelta[] {
    const { before, after } = change;
    try {
      // Another object of the same name: the old one must go first, whatever the new one is.
      const replaced =
        before !== undefined && after !== undefined && before.metadata.uid !== after.metadata.uid;
      const gone = replaced || after === undefined ? [this.#remove(change.kind, before)] : [];
      return after === undefined ? gone : [...gone, this.#put(change.kind, after)];
    } catch (thrown) {
      // One object that cannot be read must not stop the others, nor keep what it gave before.
      this.#logger.error('object could not be read for registrations', {
        kind: change.kind,
        key: change.key,
        error: SignetError.from(thrown).message,
      });
      return [this.#remove(change.kind, after ?? before)];
    }
  }

  #put(kind: string, object: StoredObject): RegistrationDelta {
    if (kind === 'Namespace')
      return this.#index.applyNamespace(object.metadata.name, object.metadata.labels ?? {});
    if (kind !== 'Pod') return this.#index.applyIdentity(object as unknown as IdentityResource);
    const facts = podFacts(object);
    return facts === undefined ? this.#index.removePod(object.metadata.uid) : this.#index.applyPod(facts);
  }

  #remove(kind: string, object: StoredObject | undefined): RegistrationDelta {
    if (object === undefined) return { changed: [], removed: [], outcomes: [] };
    if (kind === 'Namespace') return this.#index.removeNamespace(object.metadata.name);
    if (kind === 'Pod') return this.#index.removePod(object.metadata.uid);
    const ref = refOf(kind, object);
    this.#statuses.forget(ref);
    this.ledger.forget(ref);
    return this.#index.removeIdentity(ref);
  }

  *#identities(): Iterable<IdentityRef> {
    for (const kind of IDENTITIES) for (const object of this.#store.list(kind)) yield refOf(kind, object);
  }

  #notify(nodes: NodeChanges): void {
    const everywhere = nodes.get('');
    for (const [nodeName, watchers] of [...this.#watchers]) {
      const own = nodeName === '' ? undefined : nodes.get(nodeName);
      if (own === undefined && everywhere === undefined) continue;
      const changed: Registration[] = [];
      const removed: string[] = [];
      for (const [id, registration] of [...(everywhere ?? []), ...(own ?? [])])
        if (registration === undefined) removed.push(id);
        else changed.push(registration);
      for (const watcher of [...watchers]) if (watchers.has(watcher)) watcher({ changed, removed });
    }
  }
}

/** In the order of the first read. */
const IDENTITIES: readonly string[] = ['WorkloadIdentity', 'ClusterWorkloadIdentity'];
const KINDS: readonly string[] = ['Namespace', ...IDENTITIES, 'Pod'];

function keyOf({ metadata }: StoredObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

function refOf(kind: string, { metadata }: StoredObject): IdentityRef {
  return kind === 'ClusterWorkloadIdentity'
    ? { kind, namespace: '', name: metadata.name }
    : { kind: 'WorkloadIdentity', namespace: metadata.namespace ?? '', name: metadata.name };
}

function changesOf(nodes: NodeChanges, nodeName: string): Map<string, Registration | undefined> {
  const known = nodes.get(nodeName);
  if (known !== undefined) return known;
  const fresh = new Map<string, Registration | undefined>();
  nodes.set(nodeName, fresh);
  return fresh;
}
