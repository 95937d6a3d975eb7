import type { Inventory } from '../access/mesh/inventory.js';
import type { LabelRequirement } from '../access/policy/model.js';
import type { IdentityName, PrincipalResolver } from '../access/policy/principals.js';
import { labelsMatch } from '../access/policy/selector.js';
import type { Registration } from '../identity/registration/registration.js';
import type { StoreChange, StoreReader } from '../store/store.js';
import {
  inventoryOf,
  namespaceOf,
  readSurroundings,
  WorkloadTable,
  type AlikePods,
  type Surroundings,
} from './inventory.js';

/** A registration, as far as access is about it. */
type Holding = Pick<Registration, 'subject' | 'identity' | 'spiffeId' | 'containers'>;

/** What a pod holds. */
interface Held {
  readonly uris: Set<string>;
  /** Whether one of them is for the pod as a whole: else some of its containers may hold none. */
  ofWhole: boolean;
}

/** The registrations of a store, as far as access is about them. */
export interface RegistrationSource {
  all(): Iterable<Holding>;
  /**
   * Those of one pod, of a source that knows them by pod and has, besides, those of processes alone. Without it all are read
   * anew whenever a pod or an identity changes.
   */
  forPod?(uid: string): Iterable<Holding>;
}

/** Which object of a store is other than before. */
export type ChangedObject = Pick<StoreChange, 'kind' | 'key'>;

/** One ID that an identity gives out, and to how many. */
interface GivenId {
  readonly identity: string;
  readonly uri: string;
  holders: number;
}

/** What a pod counts for. */
interface KnownPod {
  readonly namespace: string;
  readonly workload: AlikePods | undefined;
  readonly ids: readonly GivenId[];
}

const PROCESSES = 'ClusterWorkloadIdentity';
/** What says something of an inventory's surroundings: all that may be in a namespace that nobody wrote down. */
const SAID: ReadonlySet<string> = new Set([
  'Namespace',
  'Service',
  'Gateway',
  'ServiceAccount',
  'WorkloadIdentity',
  'AccessPolicy',
]);

/**
 * What policies are about: workloads, namespaces, and which IDs identities give out. A pod's change costs that pod, and that of
 * a WorkloadIdentity or a Namespace the pods of one namespace; what is asked is answered by what was last read.
 */
export class World {
  readonly resolver: PrincipalResolver;
  readonly #store: StoreReader;
  readonly #trustDomain: string;
  readonly #registrations: RegistrationSource;
  readonly #workloads = new WorkloadTable();
  /** By key, `namespace/name`. */
  readonly #pods = new Map<string, KnownPod>();
  readonly #podsOf = new Map<string, Set<string>>();
  /** By identity, then by ID. */
  readonly #given = new Map<string, Map<string, GivenId>>();
  #processes: readonly GivenId[] = [];
  #surroundings: Surroundings;
  #inventory: Inventory;

  constructor(store: StoreReader, trustDomain: string, registrations: RegistrationSource) {
    this.#store = store;
    this.#trustDomain = trustDomain;
    this.#registrations = registrations;
    this.#readAll();
    this.#surroundings = this.#readSurroundings();
    this.#inventory = inventoryOf(trustDomain, this.#surroundings, this.#workloads);
    this.resolver = {
      trustDomain,
      identity: (ref) => this.#idsOf(ref),
      namespaces: (requirements: readonly LabelRequirement[]) =>
        this.#inventory.namespaces
          .filter(({ labels }) => labelsMatch(requirements, labels))
          .map(({ name }) => name),
    };
  }

  /** Stays the same object while all that is said is the same: pods come and go oftener than workloads do. */
  get inventory(): Inventory {
    return this.#inventory;
  }

