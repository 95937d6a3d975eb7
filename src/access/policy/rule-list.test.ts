import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { evaluate } from './evaluate.js';
import type { PolicyInput, RuleInput } from './input.js';
import type { AccessRequest } from './model.js';
import { compilePolicySet } from './policy-set.js';

/*
 * Enough rules for one caller that they are found by path. Alone in its policy's set, a rule is found by looking at it:
 * the answer of many must be that of each by itself.
 */

const SEGMENTS = ['a', 'b', 'ab', 'c'];
const path = fc
  .array(fc.constantFrom(...SEGMENTS), { maxLength: 10 })
  .chain((segments) => fc.constantFrom(`/${segments.join('/')}`, `/${[...segments, ''].join('/')}`))
  .map((text) => (text === '//' ? '/' : text));
const template = fc
  .array(fc.constantFrom(...SEGMENTS, '{}'), { minLength: 1, maxLength: 10 })
  .chain((parts) => fc.constantFrom(parts, [...parts, '{=**}'], [...parts, '']))
  .map((parts) => `/${parts.map((part, at) => part.replace('{', `{v${at}`)).join('/')}`);
const pattern = fc.oneof(
  path.map((exact) => ({ exact })),
  path.map((prefix) => ({ prefix })),
  template.map((text) => ({ template: text })),
);
const rule = fc.record({
  effect: fc.constantFrom('Allow', 'Allow', 'Deny'),
  to: fc.option(
    fc.array(
      fc.oneof(
        fc.array(pattern, { minLength: 1, maxLength: 3 }).map((paths) => ({ http: { paths } })),
        fc.constant({ actions: ['read'] }),
        fc.constant({ http: { methods: ['PUT'] } }),
      ),
      { minLength: 1, maxLength: 2 },
    ),
    { nil: undefined, freq: 30 },
  ),
});

const target = { namespace: 'n', name: 't', serviceAccount: 's', labels: {}, namespaceLabels: {} };
const policyOf = (rules: readonly RuleInput[]): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name: 'p', namespace: 'n' },
  spec: { target: {}, rules },
});
const asked: fc.Arbitrary<AccessRequest> = fc
  .record({
    path,
    method: fc.constantFrom('GET', 'PUT'),
    kind: fc.constantFrom('http', 'http', 'http', 'tcp', 'action'),
  })
  .map(({ path: text, method, kind }) => ({
    source: 'spiffe://td/ns/n/sa/x',
    target,
    time: 0,
    ...(kind === 'http' ? { http: { method, path: text, headers: {} } } : {}),
    ...(kind === 'action'
      ? { application: { action: { name: 'read' }, resource: { type: 't', id: '1' } } }
      : {}),
  }));

describe('rules found by path', () => {
  it('are those that are found by looking at each, and the first of them answers', () => {
    let found = 0;
    fc.assert(
      fc.property(
        fc.array(rule, { minLength: 20, maxLength: 40 }),
        fc.array(asked, { minLength: 10, maxLength: 10 }),
        (list, requests) => {
          const rules = list.map(({ effect, to }, index): RuleInput => ({
            name: `r${index}`,
            effect,
            from: [{ anyone: true }],
            ...(to === undefined ? {} : { to }),
          }));
          const set = compilePolicySet([policyOf(rules)], { trustDomain: 'td' });
          expect(set.policies[0]?.problems).toBeUndefined();
          const alone = rules.map((one) => compilePolicySet([policyOf([one])], { trustDomain: 'td' }));
          for (const request of requests) {
            const matching = rules.filter((_, index) => {
              const single = alone[index];
              return single !== undefined && evaluate(single, request).decidedBy.kind === 'rule';
            });
            const first = matching.find(({ effect }) => effect === 'Deny') ?? matching[0];
            const { decidedBy } = evaluate(set, request);
            expect(decidedBy.kind === 'rule' ? decidedBy.rule : undefined).toBe(first?.name);
            if (first !== undefined) found++;
          }
        },
      ),
      { numRuns: 150 },
    );
    expect(found).toBeGreaterThan(200);
  });
});
