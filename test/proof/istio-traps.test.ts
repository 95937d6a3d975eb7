import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { dnsNameProblem } from '../../src/identity/spiffe/dns-name.js';
import { createInventory, type InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { istioRenderer, type IstioOptions } from '../../src/access/mesh/istio/renderer.js';
import { render, type Rendering } from '../../src/access/mesh/renderer.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import { compilePolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { startIstio, type Istio, type IstioRequest } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { toYaml } from './istio-world.js';

const NOW = Date.UTC(2026, 0, 7, 10, 30);
const web: InventoryWorkload = {
  namespace: 'prod',
  name: 'web',
  serviceAccount: 'web',
  labels: { app: 'web' },
  namespaceLabels: {},
  spiffeIds: ['spiffe://td/ns/prod/sa/web'],
  ports: [
    { port: 8080, protocol: 'http' },
    { port: 9000, protocol: 'tcp' },
  ],
};

interface Setting extends IstioOptions {
  readonly defaultAction?: 'Allow' | 'Deny';
  readonly aliases?: readonly string[];
  readonly issuers?: readonly string[];
  readonly workloads?: readonly InventoryWorkload[];
}

function policy(rules: readonly RuleInput[], spec: Partial<PolicyInput['spec']> = {}): PolicyInput {
  const target = { podSelector: { matchLabels: { app: 'web' } } };
  return {
    kind: 'AccessPolicy',
    metadata: { name: 'p', namespace: 'prod' },
    spec: { target, rules, ...spec },
  };
}

function rendered(inputs: readonly PolicyInput[], setting: Setting = {}): Rendering {
  const { aliases, issuers = [], workloads = [web], defaultAction = 'Deny', ...options } = setting;
  const inventory = createInventory({
    trustDomain: 'td',
    namespaces: [{ name: 'prod', labels: {} }],
    workloads,
    ...(aliases === undefined ? {} : { trustDomainAliases: aliases }),
  });
  const set = compilePolicySet(inputs, { trustDomain: 'td', defaultAction });
  return render(istioRenderer(options), {
    set,
    inventory,
    time: NOW,
    zones: new ZoneClock(),
    issuers: issuers.map((issuer) => ({ issuer, jwks: '__TEST_JWKS__' })),
  });
}

const rule = (rest: Partial<RuleInput>): RuleInput => ({
  name: 'r',
  from: [{ anyAuthenticated: true }],
  ...rest,
});
const id = (path: string): string => `spiffe://td${path}`;
const caller = id('/ns/prod/sa/api');

/** Every value of a field, wherever it stands in the objects. */
function valuesOf(objects: readonly unknown[], field: string): readonly unknown[] {
  const found: unknown[] = [];
  JSON.stringify(objects, (key, value: unknown) => {
    if (key === field) found.push(value);
    return value;
  });
  return found;
}

(rig.isSkipped('istio') ? describe.skip : describe)('the traps of Istio', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  async function load(rendering: Rendering, setting: Setting = {}): Promise<void> {
    const { aliases } = setting;
    const { validation } = await istio.load(
      {
        namespace: 'prod',
        labels: web.labels,
        trustDomain: 'td',
        ports: web.ports,
        ...(aliases === undefined ? {} : { trustDomainAliases: aliases }),
      },
      toYaml(rendering.objects),
    );
    const wrong = validation.filter(
      ({ accepted, warnings = [], kind }) => !accepted || (warnings.length > 0 && kind !== 'EnvoyFilter'),
    );
    expect(wrong).toEqual([]);
  }

  async function answers(requests: readonly IstioRequest[]): Promise<readonly string[]> {
    return (await istio.decide(requests)).map(({ decision }) => decision);
  }

  async function ask(
    inputs: readonly PolicyInput[],
    requests: readonly IstioRequest[],
    setting: Setting = {},
  ): Promise<readonly string[]> {
    await load(rendered(inputs, setting), setting);
    return answers(requests);
  }

  it('answers for examples/payments as the policy does', async () => {
    const text = readFileSync(new URL('../../examples/payments/access.yaml', import.meta.url), 'utf8');
    const inputs = parseAllDocuments(text).map((document) => document.toJS() as PolicyInput);
    const payment = {
      ...web,
      namespace: 'payments',
      name: 'payment-service',
      labels: { app: 'payment-service' },
    };
    const { objects, verdicts } = rendered(inputs, { workloads: [payment] });
    expect(verdicts.map(({ fidelity }) => fidelity)).toEqual(['Exact', 'Exact', 'Exact']);
    await istio.load(
      { namespace: 'payments', labels: payment.labels, trustDomain: 'td', ports: payment.ports },
      toYaml(objects),
    );
    const expected: Readonly<Record<string, readonly string[]>> = {
      'order-service': ['deny', 'allow', 'deny', 'deny'],
      'admin-service': ['allow', 'allow', 'allow', 'deny'],
      'web-service': ['deny', 'deny', 'deny', 'deny'],
    };
    for (const [name, wanted] of Object.entries(expected)) {
      const source = id(`/ns/payments/sa/${name}`);
      const requests = ['GET', 'POST', 'DELETE', 'PUT'].map((method) => ({
        source,
        method,
        path: '/api/payments',
      }));
      expect([name, await answers(requests)]).toEqual([name, wanted]);
    }
    expect(await answers([{ path: '/api/payments', method: 'POST' }])).toEqual(['deny']);
  });

  it('trap 1: names principals without spiffe://, which Istio adds itself', async () => {
    const inputs = [policy([rule({ from: [{ spiffeIDs: [caller] }] })])];
    const objects = rendered(inputs).objects.filter(({ kind }) => kind === 'AuthorizationPolicy');
    expect(valuesOf(objects, 'principals')).toEqual([['td/ns/prod/sa/api']]);
    expect(await ask(inputs, [{ source: caller }])).toEqual(['allow']);
  });

  it('trap 2: a namespace ends at its slash, and an ID inside an ID is not that ID', async () => {
    const inputs = [
      policy([rule({ from: [{ namespaces: ['a'] }, { serviceAccounts: [{ namespace: 'b', name: 's' }] }] })]),
    ];
    const sources = [
      '/ns/a/sa/x',
      '/ns/ab/sa/x',
      '/x/ns/a/sa/x',
      '/ns/b/sa/s',
      '/ns/b/sa/s2',
      '/x/ns/b/sa/s',
    ];
    expect(
      await ask(
        inputs,
        sources.map((path) => ({ source: id(path) })),
      ),
    ).toEqual([...['allow', 'deny', 'deny'], ...['allow', 'deny', 'deny']]);
  });

  it('trap 3: never uses namespaces and serviceAccounts, which match in any trust domain and amid a path', async () => {
    const setting = { aliases: ['old'] };
    const inputs = [policy([rule({ from: [{ namespaces: ['a'] }] })])];
    const { objects } = rendered(inputs, setting);
    expect(
      ['namespaces', 'serviceAccounts', 'trustDomains'].flatMap((field) => valuesOf(objects, field)),
    ).toEqual([]);
    const sources = [id('/ns/dev/sa/x/ns/a/y'), 'spiffe://old/ns/a/sa/x', id('/ns/a/sa/x')];
    expect(
      await ask(
        inputs,
        sources.map((source) => ({ source })),
        setting,
      ),
    ).toEqual(['deny', 'deny', 'allow']);
  });

  it('trap 4: an alias, and cluster.local, do not become the own trust domain', async () => {
    const setting = { aliases: ['old'] };
    const inputs = [
      policy([
        rule({
          from: [
            { spiffeIDs: [id('/ns/a/sa/x'), 'spiffe://old/ns/b/sa/x', 'spiffe://cluster.local/ns/c/sa/x'] },
          ],
        }),
      ]),
    ];
    const sources = ['td/ns/a', 'old/ns/a', 'td/ns/b', 'old/ns/b', 'td/ns/c', 'old/ns/c'];
    expect(
      await ask(
        inputs,
        sources.map((name) => ({ source: `spiffe://${name}/sa/x` })),
        setting,
      ),
    ).toEqual([...['allow', 'deny'], ...['deny', 'allow'], ...['deny', 'deny']]);
    // What is excepted from a Deny rule must not be excepted under another name too.
    const denied = [
      policy([
        rule({ effect: 'Deny', from: [{ anyone: true, except: [{ spiffeIDs: [id('/ns/a/sa/x')] }] }] }),
      ]),
    ];
    const open = { ...setting, defaultAction: 'Allow' as const };
    expect(await ask(denied, [{ source: 'spiffe://old/ns/a/sa/x' }], open)).toEqual(['deny']);
  });

  it('trap 5: says no empty list, and a policy that allows nobody allows nobody', async () => {
    const nobody = [
      policy([]),
      { ...policy([rule({ to: [{ actions: ['read'] }] })]), metadata: { name: 'q', namespace: 'prod' } },
    ];
    const { objects } = rendered(nobody, { defaultAction: 'Allow' });
    const empty: string[] = [];
    JSON.stringify(objects, (key, value: unknown) => {
      if (Array.isArray(value) && value.length === 0) empty.push(key);
      return value;
    });
    expect(empty).toEqual([]);
    expect(
      await ask(nobody, [{ source: caller }, {}, { source: caller, port: 9000 }], { defaultAction: 'Allow' }),
    ).toEqual([...['deny', 'deny', 'deny']]);
  });

  it('trap 6: HTTP rules open no TCP port, and a rule for TCP beside them does', async () => {
    const http = { http: { paths: [{ prefix: '/a' }] } };
    const on = (port: number): IstioRequest => ({
      source: caller,
      port,
      ...(port === 8080 ? { path: '/a' } : {}),
    });
    expect(await ask([policy([rule({ to: [http] })])], [on(8080), on(9000)])).toEqual(['allow', 'deny']);
    expect(await ask([policy([rule({ to: [http, { ports: [9000] }] })])], [on(8080), on(9000)])).toEqual([
      'allow',
      'allow',
    ]);
    // As in the policy, what is not seen of a Deny rule may hold; a port keeps it to HTTP. Admission warns of neither.
    const deny = (ports?: readonly number[]): PolicyInput =>
      policy([rule({ effect: 'Deny', to: [{ ...http, ...(ports === undefined ? {} : { ports }) }] })]);
    const open = { defaultAction: 'Allow' as const };
    expect(await ask([deny()], [on(8080), on(9000)], open)).toEqual(['deny', 'deny']);
    expect(await ask([deny([8080])], [on(8080), on(9000)], open)).toEqual(['deny', 'allow']);
  });

  it('trap 7: says nothing that Istio cannot parse, whose Deny rule would hold for everybody', async () => {
    const blocks = ['10.0.0.0/8', '192.0.2.0/24', '2001:db8::/32'];
    const inputs = [policy([rule({ effect: 'Deny', from: [{ ipBlocks: blocks }] })])];
    const ips = ['10.9.9.9', '192.0.2.7', '198.51.100.1'];
    const requests = ips.map((sourceIp) => ({ source: caller, sourceIp }));
    expect(await ask(inputs, requests, { defaultAction: 'Allow' })).toEqual(['deny', 'deny', 'allow']);
  });

  it('trap 8, 9: in ambient leaves HTTP out by itself, and never hands ztunnel an empty match', async () => {
    const inputs = [
      policy([
        rule({ effect: 'Deny', from: [{ anyone: true }], to: [{ http: { methods: ['DELETE'] } }] }),
        rule({ name: 's', to: [{ http: { methods: ['GET'] } }] }),
        rule({ name: 't', from: [{ trustDomains: ['td'] }], to: [{ ports: [9000] }] }),
      ]),
    ];
    const { objects, verdicts } = rendered(inputs, { mode: 'ambient' });
    const handed = await istio.ambient(toYaml(objects.filter(({ kind }) => kind === 'AuthorizationPolicy')));
    expect(handed.map(({ status }) => status)).toEqual(handed.map(() => null));
    const lists = valuesOf(handed, 'matches').flat();
    expect(lists.length).toBeGreaterThan(0);
    expect(lists.filter((match) => Object.keys(match as object).length === 0)).toEqual([]);
    expect(verdicts.filter(({ rule: name }) => name !== undefined).map(({ fidelity }) => fidelity)).toEqual([
      ...['Narrower', 'Unsupported', 'Exact'],
    ]);
  });

  it('trap 10: says in ambient that a waypoint in front changes who is seen', () => {
    const { verdicts } = rendered([policy([rule({})])], { mode: 'ambient' });
    expect(verdicts[0]?.reasons.join()).toContain('where a waypoint is in front');
  });

  it('allows what is said of HTTP only behind its filter: with the EnvoyFilter removed, that is closed', async () => {
    const rendering = rendered([policy([rule({ to: [{ http: { paths: [{ prefix: '/p' }] } }] })])]);
    const requests = [
      { source: caller, path: '/p/q' },
      { source: caller, path: '/p/x;/..%2Fadmin' },
    ];
    await load(rendering);
    expect(await answers(requests)).toEqual(['allow', 'deny']);
    await load({ ...rendering, objects: rendering.objects.filter(({ kind }) => kind !== 'EnvoyFilter') });
    expect(await answers(requests)).toEqual(['deny', 'deny']);
  });

  it('trap 11: says in ambient that other SPIFFE IDs are not known', () => {
    const { verdicts } = rendered([policy([rule({ from: [{ spiffeIDs: [id('/app')] }] })])], {
      mode: 'ambient',
    });
    expect(verdicts[1]).toMatchObject({ rule: 'r', fidelity: 'Narrower' });
    expect(verdicts[1]?.reasons[0]).toContain('/ns/<namespace>/sa/<service account>');
  });

  it('trap 12: takes a subject that is a SPIFFE ID, and asks for a token where one is needed', async () => {
    const issuers = ['https://a.example', 'https://b.example'];
    const subject = 'spiffe://td/ns/a/sa/b';
    const inputs = [
      policy([rule({ when: { token: { issuers: ['https://a.example'], subjects: [subject] } } })]),
    ];
    const jwts = [
      { iss: 'https://a.example', sub: subject },
      { iss: 'https://b.example', sub: subject },
      { iss: 'https://a.example', sub: 'x' },
    ];
    expect(
      await ask(
        inputs,
        [
          ...jwts.map((jwt) => ({ source: caller, jwt })),
          { source: caller },
          { source: caller, jwtRaw: 'e30.e30.e30' },
        ],
        { issuers },
      ),
    ).toEqual(['allow', 'deny', 'deny', 'deny', 'deny']);
    const { verdicts } = rendered(inputs);
    expect(verdicts.find(({ rule: name }) => name === 'r')).toMatchObject({ fidelity: 'Unsupported' });
  });

  it('trap 13: refuses paths that are read in two ways, whatever the rules say', async () => {
    const inputs = [
      policy([
        rule({ to: [{ http: { paths: [{ prefix: '/api' }] } }] }),
        rule({ name: 's', from: [{ spiffeIDs: [id('/all')] }] }),
      ]),
    ];
    const tricky = ['//', '/%2fadmin', '/%5Cadmin', '/a;b', '/%3bx', '/%0ax', '/%252fx', '/%zz', '/%', '/x%'];
    const requests = [caller, id('/all')].flatMap((source) =>
      tricky.map((end) => ({ source, path: `/api${end}` })),
    );
    expect(await ask(inputs, requests)).toEqual(requests.map(() => 'deny'));
    const long = '/api/'.padEnd(8192, 'x');
    const others: readonly IstioRequest[] = [
      { path: '/api/a%20b?x=//;' },
      { path: long },
      { path: `${long}x` },
      { path: '/api/x/../y' },
      { path: '/api/../admin' },
      { path: '/api/..;/admin' },
      { path: '/api', host: 'evil:host' },
    ];
    expect(await answers(others.map((one) => ({ source: caller, ...one })))).toEqual([
      ...['allow', 'allow', 'deny', 'allow', 'deny', 'deny', 'deny'],
    ]);
  });

  it('trap 13: compares percent-encodings without their case, also where the rule denies', async () => {
    const inputs = [
      policy([
        rule({ effect: 'Deny', to: [{ http: { paths: [{ exact: '/caf%C3%A9' }] } }] }),
        rule({ name: 's' }),
      ]),
    ];
    const paths = ['/caf%C3%A9', '/caf%c3%a9', '/caf%c3%A9', '/cafe'];
    expect(
      await ask(
        inputs,
        paths.map((path) => ({ source: caller, path })),
      ),
    ).toEqual(['deny', 'deny', 'deny', 'allow']);
  });

  it('trap 14: a prefix ends at a slash', async () => {
    const inputs = [policy([rule({ to: [{ http: { paths: [{ prefix: '/admin' }] } }] })])];
    const paths = ['/admin', '/admin/', '/admin/x', '/administrator', '/admin?x'];
    expect(
      await ask(
        inputs,
        paths.map((path) => ({ source: caller, path })),
      ),
    ).toEqual([...['allow', 'allow', 'allow', 'deny', 'allow']]);
  });

  it('trap 15: a DNS SAN that reads as a SPIFFE ID would do, so nobody gets one', async () => {
    const inputs = [policy([rule({ from: [{ spiffeIDs: [caller] }] })])];
    expect(await ask(inputs, [{ source: id('/ns/evil/sa/x'), dns: [caller] }])).toEqual(['allow']);
    expect(dnsNameProblem(caller)).toBeDefined();
    expect(dnsNameProblem('api.prod.svc')).toBeUndefined();
  });

  it('trap 17: takes plaintext only where somebody without an identity is allowed', async () => {
    const inputs = [
      policy([
        rule({ from: [{ anyone: true }], to: [{ ports: [8080] }] }),
        rule({ name: 's', to: [{ ports: [9000] }] }),
      ]),
    ];
    const { objects } = rendered(inputs);
    expect(valuesOf(objects, 'portLevelMtls')).toEqual([{ '8080': { mode: 'PERMISSIVE' } }]);
    await load(rendered(inputs));
    const answered = await istio.decide([
      {},
      { port: 9000 },
      { source: caller, port: 9000 },
      { source: caller },
    ]);
    expect(answered.map(({ decision, by }) => `${decision} ${by}`)).toEqual([
      ...['allow route', 'deny connection', 'allow echo', 'allow route'],
    ]);
  });

  it('reports what an audited policy would say, and never enforces it', async () => {
    const audited = policy(
      [
        rule({ effect: 'Deny', from: [{ anyone: true }] }),
        rule({ name: 's', from: [{ spiffeIDs: [caller] }] }),
      ],
      { mode: 'Audit' },
    );
    await load(rendered([audited], { defaultAction: 'Allow' }));
    const [answer] = await istio.decide([{ source: caller }]);
    expect(answer).toMatchObject({ decision: 'allow', shadow: expect.stringContaining('deny') as unknown });
  });

  it('denies everything for a policy that does not compile, and closes an expired one', async () => {
    const broken = policy([rule({ from: [{ spiffeIDs: ['nonsense'] }] })]);
    const expired = policy([rule({})], { validity: { until: '2026-01-01T00:00:00Z' } });
    for (const input of [broken, expired]) {
      expect(
        await ask([input], [{ source: caller }, { source: caller, port: 9000 }], { defaultAction: 'Allow' }),
      ).toEqual([...['deny', 'deny']]);
    }
    const later = policy([rule({})], { validity: { until: '2027-01-01T00:00:00Z' } });
    expect(rendered([later]).until).toBe(Date.UTC(2027, 0, 1));
  });

  it('opens nothing on a workload that has the labels of another, where labels cannot tell them apart', async () => {
    const canary = {
      ...web,
      name: 'canary',
      serviceAccount: 'canary',
      labels: { app: 'web', track: 'canary' },
    };
    const of = (account: string, rules: readonly RuleInput[], ports?: readonly number[]): PolicyInput => ({
      ...policy(rules, {
        target: { serviceAccountNames: [account], ...(ports === undefined ? {} : { ports }) },
      }),
      metadata: { name: account, namespace: 'prod' },
    });
    const ported = of('web', [rule({ from: [{ spiffeIDs: [caller] }] })], [8080]);
    const closed = of('canary', []);
    for (const defaultAction of ['Deny', 'Allow'] as const) {
      const rendering = rendered([ported, closed], { defaultAction, workloads: [web, canary] });
      for (const workload of [web, canary]) {
        const { labels, ports } = workload;
        await istio.load({ namespace: 'prod', labels, trustDomain: 'td', ports }, toYaml(rendering.objects));
        expect(await answers([{ source: caller }, { source: caller, port: 9000 }, {}])).toEqual([
          'deny',
          'deny',
          'deny',
        ]);
      }
      const verdict = rendering.verdicts.find(
        ({ policy: ref, targets }) => ref.name === 'web' && targets?.includes('prod/web'),
      );
      expect(verdict).toMatchObject({ fidelity: 'Narrower' });
      expect(verdict?.reasons[0]).toContain('prod/canary');
    }
  });

  it('splits what is longer than Istio takes into several objects', async () => {
    const rules = Array.from({ length: 600 }, (_, index) =>
      rule({ name: `r${index}`, from: [{ spiffeIDs: [id(`/ns/a/sa/x${index}`)] }] }),
    );
    const ids = Array.from({ length: 600 }, (_, index) => ({
      spiffeIDs: [id(`/ns/b/sa/x${index}`)],
      ipBlocks: [`10.0.0.${index % 200}/32`],
    }));
    const inputs = [policy([...rules, rule({ name: 'many', from: ids })])];
    const sources: readonly IstioRequest[] = [
      { source: id('/ns/a/sa/x0') },
      { source: id('/ns/a/sa/x599') },
      { source: id('/ns/b/sa/x599'), sourceIp: '10.0.0.199' },
      { source: id('/ns/b/sa/x599'), sourceIp: '10.0.0.198' },
    ];
    expect(await ask(inputs, sources)).toEqual(['allow', 'allow', 'allow', 'deny']);
  });
});
