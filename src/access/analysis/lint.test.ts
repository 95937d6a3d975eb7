import { describe, expect, it } from '@jest/globals';
import { createInventory } from '../mesh/inventory.js';
import type { PolicyInput, RuleInput } from '../policy/input.js';
import { compilePolicySet } from '../policy/policy-set.js';
import { lintPolicies, describeFinding, type LintOptions } from './lint.js';
import { LINT_RULES } from './lint-rules.js';

const inventory = createInventory({
  trustDomain: 'td',
  namespaces: [
    { name: 'payments', labels: {} },
    { name: 'orders', labels: {} },
  ],
  workloads: ['payments', 'orders'].map((namespace) => ({
    namespace,
    name: 'api',
    serviceAccount: 'server',
    labels: { app: 'api' },
    namespaceLabels: {},
    spiffeIds: [`spiffe://td/ns/${namespace}/sa/server`],
    ports: [{ port: 80, protocol: 'http' as const }],
  })),
});

const policy = (
  name: string,
  rules: readonly RuleInput[],
  spec: Partial<PolicyInput['spec']> = {},
): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name, namespace: 'payments' },
  spec: { target: {}, rules, ...spec },
});
const from = [{ serviceAccounts: [{ namespace: 'orders', name: 'server' }] }];
const NOW = Date.UTC(2026, 0, 1);

function lint(
  inputs: readonly PolicyInput[],
  options: Partial<LintOptions> & { defaultAction?: 'Allow' | 'Deny' } = {},
): readonly string[] {
  const { defaultAction = 'Deny', ...rest } = options;
  const set = compilePolicySet(inputs, { trustDomain: 'td', defaultAction });
  return lintPolicies(set, inventory, { time: NOW, ...rest }).map(describeFinding);
}

describe('lintPolicies', () => {
  it('finds nothing wrong with a plain policy', () => {
    expect(lint([policy('p', [{ name: 'r', from, to: [{ http: { methods: ['GET'] } }] }])])).toEqual([]);
  });

  it('finds principals that nobody can hold, and guesses what was meant', () => {
    const names = { serviceAccounts: [{ namespace: 'orders', name: 'sever' }] };
    const id = { spiffeIDs: ['spiffe://td/ns/oders/sa/server'] };
    const found = lint([policy('p', [{ name: 'r', from: [names, id, { namespaces: ['order'] }] }])]);
    expect(found.filter((text) => text.includes(LINT_RULES.nobody.id))).toEqual([
      expect.stringContaining('did you mean server?'),
      expect.stringContaining('did you mean spiffe://td/ns/orders/sa/server?'),
      expect.stringContaining('did you mean orders?'),
    ]);
  });

  it('finds rules that others cover: one alone, several together, and of two equal ones the second', () => {
    const get = (name: string, paths: readonly string[]): RuleInput => ({
      name,
      from,
      to: [{ http: { methods: ['GET'], paths: paths.map((prefix) => ({ prefix })) } }],
    });
    const found = lint([
      policy('p', [get('a', ['/x']), get('b', ['/y']), get('both', ['/x/1', '/y']), get('again', ['/x'])]),
    ]);
    expect(found).toEqual([
      'warning SIG1004 payments/p, rule "both": all that it says is allowed by other rules together already',
      'warning SIG1004 payments/p, rule "again": all that it says is allowed by rule "a" of payments/p already',
    ]);
  });

  it('compares only with policies that select all that the policy selects', () => {
    const narrow = { target: { podSelector: { matchLabels: { app: 'api' } } } };
    const rule: RuleInput = { name: 'r', from };
    expect(lint([policy('narrow', [rule], narrow), policy('wide', [rule])])).toEqual([
      'warning SIG1004 payments/narrow, rule "r": all that it says is allowed by rule "r" of payments/wide already',
    ]);
    const audited = policy('wide', [rule], { mode: 'Audit' });
    expect(lint([policy('narrow', [rule], narrow), audited])).toEqual([]);
  });

  it('finds Allow rules that are denied altogether, and rules that match nothing', () => {
    const found = lint([
      policy('p', [
        { name: 'open', from, to: [{ ports: [80] }] },
        { name: 'shut', effect: 'Deny', from: [{ namespaces: ['orders'] }] },
        { name: 'none', from: [{ namespaces: ['payments'], except: [{ anyAuthenticated: true }] }] },
      ]),
    ]);
    expect(found).toEqual([
      'warning SIG1005 payments/p, rule "open": all that it allows is denied by rule "shut" of payments/p',
      'warning SIG1006 payments/p, rule "none": no request can match the rule',
    ]);
  });

  it('finds what is open, over, ending, unread or too wide', () => {
    const soon = { validity: { until: '2026-01-02T00:00:00Z' } };
    const past = { validity: { until: '2025-12-31T00:00:00Z' } };
    expect(lint([policy('soon', [{ name: 'r', from }], soon)])).toEqual([expect.stringContaining('SIG1009')]);
    expect(lint([policy('past', [{ name: 'r', from }], past)])).toEqual([expect.stringContaining('SIG1008')]);
    expect(lint([], { defaultAction: 'Allow' })).toEqual([
      'warning SIG1007 payments/api takes requests of everybody',
      'warning SIG1007 orders/api takes requests of everybody',
    ]);
    const anyone = policy('p', [{ name: 'r', from: [{ anyone: true }] }]);
    expect(lint([anyone])).toEqual([expect.stringContaining('SIG1011')]);
    const lost = policy('p', [{ name: 'r', from }], {
      target: { podSelector: { matchLabels: { app: 'x' } } },
    });
    expect(lint([lost])).toEqual([expect.stringContaining('SIG1012')]);
    const paths = [{ exact: '/a' }, { exact: '/a/' }];
    expect(lint([policy('p', [{ name: 'r', from, to: [{ http: { paths } }] }])])).toEqual([
      expect.stringContaining('/a/ and /a are different paths'),
    ]);
  });

  it('says what an audited policy would change, which issuers are not trusted, and which roles nobody grants', () => {
    const audited = policy('p', [{ name: 'r', from }], { mode: 'Audit' });
    expect(lint([audited])).toEqual([
      expect.stringMatching(
        /SIG1013 payments\/p: would allow to payments\/api: .*spiffe:\/\/td\/ns\/orders\/sa\/server/,
      ),
    ]);
    const token = policy('p', [{ name: 'r', from, when: { token: { issuers: ['https://login.exmple'] } } }]);
    expect(lint([token], { issuers: ['https://login.example'] })).toEqual([
      expect.stringContaining('did you mean https://login.example?'),
    ]);
    const roles = [{ name: 'admin', includes: ['reader'] }, { name: 'reader' }, { name: 'lost' }];
    expect(lint([], { roles, grantedRoles: ['admin'] })).toEqual([
      'info SIG1015 nothing grants the role lost',
    ]);
  });

  it('reports a policy that does not compile by its fields', () => {
    const found = lint([policy('p', [{ name: 'r', from: [{}] }])]);
    expect(found[0]).toMatch(/^error SIG1001 payments\/p: spec\.rules\[0\]/);
  });

  it('documents every rule under an id of its own', () => {
    const ids = Object.values(LINT_RULES).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^SIG1\d{3}$/);
  });
});
