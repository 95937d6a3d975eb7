import {
  createInventory,
  type Inventory,
  type InventoryContent,
  type InventoryNamespace,
  type InventoryWorkload,
  type WorkloadPort,
  type WorkloadProbe,
} from '../access/mesh/inventory.js';
import type { PodFacts } from '../identity/registration/registration.js';
import { BugError } from '../lib/errors.js';
import type { StoredObject, StoreReader } from '../store/store.js';
import { podFacts } from './pod-facts.js';
import { list, protocolOf, readGateways, readServices, type Fields } from './services.js';

/** The API server puts this label on every namespace; a folder of YAML may lack it. */
const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';

/** Labels that controllers put on pods to tell them apart: pods that differ in nothing else are of one workload. */
const PER_POD_LABELS: ReadonlySet<string> = new Set([
  'pod-template-hash',
  'controller-revision-hash',
  'pod-template-generation',
  'statefulset.kubernetes.io/pod-name',
  'apps.kubernetes.io/pod-index',
  'batch.kubernetes.io/controller-uid',
  'batch.kubernetes.io/job-completion-index',
  'controller-uid',
]);

/** What an inventory is made of, besides the store. */
export interface InventoryOptions {
  readonly trustDomain: string;
  /** The SPIFFE IDs that a pod gets, by its uid. */
  spiffeIds(uid: string): readonly string[];
}

/** The namespaces, and the workloads of all pods that run, with the identities that they get. */
export function readInventory(store: StoreReader, options: InventoryOptions): Inventory {
  const pods = store.list('Pod');
  const workloads = new WorkloadTable();
  for (const pod of pods) workloads.add(pod, options.spiffeIds(pod.metadata.uid));
  return inventoryOf(options.trustDomain, readSurroundings(store, pods.map(namespaceOf)), workloads);
}

/** Pods that are alike in all that is said of a workload. */
export interface AlikePods {
  readonly workload: InventoryWorkload;
  readonly key: string;
  readonly probes: string;
  pods: number;
}

/** The workloads of pods, kept in step pod by pod. What is known of them does not depend on the order of the changes. */
export class WorkloadTable {
  /** By what tells workloads apart, then by their probes. */
  readonly #workloads = new Map<string, Map<string, AlikePods>>();
  #version = 0;

  /** Another number once {@link workloads} says something else; pods that come must be counted before those that go. */
  get version(): number {
    return this.#version;
  }

  clear(): void {
    this.#workloads.clear();
    this.#version += 1;
  }

  /**
   * Counts a pod; undefined for one that has ended, which is of no workload. `alsoWithout`: not all that runs in it holds one of
   * the IDs.
   */
  add(object: StoredObject, spiffeIds: readonly string[], alsoWithout = false): AlikePods | undefined {
    const facts = podFacts(object);
    if (facts === undefined) return undefined;
    const workload = {
      ...workloadOf(object, facts, spiffeIds),
      ...(alsoWithout && spiffeIds.length > 0 ? { alsoWithout: true as const } : {}),
    };
    const key = JSON.stringify([
      workload.namespace,
      workload.name,
      workload.serviceAccount,
      Object.entries(workload.labels).sort(),
      workload.spiffeIds,
      workload.alsoWithout,
      workload.ports,
    ]);
    const probes = JSON.stringify(workload.probes ?? []);
    const alike = this.#workloads.get(key) ?? new Map<string, AlikePods>();
    this.#workloads.set(key, alike);
    const known = alike.get(probes);
    if (known !== undefined) {
      known.pods += 1;
      return known;
    }
    const made = { workload, key, probes, pods: 1 };
    alike.set(probes, made);
    if (firstOf(alike) === made) this.#version += 1;
    return made;
  }

  /** Takes a pod back that was counted. */
  remove(pod: AlikePods): void {
    pod.pods -= 1;
    const alike = this.#workloads.get(pod.key);
    if (pod.pods > 0 || alike === undefined) return;
    if (firstOf(alike) === pod) this.#version += 1;
    alike.delete(pod.probes);
    if (alike.size === 0) this.#workloads.delete(pod.key);
  }

