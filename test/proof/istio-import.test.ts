import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { importIstio } from '../../src/access/import/istio.js';
import { createInventory } from '../../src/access/mesh/inventory.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import { validateObject } from '../../src/resources/admit.js';
import { startIstio, type Istio } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { TOKENS } from '../support/policy-conditions.js';
import { compileWorld, IDS, WORLD, proofSeed, proofRuns } from '../support/policies.js';
import { asking, inventories, requests } from '../support/policy-worlds.js';
import { asSeen, asSent, istioRequest, istioWorkload, onIpv4, toYaml } from './istio-world.js';

const RUNS = proofRuns(80);
const SEED = proofSeed();
const MESH = { trustDomain: WORLD.trustDomain };

const pick = <T>(...items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const few = <T>(items: readonly T[]): fc.Arbitrary<readonly T[]> =>
  fc.uniqueArray(pick(...items), { minLength: 1, maxLength: 2 });
const some = <T extends object>(fields: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc
    .record(fields, { requiredKeys: [] })
    .map((all) => all as T)
    .filter((all) => Object.keys(all).length > 0);

const bare = IDS.map((uri) => uri.slice('spiffe://'.length));
const PRINCIPALS = [
  ...bare,
  ...['*', 'td/*', 'td/ns/a/*', 'td/ns/ab/*', 'td/ns/a*', 'td/ns/a/sa/x*', 'td*', '*/ns/a/sa/x', '*/x', '*x'],
  ...['cluster.local/ns/a/sa/x', 'spiffe://td/ns/a/sa/x'],
];
const BLOCKS = ['10.0.0.0/8', '10.1.2.3', '10.1.2.3/16', '192.0.2.7/32'];
const source = some({
  principals: few(PRINCIPALS),
  notPrincipals: few(PRINCIPALS),
  namespaces: few(['a', 'ab', 'a*']),
  notNamespaces: few(['a', 'ab']),
  ipBlocks: few(BLOCKS),
  notIpBlocks: few(BLOCKS),
  requestPrincipals: few(['*', 'https://issuer.example/ann', 'https://issuer.example/*', '*ann']),
});
const PATHS = [
  '/',
  '/p',
  '/p/',
  '/p/*',
  '/p*',
  '/*',
  '*',
  '*/q',
  '/p/q',
  '/p/{*}',
  '/{*}/{**}',
  '/p//q',
  '/%70',
];
const operation = some({
  methods: few(['GET', 'POST', '*', 'P*', 'get']),
  paths: few(PATHS),
  notPaths: few(PATHS),
  hosts: few(['api.example', '*.api.example', 'api.example:*', 'api*', '*']),
  ports: few(['8080', '9000', '7000']),
  notPorts: few(['8080', '9000']),
});
const when = fc.oneof(
  fc.record({ key: pick('request.headers[x-env]'), values: few(['one', 'two', '*', 'o*', 'a b']) }),
  fc.record({ key: pick('request.headers[x-env]'), notValues: few(['one', '*']) }),
  fc.record({ key: pick('source.ip'), values: few(BLOCKS) }),
  fc.record({ key: pick('source.principal'), values: few(PRINCIPALS) }),
  fc.record({ key: pick('source.principal'), notValues: few(PRINCIPALS) }),
  fc.record({ key: pick('destination.port'), values: few(['8080', '9000']) }),
  fc.record({
    key: pick(
      'request.auth.claims[department]',
      'request.auth.claims[roles]',
      'request.auth.claims[realm][roles]',
    ),
    values: few([...TOKENS.departments, ...TOKENS.roles, '*', 'e*']),
  }),
  fc.record({ key: pick('request.auth.claims[level]'), values: few(['1', '2', '*']) }),
  fc.record({ key: pick('request.auth.audiences'), values: few(TOKENS.audiences) }),
  fc.record({ key: pick('request.auth.claims[department]'), notValues: few(TOKENS.departments) }),
);
/** Half of the sources are plain, or nearly nothing would be carried exactly. */
const sources = fc.oneof(
  few(PRINCIPALS.slice(0, 14)).map((principals) => ({ principals })),
  fc.record({ principals: few([...bare, '*']), notPrincipals: few(bare) }),
  source,
);
const operations = fc.oneof(
  fc.record({ methods: few(['GET', 'POST']), paths: few(['/p', '/p/*', '/p/q', '/*']) }),
  fc.record({ ports: few(['8080', '9000']) }),
  operation,
);
const rule = fc.record(
  {
    from: fc.array(fc.record({ source: sources }), { minLength: 1, maxLength: 2 }),
    to: fc.array(fc.record({ operation: operations }), { minLength: 1, maxLength: 2 }),
    when: fc.oneof({ weight: 1, arbitrary: fc.array(when, { minLength: 1, maxLength: 2 }) }),
  },
  { requiredKeys: [] },
);
const authorizationPolicies = fc
  .array(
    fc.record({
      namespace: pick('a', 'ab', 'a', 'ab', 'istio-system'),
      action: pick('ALLOW', 'ALLOW', 'DENY'),
      selector: pick<object | undefined>(undefined, { matchLabels: { app: 'one' } }),
      rules: fc.array(rule, { minLength: 0, maxLength: 2 }),
      dryRun: pick(false, false, false, true),
    }),
    { minLength: 1, maxLength: 3 },
  )
  .map((list) =>
    list
      .filter(({ action, rules }) => action === 'ALLOW' || rules.length > 0)
      .map(({ namespace, dryRun, selector, action, rules }, index) => ({
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: {
          name: `ap${index}`,
          namespace,
          ...(dryRun ? { annotations: { 'istio.io/dry-run': 'true' } } : {}),
        },
        spec: { action, rules, ...(selector === undefined ? {} : { selector }) },
      })),
  );
const asked = asking({ unseen: false, http: 'declared', applications: false, times: [WORLD.now] });
const worlds = inventories().chain((content) => {
  const inventory = createInventory(content);
  return fc.record({
    inventory: fc.constant(inventory),
    objects: authorizationPolicies,
    requests: fc.array(requests(inventory, asked), { minLength: 14, maxLength: 14 }),
  });
});

/** Istio validates the tokens that the requests have. */
const tokens = {
  apiVersion: 'security.istio.io/v1',
  kind: 'RequestAuthentication',
  metadata: { name: 'tokens', namespace: 'istio-system' },
  spec: { jwtRules: TOKENS.issuers.map((issuer) => ({ issuer, jwks: '__TEST_JWKS__' })) },
};

(rig.isSkipped('istio') ? describe.skip : describe)('what is imported from Istio', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  it('opens nothing that Istio does not, and says the same where it has nothing to note', async () => {
    const seen = { allow: 0, deny: 0, exact: 0, noted: 0 };
    for (const { inventory, objects, requests: drawn } of fc.sample(worlds, { numRuns: RUNS, seed: SEED })) {
      const { policies, notes } = importIstio(objects, MESH);
      expect(policies.flatMap(problemsOf)).toEqual([]);
      const set = compileWorld(policies as readonly PolicyInput[], inventory, { defaultAction: 'Allow' });
      for (const [target, list] of Map.groupBy(drawn, (request) => request.target)) {
        const workload = inventory.workloads.find((one) => one === target);
        if (workload === undefined) throw new Error('no such workload');
        const sent = list.map((one) => asSent({ ...onIpv4(one), target }));
        const loaded = await istio.load(istioWorkload(workload, undefined), toYaml([...objects, tokens]));
        expect(loaded.validation.filter(({ accepted }) => !accepted)).toEqual([]);
        const answers = await istio.decide(sent.map(istioRequest));
        for (const [index, request] of sent.entries()) {
          const answer = answers[index];
          const allowed = answer?.decision === 'allow';
          const decision = evaluate(set, request);
          const shown = (): string =>
            JSON.stringify({ request, answer, ours: decision.reason, objects, notes, policies });
          if (decision.allowed && !allowed && !isForeign(request)) throw new Error(`wider: ${shown()}`);
          const same = evaluate(set, asSeen(request)).allowed === allowed;
          if (notes.length === 0 && !same && isPlain(request)) throw new Error(`not the same: ${shown()}`);
          seen[allowed ? 'allow' : 'deny'] += 1;
          seen[notes.length === 0 ? 'exact' : 'noted'] += 1;
        }
      }
    }
    const tenth = (RUNS * 14) / 10;
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(tenth);
  }, 240_000);

  it('closes what it closed, also where no rule of it can be carried', () => {
    const object = {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p', namespace: 'a' },
      spec: { rules: [{ to: [{ operation: { notPaths: ['/admin*'] } }] }] },
    };
    const { policies, notes } = importIstio([object], MESH);
    expect(policies).toMatchObject([{ kind: 'AccessPolicy', spec: { target: {}, rules: [] } }]);
    expect(notes).toMatchObject([{ field: 'spec.rules[0].to[0].operation.notPaths', severity: 'error' }]);
  });

  it('takes an empty list for any, as Istio does, and a mode STRICT for the denial of plaintext', () => {
    const ap = (spec: object): object => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p', namespace: 'a' },
      spec,
    });
    expect(importIstio([ap({ rules: [{ from: [], to: [] }] })], MESH).policies).toMatchObject([
      { spec: { rules: [{ effect: 'Allow', from: [{ anyone: true }] }] } },
    ]);
    expect(importIstio([ap({})], MESH).policies).toMatchObject([{ spec: { rules: [] } }]);
    const strict = {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'default', namespace: 'istio-system' },
      spec: { mtls: { mode: 'STRICT' } },
    };
    expect(importIstio([strict], MESH).policies).toMatchObject([
      { kind: 'ClusterAccessPolicy', spec: { tier: 'Admin', rules: [{ effect: 'Deny' }] } },
    ]);
  });
});

/** What our own admission has against a policy. */
function problemsOf(policy: object): readonly string[] {
  const { kind } = policy as PolicyInput;
  const known = kind === 'AccessPolicy' ? kind : 'ClusterAccessPolicy';
  return validateObject(known, policy as Readonly<Record<string, unknown>>)
    .filter(({ severity }) => severity === 'error')
    .map((problem) => JSON.stringify([problem, policy]));
}

/** Callers of other trust domains fail in TLS, before any policy. */
const isForeign = ({ source: caller }: AccessRequest): boolean =>
  caller !== undefined && !caller.startsWith(`spiffe://${WORLD.trustDomain}/`);

/** Requests that are not refused here whatever the policies say. */
function isPlain(request: AccessRequest): boolean {
  if (isForeign(request)) return false;
  return evaluate(OPEN, { ...asSeen(request), target: request.target }).allowed;
}

const OPEN = compileWorld([], createInventory({ trustDomain: 'td', namespaces: [], workloads: [] }), {
  defaultAction: 'Allow',
});
