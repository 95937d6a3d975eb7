/** Random worlds with waypoints, asked of istiod's own waypoint in the real Envoy, and then of ztunnel's rules. */
import fc from 'fast-check';
import {
  createInventory,
  type Inventory,
  type InventoryService,
  type InventoryWorkload,
} from '../../src/access/mesh/inventory.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import type { KubernetesObject } from '../../src/access/mesh/renderer.js';
import type { Istio, IstioAmbientPolicy, IstioDecision } from '../rig/istio.js';
import { WORLD } from '../support/policies.js';
import type { World } from '../support/policy-worlds.js';
import { istioRequest, toYaml } from './istio-world.js';
import { ztunnelAllows } from './ztunnel.js';

/** How the namespaces use waypoints. */
export interface Layout {
  /** Of namespace `ab`: a waypoint of its own, that of `a`, or none. */
  readonly other: 'own' | 'shared' | 'none';
  readonly traffic: 'service' | 'all';
  /** Services that lead to the pods past the waypoint. */
  readonly past: boolean;
  /** A Service for all workloads of the namespace, whose policies may differ. */
  readonly common: boolean;
}

export const layouts: fc.Arbitrary<Layout> = fc.record({
  other: fc.constantFrom('own', 'shared', 'none'),
  traffic: fc.constantFrom('service', 'all'),
  past: fc.boolean(),
  common: fc.boolean(),
});

const [HTTP, TCP] = WORLD.ports;
/** By port of the workload. */
const SERVICE_PORTS = new Map<number, number>([
  [HTTP, 80],
  [TCP, 90],
  [WORLD.strayPort, 70],
]);

/** The same world, in the ambient mesh, with Services and waypoints. */
export function withWaypoints(world: World, { other, traffic, past, common }: Layout): World {
  const ambient = { 'istio.io/dataplane-mode': 'ambient' };
  const uses = (name: string): Readonly<Record<string, string>> => {
    if (name !== 'a' && other === 'none') return ambient;
    const where = name !== 'a' && other === 'shared' ? { 'istio.io/use-waypoint-namespace': 'a' } : {};
    return { ...ambient, ...where, 'istio.io/use-waypoint': 'wp' };
  };
  const workloads = new Map(
    world.inventory.workloads.map((workload): [InventoryWorkload, InventoryWorkload] => [
      workload,
      {
        ...workload,
        labels: { ...workload.labels, part: 'all' },
        namespaceLabels: { ...workload.namespaceLabels, ...uses(workload.namespace) },
        ports: workload.ports.map((port) => ({ ...port, name: `${port.protocol}-${port.port}` })),
      },
    ]),
  );
  const services = world.inventory.namespaces.flatMap(({ name }): readonly InventoryService[] => [
    ...WORLD.apps.map((app) => service(name, app, { app })),
    ...(common ? [service(name, 'common', { part: 'all' })] : []),
    ...(past
      ? [{ ...service(name, 'past', { app: WORLD.apps[0] }), labels: { 'istio.io/use-waypoint': 'none' } }]
      : []),
  ]);
  const inventory = createInventory({
    ...world.inventory,
    namespaces: world.inventory.namespaces.map(({ name, labels }) => ({
      name,
      labels: { ...labels, ...uses(name) },
    })),
    workloads: [...workloads.values()],
    services,
    gateways: (other === 'own' ? ['a', 'ab'] : ['a']).map((namespace) => ({
      namespace,
      name: 'wp',
      className: 'istio-waypoint',
      labels: traffic === 'service' ? {} : { 'istio.io/waypoint-for': traffic },
    })),
  });
  return {
    ...world,
    inventory,
    requests: world.requests.map((request) => ({
      ...request,
      target: workloads.get(request.target as InventoryWorkload) ?? request.target,
    })),
  };
}

function service(
  namespace: string,
  name: string,
  selector: Readonly<Record<string, string>>,
): InventoryService {
  return {
    namespace,
    name,
    labels: {},
    selector,
    ports: [
      { port: 80, targetPort: `http-${HTTP}`, protocol: 'http' },
      { port: 90, targetPort: TCP, protocol: 'tcp' },
      { port: 70, targetPort: WORLD.strayPort, protocol: 'tcp' },
    ],
  };
}

/** Which namespace's waypoint a Service uses; read from the labels anew, not by what is proved. */
function waypointOf({ namespace, labels }: InventoryService, inventory: Inventory): string | undefined {
  if (labels['istio.io/use-waypoint'] === 'none') return undefined;
  const found = inventory.namespaces.find(({ name }) => name === namespace)?.labels ?? {};
  if (found['istio.io/use-waypoint'] === undefined) return undefined;
  return found['istio.io/use-waypoint-namespace'] ?? namespace;
}

