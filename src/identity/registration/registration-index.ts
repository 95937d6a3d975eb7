import { labelSelectorMatches } from '../../resources/selector.js';
import type { KeyTypeName } from '../../resources/identity.js';
import type { LabelSelector } from '../../resources/meta.js';
import { parseTrustDomain } from '../spiffe/id.js';
import { Candidates } from './candidates.js';
import { explainContainer, explainPod, explainProcess } from './explain.js';
import {
  compareIdentities,
  type Grant,
  grantPod,
  isRegistration,
  POD_NOT_BOUND,
  PROCESS_ID_PREFIX,
  type ReadyIdentity,
} from './grants.js';
import { type IdentityBounds, type IdentityResource, readIdentity } from './identity-rules.js';
import { DeltaBuilder } from './index-delta.js';
import { KnownGrants } from './known-grants.js';
import { Namer } from './names.js';
import { type Failure, identityKey, type IdentityOutcome, type RegistrationDelta } from './outcome.js';
import { type PodEntry, PodTable } from './pods.js';
import { ProcessRegistrations } from './processes.js';
import type { IdentityRef, PodFacts, ProcessFacts, Registration } from './registration.js';

/** What identities get that do not say, and what none may exceed. Seconds. */
export interface RegistrationBounds {
  readonly defaults: { readonly x509TtlSeconds: number; readonly jwtTtlSeconds: number };
  /** The X.509 authority's lifetime; an identity that asks for more is refused. No bound unless said. */
  readonly maxX509TtlSeconds?: number;
  /** The JWT authority's lifetime; that of X.509 unless said. */
  readonly maxJwtTtlSeconds?: number;
  /** Of workloads' keys; ec-p256 unless said. */
  readonly keyType?: KeyTypeName;
}

/** How the index is made. */
export interface RegistrationIndexOptions extends RegistrationBounds {
  readonly trustDomain: string;
}

/**
 * Pods × identities → registrations. Pure and in memory: it knows only what was applied to it. A pod's change costs
 * that pod's candidate identities; an identity's change costs the pods that it selects or selected, and a look at the
 * others in its reach.
 */
export interface RegistrationIndex {
  /** For identities that are applied from now on. Those that were applied before stay as they are until they are applied again. */
  bound(bounds: RegistrationBounds): void;
  applyPod(pod: PodFacts): RegistrationDelta;
  removePod(uid: string): RegistrationDelta;
  applyIdentity(identity: IdentityResource): RegistrationDelta;
  removeIdentity(ref: IdentityRef): RegistrationDelta;
  applyNamespace(name: string, labels: Readonly<Record<string, string>>): RegistrationDelta;
  removeNamespace(name: string): RegistrationDelta;

  get(id: string): Registration | undefined;
  all(): Iterable<Registration>;
  /** Those of the node's pods, and those of processes, which every node holds. */
  forNode(nodeName: string): readonly Registration[];
  /** In the order in which a workload gets them: the first is its default. */
  forPod(uid: string): readonly Registration[];
  /** What became of an identity; at most `maxFailures` (50 unless said) failures are listed. */
  outcome(ref: IdentityRef, maxFailures?: number): IdentityOutcome | undefined;
  /**
   * Why this pod, or this container of it, has no identity, for a person; at most 1 KiB. With a node: only if the pod is on it,
   * and a static pod is found by the UID that it has there.
   */
  explainPod(uid: string, nodeName?: string, container?: string): string;
  /** Why this process has no identity, for a person; at most 1 KiB. */
  explainProcess(facts: ProcessFacts): string;
}

const DEFAULT_MAX_FAILURES = 50;
/** The API server puts this label on every namespace; a folder of YAML may lack it. */
const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';

interface IdentityEntry extends ReadyIdentity {
  readonly failing: Map<PodEntry<IdentityEntry>, Failure>;
  selected: number;
  registrations: number;
  pending: number;
  /** Whether the namespace selector matches, by namespace. */
  readonly namespaces: Map<string, boolean>;
}

type Pod = PodEntry<IdentityEntry>;

/** An empty index. */
export function createRegistrationIndex(options: RegistrationIndexOptions): RegistrationIndex {
  return new Index(boundsOf(parseTrustDomain(options.trustDomain), options));
}

function boundsOf(trustDomain: string, bounds: RegistrationBounds): IdentityBounds {
  const { defaults, maxX509TtlSeconds = Number.MAX_SAFE_INTEGER } = bounds;
  return {
    trustDomain,
    ...defaults,
    maxX509TtlSeconds,
    maxJwtTtlSeconds: bounds.maxJwtTtlSeconds ?? maxX509TtlSeconds,
    // The usual one is left out, since there may be very many registrations.
    keyType: bounds.keyType === 'ec-p256' ? undefined : bounds.keyType,
  };
}

