import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { evaluate } from './evaluate.js';
import type { OperationInput, PolicyInput, PrincipalInput, RuleInput } from './input.js';
import type { AccessRequest, TargetWorkload } from './model.js';
import { compilePolicySet } from './policy-set.js';

/*
 * The evaluator against a slow one that is written from the resource's text: no compiling, no index, no ranks.
 */

const NAMESPACES = ['a', 'ab'];
const ACCOUNTS = ['x', 'y'];
const DOMAINS = ['td', 'td.evil'];
const PATHS = ['/', '/p', '/p/q', '/p/q/r', '/pq'];
const IDS = DOMAINS.flatMap((td) => [
  ...NAMESPACES.flatMap((ns) => ACCOUNTS.map((sa) => `spiffe://${td}/ns/${ns}/sa/${sa}`)),
  `spiffe://${td}/ns/a/sa/x/ns/ab/sa/y`,
  `spiffe://${td}/other`,
]);

interface Naive {
  readonly source: string | undefined;
  readonly port: number | undefined;
  readonly http: { readonly method: string; readonly path: string } | undefined;
}

function holds(principal: PrincipalInput, { source }: Naive): boolean {
  if (principal.anyone === true && principal.trustDomains === undefined) return true;
  if (source === undefined) return false;
  const [, , domain, ...path] = source.split('/') as [string, string, string, ...string[]];
  if (principal.trustDomains?.includes(domain) === false) return false;
  if (principal.spiffeIDs !== undefined) return principal.spiffeIDs.includes(source);
  const inDomain = principal.trustDomains !== undefined || domain === 'td';
  const { namespaces, serviceAccounts } = principal;
  if (namespaces !== undefined) {
    return inDomain && path[0] === 'ns' && path.length > 2 && namespaces.includes(path[1] ?? '');
  }
  if (serviceAccounts !== undefined) {
    return (
      inDomain &&
      serviceAccounts.some((ref) => path.join('/') === `ns/${String(ref.namespace)}/sa/${ref.name}`)
    );
  }
  return true;
}

function pathHolds(pattern: { exact?: string; prefix?: string; template?: string }, path: string): boolean {
  if (pattern.exact !== undefined) return path === pattern.exact;
  if (pattern.prefix !== undefined) {
    return pattern.prefix === '/' || `${path}/`.startsWith(`${pattern.prefix}/`);
  }
  const source = (pattern.template ?? '').replace(/\{[a-z]+=\*\*\}/g, '.*').replace(/\{[a-z]+\}/g, '[^/]+');
  return new RegExp(`^${source}$`).test(path);
}

/** What is not seen counts against the caller. */
function operationHolds(operation: OperationInput, request: Naive, effect: 'Allow' | 'Deny'): boolean {
  const unseen = effect === 'Deny';
  const { http } = request;
  return (
    (operation.ports === undefined ||
      (request.port === undefined ? unseen : operation.ports.includes(request.port))) &&
    (operation.http?.methods === undefined ||
      (http === undefined ? unseen : operation.http.methods.includes(http.method))) &&
    (operation.http?.paths === undefined ||
      (http === undefined ? unseen : operation.http.paths.some((pattern) => pathHolds(pattern, http.path))))
  );
}

function ruleHolds(rule: RuleInput, request: Naive): boolean {
  const effect = rule.effect === 'Deny' ? 'Deny' : 'Allow';
  return (
    rule.from.some(
      (entry) => holds(entry, request) && !(entry.except ?? []).some((except) => holds(except, request)),
    ) &&
    (rule.to === undefined || rule.to.some((operation) => operationHolds(operation, request, effect)))
  );
}

function naive(
  policies: readonly PolicyInput[],
  workload: TargetWorkload,
  request: Naive,
  fallback: boolean,
): boolean {
  const tierOf = (policy: PolicyInput): string => policy.spec.tier ?? 'Namespaced';
  const concerning = policies.filter(
    ({ kind, metadata, spec }) =>
      spec.mode !== 'Audit' &&
      (kind === 'ClusterAccessPolicy' || metadata.namespace === workload.namespace) &&
      Object.entries(spec.target.podSelector?.matchLabels ?? {}).every(([k, v]) => workload.labels[k] === v),
  );
  const onPort = (policy: PolicyInput, unseen: boolean): boolean =>
    policy.spec.target.ports === undefined ||
    (request.port === undefined ? unseen : policy.spec.target.ports.includes(request.port));
  const some = (tiers: readonly string[], effect: 'Allow' | 'Deny'): boolean =>
    concerning.some(
      (policy) =>
        tiers.includes(tierOf(policy)) &&
        onPort(policy, effect === 'Deny') &&
        policy.spec.rules.some((rule) => (rule.effect ?? 'Allow') === effect && ruleHolds(rule, request)),
    );
  const closed = (tiers: readonly string[]): boolean =>
    concerning.some(
      (policy) =>
        tiers.includes(tierOf(policy)) &&
        onPort(policy, true) &&
        !(policy.spec.rules.length > 0 && policy.spec.rules.every((rule) => rule.effect === 'Deny')),
    );
  if (some(['Admin', 'Namespaced'], 'Deny')) return false;
  if (some(['Admin', 'Namespaced'], 'Allow')) return true;
  if (closed(['Namespaced'])) return false;
  if (some(['Baseline'], 'Deny')) return false;
  if (some(['Baseline'], 'Allow')) return true;
  return closed(['Admin', 'Baseline']) ? false : fallback;
}

