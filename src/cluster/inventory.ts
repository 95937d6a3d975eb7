import {
  createInventory,
  type Inventory,
  type InventoryNamespace,
  type InventoryWorkload,
  type WorkloadPort,
  type WorkloadProbe,
} from '../access/mesh/inventory.js';
import type { PodFacts } from '../identity/registration/registration.js';
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
  const workloads = new Map<string, InventoryWorkload>();
  for (const object of store.list('Pod')) {
    const facts = podFacts(object);
    if (facts === undefined) continue;
    const workload = workloadOf(object, facts, options);
    const key = JSON.stringify([
      workload.namespace,
      workload.name,
      workload.serviceAccount,
      Object.entries(workload.labels).sort(),
      workload.spiffeIds,
      workload.ports,
    ]);
    if (!workloads.has(key)) workloads.set(key, workload);
  }
  const namespaces = readNamespaces(store);
  const services = readServices(store);
  const gateways = readGateways(store);
  const labels = new Map(namespaces.map((namespace) => [namespace.name, namespace.labels]));
  return createInventory({
    trustDomain: options.trustDomain,
    namespaces,
    workloads: [...workloads.values()]
      .map((workload) => ({ ...workload, namespaceLabels: labels.get(workload.namespace) ?? {} }))
      .sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name)),
    ...(services.length === 0 ? {} : { services }),
    ...(gateways.length === 0 ? {} : { gateways }),
  });
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The namespaces that there are, and those that objects are in though nobody wrote them down. */
function readNamespaces(store: StoreReader): readonly InventoryNamespace[] {
  const found = new Map<string, Readonly<Record<string, string>>>();
  for (const { metadata } of store.list('Namespace')) found.set(metadata.name, metadata.labels ?? {});
  for (const kind of ['Pod', 'ServiceAccount', 'Service', 'Gateway', 'WorkloadIdentity', 'AccessPolicy']) {
    for (const { metadata } of store.list(kind)) {
      const name = metadata.namespace ?? 'default';
      if (!found.has(name)) found.set(name, {});
    }
  }
  return [...found]
    .sort(([a], [b]) => compare(a, b))
    .map(([name, labels]) => ({ name, labels: { ...labels, [NAMESPACE_NAME_LABEL]: name } }));
}

function workloadOf(pod: StoredObject, facts: PodFacts, options: InventoryOptions): InventoryWorkload {
  const containers = containersOf(pod);
  const probes = containers.flatMap(probesOf);
  return {
    namespace: facts.namespace,
    name: workloadName(pod),
    serviceAccount: facts.serviceAccount,
    labels: workloadLabels(facts.labels),
    namespaceLabels: {},
    spiffeIds: [...options.spiffeIds(facts.uid)].sort(),
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
