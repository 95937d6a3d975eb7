import { describe, expect, it } from '@jest/globals';
import { compilePolicy } from './compile.js';
import { evaluate } from './evaluate.js';
import type { PolicyInput, RuleInput, TargetInput } from './input.js';
import type { TargetWorkload } from './model.js';
import { compilePolicySet } from './policy-set.js';

const TRUST_DOMAIN = 'example.org';
const CALLER = 'spiffe://example.org/ns/shop/sa/caller';

function workload(changes: Partial<TargetWorkload> = {}): TargetWorkload {
  return {
    namespace: 'shop',
    name: 'web',
    serviceAccount: 'web',
    labels: { app: 'web', tier: 'front' },
    namespaceLabels: { team: 'blue' },
    ...changes,
  };
}

const denyAll: RuleInput = { name: 'deny', effect: 'Deny', from: [{ anyone: true }] };

/** Whether a policy with this target, which denies everybody, concerns a workload. */
function concerns(target: TargetInput, asked: TargetWorkload, kind = 'AccessPolicy'): boolean {
  const input: PolicyInput = {
    kind,
    metadata: { name: 'p', ...(kind === 'AccessPolicy' ? { namespace: 'shop' } : {}) },
    spec: { ...(kind === 'AccessPolicy' ? {} : { tier: 'Admin' }), target, rules: [denyAll] },
  };
  const set = compilePolicySet([input], { trustDomain: TRUST_DOMAIN, defaultAction: 'Allow' });
  expect(set.policies[0]?.problems).toBeUndefined();
  return !evaluate(set, { source: CALLER, target: asked, time: 0 }).allowed;
}

describe('the target of a policy', () => {
  it.each<[string, TargetInput, Partial<TargetWorkload>, boolean]>([
    ['everything of the namespace', {}, {}, true],
    ['not another namespace', {}, { namespace: 'shop2' }, false],
    ['a label', { podSelector: { matchLabels: { app: 'web' } } }, {}, true],
    ['another label', { podSelector: { matchLabels: { app: 'web' } } }, { labels: { app: 'api' } }, false],
    ['two labels, one missing', { podSelector: { matchLabels: { app: 'web', x: 'y' } } }, {}, false],
    [
      'In',
      { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['api', 'web'] }] } },
      {},
      true,
    ],
    [
      'In, none',
      { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['api'] }] } },
      {},
      false,
    ],
    [
      'NotIn',
      { podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['web'] }] } },
      {},
      false,
    ],
    [
      'NotIn, absent label',
      { podSelector: { matchExpressions: [{ key: 'no', operator: 'NotIn', values: ['x'] }] } },
      {},
      true,
    ],
    ['Exists', { podSelector: { matchExpressions: [{ key: 'app', operator: 'Exists' }] } }, {}, true],
    ['Exists, absent', { podSelector: { matchExpressions: [{ key: 'no', operator: 'Exists' }] } }, {}, false],
    [
      'DoesNotExist',
      { podSelector: { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] } },
      {},
      false,
    ],
    [
      'a label named like a method',
      { podSelector: { matchExpressions: [{ key: 'toString', operator: 'Exists' }] } },
      {},
      false,
    ],
    ['a service account', { serviceAccountNames: ['web', 'api'] }, {}, true],
    ['another service account', { serviceAccountNames: ['api'] }, {}, false],
  ])('selects by namespace, labels and service account: %s', (_, target, changes, expected) => {
    expect(concerns(target, workload(changes))).toBe(expected);
  });

  it.each<[string, TargetInput, Partial<TargetWorkload>, boolean]>([
    ['everything', {}, { namespace: 'any' }, true],
    ['a namespace by name', { namespaces: ['a', 'shop'] }, {}, true],
    ['another namespace', { namespaces: ['a'] }, {}, false],
    ['a namespace by label', { namespaceSelector: { matchLabels: { team: 'blue' } } }, {}, true],
    ['another label', { namespaceSelector: { matchLabels: { team: 'red' } } }, {}, false],
    [
      'name and label, one wrong',
      { namespaces: ['shop'], namespaceSelector: { matchLabels: { team: 'red' } } },
      {},
      false,
    ],
    ['a pod label', { podSelector: { matchLabels: { app: 'api' } } }, {}, false],
  ])('selects over the cluster: %s', (_, target, changes, expected) => {
    expect(concerns(target, workload(changes), 'ClusterAccessPolicy')).toBe(expected);
  });

  it('is the whole namespace when it cannot be read, and the whole cluster for a cluster’s policy', () => {
    const target = { podSelector: { matchLabels: { app: 'other' } }, pods: 1 } as TargetInput;
    for (const [kind, namespace, expected] of [
      ['AccessPolicy', 'shop', false],
      ['AccessPolicy', 'elsewhere', true],
      ['ClusterAccessPolicy', 'elsewhere', false],
    ] as const) {
      const metadata = kind === 'AccessPolicy' ? { name: 'p', namespace: 'shop' } : { name: 'p' };
      const input = { kind, metadata, spec: { tier: 'Baseline', target, rules: [] } };
      const { tier, ...rest } = input.spec;
      const spec = kind === 'AccessPolicy' ? rest : { tier, ...rest };
      const set = compilePolicySet([{ ...input, spec }], {
        trustDomain: TRUST_DOMAIN,
        defaultAction: 'Allow',
      });
      const decision = evaluate(set, { source: CALLER, target: workload({ namespace }), time: 0 });
      expect(decision.allowed).toBe(expected);
    }
  });
});

