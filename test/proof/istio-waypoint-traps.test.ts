import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  createInventory,
  type InventoryContent,
  type InventoryService,
  type InventoryWorkload,
} from '../../src/access/mesh/inventory.js';
import { istioRenderer } from '../../src/access/mesh/istio/renderer.js';
import { render, type KubernetesObject, type Rendering } from '../../src/access/mesh/renderer.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import { compilePolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { readAccessView } from '../../src/cluster/access-view.js';
import { trustDomainSettings } from '../../src/cluster/trust-domain.js';
import { openTextStore } from '../../src/store/folder/text-store.js';
import { startIstio, type Istio, type IstioRequest } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { toYaml } from './istio-world.js';
import { ztunnelAllows } from './ztunnel.js';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient', 'istio.io/use-waypoint': 'wp' };
const CALLER = 'spiffe://td/ns/shop/sa/api';
const WAYPOINT = 'spiffe://td/ns/shop/sa/wp';

const workload = (name: string, more: Partial<InventoryWorkload> = {}): InventoryWorkload => ({
  namespace: 'shop',
  name,
  serviceAccount: name,
  labels: { app: name, tier: 'front' },
  namespaceLabels: AMBIENT,
  spiffeIds: [`spiffe://td/ns/shop/sa/${name}`],
  ports: [{ port: 8080, protocol: 'http', name: 'http' }],
  ...more,
});
const service = (
  name: string,
  selector: Readonly<Record<string, string>>,
  more: Partial<InventoryService> = {},
): InventoryService => ({
  namespace: 'shop',
  name,
  labels: {},
  selector,
  ports: [{ port: 80, targetPort: 'http', protocol: 'http' }],
  ...more,
});
const web = workload('web');
const webService = service('web', { app: 'web' });

const shop = (more: Partial<InventoryContent> = {}): InventoryContent => ({
  trustDomain: 'td',
  namespaces: [{ name: 'shop', labels: AMBIENT }],
  workloads: [web],
  services: [webService],
  gateways: [{ namespace: 'shop', name: 'wp', className: 'istio-waypoint', labels: {} }],
  ...more,
});

const policy = (rules: readonly RuleInput[], app = 'web'): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name: app, namespace: 'shop' },
  spec: { target: { podSelector: { matchLabels: { app } } }, rules },
});
const reads: RuleInput = {
  name: 'reads',
  from: [{ spiffeIDs: [CALLER] }],
  to: [{ http: { methods: ['GET'], paths: [{ prefix: '/items' }] } }],
};

function rendered(
  inputs: readonly PolicyInput[],
  content: InventoryContent = shop(),
  defaultAction: 'Allow' | 'Deny' = 'Deny',
): Rendering {
  const set = compilePolicySet(inputs, { trustDomain: 'td', defaultAction });
  const inventory = createInventory(content);
  return render(istioRenderer(), { set, inventory, time: Date.UTC(2026, 0, 7), zones: new ZoneClock() });
}

const reasons = ({ verdicts }: Rendering): string => verdicts.flatMap((one) => one.reasons).join('; ');
const fidelities = ({ verdicts }: Rendering): readonly string[] => verdicts.map(({ fidelity }) => fidelity);

