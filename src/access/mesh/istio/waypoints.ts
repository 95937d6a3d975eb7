import { labelsMatch } from '../../policy/selector.js';
import type {
  Inventory,
  InventoryGateway,
  InventoryService,
  InventoryWorkload,
  ServicePort,
} from '../inventory.js';

/*
 * Who goes through which waypoint, read as istiod reads it (pilot/pkg/serviceregistry/ambient/waypoints.go of Istio 1.31:
 * fetchWaypointForTarget, GetUseWaypoint, gatewayToWaypointTransform). What cannot be known is taken for the case in
 * which less is let through.
 */

const USE = 'istio.io/use-waypoint';
const USE_NAMESPACE = 'istio.io/use-waypoint-namespace';
const TRAFFIC = 'istio.io/waypoint-for';
const DATAPLANE = 'istio.io/dataplane-mode';
const GATEWAY_NAME = 'gateway.networking.k8s.io/gateway-name';
/** The class that Istio comes with; others may say in their own labels what they are for. */
const WAYPOINT_CLASS = 'istio-waypoint';

/** A waypoint that something uses. */
export interface Waypoint {
  readonly namespace: string;
  readonly name: string;
  /** Who it is to the ztunnels behind it, as Istio writes principals. */
  readonly principals: readonly string[];
  /** Workloads that are somebody else and have its identity. */
  readonly alsoHeldBy: readonly InventoryWorkload[];
  /** Whether calls to Services go through it. */
  readonly takesServices: boolean;
  /** Whether calls to the addresses of pods go through it. */
  readonly takesPods: boolean;
}

/** A Service that uses a waypoint. */
export interface ServedService {
  readonly service: InventoryService;
  readonly waypoint: Waypoint;
  /** Those that it selects, in order. */
  readonly workloads: readonly InventoryWorkload[];
}

/** What stands in front of one workload. */
export interface Front {
  readonly waypoints: readonly Waypoint[];
  readonly served: readonly ServedService[];
  /** Services that lead to it past every waypoint. */
  readonly past: readonly InventoryService[];
}

/** The waypoints of an inventory. */
export interface WaypointMap {
  readonly waypoints: readonly Waypoint[];
  readonly served: readonly ServedService[];
  /** Those with something in front of them. */
  readonly behind: ReadonlyMap<InventoryWorkload, Front>;
}

export const NO_WAYPOINTS: WaypointMap = { waypoints: [], served: [], behind: new Map() };

/** Finds out which Services and workloads use which waypoint. */
export function waypointMap(inventory: Inventory): WaypointMap {
  const finder = new Finder(inventory);
  const served: ServedService[] = [];
  const fronts = new Map<InventoryWorkload, { served: ServedService[]; past: InventoryService[] }>();
  const frontOf = (workload: InventoryWorkload): { served: ServedService[]; past: InventoryService[] } => {
    const front = fronts.get(workload) ?? { served: [], past: [] };
    fronts.set(workload, front);
    return front;
  };
  for (const service of inventory.services ?? []) {
    const workloads = finder.selected(service);
    const waypoint = finder.used(service.labels, service.namespace);
    const isServed = waypoint?.takesServices === true;
    if (!isServed || service.headless === true) {
      for (const workload of workloads) frontOf(workload).past.push(service);
    }
    if (!isServed) continue;
    const one = { service, waypoint, workloads };
    served.push(one);
    for (const workload of workloads) frontOf(workload).served.push(one);
  }
  const behind = new Map<InventoryWorkload, Front>();
  for (const workload of inventory.workloads) {
    // A waypoint is behind none (fetchWaypointForService leaves its Service out).
    if (GATEWAY_NAME in workload.labels) continue;
    const own = finder.used(workload.labels, workload.namespace);
    const { served: here, past } = fronts.get(workload) ?? { served: [], past: [] };
    const waypoints = new Set(here.map(({ waypoint }) => waypoint));
    if (own?.takesPods === true) waypoints.add(own);
    if (waypoints.size > 0) behind.set(workload, { waypoints: [...waypoints], served: here, past });
  }
  return { waypoints: finder.all(), served, behind };
}