describe('the rule that is named', () => {
  it('is the first by policy name and place, whatever the order of input and the kind of principal', () => {
    const allow = (name: string, from: RuleInput['from'][number]): RuleInput => ({ name, from: [from] });
    const input = (name: string, rules: readonly RuleInput[]): PolicyInput => ({
      kind: 'AccessPolicy',
      metadata: { name, namespace: 'shop' },
      spec: { target: {}, rules },
    });
    const kinds: readonly RuleInput[] = [
      allow('by-namespace', { namespaces: ['shop'] }),
      allow('by-id', { spiffeIDs: [CALLER] }),
      allow('by-trust-domain', { trustDomains: [TRUST_DOMAIN] }),
      allow('by-proof', { anyAuthenticated: true }),
      allow('by-anyone', { anyone: true }),
    ];
    for (let turn = 0; turn < kinds.length; turn++) {
      const rules = [...kinds.slice(turn), ...kinds.slice(0, turn)];
      const later = input('b', [allow('later', { anyone: true })]);
      const set = compilePolicySet([later, input('a', rules)], { trustDomain: TRUST_DOMAIN });
      expect(evaluate(set, { source: CALLER, target: workload(), time: 0 }).decidedBy).toMatchObject({
        rule: rules[0]?.name,
      });
      expect(evaluate(set, { source: undefined, target: workload(), time: 0 }).decidedBy).toMatchObject({
        rule: 'by-anyone',
      });
    }
  });
});

describe('an identity that is not known', () => {
  const problems = (rule: Omit<RuleInput, 'name'>): readonly string[] =>
    (
      compilePolicy(
        {
          kind: 'AccessPolicy',
          metadata: { name: 'p', namespace: 'shop' },
          spec: { target: {}, rules: [{ name: 'r', ...rule }] },
        },
        { trustDomain: TRUST_DOMAIN, identity: () => undefined },
      ).problems ?? []
    ).map(({ field }) => field);
  const unknown = { identities: [{ name: 'gone' }] };

  it('is a problem where it would keep somebody out, and only there', () => {
    expect(problems({ from: [unknown] })).toEqual([]);
    expect(problems({ from: [{ anyone: true, except: [unknown] }] })).toEqual([
      'spec.rules[0].from[0].except[0].identities[0]',
    ]);
    expect(problems({ effect: 'Deny', from: [unknown] })).toEqual(['spec.rules[0].from[0].identities[0]']);
    expect(problems({ effect: 'Deny', from: [{ anyone: true, except: [unknown] }] })).toEqual([]);
  });
});
