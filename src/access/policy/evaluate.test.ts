import { describe, expect, it } from '@jest/globals';
import type { AccessPolicy, ClusterAccessPolicy } from '../../resources/policy.js';
import { compilePolicy } from './compile.js';
import { evaluate, type Decision } from './evaluate.js';
import type { PolicyInput, PolicySpecInput, RuleInput } from './input.js';
import type { AccessRequest, TargetWorkload } from './model.js';
import { compilePolicySet, type PolicySet } from './policy-set.js';

const TRUST_DOMAIN = 'example.org';
const order = 'spiffe://example.org/ns/payments/sa/order-service';
const admin = 'spiffe://example.org/ns/payments/sa/admin-service';
const now = Date.UTC(2026, 0, 1);

const target: TargetWorkload = {
  namespace: 'payments',
  name: 'payment-service',
  serviceAccount: 'payment-service',
  labels: { app: 'payment-service' },
  namespaceLabels: { team: 'money' },
};

function policy(name: string, spec: Partial<PolicySpecInput>, namespace = 'payments'): PolicyInput {
  return { kind: 'AccessPolicy', metadata: { name, namespace }, spec: { target: {}, rules: [], ...spec } };
}

function cluster(name: string, tier: 'Admin' | 'Baseline', rules: readonly RuleInput[]): PolicyInput {
  return { kind: 'ClusterAccessPolicy', metadata: { name }, spec: { tier, target: {}, rules } };
}

function set(...policies: readonly PolicyInput[]): PolicySet {
  return compilePolicySet(policies, { trustDomain: TRUST_DOMAIN });
}

function ask(
  policies: PolicySet,
  request: Partial<AccessRequest> & { source: string | undefined },
): Decision {
  return evaluate(policies, { target, time: now, ...request });
}

const http = (method: string, path: string, host?: string): Pick<AccessRequest, 'http'> => ({
  http: { method, path, ...(host === undefined ? {} : { host }) },
});

const paymentAccess = policy('payment-access', {
  target: { podSelector: { matchLabels: { app: 'payment-service' } } },
  rules: [
    {
      name: 'orders-may-pay',
      from: [{ serviceAccounts: [{ name: 'order-service' }] }],
      to: [{ http: { methods: ['POST'], paths: [{ exact: '/api/payments' }] } }],
    },
    {
      name: 'admins-may-manage',
      from: [{ spiffeIDs: [admin] }],
      to: [{ http: { methods: ['GET', 'POST', 'DELETE'], paths: [{ prefix: '/api/payments' }] } }],
    },
  ],
});