/** The workload's port behind a port of a Service; undefined where it has none of the name. */
export function targetPortOf({ targetPort }: ServicePort, { ports }: InventoryWorkload): number | undefined {
  if (typeof targetPort === 'number') return targetPort;
  return ports.find(({ name }) => name === targetPort)?.port;
}

/** Whether ztunnel stands in front of the pods, as their labels and those of the namespace say. */
export function isAmbient({ labels, namespaceLabels }: InventoryWorkload): boolean {
  return (labels[DATAPLANE] ?? namespaceLabels[DATAPLANE]) === 'ambient';
}

/** Whether anything in a cluster is of the ambient mesh. */
export function hasAmbient({ namespaces, workloads }: Inventory): boolean {
  return (
    namespaces.some(({ labels }) => labels[DATAPLANE] === 'ambient') ||
    workloads.some(({ labels }) => labels[DATAPLANE] === 'ambient')
  );
}

class Finder {
  readonly #inventory: Inventory;
  readonly #namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>;
  readonly #gateways: ReadonlyMap<string, InventoryGateway>;
  readonly #byNamespace: ReadonlyMap<string, readonly InventoryWorkload[]>;
  readonly #waypoints = new Map<string, Waypoint>();

  constructor(inventory: Inventory) {
    this.#inventory = inventory;
    this.#namespaces = new Map(inventory.namespaces.map(({ name, labels }) => [name, labels]));
    this.#gateways = new Map(
      (inventory.gateways ?? []).map((gateway) => [`${gateway.namespace}/${gateway.name}`, gateway]),
    );
    this.#byNamespace = Map.groupBy(inventory.workloads, ({ namespace }) => namespace);
  }

  all(): readonly Waypoint[] {
    return [...this.#waypoints.values()];
  }

  selected({ namespace, selector }: InventoryService): readonly InventoryWorkload[] {
    const wanted = Object.entries(selector);
    if (wanted.length === 0) return [];
    return this.#here(namespace).filter(({ labels }) =>
      labelsMatch(
        wanted.map(([key, value]) => ({ kind: 'in', key, values: new Set([value]) })),
        labels,
      ),
    );
  }

  /** The waypoint that an object uses by its own labels, or else by those of its namespace. */
  used(own: Readonly<Record<string, string>>, namespace: string): Waypoint | undefined {
    const labels = USE in own ? own : this.#namespaces.get(namespace);
    const name = labels?.[USE];
    if (name === undefined || name === 'none') return undefined;
    return this.#waypoint(labels?.[USE_NAMESPACE] ?? namespace, name);
  }

  #here(namespace: string): readonly InventoryWorkload[] {
    return this.#byNamespace.get(namespace) ?? [];
  }

  #waypoint(namespace: string, name: string): Waypoint {
    const key = `${namespace}/${name}`;
    const known = this.#waypoints.get(key);
    if (known !== undefined) return known;
    const gateway = this.#gateways.get(key);
    const traffic = gateway?.labels[TRAFFIC] ?? (gateway?.className === WAYPOINT_CLASS ? 'service' : 'all');
    const isPod = ({ labels }: InventoryWorkload): boolean => labels[GATEWAY_NAME] === name;
    const accounts = new Set(
      this.#here(namespace)
        .filter(isPod)
        .map(({ serviceAccount }) => serviceAccount),
    );
    // Istio names the service account after the Gateway.
    if (accounts.size === 0) accounts.add(name);
    const principals = [...accounts].map(
      (account) => `${this.#inventory.trustDomain}/ns/${namespace}/sa/${account}`,
    );
    const holders = [
      ...principals.flatMap((principal) => this.#inventory.holdersOf(`spiffe://${principal}`)),
      ...this.#here(namespace).filter(({ serviceAccount }) => accounts.has(serviceAccount)),
    ].filter((workload) => workload.namespace !== namespace || !isPod(workload));
    const waypoint: Waypoint = {
      namespace,
      name,
      principals,
      alsoHeldBy: [...new Set(holders)],
      takesServices: traffic === 'service' || traffic === 'all',
      takesPods: traffic === 'workload' || traffic === 'all',
    };
    this.#waypoints.set(key, waypoint);
    return waypoint;
  }
}