(rig.isSkipped('istio') ? describe.skip : describe)('the traps of waypoints', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  /** What istiod's waypoint says of requests to the Services, which have the addresses 10.96.0.1, … in order. */
  async function atWaypoint(
    objects: readonly KubernetesObject[],
    requests: readonly IstioRequest[],
    { services = [] }: InventoryContent = shop(),
  ): Promise<readonly string[]> {
    const served = services.filter(({ labels }) => labels['istio.io/use-waypoint'] !== 'none');
    const { validation } = await istio.load(
      {
        namespace: 'shop',
        trustDomain: 'td',
        waypoint: {
          name: 'wp',
          services: served.map((one, index) => ({ ...one, address: `10.96.0.${index + 1}` })),
          addresses: ['10.0.0.9'],
        },
      },
      toYaml(objects),
    );
    expect(validation.filter(({ accepted, warnings = [] }) => !accepted || warnings.length > 0)).toEqual([]);
    const asked = requests.map((one) => ({ source: CALLER, address: '10.96.0.1', port: 80, ...one }));
    return (await istio.decide(asked)).map(({ decision }) => decision);
  }

  async function atPod(
    { objects }: Rendering,
    target: InventoryWorkload,
    source: string,
    port = 8080,
  ): Promise<boolean> {
    const policies = objects.filter(({ kind }) => kind === 'AuthorizationPolicy');
    const handed = await istio.ambient(toYaml(policies));
    const selectorOf = (of: { readonly namespace: string; readonly name: string }) =>
      (
        policies.find(({ metadata }) => metadata.namespace === of.namespace && metadata.name === of.name)
          ?.spec?.['selector'] as { readonly matchLabels: Readonly<Record<string, string>> } | undefined
      )?.matchLabels;
    return ztunnelAllows(handed, selectorOf, target, { source, port, sourceIp: '10.1.1.1' });
  }

  it('trap 10: says HTTP to the waypoint by targetRefs, on the port of the Service, and is exact', async () => {
    const rendering = rendered([policy([reads])]);
    expect(new Set(fidelities(rendering))).toEqual(new Set(['Exact']));
    expect(
      await atWaypoint(rendering.objects, [
        { path: '/items/1' },
        { path: '/items/1', method: 'POST' },
        { path: '/itemsX' },
        { path: '/items/1', source: 'spiffe://td/ns/shop/sa/other' },
      ]),
    ).toEqual(['allow', 'deny', 'deny', 'deny']);
  });

  it('trap 10: lets nobody but the waypoint to the pods, so that no caller goes past it', async () => {
    const rendering = rendered([policy([{ name: 'all', from: [{ spiffeIDs: [CALLER] }] }])]);
    expect(await atPod(rendering, web, WAYPOINT)).toBe(true);
    expect(await atPod(rendering, web, WAYPOINT, 9999)).toBe(false);
    expect(await atPod(rendering, web, CALLER)).toBe(false);
  });

  it('takes no selector for a rule of the waypoint: istiod passes over it there', async () => {
    const selected = rendered([policy([reads])], shop({ services: [] }));
    const deny: PolicyInput = policy([{ name: 'none', effect: 'Deny', from: [{ anyone: true }] }]);
    const sidecars = rendered([deny], {
      ...shop(),
      namespaces: [{ name: 'shop', labels: {} }],
      services: [],
    });
    // The same DENY by selector, as sidecars get it, does nothing at the waypoint.
    const policies = sidecars.objects.filter(({ kind }) => kind === 'AuthorizationPolicy');
    expect(await atWaypoint(policies, [{ path: '/' }])).toEqual(['allow']);
    expect(await atWaypoint(rendered([deny]).objects, [{ path: '/' }])).toEqual(['deny']);
    expect(selected.objects.some(({ spec }) => spec?.['targetRefs'] !== undefined)).toBe(true);
  });

  it('closes calls by pod address where the waypoint takes them, and leaves other Services open', async () => {
    const content = shop({
      workloads: [web, workload('shelf')],
      services: [webService, service('shelf', { app: 'shelf' })],
      gateways: [
        {
          namespace: 'shop',
          name: 'wp',
          className: 'istio-waypoint',
          labels: { 'istio.io/waypoint-for': 'all' },
        },
      ],
    });
    const { objects } = rendered([policy([reads])], content, 'Allow');
    const requests = [
      { path: '/items', address: '10.0.0.9', port: 8080 },
      { path: '/items' },
      { path: '/any', address: '10.96.0.2' },
    ];
    expect(await atWaypoint(objects, requests, content)).toEqual(['deny', 'allow', 'allow']);
    const gateway = objects.filter(({ metadata }) => metadata.name !== 'waypoint.wp.allow');
    // Without what is said to the Gateway, the waypoint would let it through, and the ztunnel the waypoint.
    expect(await atWaypoint(gateway, requests, content)).toEqual(['allow', 'allow', 'allow']);
  });

  it('closes a Service of which the rendering does not know yet, since the pods let the waypoint in', async () => {
    const { objects } = rendered([policy([reads])], shop(), 'Allow');
    const later = shop({ services: [webService, service('later', { app: 'web' })] });
    const requests = [{ path: '/items' }, { path: '/secret', address: '10.96.0.2' }];
    expect(await atWaypoint(objects, requests, later)).toEqual(['allow', 'deny']);
  });

  it('says that a Service without an address leads past the waypoint', () => {
    const pods = service('pods', { app: 'web' }, { headless: true });
    const rendering = rendered([policy([reads])], shop({ services: [webService, pods] }));
    expect(reasons(rendering)).toContain('Service shop/pods has no address of its own');
    expect(fidelities(rendering)).toContain('Narrower');
  });

  it('allows on a Service only what all of its workloads allow, and says so', async () => {
    const content = shop({
      workloads: [web, workload('shelf')],
      services: [service('front', { tier: 'front' })],
    });
    const shelf = policy([{ ...reads, from: [{ spiffeIDs: [CALLER] }, { spiffeIDs: [WAYPOINT] }] }], 'shelf');
    const rendering = rendered([policy([reads]), shelf], content);
    expect(await atWaypoint(rendering.objects, [{ path: '/items' }], content)).toEqual(['deny']);
    expect(reasons(rendering)).toContain(
      'Service shop/front leads to shop/web, shop/shelf, for which the policies differ',
    );
    const alike = rendered([policy([reads]), policy([reads], 'shelf')], content);
    expect(await atWaypoint(alike.objects, [{ path: '/items' }], content)).toEqual(['allow']);
    expect(new Set(fidelities(alike))).toEqual(new Set(['Exact']));
  });

  it('opens nothing to a waypoint whose identity somebody else has too', async () => {
    const content = shop({ workloads: [web, workload('thief', { serviceAccount: 'wp' })] });
    const rendering = rendered([policy([reads])], content);
    expect(await atPod(rendering, web, WAYPOINT)).toBe(false);
    expect(reasons(rendering)).toContain('shop/thief has the identity of waypoint shop/wp');
    expect(fidelities(rendering)).toContain('Narrower');
  });

  it('opens nothing by labels that a workload without a waypoint has too', async () => {
    const other = workload('web2', {
      labels: { ...web.labels, 'istio.io/use-waypoint': 'none' },
    });
    const past = service('web', { app: 'web' }, { labels: { 'istio.io/use-waypoint': 'none' } });
    const content = shop({
      workloads: [web, other],
      services: [{ ...past, name: 'past' }],
      gateways: [
        {
          namespace: 'shop',
          name: 'wp',
          className: 'istio-waypoint',
          labels: { 'istio.io/waypoint-for': 'all' },
        },
      ],
    });
    const rendering = rendered([policy([reads])], content);
    expect(await atPod(rendering, web, WAYPOINT)).toBe(false);
    expect(await atPod(rendering, other, WAYPOINT)).toBe(false);
    expect(reasons(rendering)).toContain('Service shop/past uses no waypoint, so who calls it is refused');
  });

  it('opens nothing by labels that a workload behind a waypoint has too', async () => {
    const plain = workload('web', { namespaceLabels: { 'istio.io/dataplane-mode': 'ambient' } });
    const behind = workload('web2', {
      ...plain,
      name: 'web2',
      labels: { ...plain.labels, x: '1', 'istio.io/use-waypoint': 'wp' },
    });
    const content = shop({
      namespaces: [{ name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } }],
      workloads: [plain, behind],
      services: [],
      gateways: [
        {
          namespace: 'shop',
          name: 'wp',
          className: 'istio-waypoint',
          labels: { 'istio.io/waypoint-for': 'all' },
        },
      ],
    });
    const one = policy([reads]);
    const inputs: readonly PolicyInput[] = [
      {
        ...one,
        spec: { ...one.spec, target: { podSelector: { matchLabels: { app: 'web' } }, ports: [9000] } },
      },
      {
        kind: 'AccessPolicy',
        metadata: { name: 'none', namespace: 'shop' },
        spec: {
          target: { podSelector: { matchLabels: { x: '1' } } },
          rules: [{ name: 'none', effect: 'Deny', from: [{ spiffeIDs: [CALLER] }] }],
        },
      },
    ];
    const rendering = rendered(inputs, content, 'Allow');
    // On ports that no policy closes everybody may call the one, but this caller not the other.
    expect(await atPod(rendering, behind, CALLER)).toBe(false);
    expect(reasons(rendering)).toContain('among those of shop/web2 too, which Istio cannot tell apart');
  });

  it('does not compare addresses at a waypoint, where istiod takes ipBlocks and Envoy has no address', async () => {
    const blocks = ['10.0.0.0/8'];
    const raw = (source: object): KubernetesObject => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'raw', namespace: 'shop' },
      spec: {
        targetRefs: [{ group: '', kind: 'Service', name: 'web' }],
        action: 'DENY',
        rules: [{ from: [{ source }] }],
      },
    });
    const request = { path: '/items', sourceIp: '10.1.1.1' };
    expect(await atWaypoint([raw({ ipBlocks: blocks })], [request])).toEqual(['allow']);
    expect(await atWaypoint([raw({ notIpBlocks: blocks })], [request])).toEqual(['deny']);
    const rendering = rendered([
      policy([reads, { name: 'net', effect: 'Deny', from: [{ anyone: true, ipBlocks: blocks }] }]),
    ]);
    expect(await atWaypoint(rendering.objects, [request])).toEqual(['deny']);
    expect(reasons(rendering)).toContain('a waypoint cannot compare the address of the caller (ipBlocks)');
  });

  it('refuses ambiguous requests at the waypoint, and closes what is said of HTTP when the filter is gone', async () => {
    const { objects } = rendered([policy([reads])]);
    const paths = [
      '/items/a;b',
      '/items//a',
      '/items/%2e%2e/x',
      '/items/..%2Fadmin',
      '/items/%252e',
      '/items/a%',
    ];
    const hosts = ['web', 'web.shop:80', 'a/b', 'a@b'];
    expect(
      await atWaypoint(objects, [
        ...paths.map((path) => ({ path })),
        ...hosts.map((host) => ({ path: '/items/%41b', host })),
      ]),
    ).toEqual([...paths.map(() => 'deny'), 'allow', 'allow', 'deny', 'deny']);
    const bare = objects.filter(({ kind }) => kind !== 'TrafficExtension');
    expect(await atWaypoint(bare, [{ path: '/items/a;b' }, { path: '/items/a' }])).toEqual(['deny', 'deny']);
  });

  it('reads who uses which waypoint from manifests, and then renders for it unasked', async () => {
    const text = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio.io/dataplane-mode: ambient, istio.io/use-waypoint: wp } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: wp, namespace: shop }