describe('the payments policy', () => {
  const policies = set(paymentAccess);

  it('allows by the rule that says so, and names it', () => {
    const decision = ask(policies, { source: order, ...http('POST', '/api/payments?trace=1') });
    expect(decision.allowed).toBe(true);
    expect(decision.decidedBy).toEqual({
      kind: 'rule',
      policy: { kind: 'AccessPolicy', namespace: 'payments', name: 'payment-access' },
      tier: 'Namespaced',
      rule: 'orders-may-pay',
    });
    expect(decision.reason).toBe('allowed by rule "orders-may-pay" of policy payments/payment-access');
    expect(ask(policies, { source: admin, ...http('DELETE', '/api/payments/7') }).allowed).toBe(true);
  });

  it('denies the rest and says which rule came nearest, and why it missed', () => {
    const decision = ask(policies, { source: order, ...http('DELETE', '/api/payments') });
    expect(decision.allowed).toBe(false);
    expect(decision.decidedBy).toMatchObject({ kind: 'policy', why: 'closed' });
    expect(decision.nearest).toEqual({
      policy: { kind: 'AccessPolicy', namespace: 'payments', name: 'payment-access' },
      rule: 'orders-may-pay',
      missed: [{ field: 'method', reason: 'method DELETE is not POST' }],
    });
    expect(decision.reason).toBe(
      `no rule allows DELETE /api/payments on payments/payment-service to ${order}; nearest is rule "orders-may-pay" of policy payments/payment-access, but method DELETE is not POST`,
    );
  });

  it('finds the nearest rule for the caller among thousands that are for others', () => {
    const others = Array.from({ length: 2000 }, (_, at) => ({
      name: `r-${at}`,
      from: [{ serviceAccounts: [{ name: `other-${at}` }] }],
      to: [{ http: { methods: ['DELETE'], paths: [{ exact: '/api/payments' }] } }],
    }));
    const many = set(policy('a-first', { rules: others }), paymentAccess);
    const decision = ask(many, { source: order, ...http('DELETE', '/api/payments') });
    expect(decision.nearest).toMatchObject({ rule: 'orders-may-pay', missed: [{ field: 'method' }] });
    // Three fields from what is for the caller, so what is for others is nearer.
    const timed = policy('z-last', {
      rules: [
        {
          name: 'far',
          from: [{ serviceAccounts: [{ name: 'far' }] }],
          to: [{ ports: [1], http: { methods: ['PUT'], paths: [{ exact: '/x' }] } }],
        },
      ],
    });
    const far = 'spiffe://example.org/ns/payments/sa/far';
    const asked = { source: far, port: 2, ...http('DELETE', '/api/payments') };
    expect(ask(set(timed, paymentAccess), asked).nearest).toMatchObject({ rule: 'admins-may-manage' });
    expect(ask(set(timed), asked).nearest).toMatchObject({ rule: 'far' });
  });

  it('denies a caller without an identity, or with another', () => {
    expect(ask(policies, { source: undefined, ...http('POST', '/api/payments') }).reason).toContain(
      'without identity',
    );
    for (const source of [
      'spiffe://evil.example/ns/payments/sa/order-service',
      'spiffe://example.org/ns/payments/sa/order-service/x',
      'spiffe://example.org/ns/dev/sa/x/ns/payments/sa/order-service',
      'spiffe://example.org.evil/ns/payments/sa/order-service',
    ]) {
      expect(ask(policies, { source, ...http('POST', '/api/payments') }).allowed).toBe(false);
    }
  });

  it.each([
    '//api/payments',
    '/api/../api/payments',
    '/api%2fpayments',
    '/api/payments;x',
    '/api/payments%00',
  ])('refuses %s before any rule is asked', (path) => {
    const open = set(policy('open', { rules: [{ name: 'all', from: [{ anyone: true }] }] }));
    const decision = ask(open, { source: order, ...http('POST', path) });
    expect(decision).toMatchObject({ allowed: false, decidedBy: { kind: 'request' } });
    expect(decision.reason).toContain('the path holds');
  });

  it('refuses a method in lower case, a broken host and a broken source', () => {
    const open = set(policy('open', { rules: [{ name: 'all', from: [{ anyone: true }] }] }));
    expect(ask(open, { source: order, ...http('delete', '/') }).decidedBy).toEqual({ kind: 'request' });
    expect(ask(open, { source: order, ...http('GET', '/', 'a b') }).decidedBy).toEqual({ kind: 'request' });
    expect(ask(open, { source: 'example.org/x' }).decidedBy).toEqual({ kind: 'request' });
    expect(ask(open, { source: order, time: Number.NaN }).allowed).toBe(false);
    expect(ask(open, { source: order, ...http('GET', '/', 'Pay.Example:8443') }).allowed).toBe(true);
  });

  it('takes the resources as they are', () => {
    const resource: AccessPolicy = {
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: 'a', namespace: 'payments', uid: 'u', generation: 1 },
      spec: { target: {}, rules: [] },
    };
    const clusterWide: ClusterAccessPolicy = {
      ...resource,
      kind: 'ClusterAccessPolicy',
      spec: { tier: 'Baseline', target: {}, rules: [] },
    };
    expect(set(resource, clusterWide).policies).toHaveLength(2);
  });
});