const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const some = <T>(items: readonly T[]): fc.Arbitrary<readonly T[]> =>
  fc.uniqueArray(pick(items), { minLength: 1, maxLength: 2 });

const simple: fc.Arbitrary<PrincipalInput> = fc.oneof(
  some(IDS).map((spiffeIDs) => ({ spiffeIDs })),
  some(NAMESPACES).map((namespaces) => ({ namespaces })),
  fc.record({ namespaces: some(NAMESPACES), trustDomains: some(DOMAINS) }),
  some(ACCOUNTS).map((names) => ({ serviceAccounts: names.map((name) => ({ name, namespace: 'ab' })) })),
  some(DOMAINS).map((trustDomains) => ({ trustDomains })),
  fc.constant({ anyAuthenticated: true }),
  fc.constant({ anyone: true }),
);
const principal: fc.Arbitrary<PrincipalInput> = fc
  .tuple(simple, fc.option(fc.array(simple, { minLength: 1, maxLength: 2 }), { nil: undefined }))
  .map(([entry, except]) => (except === undefined ? entry : { ...entry, except }));
const pathPattern = fc.oneof(
  pick(PATHS).map((exact) => ({ exact })),
  pick(PATHS).map((prefix) => ({ prefix })),
  pick(['/{a}', '/p/{a}', '/{a}/q', '/p/{rest=**}', '/{a}/{rest=**}']).map((template) => ({ template })),
);
const operation: fc.Arbitrary<OperationInput> = fc.oneof(
  some([80, 443]).map((ports) => ({ ports })),
  some(['GET', 'POST']).map((methods) => ({ http: { methods } })),
  fc.array(pathPattern, { minLength: 1, maxLength: 2 }).map((paths) => ({ http: { paths } })),
  fc.record({
    ports: some([80, 443]),
    http: fc.record({
      methods: some(['GET', 'POST']),
      paths: fc.array(pathPattern, { minLength: 1, maxLength: 2 }),
    }),
  }),
);
const rules: fc.Arbitrary<readonly RuleInput[]> = fc
  .array(
    fc.record(
      {
        effect: pick(['Allow', 'Deny']),
        from: fc.array(principal, { minLength: 1, maxLength: 2 }),
        to: fc.array(operation, { minLength: 1, maxLength: 2 }),
      },
      { requiredKeys: ['from'] },
    ),
    { maxLength: 3 },
  )
  .map((list) => list.map((rule, index) => ({ name: `r${index}`, ...rule })));
const spec = {
  rules,
  mode: pick(['Enforce', 'Enforce', 'Audit']),
  target: fc.record(
    {
      ports: some([80, 443]),
      podSelector: pick([{ matchLabels: { app: 'one' } }, { matchLabels: { app: 'two' } }, {}]),
    },
    { requiredKeys: [] },
  ),
};
const policies: fc.Arbitrary<readonly PolicyInput[]> = fc
  .array(
    fc.oneof(
      fc.record({ kind: fc.constant('AccessPolicy'), namespace: pick(NAMESPACES), spec: fc.record(spec) }),
      fc.record({
        kind: fc.constant('ClusterAccessPolicy'),
        namespace: fc.constant(undefined),
        spec: fc.record({ ...spec, tier: pick(['Admin', 'Baseline']) }),
      }),
    ),
    { maxLength: 4 },
  )
  .map((list) =>
    list.map(({ kind, namespace, spec: content }, index) => ({
      kind,
      metadata: { name: `p${index}`, ...(namespace === undefined ? {} : { namespace }) },
      spec: content,
    })),
  );
const request: fc.Arbitrary<Naive> = fc.record({
  source: fc.option(pick(IDS), { nil: undefined }),
  port: fc.option(pick([80, 443]), { nil: undefined }),
  http: fc.option(fc.record({ method: pick(['GET', 'POST']), path: pick(PATHS) }), { nil: undefined }),
});

describe('the evaluator', () => {
  it('answers as the slow, obvious one does', () => {
    let open = 0;
    let asked = 0;
    fc.assert(
      fc.property(
        policies,
        fc.array(request, { minLength: 8, maxLength: 8 }),
        fc.record({ namespace: pick(NAMESPACES), app: pick(['one', 'two']) }),
        fc.boolean(),
        (inputs, requests, { namespace, app }, fallback) => {
          const set = compilePolicySet(inputs, {
            trustDomain: 'td',
            defaultAction: fallback ? 'Allow' : 'Deny',
          });
          expect(set.policies.flatMap(({ problems }) => problems ?? [])).toEqual([]);
          const target = { namespace, name: app, serviceAccount: 's', labels: { app }, namespaceLabels: {} };
          for (const one of requests) {
            const asks: AccessRequest = {
              source: one.source,
              target,
              time: 0,
              ...(one.port === undefined ? {} : { port: one.port }),
              ...(one.http === undefined ? {} : { http: one.http }),
            };
            const decision = evaluate(set, asks);
            const expected = naive(inputs, target, one, fallback);
            asked++;
            if (expected) open++;
            expect(decision.allowed).toBe(expected);
            expect(decision.reason).not.toBe('');
          }
        },
      ),
      { numRuns: 1500 },
    );
    // Both answers must be common, or the comparison proves little.
    expect(open / asked).toBeGreaterThan(0.1);
    expect(open / asked).toBeLessThan(0.9);
  });
});