  /** All workloads, in order. */
  workloads(): readonly InventoryWorkload[] {
    return [...this.#workloads]
      .map(([key, alike]) => ({ key, workload: firstOf(alike).workload }))
      .sort(
        (a, b) =>
          compare(a.workload.namespace, b.workload.namespace) ||
          compare(a.workload.name, b.workload.name) ||
          compare(a.key, b.key),
      )
      .map(({ workload }) => workload);
  }
}

/** Of pods that differ in their probes alone, those speak for all that come first in order. */
function firstOf(alike: ReadonlyMap<string, AlikePods>): AlikePods {
  const [first, ...more] = alike.values();
  if (first === undefined) throw new BugError('a workload has no pods');
  return more.reduce((least, one) => (one.probes < least.probes ? one : least), first);
}

/** What an inventory says beside workloads. */
export type Surroundings = Pick<InventoryContent, 'namespaces' | 'services' | 'gateways'>;

/** `podNamespaces` are those that have a pod, one that has ended too. */
export function readSurroundings(store: StoreReader, podNamespaces: Iterable<string>): Surroundings {
  const services = readServices(store);
  const gateways = readGateways(store);
  return {
    namespaces: readNamespaces(store, podNamespaces),
    ...(services.length === 0 ? {} : { services }),
    ...(gateways.length === 0 ? {} : { gateways }),
  };
}

/** What there is. */
export function inventoryOf(
  trustDomain: string,
  { namespaces, ...more }: Surroundings,
  table: WorkloadTable,
): Inventory {
  const labels = new Map(namespaces.map((namespace) => [namespace.name, namespace.labels]));
  const workloads = table
    .workloads()
    .map((workload) => ({ ...workload, namespaceLabels: labels.get(workload.namespace) ?? {} }));
  return createInventory({ trustDomain, namespaces, workloads, ...more });
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The namespaces that there are, and those that objects are in though nobody wrote them down. */
function readNamespaces(store: StoreReader, podNamespaces: Iterable<string>): readonly InventoryNamespace[] {
  const found = new Map<string, Readonly<Record<string, string>>>();
  for (const { metadata } of store.list('Namespace')) found.set(metadata.name, metadata.labels ?? {});
  const add = (name: string): void => {
    if (!found.has(name)) found.set(name, {});
  };
  for (const name of podNamespaces) add(name);
  for (const kind of ['ServiceAccount', 'Service', 'Gateway', 'WorkloadIdentity', 'AccessPolicy'])
    for (const object of store.list(kind)) add(namespaceOf(object));
  return [...found]
    .sort(([a], [b]) => compare(a, b))
    .map(([name, labels]) => ({ name, labels: { ...labels, [NAMESPACE_NAME_LABEL]: name } }));
}

/** Of a namespaced object. */
export function namespaceOf({ metadata }: StoredObject): string {
  return metadata.namespace ?? 'default';
}

function workloadOf(pod: StoredObject, facts: PodFacts, spiffeIds: readonly string[]): InventoryWorkload {
  const containers = containersOf(pod);
  const probes = containers.flatMap(probesOf);
  return {
    namespace: facts.namespace,
    name: workloadName(pod),
    serviceAccount: facts.serviceAccount,
    labels: workloadLabels(facts.labels),
    namespaceLabels: {},
    spiffeIds: [...spiffeIds].sort(),
    ports: containers.flatMap(portsOf).sort((a, b) => a.port - b.port),
    ...(probes.length === 0 ? {} : { probes }),
  };
}

/** The labels of a pod that it shares with its replicas. */
export function workloadLabels(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !PER_POD_LABELS.has(key)));
}

/** The name of what made the pod: of the Deployment, not of its ReplicaSet. */
function workloadName({ metadata }: StoredObject): string {
  const owners = (metadata as { ownerReferences?: unknown }).ownerReferences;
  const owner = (Array.isArray(owners) ? (owners as readonly Fields[]) : []).find(
    ({ controller }) => controller === true,
  );
  const name = owner?.['name'];
  if (typeof name !== 'string') return metadata.name;
  const hash = metadata.labels?.['pod-template-hash'];
  return owner?.['kind'] === 'ReplicaSet' && hash !== undefined && name.endsWith(`-${hash}`)
    ? name.slice(0, -hash.length - 1)
    : name;
}

function containersOf(pod: StoredObject): readonly Fields[] {
  const { containers, initContainers } = ((pod as { spec?: unknown }).spec ?? {}) as Fields;
  // A native sidecar is an init container that restarts; it listens like the others.
  const sidecars = list(initContainers).filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...list(containers), ...sidecars];
}

function portsOf(container: Fields): readonly WorkloadPort[] {
  return list(container['ports']).flatMap(({ containerPort, name, protocol }): readonly WorkloadPort[] => {
    if (typeof containerPort !== 'number' || (protocol !== undefined && protocol !== 'TCP')) return [];
    if (typeof name !== 'string') return [{ port: containerPort, protocol: 'http' as const }];
    return [{ port: containerPort, protocol: protocolOf(name), name }];
  });
}

function probesOf(container: Fields): readonly WorkloadProbe[] {
  const named = new Map(
    portsOf(container).flatMap(({ name, port }) => (name === undefined ? [] : [[name, port]])),
  );
  return ['livenessProbe', 'readinessProbe', 'startupProbe'].flatMap((field) => {
    const { httpGet } = (container[field] ?? {}) as { readonly httpGet?: Fields };
    if (httpGet === undefined) return [];
    const port = typeof httpGet['port'] === 'string' ? named.get(httpGet['port']) : httpGet['port'];
    const path = typeof httpGet['path'] === 'string' ? httpGet['path'] : '/';
    return typeof port === 'number' ? [{ port, path }] : [];
  });
}