describe('principals', () => {
  const allowed = (from: RuleInput['from'], source: string | undefined): boolean =>
    ask(set(policy('p', { rules: [{ name: 'r', from }] })), { source }).allowed;

  it('match a namespace from the start, by whole segments, of a named trust domain', () => {
    const from = [{ namespaces: ['prod'] }];
    expect(allowed(from, 'spiffe://example.org/ns/prod/sa/api')).toBe(true);
    expect(allowed(from, 'spiffe://example.org/ns/prod/anything/else')).toBe(true);
    expect(allowed(from, 'spiffe://example.org/ns/prod2/sa/api')).toBe(false);
    expect(allowed(from, 'spiffe://example.org/ns/prod')).toBe(false);
    expect(allowed(from, 'spiffe://example.org/ns/dev/sa/x/ns/prod/y')).toBe(false);
    expect(allowed(from, 'spiffe://evil.example/ns/prod/sa/api')).toBe(false);
    expect(
      allowed(
        [{ namespaces: ['prod'], trustDomains: ['evil.example'] }],
        'spiffe://evil.example/ns/prod/sa/api',
      ),
    ).toBe(true);
  });

  it('match trust domains, any authenticated, and anyone', () => {
    expect(allowed([{ trustDomains: ['example.org'] }], order)).toBe(true);
    expect(allowed([{ trustDomains: ['example.or'] }], order)).toBe(false);
    expect(allowed([{ anyAuthenticated: true }], 'spiffe://other.example/x')).toBe(true);
    expect(allowed([{ anyAuthenticated: true }], undefined)).toBe(false);
    expect(allowed([{ anyone: true }], undefined)).toBe(true);
    expect(allowed([{ anyone: true, trustDomains: ['example.org'] }], undefined)).toBe(false);
  });

  it('leave out whom they except', () => {
    const from = [{ namespaces: ['payments'], except: [{ serviceAccounts: [{ name: 'admin-service' }] }] }];
    expect(allowed(from, order)).toBe(true);
    expect(allowed(from, admin)).toBe(false);
    const decision = ask(set(policy('p', { rules: [{ name: 'r', from }] })), { source: admin });
    expect(decision.reason).toContain('is excepted');
  });

  it('match identities by what the caller resolves, and open nothing when one is unknown', () => {
    const resolve = (rules: readonly RuleInput[]): PolicySet =>
      compilePolicySet([policy('p', { rules })], {
        trustDomain: TRUST_DOMAIN,
        identity: ({ name }) => (name === 'orders' ? [order] : undefined),
      });
    const rule = (name: string, effect: 'Allow' | 'Deny'): RuleInput => ({
      name,
      effect,
      from: [{ identities: [{ name }] }],
    });
    expect(ask(resolve([rule('orders', 'Allow')]), { source: order }).allowed).toBe(true);
    expect(ask(resolve([rule('orders', 'Allow')]), { source: admin }).allowed).toBe(false);
    // An Allow rule for nobody is harmless; a Deny rule that cannot say whom it keeps out is not.
    expect(resolve([rule('gone', 'Allow')]).policies[0]?.problems).toBeUndefined();
    const broken = resolve([rule('gone', 'Deny'), { name: 'all', from: [{ anyone: true }] }]);
    expect(ask(broken, { source: order })).toMatchObject({ allowed: false, decidedBy: { why: 'broken' } });
  });
});