/** One way in which one request is made. */
export interface Way {
  readonly request: AccessRequest;
  readonly by: 'service' | 'pod' | 'past';
  readonly allowed: boolean;
  /** What the waypoint said; absent where none is on the way. */
  readonly waypoint?: IstioDecision;
}

/** Asks every request on every way that leads to its target. */
export async function askWaypoints(
  istio: Istio,
  { inventory }: World,
  requests: readonly AccessRequest[],
  objects: readonly KubernetesObject[],
): Promise<readonly Way[]> {
  const yaml = toYaml(objects);
  const handed = await istio.ambient(toYaml(objects.filter(({ kind }) => kind === 'AuthorizationPolicy')));
  const pods = ztunnel(handed, objects);
  const ways: Way[] = requests.map((request) => ({
    request,
    by: 'pod',
    allowed: pods(request, request.source, request.port),
  }));
  for (const namespace of new Set((inventory.services ?? []).map((one) => waypointOf(one, inventory)))) {
    if (namespace === undefined) continue;
    const served = (inventory.services ?? []).filter((one) => waypointOf(one, inventory) === namespace);
    const address = new Map(served.map((one, index) => [one, `10.96.0.${index + 1}`]));
    const podsOf = inventory.gateways?.some(({ labels }) => 'istio.io/waypoint-for' in labels) === true;
    const rendered = await istio.load(
      {
        namespace,
        trustDomain: WORLD.trustDomain,
        waypoint: {
          name: 'wp',
          services: served.map((one) => ({ ...one, address: address.get(one) ?? '' })),
          ...(podsOf ? { addresses: ['10.0.0.9'] } : {}),
        },
      },
      yaml,
    );
    const wrong = rendered.validation.filter(
      ({ accepted, warnings = [] }) => !accepted || warnings.length > 0,
    );
    if (wrong.length > 0) throw new Error(`admission: ${JSON.stringify(wrong)}`);
    const asked = requests.flatMap((request) => {
      const { source, port = 0, target } = request;
      if (source === undefined) return [];
      const uses = served.filter(
        (one) =>
          one.namespace === target.namespace &&
          Object.entries(one.selector).every(([key, value]) => target.labels[key] === value),
      );
      const through = uses.map((one) => ({
        request,
        by: 'service' as const,
        question: {
          ...istioRequest(request),
          address: address.get(one) ?? '',
          port: SERVICE_PORTS.get(port) ?? 0,
        },
      }));
      const direct = {
        request,
        by: 'past' as const,
        question: { ...istioRequest(request), address: '10.0.0.9' },
      };
      // Where Envoy has to guess the protocol, what does not look like HTTP is none, and its bytes come back.
      const guessable = request.http === undefined || request.http.path.startsWith('/');
      return podsOf && guessable && uses.length > 0 ? [...through, direct] : through;
    });
    const answers = await istio.decide(asked.map(({ question }) => question));
    for (const [index, { request, by }] of asked.entries()) {
      const waypoint = answers[index];
      if (waypoint === undefined || waypoint.decision === 'error') {
        throw new Error(`no answer: ${JSON.stringify([waypoint, asked[index]])}`);
      }
      const identity = `spiffe://${WORLD.trustDomain}/ns/${namespace}/sa/wp`;
      ways.push({
        request,
        by,
        waypoint,
        allowed: waypoint.decision === 'allow' && pods(request, identity, request.port),
      });
    }
  }
  return ways;
}

/** Whether the ztunnel in front of the target lets somebody in. */
function ztunnel(
  handed: readonly IstioAmbientPolicy[],
  objects: readonly KubernetesObject[],
): (request: AccessRequest, source: string | undefined, port: number | undefined) => boolean {
  const selectors = new Map(
    objects
      .filter(({ kind }) => kind === 'AuthorizationPolicy')
      .map(({ metadata, spec }) => [
        `${metadata.namespace}/${metadata.name}`,
        (spec?.['selector'] as { readonly matchLabels: Readonly<Record<string, string>> } | undefined)
          ?.matchLabels,
      ]),
  );
  return ({ target, sourceIp = '' }, source, port = 0) =>
    ztunnelAllows(handed, ({ namespace, name }) => selectors.get(`${namespace}/${name}`), target, {
      source,
      port,
      sourceIp,
    });
}
