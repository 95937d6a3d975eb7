import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { evaluate, type DecidedBy } from './evaluate.js';
import { explain, type ExplainedRule, type ExplainedStep, type Explanation, STEPS } from './explain.js';
import type { PolicyInput, RuleInput, WhenInput } from './input.js';
import type { AccessRequest, Policy, TargetWorkload } from './model.js';
import { compilePolicySet, type PolicySet } from './policy-set.js';
import { compileWorld, language, proof } from '../../../test/support/policies.js';
import { asking, worlds } from '../../../test/support/policy-worlds.js';

/** What the steps say decided, as evaluate says it. */
function decidedBySteps({ steps }: Explanation, set: PolicySet): DecidedBy {
  const step = steps.find(({ state }) => state === 'decides');
  if (step === undefined) return { kind: 'request' };
  const policy = (ref: Policy['ref']): Policy => {
    const found = set.policies.find((one) => one.ref === ref);
    if (found === undefined) throw new Error('the policy is of the set');
    return found;
  };
  const [whole] = step.policies;
  if (whole !== undefined) {
    const why = step.step === 'closed' || step.step === 'clusterClosed' ? 'closed' : 'broken';
    return { kind: 'policy', policy: whole, tier: policy(whole).tier, why };
  }
  const rule = step.rules.find(({ matches }) => matches);
  if (rule === undefined) return { kind: 'default' };
  return { kind: 'rule', policy: rule.policy, tier: policy(rule.policy).tier, rule: rule.rule };
}

/** Every rule of every policy alone answers whether it matches, by evaluate. */
function matchesAlone(rule: ExplainedRule, set: PolicySet, request: AccessRequest): boolean {
  const policy = set.policies.find(({ ref }) => ref === rule.policy);
  const one = policy?.rules.find(({ name }) => name === rule.rule);
  if (policy === undefined || one === undefined) throw new Error('the rule is of the set');
  const alone: Policy = { ...policy, mode: 'Enforce', rules: [one] };
  const answer = evaluate(set.replace([...set.policies], [alone]), request);
  return answer.decidedBy.kind === 'rule';
}

/** The set with a policy that cannot be compiled in place of one. */
function withBroken(set: PolicySet): readonly PolicySet[] {
  const [first] = set.policies;
  if (first === undefined || first.rules.length < 2) return [];
  return [
    set.replace([first], [{ ...first, rules: [], problems: [{ field: 'spec', message: 'is wrong' }] }]),
  ];
}

const rulesOf = ({ steps, audited }: Explanation): readonly ExplainedRule[] => [
  ...steps.flatMap(({ rules }) => rules),
  ...audited.flatMap(({ rules }) => rules),
];

function expectSameAnswer(explanation: Explanation, set: PolicySet, request: AccessRequest): void {
  const answer = evaluate(set, request);
  const { steps, policies, audited, ...same } = explanation;
  expect(JSON.parse(JSON.stringify(same))).toEqual(JSON.parse(JSON.stringify(answer)));
  expect(decidedBySteps(explanation, set)).toEqual(answer.decidedBy);
  if (answer.nearest !== undefined) expect(answer.nearest.missed).not.toEqual([]);
  if (answer.decidedBy.kind === 'request') return;
  expect(steps.map(({ step: name }) => name)).toEqual(STEPS);
  const decides = steps.findIndex(({ state }) => state === 'decides');
  expect(steps[decides]?.answer).toBe(answer.allowed ? 'Allow' : 'Deny');
  expect(steps.slice(0, decides).every(({ answer: says }) => says === undefined)).toBe(true);
  expect(steps.slice(decides + 1).every(({ state }) => state === 'notReached')).toBe(true);
  expect(policies.map(({ policy: ref }) => ref)).toEqual(
    set.concerning(request.target).map(({ ref }) => ref),
  );
  expect(audited.flatMap(({ finding }) => finding ?? [])).toEqual(answer.audit);
}

