import { appendTo } from '../../lib/append-to.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { namespaceOf, serviceAccountUri } from '../policy/spiffe-namespace.js';
import type { Principal, Target, TargetWorkload } from '../policy/model.js';
import { selects } from '../policy/selector.js';

/** What is spoken on a port, as far as an enforcement point can know. */
export type PortProtocol = 'http' | 'http2' | 'grpc' | 'tcp';

export interface WorkloadPort {
  readonly port: number;
  readonly protocol: PortProtocol;
  /** Of the container port. */
  readonly name?: string;
}

/** An HTTP probe of the kubelet, which comes without an identity. */
export interface WorkloadProbe {
  readonly port: number;
  readonly path: string;
}

/** Pods that are alike: of one Deployment, StatefulSet or the like. */
export interface InventoryWorkload extends TargetWorkload {
  /** Every SPIFFE ID that its pods get. */
  readonly spiffeIds: readonly string[];
  /** Some of what runs in its pods may hold none of these: they are given to single containers. */
  readonly alsoWithout?: true;
  readonly ports: readonly WorkloadPort[];
  readonly probes?: readonly WorkloadProbe[];
}

export interface InventoryNamespace {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ServicePort {
  /** What callers connect to. */
  readonly port: number;
  /** The workloads' own: a number, or the name of a container port. */
  readonly targetPort: number | string;
  readonly protocol: PortProtocol;
}

/** A Kubernetes Service: one address for the workloads of its namespace that it selects. */
export interface InventoryService {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Empty selects nothing that is known: its endpoints are somebody else's. */
  readonly selector: Readonly<Record<string, string>>;
  readonly ports: readonly ServicePort[];
  /** Without an address of its own, so that callers go to the pods' addresses. */
  readonly headless?: true;
}

/** A Gateway of the Gateway API, as far as it may be a waypoint. */
export interface InventoryGateway {
  readonly namespace: string;
  readonly name: string;
  readonly className: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What there is in the cluster, as far as rules are about it. */
export interface InventoryContent {
  /** The own trust domain. */
  readonly trustDomain: string;
  /** Old names of the own trust domain that meshes still take for it. */
  readonly trustDomainAliases?: readonly string[];
  readonly namespaces: readonly InventoryNamespace[];
  readonly workloads: readonly InventoryWorkload[];
  readonly services?: readonly InventoryService[];
  readonly gateways?: readonly InventoryGateway[];
}

/** What there is, with the questions that renderers ask of it. */
export interface Inventory extends InventoryContent {
  /** The workloads that a policy's target selects, in order. */
  selected(target: Target): readonly InventoryWorkload[];
  /** The workloads some of whose identities a principal names, in order; of `anyone` all of them. */
  holders(principal: Principal): readonly InventoryWorkload[];
  /** The workloads that hold an ID, in order. */
  holdersOf(uri: string): readonly InventoryWorkload[];
}

/** Indexes what there is, once, so that the questions cost what their answers are long. */
export function createInventory(content: InventoryContent): Inventory {
  const byNamespace = group(content.workloads, ({ namespace }) => [namespace]);
  const byUri = group(content.workloads, ({ spiffeIds }) => spiffeIds);
  const uris = [...byUri.keys()].map((uri) => parseSpiffeId(uri));
  const order = new Map(content.workloads.map((workload, index) => [workload, index]));
  const union = (lists: readonly (readonly InventoryWorkload[])[]): readonly InventoryWorkload[] =>
    [...new Set(lists.flat())].sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
  const holdersOf = (uri: string): readonly InventoryWorkload[] => byUri.get(uri) ?? [];
  const where = (holds: (id: (typeof uris)[number]) => boolean): readonly InventoryWorkload[] =>
    union(uris.filter(holds).map(({ uri }) => holdersOf(uri)));
  return {
    ...content,
    selected(target) {
      const names = target.namespaceNames;
      const candidates =
        names === undefined ? content.workloads : union(names.map((name) => byNamespace.get(name) ?? []));
      return candidates.filter((workload) => selects(target, workload));
    },
    holdersOf,
    holders(principal) {
      switch (principal.kind) {
        case 'anyone':
          return content.workloads;
        case 'authenticated':
          return content.workloads.filter(({ spiffeIds }) => spiffeIds.length > 0);
        case 'spiffeId':
          return holdersOf(principal.uri);
        case 'identity':
          return union(principal.uris.map(holdersOf));
        case 'serviceAccount':
          return holdersOf(serviceAccountUri(principal));
        case 'namespace':
          return where(
            ({ trustDomain, path }) =>
              trustDomain === principal.trustDomain && namespaceOf(path) === principal.namespace,
          );
        case 'trustDomain':
          return where(({ trustDomain }) => trustDomain === principal.trustDomain);
      }
    },
  };
}

function group(
  workloads: readonly InventoryWorkload[],
  keysOf: (workload: InventoryWorkload) => readonly string[],
): ReadonlyMap<string, readonly InventoryWorkload[]> {
  const groups = new Map<string, InventoryWorkload[]>();
  for (const workload of workloads) {
    for (const key of keysOf(workload)) appendTo(groups, key, workload);
  }
  return groups;
}
