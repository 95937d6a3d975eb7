import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ciliumRenderer, type CiliumOptions } from '../../src/access/mesh/cilium/renderer.js';
import {
  anyHost,
  anyPath,
  hostPattern,
  methodPattern,
  pathPattern,
} from '../../src/access/mesh/cilium/patterns.js';
import { createInventory, type InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { render } from '../../src/access/mesh/renderer.js';
import type { RuleInput } from '../../src/access/policy/input.js';
import type { HttpRequest } from '../../src/access/policy/model.js';
import { prefixPattern, templatePattern } from '../../src/access/policy/path.js';
import { startCilium, type Cilium } from '../rig/cilium.js';
import { validateConfig } from '../rig/envoy-proxy.js';
import { startKubeSchema, type KubeSchema } from '../rig/kube-schema.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, policies, WORLD, proof } from '../support/policies.js';
import {
  allowedBy,
  connections,
  contextOf,
  holdAgainstCilium,
  newTally,
  POD_NETWORK,
  podInventories,
  podOf,
} from '../support/pod-worlds.js';
import { asking, requests, TRICKY_PATHS } from '../support/policy-worlds.js';

const principals = [
  'spiffeId',
  'serviceAccount',
  'namespace',
  'namespaceSelector',
  'identity',
  'anyone',
  'ipBlock',
] as const;
const knobs = language({
  principals: [...principals, 'trustDomain', 'authenticated'],
  operations: ['ports', 'methods', 'hosts', 'paths', 'headers', 'query', 'grpc'],
  when: ['during', 'targetLabels', 'sourceLabels', 'token'],
});
const plain = language({ principals, operations: ['ports', 'methods', 'paths'], when: [], maxPolicies: 3 });

/** HTTP of the shared world, to whatever workload. */
const http: fc.Arbitrary<HttpRequest> = requests(
  createInventory({
    trustDomain: 'td',
    namespaces: [],
    workloads: [
      {
        namespace: 'a',
        name: 'one',
        serviceAccount: 'x',
        labels: {},
        namespaceLabels: {},
        spiffeIds: ['spiffe://td/x'],
        ports: [{ port: 8080, protocol: 'http' }],
      },
    ],
  }),
  asking({
    unseen: false,
    http: 'always',
    lowerCaseMethods: true,
    tokens: false,
    applications: false,
    strayPorts: false,
  }),
).map((request) => {
  if (request.http === undefined) throw new Error('HTTP is always asked');
  return request.http;
});

const options: fc.Arbitrary<CiliumOptions> = fc
  .record({ pods: fc.boolean(), outside: fc.boolean() })
  .map(({ pods, outside }) => ({
    ...(pods ? { podNetworks: [POD_NETWORK] } : {}),
    outsideHoldsIdentities: outside,
  }));

(rig.isSkipped('cilium') ? describe.skip : describe)('Cilium, decided by its own engine', () => {
  let cilium: Cilium;
  let schema: KubeSchema;
  beforeAll(async () => {
    cilium = await startCilium();
    schema = await startKubeSchema([await rig.crds('cilium')]);
  }, rig.rigTimeout);
  afterAll(async () => {
    await cilium.close();
    await schema.close();
  });

  it('never lets in what the policies deny, and answers alike where the verdicts say exact', async () => {
    const tally = newTally();
    await fc.assert(
      fc.asyncProperty(
        podInventories.chain((content) =>
          fc.record({
            content: fc.constant(content),
            inputs: fc.oneof(policies(knobs), policies(plain)),
            asked: connections(content, http, 40),
          }),
        ),
        options,
        fc.constantFrom('Allow' as const, 'Deny' as const),
        async ({ content, inputs, asked }, chosen, defaultAction) => {
          const inventory = createInventory(content);
          const set = compileWorld(inputs, inventory, { defaultAction });
          const rendering = render(ciliumRenderer(chosen), contextOf(set, inventory));
          const fitting = asked.filter(
            ({ isJudged, asked: { from, http: spoken } }) =>
              (isJudged || !('ip' in from) || chosen.outsideHoldsIdentities === true) &&
              // A connection that no rule about HTTP concerns is not looked into.
              (spoken === undefined || !isRefused(spoken)),
          );
          const wrong = await holdAgainstCilium(cilium, rendering, {
            asked: fitting,
            allows: allowedBy(set),
            isJudged: ({ asked: { http: spoken, port } }) =>
              spoken === undefined ||
              (port === WORLD.ports[0] && spoken.path.split('?')[0]?.includes('%') === false),
            tally,
          });
          const problems = (await schema.validate(rendering.objects)).flat();
          expect([...wrong, ...problems].slice(0, 3)).toEqual([]);
        },
      ),
      proof(150),
    );
    expect(tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 25);
    expect(tally.exactAllowed).toBeGreaterThan(tally.exact / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 20);
  }, 120_000);

  const workload = (namespace: string, name: string): InventoryWorkload => ({
    namespace,
    name,
    serviceAccount: name,
    labels: { app: 'same' },
    namespaceLabels: {},
    spiffeIds: [`spiffe://td/ns/${namespace}/sa/${name}`],
    ports: [{ port: 8080, protocol: 'http' }],
  });
  const [api, web, other] = [workload('shop', 'api'), workload('shop', 'web'), workload('shop', 'other')];
  const ask = async (
    rules: readonly RuleInput[],
    requests_: readonly (readonly [InventoryWorkload, { readonly method: string; readonly path: string }?])[],
  ): Promise<readonly string[]> => {
    const inventory = createInventory({
      trustDomain: 'td',
      namespaces: [{ name: 'shop', labels: {} }],
      workloads: [api, web, other],
    });
    const input = {
      kind: 'AccessPolicy',
      metadata: { name: 'p', namespace: 'shop' },
      spec: { target: { serviceAccountNames: ['api'] }, rules },
    };
    const { objects } = render(ciliumRenderer(), contextOf(compileWorld([input], inventory), inventory));
    const answer = await cilium.decide(
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
      requests_.map(([from, said]) => ({
        from: podOf(from),
        to: podOf(api),
        port: 8080,
        ...(said === undefined ? {} : { http: { host: 'api', headers: {}, ...said } }),
      })),
    );
    return answer.decisions.map(({ decision }) => decision);
  };
  const from = (name: string): RuleInput['from'] => [{ serviceAccounts: [{ name }] }];

  it('tells service accounts apart where pods have the same labels', async () => {
    expect(await ask([{ name: 'r', from: from('web') }], [[web], [other]])).toEqual(['allow', 'deny']);
  });

  it('trap 14: a path prefix ends at a segment, with or without a query', async () => {
    const rule: RuleInput = {
      name: 'r',
      from: from('web'),
      to: [{ http: { paths: [{ prefix: '/admin' }] } }],
    };
    const paths = [
      '/admin',
      '/admin?x=1',
      '/admin/users?x=1',
      '/administrator',
      '/admin/../secret',
      '/admin%2f..',
    ];
    expect(
      await ask(
        [rule],
        paths.map((path) => [web, { method: 'GET', path }]),
      ),
    ).toEqual(['allow', 'allow', 'allow', 'deny', 'deny', 'deny']);
  });

  it('trap 22: a rule for connections does not undo the HTTP rules of other callers on its port', async () => {
    const rules: readonly RuleInput[] = [
      { name: 'all', from: from('web') },
      { name: 'read', from: from('other'), to: [{ http: { methods: ['GET'] } }] },
    ];
    const post = { method: 'POST', path: '/' };
    expect(
      await ask(rules, [
        [web, post],
        [other, post],
        [other, { method: 'GET', path: '/' }],
      ]),
    ).toEqual(['allow', 'deny', 'allow']);
  });

  it('trap 22: a Deny about HTTP denies the connection, since Cilium has none, and says so', async () => {
    const rules: readonly RuleInput[] = [
      { name: 'all', from: [...from('web'), ...from('other')] },
      { name: 'no', effect: 'Deny', from: from('web'), to: [{ http: { methods: ['DELETE'] } }] },
    ];
    expect(await ask(rules, [[web], [other]])).toEqual(['deny', 'allow']);
  });

  it('trap 22: a policy that only denies closes nobody else out', async () => {
    const inventory = createInventory({
      trustDomain: 'td',
      namespaces: [{ name: 'shop', labels: {} }],
      workloads: [api, web, other],
    });
    const input = {
      kind: 'AccessPolicy',
      metadata: { name: 'p', namespace: 'shop' },
      spec: { target: {}, rules: [{ name: 'no', effect: 'Deny', from: [{ namespaces: ['shop'] }] }] },
    };
    const set = compileWorld([input], inventory, { defaultAction: 'Allow' });
    const { objects } = render(ciliumRenderer(), contextOf(set, inventory));
    expect(objects[0]?.spec).toMatchObject({ enableDefaultDeny: { ingress: false } });
    const { decisions } = await cilium.decide(
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
      [
        { from: podOf(web), to: podOf(api), port: 1 },
        { from: { ip: '192.0.2.1' }, to: podOf(api), port: 1 },
      ],
    );
    expect(decisions.map(({ decision }) => decision)).toEqual(['deny', 'allow']);
  });
});

(rig.isSkipped('envoy') ? describe.skip : describe)('regular expressions for Cilium, read by Envoy', () => {
  it(
    'are taken at the limit that Envoy has when nobody raises it',
    async () => {
      const segment = fc.constantFrom(
        'api',
        'payments',
        'v1.2',
        '{a}',
        '{b}',
        'caf%C3%A9',
        'x+y',
        'orders-of-customers',
      );
      const paths = fc.sample(
        fc
          .uniqueArray(segment, { minLength: 1, maxLength: 6 })
          .chain((parts) =>
            fc.constantFrom(
              templatePattern(`/${parts.join('/')}`),
              prefixPattern(`/${parts.filter((part) => !part.startsWith('{')).join('/')}`),
              templatePattern(`/${parts.join('/')}/{rest=**}`),
            ),
          ),
        { numRuns: 400, seed: 1 },
      );
      const patterns = [
        ...paths.flatMap((path) => (path.ok ? (pathPattern(path.pattern, 100) ?? []) : [])),
        anyPath(),
        anyHost(),
        ...['api.example', '*.payments.example.org', `${'x'.repeat(35)}.example`].flatMap(
          (host) => hostPattern(host, 100) ?? [],
        ),
        ...[undefined, ['GET', 'POST', 'DELETE']].flatMap((methods) => methodPattern(methods, 100) ?? []),
      ];
      expect(patterns.length).toBeGreaterThan(200);
      expect(patterns.filter(({ size }) => size > 85).length).toBeGreaterThan(20);
      const routes = patterns.map(({ text }) => ({
        match: { prefix: '/', headers: [{ name: 'x', string_match: { safe_regex: { regex: text } } }] },
        direct_response: { status: 200 },
      }));
      const type = (name: string): object => ({
        '@type': `type.googleapis.com/envoy.extensions.filters.${name}`,
      });
      const manager = {
        ...type('network.http_connection_manager.v3.HttpConnectionManager'),
        stat_prefix: 'x',
        http_filters: [{ name: 'router', typed_config: type('http.router.v3.Router') }],
        route_config: { virtual_hosts: [{ name: 'v', domains: ['*'], routes }] },
      };
      const listener = {
        name: 'l',
        address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
        filter_chains: [{ filters: [{ name: 'http', typed_config: manager }] }],
      };
      expect(await validateConfig({ static_resources: { listeners: [listener] } })).toBe('');
    },
    rig.rigTimeout,
  );
});

function isRefused({ method, path }: HttpRequest): boolean {
  const [plainPath] = path.split('?');
  return method !== method.toUpperCase() || TRICKY_PATHS.some((tricky) => tricky === plainPath);
}