describe('an explanation', () => {
  it('always agrees with evaluate: the answer, what decided, and which rules match', () => {
    const seen = new Map<string, number>();
    const count = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1);
    fc.assert(
      fc.property(worlds(language(), asking(), 6), ({ inventory, inputs, defaultAction, requests }) => {
        const whole = compileWorld(inputs, inventory, { defaultAction });
        for (const set of [whole, ...withBroken(whole)]) {
          for (const request of requests) {
            const answer = evaluate(set, request);
            const explanation = explain(set, request);
            expectSameAnswer(explanation, set, request);
            count(answer.decidedBy.kind === 'policy' ? answer.decidedBy.why : answer.decidedBy.kind);
            count(answer.allowed ? 'allowed' : 'denied');
            for (const rule of rulesOf(explanation)) {
              expect(rule.matches).toBe(rule.missed.length === 0);
              expect(rule.matches).toBe(matchesAlone(rule, set, request));
              count(rule.matches ? 'match' : 'miss');
              for (const { field } of rule.missed) count(`missed ${field}`);
              if (rule.unsure.length > 0) count('unsure');
            }
          }
        }
      }),
      proof(250),
    );
    // All of it was common enough to prove something.
    for (const what of [
      'allowed',
      'denied',
      'rule',
      'closed',
      'broken',
      'default',
      'match',
      'miss',
      'unsure',
    ]) {
      expect([what, (seen.get(what) ?? 0) > 30]).toEqual([what, true]);
    }
    for (const field of [
      'source',
      'time',
      'port',
      'method',
      'host',
      'path',
      'header',
      'query',
      'role',
      'action',
    ]) {
      expect([field, (seen.get(`missed ${field}`) ?? 0) > 10]).toEqual([field, true]);
    }
  });

  it('is right where nothing but connections is spoken of', () => {
    fc.assert(
      fc.property(
        worlds(language({ operations: [], roles: false }), asking({ http: 'never', applications: false }), 4),
        ({ inventory, inputs, defaultAction, requests }) => {
          const set = compileWorld(inputs, inventory, { defaultAction });
          for (const request of requests) {
            expect(decidedBySteps(explain(set, request), set)).toEqual(evaluate(set, request).decidedBy);
          }
        },
      ),
      proof(60),
    );
  });
});

const target: TargetWorkload = {
  ...{ namespace: 'shop', name: 'web', serviceAccount: 'web', labels: { app: 'web' }, namespaceLabels: {} },
};
const caller = 'spiffe://td/ns/shop/sa/front';
const NOW = Date.UTC(2026, 0, 7, 10, 30);

function policy(name: string, rules: readonly RuleInput[], spec: object = {}): PolicyInput {
  return {
    kind: 'AccessPolicy',
    metadata: { namespace: 'shop', name },
    spec: { target: {}, rules, ...spec },
  };
}

function asked(inputs: readonly PolicyInput[], request: Partial<AccessRequest> = {}): Explanation {
  const set = compilePolicySet(inputs, { trustDomain: 'td' });
  return explain(set, { source: caller, target, port: 8080, time: NOW, ...request });
}

const step = ({ steps }: Explanation, name: string): ExplainedStep => {
  const found = steps.find((one) => one.step === name);
  if (found === undefined) throw new Error('there is the step');
  return found;
};

const anyone = [{ anyone: true }];