class Index implements RegistrationIndex {
  #bounds: IdentityBounds;
  readonly #pods = new PodTable<IdentityEntry>();
  readonly #namespaces = new Map<string, Readonly<Record<string, string>>>();
  readonly #identities = new Map<string, IdentityEntry>();
  /** By namespace; the cluster-scoped ones under the empty name. */
  readonly #candidates = new Map<string, Candidates<IdentityEntry>>();
  readonly #processes: ProcessRegistrations;

  constructor(bounds: IdentityBounds) {
    this.#bounds = bounds;
    this.#processes = new ProcessRegistrations(bounds.trustDomain);
  }

  bound(bounds: RegistrationBounds): void {
    this.#bounds = boundsOf(this.#bounds.trustDomain, bounds);
  }

  applyPod(facts: PodFacts): RegistrationDelta {
    const delta = new DeltaBuilder();
    this.#refresh(this.#pods.put(facts), delta);
    return delta.build();
  }

  removePod(uid: string): RegistrationDelta {
    const delta = new DeltaBuilder();
    const pod = this.#pods.remove(uid);
    if (pod !== undefined) {
      this.#settle(pod, [], delta);
      this.#forgetNamespace(pod.facts.namespace);
    }
    return delta.build();
  }

  applyIdentity(identity: IdentityResource): RegistrationDelta {
    const entry = this.#ready(identity);
    return this.#replace(entry.rules.ref, entry);
  }

  removeIdentity(ref: IdentityRef): RegistrationDelta {
    return this.#replace(ref, undefined);
  }

