import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { createInventory } from '../../src/access/mesh/inventory.js';
import { linkerdRenderer, type LinkerdOptions } from '../../src/access/mesh/linkerd/renderer.js';
import { render, type KubernetesObject, type Rendering } from '../../src/access/mesh/renderer.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import { normalisePath } from '../../src/access/policy/path.js';
import { policyName } from '../../src/access/policy/model.js';
import type { PolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { compileWorld, language, WORLD, proof } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';
import { linkerdAllows, linkerdName, type LinkerdCluster } from '../support/reference/linkerd.js';

const CLUSTER: LinkerdCluster = {
  controlPlaneNamespace: 'mesh',
  identityTrustDomain: 'cluster.local',
  defaultPolicy: 'deny',
};
const OPTIONS: LinkerdOptions = { controlPlaneNamespace: 'mesh' };
const zones = new ZoneClock();

const wide = language({
  principals: [
    'spiffeId',
    'serviceAccount',
    'namespace',
    'namespaceSelector',
    'trustDomain',
    'identity',
    'authenticated',
    'anyone',
    'ipBlock',
  ],
  operations: ['ports', 'methods', 'hosts', 'paths', 'headers', 'query', 'grpc', 'actions'],
  when: ['token', 'during', 'outside', 'sourceLabels', 'targetLabels'],
  roles: true,
});
/** What Linkerd can say, for which verdicts are often exact. */
const plain = language({
  principals: ['spiffeId', 'serviceAccount', 'identity', 'anyone', 'ipBlock'],
  operations: ['methods', 'paths'],
  pathKinds: ['exact', 'prefix'],
  modes: ['Enforce'],
  targetPorts: false,
  maxPolicies: 2,
  maxRules: 2,
});

function renderWorld(
  set: PolicySet,
  inventory: ReturnType<typeof createInventory>,
  options = OPTIONS,
): Rendering {
  return render(linkerdRenderer(options), { set, inventory, time: WORLD.now, zones });
}

/** A request as a client with a DNS name makes it, and as one with a SPIFFE URI does. */
function clientsOf({ source }: AccessRequest): readonly (string | undefined)[] {
  if (source === undefined) return [undefined];
  const name = linkerdName(source, WORLD.trustDomain, CLUSTER);
  return name === undefined ? [source] : [name, source];
}

function allows(
  rendering: { readonly objects: readonly KubernetesObject[] },
  { sourceIp = '10.0.0.1', target, port = 8080, http }: AccessRequest,
  clientId: string | undefined,
  seed: number,
): boolean {
  return linkerdAllows(
    rendering.objects,
    {
      clientId,
      clientIp: sourceIp,
      pod: target as InventoryWorkload,
      port,
      ...(http === undefined ? {} : { http }),
    },
    CLUSTER,
    // Ages at random, and the same for many, so that nothing may rest on them.
    ({ metadata }) => ((metadata.name.length * 31 + seed) * 7) % 3,
  );
}

/** Whether Linkerd tells this request as the verdicts' conditions say: the canonical path, a known method, a declared port. */
function isUsual({ http, port, target }: AccessRequest): boolean {
  if (!(target as InventoryWorkload).ports.some((declared) => declared.port === port)) return false;
  if (http === undefined) return true;
  const path = normalisePath(http.path);
  return path.ok && path.path === http.path.split('?', 1)[0];
}

function verdictsOf(rendering: Rendering, { target }: AccessRequest): readonly string[] {
  const name = `${target.namespace}/${target.name}`;
  return rendering.verdicts.filter(({ targets }) => targets?.includes(name)).map(({ fidelity }) => fidelity);
}

describe('Linkerd, decided as its sources say', () => {
  it('never lets in whom the policies deny, and answers alike where the verdicts say exact', () => {
    const tally = { asked: 0, open: 0, exact: 0, exactOpen: 0, narrower: 0 };
    const asked = asking({
      unseen: false,
      http: 'declared',
      applications: false,
      lowerCaseMethods: true,
      times: [WORLD.now],
    });
    fc.assert(
      fc.property(
        fc.oneof(worlds(wide, asked, 30), worlds(plain, asked, 30)),
        fc.constantFrom('Allow' as const, 'Deny' as const),
        fc.nat(100),
        ({ inventory, inputs, requests }, defaultAction, seed) => {
          const set = compileWorld(inputs, inventory, { defaultAction });
          const rendering = renderWorld(set, inventory);
          for (const request of requests) {
            if (request.http?.path.startsWith('/') === false) continue; // no HTTP library passes it on
            const wanted = evaluate(set, request).allowed;
            const verdicts = verdictsOf(rendering, request);
            const exact = verdicts.every((verdict) => verdict === 'Exact') && isUsual(request);
            for (const client of clientsOf(request)) {
              const given = allows(rendering, request, client, seed);
              tally.asked++;
              if (given) tally.open++;
              if (exact) tally.exact++;
              if (exact && given) tally.exactOpen++;
              if (!verdicts.every((verdict) => verdict === 'Exact')) tally.narrower++;
              if (given && !wanted) throw new Error(`wider: ${JSON.stringify({ request, client })}`);
              if (exact && given !== wanted)
                throw new Error(`not exact: ${JSON.stringify({ request, client })}`);
            }
          }
        },
      ),
      proof(400),
    );
    expect(tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 10);
    expect(tally.exactOpen).toBeGreaterThan(tally.exact / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 10);
  }, 60_000);
});

const INVENTORY = createInventory({
  trustDomain: WORLD.trustDomain,
  namespaces: [{ name: 'a', labels: {} }],
  workloads: [
    {
      namespace: 'a',
      name: 'one',
      serviceAccount: 'x',
      labels: { app: 'one' },
      namespaceLabels: {},
      spiffeIds: ['spiffe://td/ns/a/sa/x'],
      ports: [{ port: 8080, protocol: 'http' }],
      probes: [{ port: 8080, path: '/healthz?full=1' }],
    },
    {
      namespace: 'a',
      name: 'one-canary',
      serviceAccount: 'y',
      labels: { app: 'one', track: 'canary' },
      namespaceLabels: {},
      spiffeIds: ['spiffe://td/ns/a/sa/y'],
      ports: [{ port: 8080, protocol: 'http' }],
    },
  ],
});
const ONE = INVENTORY.workloads[0] as InventoryWorkload;
const CANARY = INVENTORY.workloads[1] as InventoryWorkload;
const X = 'spiffe://td/ns/a/sa/x';
const Y = 'spiffe://td/ns/a/sa/y';

function policy(rules: readonly RuleInput[], podSelector: object = {}): PolicyInput {
  return {
    kind: 'AccessPolicy',
    metadata: { name: 'p', namespace: 'a' },
    spec: { target: { podSelector }, rules },
  };
}

const get = (path: string, source: string | undefined, target = ONE): AccessRequest => ({
  source,
  sourceIp: '10.0.0.1',
  target,
  port: 8080,
  http: { method: 'GET', path },
  time: WORLD.now,
});

function ask(rendering: Rendering, request: AccessRequest): readonly boolean[] {
  return [0, 1, 2].flatMap((seed) =>
    clientsOf(request).map((client) => allows(rendering, request, client, seed)),
  );
}

describe('trap 19: Linkerd', () => {
  it('names identities as Linkerd makes them for its installation, and SPIFFE URIs as a whole', () => {
    const set = compileWorld([policy([{ name: 'r', from: [{ spiffeIDs: [X] }] }])], INVENTORY);
    const identities = renderWorld(set, INVENTORY).objects.flatMap(({ kind, spec }) =>
      kind === 'MeshTLSAuthentication' ? (spec?.['identities'] as string[]) : [],
    );
    expect(new Set(identities)).toEqual(new Set(['x.a.serviceaccount.identity.mesh.cluster.local', X]));
  });

  it('lets every authenticated caller in by name, but SPIFFE URIs only where it knows them, and says so', () => {
    const set = compileWorld([policy([{ name: 'r', from: [{ anyAuthenticated: true }] }])], INVENTORY);
    const rendering = renderWorld(set, INVENTORY);
    expect(
      allows(rendering, get('/p', X), 'somebody.else.serviceaccount.identity.mesh.cluster.local', 0),
    ).toBe(true);
    expect(ask(rendering, get('/p', Y))).toEqual(Array.from({ length: 6 }, () => true));
    expect(allows(rendering, get('/p', X), 'spiffe://td/ns/a/sa/z', 0)).toBe(false);
    expect(rendering.verdicts.find(({ rule }) => rule === 'r')).toMatchObject({
      fidelity: 'Narrower',
      reasons: [expect.stringContaining('the identities that the inventory knows are listed')],
    });
  });

  it('never renders an authorization that requires nothing, nor one whose reference leads nowhere', () => {
    fc.assert(
      fc.property(worlds(wide, asking(), 1), ({ inventory, inputs }) => {
        const { objects } = renderWorld(
          compileWorld(inputs, inventory, { defaultAction: 'Allow' }),
          inventory,
        );
        const names = new Set(
          objects.map(({ kind, metadata }) => `${kind}/${metadata.namespace ?? ''}/${metadata.name}`),
        );
        expect(names.size).toBe(objects.length);
        for (const { kind, metadata, spec } of objects) {
          if (kind !== 'AuthorizationPolicy') continue;
          const refs = spec?.['requiredAuthenticationRefs'] as readonly { kind: string; name: string }[];
          expect(refs.length).toBeGreaterThan(0);
          const target = spec?.['targetRef'] as { kind: string; name: string };
          for (const ref of [...refs, target]) {
            expect(names).toContain(`${ref.kind}/${metadata.namespace ?? ''}/${ref.name}`);
          }
        }
      }),
      proof(100),
    );
  });

  it('gives what several rules allow on overlapping paths to each of them, whichever route is chosen', () => {
    const set = compileWorld(
      [
        policy([
          { name: 'all', from: [{ spiffeIDs: [X] }], to: [{ http: { paths: [{ prefix: '/api' }] } }] },
          { name: 'one', from: [{ spiffeIDs: [Y] }], to: [{ http: { paths: [{ exact: '/api/pay' }] } }] },
        ]),
      ],
      INVENTORY,
    );
    const rendering = renderWorld(set, INVENTORY);
    for (const [path, id, wanted] of [
      ['/api/pay', X, true],
      ['/api/pay', Y, true],
      ['/api/other', X, true],
      ['/api/other', Y, false],
      ['/apix', X, false],
    ] as const) {
      expect([path, id, ...ask(rendering, get(path, id))]).toEqual([
        path,
        id,
        ...Array.from({ length: 6 }, () => wanted),
      ]);
    }
    expect(rendering.verdicts.every(({ fidelity }) => fidelity === 'Exact')).toBe(true);
  });

  it('denies a path below one that is allowed by a route of its own', () => {
    const set = compileWorld(
      [
        policy([
          { name: 'all', from: [{ anyone: true }] },
          {
            name: 'no',
            effect: 'Deny',
            from: [{ anyone: true }],
            to: [{ http: { paths: [{ prefix: '/admin' }] } }],
          },
        ]),
      ],
      INVENTORY,
    );
    const rendering = renderWorld(set, INVENTORY);
    for (const path of [
      '/admin',
      '/admin/',
      '/admin/x',
      '//admin',
      '/x/../admin',
      '/%61dmin',
      '/x/%2e%2e/admin',
      '/admin%2fx',
    ]) {
      expect([path, allows(rendering, get(path, X), undefined, 0)]).toEqual([path, false]);
    }
    expect(allows(rendering, get('/administrator', X), undefined, 0)).toBe(true);
  });

  it('closes the probes with the port and says so, or opens them to the networks of the kubelets (#8945, #11590)', () => {
    const set = compileWorld([policy([{ name: 'r', from: [{ spiffeIDs: [Y] }] }])], INVENTORY);
    const closed = renderWorld(set, INVENTORY);
    const probe = get('/healthz?full=1', undefined);
    expect(ask(closed, probe)).toEqual([false, false, false]);
    expect(closed.verdicts.flatMap(({ reasons }) => reasons).join()).toContain(
      "the kubelet's probe GET /healthz on port 8080 is denied",
    );
    const open = renderWorld(set, INVENTORY, { ...OPTIONS, probeNetworks: ['10.0.0.0/24'] });
    expect(ask(open, probe)).toEqual([true, true, true]);
    expect(ask(open, { ...probe, sourceIp: '10.0.1.1' })).toEqual([false, false, false]);
    expect(ask(open, get('/healthz/x', undefined))).toEqual([false, false, false]);
    expect(open.verdicts.flatMap(({ reasons }) => reasons).join()).toContain('is open to the networks');
  });

  it('gives each pod one Server a port, though the labels of one workload are among those of another', () => {
    const set = compileWorld(
      [policy([{ name: 'r', from: [{ spiffeIDs: [X] }] }], { matchLabels: { track: 'canary' } })],
      INVENTORY,
      { defaultAction: 'Allow' },
    );
    const rendering = renderWorld(set, INVENTORY);
    expect(ask(rendering, get('/p', Y, ONE))).toEqual(Array.from({ length: 6 }, () => true));
    expect(ask(rendering, get('/p', Y, CANARY))).toEqual(Array.from({ length: 6 }, () => false));
  });

  it('closes what no selector tells apart, and says so', () => {
    const twins = createInventory({
      ...INVENTORY,
      workloads: [ONE, { ...ONE, name: 'twin', serviceAccount: 'y' }],
    });
    const input = policy([{ name: 'r', from: [{ spiffeIDs: [X] }] }]);
    const set = compileWorld(
      [{ ...input, spec: { ...input.spec, target: { serviceAccountNames: ['x'] } } }],
      twins,
      { defaultAction: 'Allow' },
    );
    const rendering = renderWorld(set, twins);
    expect(ask(rendering, get('/p', X, twins.workloads[0]))).not.toContain(true);
    expect(rendering.verdicts.flatMap(({ reasons }) => reasons).join()).toContain('carry the same labels');
  });
});

describe('the order of things', () => {
  it('has one verdict for each rule of each policy', () => {
    const set = compileWorld([policy([{ name: 'r', from: [{ anyone: true }] }])], INVENTORY);
    expect(
      renderWorld(set, INVENTORY).verdicts.map(({ policy: ref, rule }) => [policyName(ref), rule]),
    ).toEqual(
      expect.arrayContaining([
        ['a/p', undefined],
        ['a/p', 'r'],
      ]),
    );
  });
});