describe('the order of decision', () => {
  const allow = (name = 'allow'): RuleInput => ({ name, from: [{ anyone: true }] });
  const deny = (name = 'deny'): RuleInput => ({ name, effect: 'Deny', from: [{ anyone: true }] });

  it.each<[string, readonly PolicyInput[], boolean, string]>([
    ['nothing', [], false, 'default'],
    ['namespaced allow', [policy('p', { rules: [allow()] })], true, 'p'],
    ['deny beats allow', [policy('p', { rules: [allow()] }), policy('q', { rules: [deny()] })], false, 'q'],
    ['Admin deny first', [cluster('a', 'Admin', [deny()]), policy('q', { rules: [deny()] })], false, 'a'],
    [
      'deny beats Admin allow',
      [cluster('a', 'Admin', [allow()]), policy('q', { rules: [deny()] })],
      false,
      'q',
    ],
    [
      'Admin allow beats Baseline deny',
      [cluster('a', 'Admin', [allow()]), cluster('b', 'Baseline', [deny()])],
      true,
      'a',
    ],
    ['Baseline allow', [cluster('b', 'Baseline', [allow()])], true, 'b'],
    ['Baseline deny beats Baseline allow', [cluster('b', 'Baseline', [allow(), deny()])], false, 'b'],
    [
      'a namespaced policy keeps Baseline out',
      [policy('p', {}), cluster('b', 'Baseline', [allow()])],
      false,
      'p',
    ],
    [
      'deny-only does not',
      [
        policy('p', { rules: [{ ...deny(), from: [{ spiffeIDs: [admin] }] }] }),
        cluster('b', 'Baseline', [allow()]),
      ],
      true,
      'b',
    ],
  ])('%s', (_, policies, allowed, by) => {
    const decision = ask(set(...policies), { source: order });
    expect(decision.allowed).toBe(allowed);
    const { decidedBy } = decision;
    expect('policy' in decidedBy ? decidedBy.policy.name : decidedBy.kind).toBe(by);
  });

  it('allows by default only where told so, and never where a policy allows some', () => {
    const options = { trustDomain: TRUST_DOMAIN, defaultAction: 'Allow' } as const;
    expect(ask(compilePolicySet([], options), { source: undefined }).allowed).toBe(true);
    expect(ask(compilePolicySet([paymentAccess], options), { source: undefined }).allowed).toBe(false);
    const adminAllow = cluster('a', 'Admin', [{ name: 'r', from: [{ spiffeIDs: [admin] }] }]);
    expect(ask(compilePolicySet([adminAllow], options), { source: order }).allowed).toBe(false);
  });

  it('reports Audit policies and never lets them decide', () => {
    const policies = set(
      paymentAccess,
      policy('freeze', { mode: 'Audit', rules: [deny('freeze')] }),
      policy('open-up', { mode: 'Audit', rules: [allow('everything')] }),
    );
    const yes = ask(policies, { source: order, ...http('POST', '/api/payments') });
    expect(yes.allowed).toBe(true);
    expect(yes.audit).toMatchObject([
      { rule: 'freeze', wouldHave: 'Deny', changesAnswer: true },
      { rule: 'everything', wouldHave: 'Allow', changesAnswer: false },
    ]);
    const no = ask(policies, { source: order, ...http('DELETE', '/x') });
    expect(no.allowed).toBe(false);
    expect(no.audit.map(({ changesAnswer }) => changesAnswer)).toEqual([false, true]);
  });

  it('holds a window to the millisecond, and an end opens nothing', () => {
    const policies = compilePolicySet(
      [
        policy('jit', {
          rules: [allow()],
          validity: { from: '2026-01-01T00:00:00Z', until: '2026-01-01T01:00:00+00:00' },
        }),
      ],
      { trustDomain: TRUST_DOMAIN, defaultAction: 'Allow' },
    );
    const at = (time: number): boolean => ask(policies, { source: order, time }).allowed;
    expect([at(now - 1), at(now), at(now + 3_599_999), at(now + 3_600_000)]).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect(ask(policies, { source: order, time: now + 3_600_000 }).reason).toContain('the policy is over');
  });
});

describe('what an enforcement point does not see', () => {
  it('never opens: Allow rules need it, Deny rules do not', () => {
    const onPost = { to: [{ ports: [8443], http: { methods: ['POST'] } }] };
    const allowPost = set(policy('p', { rules: [{ name: 'r', from: [{ anyone: true }], ...onPost }] }));
    const denyPost = set(
      policy('p', {
        rules: [
          { name: 'd', effect: 'Deny', from: [{ anyone: true }], ...onPost },
          { name: 'r', from: [{ anyone: true }] },
        ],
      }),
    );
    expect(ask(allowPost, { source: order, port: 8443 }).allowed).toBe(false);
    expect(ask(allowPost, { source: order, port: 8443, ...http('POST', '/') }).allowed).toBe(true);
    expect(ask(allowPost, { source: order, ...http('POST', '/') }).reason).toContain('port is not known');
    expect(ask(denyPost, { source: order }).allowed).toBe(false);
    expect(ask(denyPost, { source: order, port: 80 }).allowed).toBe(true);
    expect(ask(denyPost, { source: order, port: 8443, ...http('GET', '/') }).allowed).toBe(true);
  });

  it('closes the ports of the target alone', () => {
    const options = { trustDomain: TRUST_DOMAIN, defaultAction: 'Allow' } as const;
    const policies = compilePolicySet([policy('p', { target: { ports: [8443] } })], options);
    expect(ask(policies, { source: order, port: 80 }).allowed).toBe(true);
    expect(ask(policies, { source: order, port: 8443 }).allowed).toBe(false);
    expect(ask(policies, { source: order }).allowed).toBe(false);
  });
});