  applyNamespace(name: string, labels: Readonly<Record<string, string>>): RegistrationDelta {
    return this.#namespaceChanged(name, () => {
      this.#namespaces.set(name, { ...labels, [NAMESPACE_NAME_LABEL]: name });
    });
  }

  removeNamespace(name: string): RegistrationDelta {
    return this.#namespaceChanged(name, () => {
      this.#namespaces.delete(name);
    });
  }

  get(id: string): Registration | undefined {
    if (id.startsWith(PROCESS_ID_PREFIX)) {
      const result = this.#processes.result(id.slice(PROCESS_ID_PREFIX.length));
      return result !== undefined && isRegistration(result) ? result : undefined;
    }
    const pod = this.#pods.get(id.slice(0, Math.max(0, id.indexOf('/'))));
    for (const { result } of pod?.grants ?? []) if (isRegistration(result) && result.id === id) return result;
    return undefined;
  }

  *all(): Iterable<Registration> {
    for (const pod of this.#pods.all()) yield* registrationsOf(pod);
    yield* this.#processes.registrations();
  }

  forNode(nodeName: string): readonly Registration[] {
    const found: Registration[] = [];
    for (const pod of this.#pods.onNode(nodeName))
      for (const { result } of pod.grants) if (isRegistration(result)) found.push(result);
    found.push(...this.#processes.registrations());
    return found;
  }

  forPod(uid: string): readonly Registration[] {
    const pod = this.#pods.get(uid);
    return pod === undefined ? [] : registrationsOf(pod);
  }

  outcome(ref: IdentityRef, maxFailures = DEFAULT_MAX_FAILURES): IdentityOutcome | undefined {
    const entry = this.#identities.get(identityKey(ref));
    if (entry === undefined) return undefined;
    const process = entry.rules.process === undefined ? undefined : this.#processes.result(ref.name);
    const problem = process !== undefined && !isRegistration(process) ? process : entry.problem;
    return {
      ref: entry.rules.ref,
      generation: entry.rules.generation,
      ...(problem === undefined ? {} : { problem }),
      ...(entry.rules.containers === undefined && !entry.rules.staticPods ? {} : { sharedSocketOnly: true }),
      podsSelected: entry.selected,
      registrations: process !== undefined && isRegistration(process) ? 1 : entry.registrations,
      pending: entry.pending,
      failures: firstByName(entry.failing, maxFailures),
      failuresTotal: entry.failing.size,
    };
  }

  explainPod(uid: string, nodeName?: string, container?: string): string {
    const pod = this.#pods.get(uid) ?? (nodeName === undefined ? undefined : this.#staticPod(uid, nodeName));
    // An agent learns nothing of another node's pods.
    if (pod === undefined || (nodeName !== undefined && pod.facts.nodeName !== nodeName))
      return explainPod(undefined, [], [], () => false);
    const { namespace } = pod.facts;
    const ofContainer = explainContainer(pod.facts, pod.grants, container);
    if (ofContainer !== undefined) return ofContainer;
    return explainPod(pod.facts, pod.grants, this.#identitiesOf(namespace), (identity) =>
      this.#selectsNamespace(identity, namespace),
    );
  }

  #staticPod(uid: string, nodeName: string): Pod | undefined {
    for (const pod of this.#pods.onNode(nodeName)) if (pod.facts.staticUid === uid) return pod;
    return undefined;
  }

  explainProcess(facts: ProcessFacts): string {
    return explainProcess(facts, this.#processes.identities());
  }

  /** Those of the namespace first: they are nearer. */
  *#identitiesOf(namespace: string): Iterable<IdentityEntry> {
    for (const scope of [namespace, '']) yield* this.#candidates.get(scope)?.all ?? [];
  }

  #ready(identity: IdentityResource): IdentityEntry {
    const rules = readIdentity(identity, this.#bounds);
    const namer = new Namer(rules, this.#bounds.trustDomain);
    return {
      rules,
      namer,
      problem: rules.problem ?? namer.problem(),
      failing: new Map(),
      selected: 0,
      registrations: 0,
      pending: 0,
      namespaces: new Map(),
    };
  }

  /** Puts an identity in another's place; the pods of both are looked at once. */
  #replace(ref: IdentityRef, after: IdentityEntry | undefined): RegistrationDelta {
    const delta = new DeltaBuilder();
    const before = this.#identities.get(identityKey(ref));
    const pods = new Set<Pod>();
    if (before !== undefined) this.#takeOut(before, pods);
    if (after !== undefined) {
      this.#putIn(after, pods);
      delta.outcome(after.rules.ref);
    }
    if (before?.rules.process !== undefined || after?.rules.process !== undefined)
      this.#processes.replace(ref.name, after?.rules.process === undefined ? undefined : after, delta);
    for (const pod of pods) this.#refresh(pod, delta);
    return delta.build();
  }

  #takeOut(entry: IdentityEntry, pods: Set<Pod>): void {
    const { ref, process } = entry.rules;
    this.#identities.delete(identityKey(ref));
    if (process !== undefined) return;
    const candidates = this.#candidates.get(ref.namespace);
    candidates?.remove(entry);
    if (candidates?.all.size === 0) this.#candidates.delete(ref.namespace);
    for (const pod of this.#podsInReachOf(entry))
      if (pod.grants.some(({ identity }) => identity === entry)) pods.add(pod);
  }

  #putIn(entry: IdentityEntry, pods: Set<Pod>): void {
    const { ref, process, podSelector } = entry.rules;
    this.#identities.set(identityKey(ref), entry);
    if (process !== undefined) return;
    let candidates = this.#candidates.get(ref.namespace);
    if (candidates === undefined) this.#candidates.set(ref.namespace, (candidates = new Candidates()));
    candidates.add(entry);
    for (const pod of this.#podsInReachOf(entry))
      if (selectsLabels(podSelector, pod.facts.labels)) pods.add(pod);
  }

  /** Pods that the identity selects if their labels match. */
  *#podsInReachOf(entry: IdentityEntry): Iterable<Pod> {
    const { rules } = entry;
    const namespaces =
      rules.ref.kind === 'WorkloadIdentity' ? [rules.ref.namespace] : this.#pods.namespaces();
    for (const namespace of namespaces)
      if (this.#selectsNamespace(entry, namespace))
        yield* this.#pods.inNamespace(namespace, rules.serviceAccounts);
  }

  #selectsNamespace(entry: IdentityEntry, namespace: string): boolean {
    const { namespaceSelector } = entry.rules;
    if (namespaceSelector === undefined) return true;
    let matches = entry.namespaces.get(namespace);
    if (matches === undefined) {
      matches = this.#matchesNamespace(namespaceSelector, namespace);
      entry.namespaces.set(namespace, matches);
    }
    return matches;
  }

  #matchesNamespace(selector: LabelSelector, namespace: string): boolean {
    const labels = this.#namespaces.get(namespace);
    if (labels !== undefined) return labelSelectorMatches(selector, labels);
    // Not known yet: only its name is certain, and no label may be taken to be absent.
    const denies = selector.matchExpressions?.some(
      ({ operator }) => operator === 'NotIn' || operator === 'DoesNotExist',
    );
    return denies !== true && labelSelectorMatches(selector, { [NAMESPACE_NAME_LABEL]: namespace });
  }

  #namespaceChanged(name: string, change: () => void): RegistrationDelta {
    const delta = new DeltaBuilder();
    const selecting = [...(this.#candidates.get('')?.all ?? [])].filter(
      ({ rules }) => rules.namespaceSelector !== undefined,
    );
    const before = selecting.map((entry) => this.#selectsNamespace(entry, name));
    change();
    const turned = selecting.filter((entry, at) => {
      entry.namespaces.delete(name);
      return this.#selectsNamespace(entry, name) !== before[at];
    });
    this.#forgetNamespace(name);
    if (turned.length > 0)
      for (const pod of [...this.#pods.inNamespace(name, undefined)]) this.#refresh(pod, delta);
    return delta.build();
  }

  /** Nothing is remembered of a namespace that is gone. */
  #forgetNamespace(name: string): void {
    if (this.#namespaces.has(name) || this.#pods.hasNamespace(name)) return;
    for (const entry of this.#candidates.get('')?.all ?? []) entry.namespaces.delete(name);
  }

  #refresh(pod: Pod, delta: DeltaBuilder): void {
    const { facts } = pod;
    const found: IdentityEntry[] = [];
    this.#candidates.get(facts.namespace)?.collect(facts, found);
    this.#candidates.get('')?.collect(facts, found);
    const selecting = found.filter((entry) => this.#selects(entry, facts));
    if (selecting.length > 1) selecting.sort((a, b) => compareIdentities(a.rules.ref, b.rules.ref));
    this.#settle(pod, grantPod(facts, pod.subject, selecting, this.#bounds.trustDomain), delta);
  }

  #selects(entry: IdentityEntry, pod: PodFacts): boolean {
    const { serviceAccounts, podSelector, staticPods } = entry.rules;
    return (
      // A node may make mirror pods in any namespace, with any label: they get only what is meant for them.
      staticPods === (pod.staticUid !== undefined) &&
      (serviceAccounts === undefined || serviceAccounts.has(pod.serviceAccount)) &&
      this.#selectsNamespace(entry, pod.namespace) &&
      selectsLabels(podSelector, pod.labels)
    );
  }

  /** Gives a pod its new grants, and tells what changed. */
  #settle(pod: Pod, grants: readonly Grant<IdentityEntry>[], delta: DeltaBuilder): void {
    const before = pod.grants;
    const known = new KnownGrants(before);
    const after = before.length === 0 ? grants : grants.map((grant) => known.keepSame(grant));
    if (after.length === before.length && after.every((grant, at) => grant === before[at])) return;
    const now = new KnownGrants(after);
    for (const { identity, result } of before) {
      uncount(identity, pod, result);
      delta.outcome(identity.rules.ref);
      if (isRegistration(result)) delta.step(result, now.registration(result.id));
    }
    for (const { identity, result } of after) {
      count(identity, pod, result);
      delta.outcome(identity.rules.ref);
      if (isRegistration(result) && known.registration(result.id) === undefined)
        delta.step(undefined, result);
    }
    pod.grants = after;
  }
}

function registrationsOf(pod: Pod): Registration[] {
  return pod.grants.flatMap(({ result }) => (isRegistration(result) ? [result] : []));
}

function selectsLabels(
  selector: LabelSelector | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  return selector === undefined || labelSelectorMatches(selector, labels);
}

function count(identity: IdentityEntry, pod: Pod, result: Registration | Failure): void {
  identity.selected += 1;
  if (isRegistration(result)) identity.registrations += 1;
  else if (result === POD_NOT_BOUND) identity.pending += 1;
  // The identity's own problem is told once, not with each pod.
  else if (result !== identity.problem) identity.failing.set(pod, result);
}

function uncount(identity: IdentityEntry, pod: Pod, result: Registration | Failure): void {
  identity.selected -= 1;
  if (isRegistration(result)) identity.registrations -= 1;
  else if (result === POD_NOT_BOUND) identity.pending -= 1;
  identity.failing.delete(pod);
}

function firstByName(failing: ReadonlyMap<Pod, Failure>, most: number): IdentityOutcome['failures'] {
  const named = Array.from(failing, ([{ facts }, failure]) => ({
    pod: `${facts.namespace}/${facts.name}`,
    reason: failure.reason,
    message: failure.message,
  }));
  return named.sort((a, b) => (a.pod < b.pod ? -1 : a.pod > b.pod ? 1 : 0)).slice(0, most);
}