spec: { gatewayClassName: istio-waypoint, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: web }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { serviceAccountName: web, containers: [{ name: web, image: web, ports: [{ name: web, containerPort: 8080 }] }] }
---
apiVersion: signet.dev/v1alpha1
kind: AccessPolicy
metadata: { name: web, namespace: shop }
spec:
  target: { podSelector: { matchLabels: { app: web } } }
  rules:
    - name: reads
      effect: Allow
      from: [{ spiffeIDs: ['${CALLER}'] }]
      to: [{ http: { methods: [GET], paths: [{ prefix: /items }] } }]
`;
    const store = openTextStore('manifests', text, 'node');
    expect(store.problems.value.filter(({ severity }) => severity === 'error')).toEqual([]);
    const { policies: set, inventory } = readAccessView(store, trustDomainSettings({ flag: 'td' }));
    const context = { set, inventory, time: Date.UTC(2026, 0, 7), zones: new ZoneClock() };
    const rendering = render(istioRenderer(), context);
    const requests = [{ path: '/items' }, { path: '/items', method: 'POST' }];
    expect(await atWaypoint(rendering.objects, requests)).toEqual(['allow', 'deny']);
    const [target] = inventory.workloads;
    expect(
      target && [await atPod(rendering, target, WAYPOINT), await atPod(rendering, target, CALLER)],
    ).toEqual([true, false]);
  });

  it('says that nothing guards pods which no ztunnel stands in front of', () => {
    const outside = workload('web', { namespaceLabels: { 'istio.io/use-waypoint': 'wp' } });
    const content = shop({
      workloads: [outside, workload('other', { labels: { 'istio.io/dataplane-mode': 'ambient' } })],
      namespaces: [{ name: 'shop', labels: { 'istio.io/use-waypoint': 'wp' } }],
    });
    const rendering = rendered([policy([reads])], content);
    expect(reasons(rendering)).toContain('so no ztunnel guards them');
    expect(fidelities(rendering)).toContain('Narrower');
  });
});