describe('what an explanation says', () => {
  const http = { method: 'GET', path: '/api/x?page=2', host: 'web.example', headers: { 'x-env': 'prod' } };

  it('names every field that was missed, with what was asked and what was found', () => {
    const rule: RuleInput = {
      name: 'r',
      from: [{ serviceAccounts: [{ name: 'back' }], ipBlocks: ['10.0.0.0/8'] }],
      to: [
        {
          ports: [9090],
          http: {
            methods: ['POST'],
            hosts: ['*.other.example'],
            paths: [{ prefix: '/pay' }, { template: '/api/{a}/b' }],
            headers: [{ name: 'X-Env', values: ['test'] }],
            query: [{ name: 'page', operator: 'DoesNotExist' }],
          },
        },
      ],
    };
    const { rules } = step(asked([policy('p', [rule])], { http, sourceIp: '192.0.2.1' }), 'allow');
    expect(rules).toEqual([
      {
        policy: { kind: 'AccessPolicy', namespace: 'shop', name: 'p' },
        rule: 'r',
        matches: false,
        missed: [
          {
            field: 'source',
            asked: 'service account shop/back of td in 10.0.0.0/8',
            found: `${caller} at 192.0.2.1`,
          },
          { field: 'port', asked: '9090', found: '8080' },
          { field: 'method', asked: 'POST', found: 'GET' },
          { field: 'host', asked: '*.other.example', found: 'web.example' },
          { field: 'path', asked: 'under /pay or /api/{a}/b', found: '/api/x' },
          { field: 'header', asked: 'x-env In test', found: 'prod' },
          { field: 'query', asked: 'page DoesNotExist', found: '2' },
        ],
        unsure: [],
      },
    ]);
  });

  const conditions: readonly (readonly [WhenInput, Partial<AccessRequest>, string, string])[] = [
    [
      { during: [{ days: ['Mon'], from: '09:00', until: '17:00', timeZone: 'UTC' }] },
      {},
      'Mon 09:00–17:00 UTC',
      '2026-01-07T10:30:00.000Z',
    ],
    [
      { sourceLabels: { matchLabels: { tier: 'gold' } } },
      { sourceWorkload: { labels: { tier: 'tin' } } },
      'tier in (gold)',
      'tier=tin',
    ],
    [
      { sourceLabels: { matchExpressions: [{ key: 'tier', operator: 'Exists' }] } },
      {},
      'tier',
      'the calling pod is not known',
    ],
    [{ targetLabels: { matchLabels: { app: 'db' } } }, {}, 'app in (db)', 'app=web'],
    [
      { sourcePosture: { noPrivileged: true, imageDigests: true } },
      { sourceWorkload: { labels: {}, images: ['a:1'], privileged: true } },
      'images by digest and no privileged container',
      'a:1; privileged',
    ],
    [{ token: { issuers: ['https://i'] } }, { token: null }, 'iss https://i', 'no valid token'],
    [{ token: { issuers: ['https://i'] } }, {}, 'iss https://i', 'tokens are not seen'],
    [
      { token: { issuers: ['https://i'], claims: [{ claim: '/realm/roles', values: ['admin'] }] } },
      { token: { claims: { iss: 'https://i', realm: { roles: ['viewer'] } } } },
      'claim realm/roles In admin',
      'realm/roles ["viewer"]',
    ],
    [
      { token: { maxAuthAge: '5m', amr: ['otp'] } },
      { token: { claims: { auth_time: 1, amr: ['otp'] } } },
      'a login of the last 300 s',
      'auth_time 1',
    ],
    [
      { attributes: [{ attribute: 'resource.owner', operator: 'Equals', other: 'subject.id' }] },
      {},
      'resource.owner Equals subject.id',
      `resource.owner is not known and subject.id is ${caller}`,
    ],
    [{ cel: 'resource.port == 1' }, {}, 'resource.port == 1', 'it is false'],
    [{ cel: 'resource.x == 1' }, {}, 'resource.x == 1', 'it cannot be evaluated'],
  ];
  it.each(conditions)('tells what %j asks for, and what there is', (when, request, wanted, found) => {
    const [rule] = step(asked([policy('p', [{ name: 'r', from: anyone, when }])], request), 'allow').rules;
    expect(rule?.missed).toEqual([{ field: Object.keys(when)[0], asked: wanted, found }]);
  });

  it('tells of application requests and of roles', () => {
    const application = { action: { name: 'write' }, resource: { type: 'document', id: '7' } };
    const rules: readonly RuleInput[] = [
      { name: 'network', from: anyone, to: [{ ports: [1] }] },
      {
        name: 'action',
        from: anyone,
        to: [{ actions: ['read'], resources: [{ type: 'folder', ids: ['1', '2'] }] }],
      },
    ];
    const roles = [
      { kind: 'AccessRole', metadata: { name: 'writer' }, spec: { permissions: [{ actions: ['write'] }] } },
    ];
    const granted: RuleInput = {
      name: 'role',
      from: anyone,
      roles: [{ name: 'writer', claim: 'groups' }, { name: 'x' }],
    };
    const none: RuleInput = { name: 'nothing', from: anyone, roles: [{ name: 'x' }] };
    const set = compilePolicySet([policy('p', [...rules, granted, none])], { trustDomain: 'td', roles });
    const explanation = explain(set, {
      ...{ source: caller, target, time: NOW, application, token: { claims: { groups: ['reader'] } } },
    });
    const missed = new Map(step(explanation, 'allow').rules.map((rule) => [rule.rule, rule.missed]));
    expect(missed.get('network')).toEqual([
      { field: 'action', asked: 'a network request', found: 'a decision of an application' },
    ]);
    expect(missed.get('action')).toEqual([
      { field: 'action', asked: 'read', found: 'write' },
      { field: 'resource', asked: 'folder 1 or 2', found: 'document 7' },
    ]);
    expect(missed.get('role')).toEqual([
      { field: 'role', asked: 'role writer by claim groups In writer', found: 'groups ["reader"]' },
    ]);
    expect(missed.get('nothing')?.map(({ field }) => field)).toEqual(['role']);
    // The other way round.
    const network = explain(set, { source: caller, target, time: NOW });
    expect(step(network, 'allow').rules.find(({ rule }) => rule === 'action')?.missed).toEqual([
      { field: 'action', asked: 'a decision of an application', found: 'a network request' },
    ]);
  });

  it('puts the nearest rule first, and tells ten of many', () => {
    const rules = Array.from({ length: 30 }, (_, index): RuleInput => ({
      name: `r${index}`,
      from: index === 20 ? anyone : [{ spiffeIDs: ['spiffe://td/other'] }],
      to: [{ http: { methods: ['POST'], paths: [{ exact: index === 10 ? '/api/x' : '/other' }] } }],
    }));
    const allow = step(asked([policy('p', rules)], { http }), 'allow');
    expect(allow.rules.map(({ rule }) => rule).slice(0, 3)).toEqual(['r20', 'r10', 'r0']);
    expect(allow.rules).toHaveLength(10);
    expect(allow.further).toBe(20);
  });

  it('tells when a policy begins and when it ended, and that it closes its target all the same', () => {
    const rules: readonly RuleInput[] = [{ name: 'r', from: anyone }];
    const explanation = asked([
      policy('later', rules, { validity: { from: '2026-02-01T00:00:00Z' } }),
      policy('over', rules, { validity: { from: '2025-01-01T00:00:00Z', until: '2026-01-07T10:30:00Z' } }),
    ]);
    expect(explanation.policies.map(({ state, from, until }) => [state, from, until])).toEqual([
      ['notYet', '2026-02-01T00:00:00.000Z', undefined],
      ['over', '2025-01-01T00:00:00.000Z', '2026-01-07T10:30:00.000Z'],
    ]);
    expect(step(explanation, 'allow').rules.map(({ missed }) => missed)).toEqual([
      [{ field: 'time', asked: 'a time from 2026-02-01T00:00:00.000Z', found: '2026-01-07T10:30:00.000Z' }],
      [
        {
          field: 'time',
          asked: 'a time from 2025-01-01T00:00:00.000Z until 2026-01-07T10:30:00.000Z',
          found: '2026-01-07T10:30:00.000Z',
        },
      ],
    ]);
    expect(step(explanation, 'closed')).toMatchObject({ state: 'decides', answer: 'Deny' });
  });

  it('tells of broken policies, of audited ones, and of what a Deny rule could not see', () => {
    const explanation = asked([
      policy('broken', [{ name: 'r', from: [] as never }]),
      policy('audited', [{ name: 'a', effect: 'Deny', from: anyone }], { mode: 'Audit' }),
      policy('silent', [{ name: 's', effect: 'Deny', from: [{ spiffeIDs: ['spiffe://td/x'] }] }], {
        mode: 'Audit',
      }),
      policy('unseen', [{ name: 'u', effect: 'Deny', from: anyone, to: [{ http: { methods: ['GET'] } }] }]),
      policy('open', [{ name: 'o', from: anyone }]),
    ]);
    expect(explanation).toMatchObject({ allowed: false, decidedBy: { kind: 'policy', why: 'broken' } });
    const broken = explanation.policies.find(({ policy: { name } }) => name === 'broken');
    expect(broken?.state).toBe('broken');
    expect(broken?.problems?.[0]?.field).toBe('spec.rules[0].from');
    const deny = step(explanation, 'deny');
    expect(deny.policies.map(({ name }) => name)).toEqual(['broken']);
    expect(deny.rules[0]).toMatchObject({
      rule: 'u',
      matches: true,
      unsure: [{ field: 'method', asked: 'GET', found: 'not seen' }],
    });
    expect(step(explanation, 'allow')).toMatchObject({ state: 'notReached', answer: 'Allow' });
    expect(explanation.audited.map(({ policy: { name }, finding }) => [name, finding?.wouldHave])).toEqual([
      ['audited', 'Deny'],
      ['silent', undefined],
    ]);
  });

  it('takes no rule for near that the policies do not come to', () => {
    const base: PolicyInput = {
      kind: 'ClusterAccessPolicy',
      metadata: { name: 'base' },
      spec: { tier: 'Baseline', target: {}, rules: [{ name: 'b', from: anyone }] },
    };
    const closed = policy('p', [{ name: 'r', from: [{ spiffeIDs: ['spiffe://td/x'] }] }]);
    expect(asked([base, closed])).toMatchObject({ allowed: false, nearest: { rule: 'r' } });
    expect(asked([base, policy('p', [])])).toMatchObject({ allowed: false, nearest: undefined });
    const broken = policy('broken', [{ name: 'r', from: [] as never }]);
    expect(asked([broken, policy('q', [{ name: 'r', from: anyone }])])).toMatchObject({
      ...{ allowed: false, nearest: undefined },
    });
  });

  it('tells nothing more of a request that is refused', () => {
    expect(
      asked([policy('p', [{ name: 'r', from: anyone }])], { http: { method: 'GET', path: '/a/../b' } }),
    ).toMatchObject({
      allowed: false,
      decidedBy: { kind: 'request' },
      steps: [],
    });
  });

  it('shows what is long or no text short and in one line', () => {
    const [rule] = step(
      asked(
        [
          policy('p', [
            { name: 'r', from: anyone, to: [{ http: { headers: [{ name: 'x-env', values: ['a'] }] } }] },
          ]),
        ],
        {
          http: { ...http, headers: { 'x-env': `one\n\u001B[31mtwo${'x'.repeat(500)}` } },
        },
      ),
      'allow',
    ).rules;
    expect(rule?.missed[0]?.found).toMatch(/^one�+\[31mtwox+…$/);
    expect(rule?.missed[0]?.found.length).toBeLessThan(210);
  });
});