  /** Reads what a change is about. */
  update(changes: readonly ChangedObject[]): void {
    const before = { workloads: this.#workloads.version, namespaces: this.#podNamespaces() };
    const readsAll = this.#registrations.forPod === undefined;
    if (readsAll) this.#readAll();
    else this.#readPods(changes);
    const hasOtherWorkloads = this.#workloads.version !== before.workloads;
    const isSaid = changes.some(({ kind }) => SAID.has(kind)) || this.#podNamespaces() !== before.namespaces;
    if (!hasOtherWorkloads && !isSaid) return;
    const surroundings = isSaid || readsAll ? this.#readSurroundings() : this.#surroundings;
    if (!hasOtherWorkloads && isSame(surroundings, this.#surroundings)) return;
    const inventory = inventoryOf(this.#trustDomain, surroundings, this.#workloads);
    // Where all was read, it was not seen what has changed.
    if (readsAll && isSame(inventory, this.#inventory)) return;
    this.#surroundings = surroundings;
    this.#inventory = inventory;
  }

  #readSurroundings(): Surroundings {
    return readSurroundings(this.#store, this.#podsOf.keys());
  }

  #podNamespaces(): string {
    return [...this.#podsOf.keys()].join();
  }

  #idsOf(ref: IdentityName): readonly string[] | undefined {
    const key = ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
    if (this.#store.get(ref.kind, key) === undefined) return undefined;
    return [...(this.#given.get(identityKey(ref))?.keys() ?? [])].sort();
  }

  #readAll(): void {
    this.#workloads.clear();
    this.#pods.clear();
    this.#podsOf.clear();
    this.#given.clear();
    const byPod = this.#registrations.forPod === undefined ? this.#readByPod() : undefined;
    if (byPod === undefined) this.#readProcesses();
    for (const { metadata } of this.#store.list('Pod')) {
      const namespace = metadata.namespace;
      const key = namespace === undefined ? metadata.name : `${namespace}/${metadata.name}`;
      this.#add(key, byPod);
    }
  }

  /** Reads the registrations of a source that does not know them by pod: the IDs are counted, and given back by pod. */
  #readByPod(): ReadonlyMap<string, Held> {
    const byPod = new Map<string, Held>();
    for (const holding of this.#registrations.all()) {
      this.#give(holding);
      const { subject } = holding;
      if (subject.kind !== 'pod') continue;
      const held = byPod.get(subject.uid) ?? holdsNothing();
      byPod.set(subject.uid, held);
      hold(held, holding);
    }
    return byPod;
  }

  #readPods(changes: readonly ChangedObject[]): void {
    const keys = new Set<string>();
    const addAll = (some: Iterable<string>): void => {
      for (const key of some) keys.add(key);
    };
    for (const { kind, key } of changes) {
      if (kind === 'Pod') keys.add(key);
      else if (kind === 'WorkloadIdentity') addAll(this.#podsOf.get(key.split('/', 1)[0] ?? '') ?? []);
      else if (kind === 'Namespace') addAll(this.#podsOf.get(key) ?? []);
      else if (kind === PROCESSES) addAll(this.#pods.keys());
    }
    if (changes.some(({ kind }) => kind === PROCESSES)) this.#readProcesses();
    const before = Array.from(keys, (key) => [key, this.#pods.get(key)] as const);
    // Those that come first: what they have in common with those that go never goes away between.
    for (const key of keys) this.#add(key);
    for (const [key, pod] of before) if (pod !== undefined) this.#forget(key, pod);
  }

  #readProcesses(): void {
    const before = this.#processes;
    const now: GivenId[] = [];
    for (const holding of this.#registrations.all())
      if (holding.subject.kind === 'process') now.push(this.#give(holding));
    this.#processes = now;
    for (const given of before) this.#takeBack(given);
  }

  #add(key: string, byPod?: ReadonlyMap<string, Held>): void {
    const object = this.#store.get('Pod', key);
    if (object === undefined) return;
    const { uid } = object.metadata;
    const holdings = byPod === undefined ? [...(this.#registrations.forPod?.(uid) ?? [])] : [];
    const ids = holdings.map((one) => this.#give(one));
    const held = byPod?.get(uid) ?? holdsNothing();
    for (const holding of holdings) hold(held, holding);
    const namespace = namespaceOf(object);
    const pods = this.#podsOf.get(namespace) ?? new Set<string>();
    this.#podsOf.set(namespace, pods.add(key));
    this.#pods.set(key, {
      namespace,
      workload: this.#workloads.add(object, [...held.uris], !held.ofWhole),
      ids,
    });
  }

  /** Takes back what a pod was counted for; the pod may be known otherwise by now. */
  #forget(key: string, pod: KnownPod): void {
    if (pod.workload !== undefined) this.#workloads.remove(pod.workload);
    for (const given of pod.ids) this.#takeBack(given);
    if (this.#pods.get(key) !== pod) return;
    this.#pods.delete(key);
    const pods = this.#podsOf.get(pod.namespace);
    pods?.delete(key);
    if (pods?.size === 0) this.#podsOf.delete(pod.namespace);
  }

  #give({ identity, spiffeId: { uri } }: Holding): GivenId {
    const key = identityKey(identity);
    const ids = this.#given.get(key) ?? new Map<string, GivenId>();
    this.#given.set(key, ids);
    const given = ids.get(uri) ?? { identity: key, uri, holders: 0 };
    ids.set(uri, given);
    given.holders += 1;
    return given;
  }

  #takeBack(given: GivenId): void {
    given.holders -= 1;
    if (given.holders > 0) return;
    const ids = this.#given.get(given.identity);
    ids?.delete(given.uri);
    if (ids?.size === 0) this.#given.delete(given.identity);
  }
}

const holdsNothing = (): Held => ({ uris: new Set(), ofWhole: false });

function hold(held: Held, { spiffeId, containers }: Holding): void {
  held.uris.add(spiffeId.uri);
  held.ofWhole ||= containers === undefined;
}

const identityKey = ({ kind, namespace, name }: IdentityName): string => `${kind} ${namespace}/${name}`;

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