describe('a policy that cannot be compiled', () => {
  const cases: [string, unknown, string][] = [
    ['an unknown field', { target: {}, rules: [], modus: 'x' }, 'spec.modus'],
    ['an unknown mode', { target: {}, rules: [], mode: 'Watch' }, 'spec.mode'],
    ['no target', { rules: [] }, 'spec.target'],
    ['rules that are no list', { target: {}, rules: {} }, 'spec.rules'],
    ['an empty from', { target: {}, rules: [{ name: 'r', from: [] }] }, 'spec.rules[0].from'],
    ['no from', { target: {}, rules: [{ name: 'r' }] }, 'spec.rules[0].from'],
    [
      'a principal that names nobody',
      { target: {}, rules: [{ name: 'r', from: [{}] }] },
      'spec.rules[0].from[0]',
    ],
    [
      'two kinds in one entry',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true, namespaces: ['a'] }] }] },
      'spec.rules[0].from[0]',
    ],
    [
      'anyone: false',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: false }] }] },
      'spec.rules[0].from[0].anyone',
    ],
    [
      'a bad ID',
      { target: {}, rules: [{ name: 'r', from: [{ spiffeIDs: ['spiffe://Example.org/x'] }] }] },
      'spec.rules[0].from[0].spiffeIDs[0]',
    ],
    [
      'ipBlocks',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true, ipBlocks: ['10.0.0.1/8'] }] }] },
      'spec.rules[0].from[0].ipBlocks[0]',
    ],
    [
      'an empty to',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true }], to: [] }] },
      'spec.rules[0].to',
    ],
    [
      'an empty operation',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true }], to: [{}] }] },
      'spec.rules[0].to[0]',
    ],
    [
      'a lower-case method',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true }], to: [{ http: { methods: ['get'] } }] }] },
      'spec.rules[0].to[0].http.methods[0]',
    ],
    [
      'a condition',
      { target: {}, rules: [{ name: 'r', from: [{ anyone: true }], when: { cel: 'subjekt.id == 1' } }] },
      'spec.rules[0].when.cel',
    ],
    [
      'a rule name twice',
      {
        target: {},
        rules: [
          { name: 'r', from: [{ anyone: true }] },
          { name: 'r', from: [{ anyone: true }] },
        ],
      },
      'spec.rules[1].name',
    ],
    [
      'a time without zone',
      { target: {}, rules: [], validity: { until: '2026-01-01T00:00:00' } },
      'spec.validity.until',
    ],
    [
      'a selector with a number',
      { target: { podSelector: { matchLabels: { app: 7 } } }, rules: [] },
      'spec.target.podSelector.matchLabels.app',
    ],
  ];

  it.each(cases)('opens nothing and says why: %s', (_, spec, field) => {
    const input = {
      kind: 'AccessPolicy',
      metadata: { name: 'broken', namespace: 'payments' },
      spec,
    } as PolicyInput;
    const compiled = compilePolicy(input, { trustDomain: TRUST_DOMAIN });
    expect(compiled.problems?.map((problem) => problem.field)).toContain(field);
    const open = policy('open', { rules: [{ name: 'all', from: [{ anyone: true }] }] });
    const policies = compilePolicySet([input, open], { trustDomain: TRUST_DOMAIN, defaultAction: 'Allow' });
    const decision = ask(policies, { source: order });
    expect(decision).toMatchObject({ allowed: false, decidedBy: { kind: 'policy', why: 'broken' } });
    expect(decision.reason).toContain('cannot be compiled');
    expect(decision.reason).toContain('payments/broken');
  });

  it('leaves other targets alone, and never decides in Audit mode', () => {
    const rules = [{ name: 'r', from: [{}] }];
    const other = policy('broken', { target: { podSelector: { matchLabels: { app: 'other' } } }, rules });
    const audited = policy('shadow', { mode: 'Audit', rules });
    const decision = ask(set(other, audited, paymentAccess), {
      source: order,
      ...http('POST', '/api/payments'),
    });
    expect(decision.allowed).toBe(true);
    expect(decision.audit).toMatchObject([{ wouldHave: 'Deny', changesAnswer: true }]);
  });
});
