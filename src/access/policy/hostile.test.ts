import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { language, policies, roles } from '../../../test/support/policies.js';
import { asking, inventories, requests } from '../../../test/support/policy-worlds.js';
import { createInventory } from '../mesh/inventory.js';
import { evaluate } from './evaluate.js';
import type { PolicyInput, RoleInput } from './input.js';
import type { AccessRequest, TargetWorkload } from './model.js';
import { compilePolicySet } from './policy-set.js';

/* Whatever stands where a policy, a role or a request should: nothing throws, and what is broken opens nothing. */

const junk = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    null,
    [],
    {},
    '',
    0,
    -1,
    true,
    ['__proto__'],
    { toString: 1 },
    '\u0000',
    Number.NaN,
  ),
);

interface Hole {
  readonly holder: Record<string, unknown> | unknown[];
  readonly key: string;
}

/** Every place in a value where something else could stand. */
function holes(value: unknown): Hole[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    { holder: value as Record<string, unknown>, key },
    ...holes(inner),
  ]);
}

/** The same value, where in one place something else stands, or where a field is too many. */
function spoilt<T>(value: T, where: number, what: unknown, extra: boolean): T {
  const copy = structuredClone(value);
  const all = holes(copy);
  const hole = all[where % Math.max(1, all.length)];
  if (hole !== undefined) {
    const { holder, key } = hole;
    const inner = (holder as Record<string, unknown>)[key];
    if (extra && typeof inner === 'object' && inner !== null) Object.assign(inner, { misspelt: what });
    else Object.assign(holder, { [key]: what });
  }
  return copy;
}

const spoiling = fc.record({ where: fc.nat(), what: junk, extra: fc.boolean() });
const OPTIONS = { trustDomain: 'td', defaultAction: 'Allow' } as const;

const plain: AccessRequest = {
  source: 'spiffe://td/ns/a/sa/x',
  target: { namespace: 'a', name: 'one', serviceAccount: 'x', labels: { app: 'one' }, namespaceLabels: {} },
  port: 8080,
  http: { method: 'GET', path: '/p', headers: {} },
  token: null,
  time: 0,
};

/** A rule for everybody, in the tier that nothing overrides. */
const open: PolicyInput = {
  kind: 'ClusterAccessPolicy',
  metadata: { name: 'open' },
  spec: { tier: 'Admin', target: {}, rules: [{ name: 'all', from: [{ anyone: true }] }] },
};

describe('any JSON', () => {
  it('in place of a policy never throws, and denies where it would have been asked', () => {
    fc.assert(
      fc.property(junk, (input) => {
        const set = compilePolicySet([input as PolicyInput, open], OPTIONS);
        const broken = set.policies.find(({ ref }) => ref.name !== 'open');
        expect(broken?.problems?.length).toBeGreaterThan(0);
        // Nobody can say where it belongs, so it counts for the default namespace.
        const namespace = broken?.ref.namespace ?? '';
        const target: TargetWorkload = { ...plain.target, namespace };
        expect(evaluate(set, { ...plain, target })).toMatchObject({
          allowed: false,
          decidedBy: { kind: 'policy', why: 'broken' },
        });
      }),
      { numRuns: 500 },
    );
  });

  it('in place of the spec, or of its rules, denies on the whole target', () => {
    fc.assert(
      fc.property(
        junk,
        fc.constantFrom('spec', 'rules', 'rule', 'from', 'to', 'roles', 'when'),
        (value, place) => {
          const rule = { name: 'r', from: [{ anyone: true }] };
          const rules = {
            rules: value,
            rule: [value],
            from: [{ ...rule, from: value }],
            to: [{ ...rule, to: value }],
            roles: [{ ...rule, roles: value }],
            when: [{ ...rule, when: value }],
          };
          const spec = place === 'spec' ? value : { target: {}, rules: rules[place] };
          const input = { kind: 'AccessPolicy', metadata: { name: 'x', namespace: 'a' }, spec };
          const set = compilePolicySet([input as unknown as PolicyInput, open], OPTIONS);
          const problems = set.policies.find(({ ref }) => ref.name === 'x')?.problems;
          // JSON that happens to say something right is `[]` for rules alone.
          fc.pre(!(place === 'rules' && Array.isArray(value) && value.length === 0));
          expect(problems?.length).toBeGreaterThan(0);
          expect(evaluate(set, plain)).toMatchObject({
            allowed: false,
            decidedBy: { kind: 'policy', why: 'broken' },
          });
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('in place of a role never throws, and grants nothing', () => {
    fc.assert(
      fc.property(junk, junk, (input, spec) => {
        const named = { kind: 'AccessRole', metadata: { name: 'r' }, spec };
        const policy: PolicyInput = {
          kind: 'AccessPolicy',
          metadata: { name: 'p', namespace: 'a' },
          spec: { target: {}, rules: [{ name: 'r', from: [{ anyone: true }], roles: [{ name: 'r' }] }] },
        };
        const set = compilePolicySet([policy], { ...OPTIONS, roles: [input, named] as RoleInput[] });
        expect(evaluate(set, plain).allowed).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it('in place of a request never throws, and is denied where anybody may do anything', () => {
    const set = compilePolicySet([open], OPTIONS);
    expect(evaluate(set, plain).allowed).toBe(true);
    fc.assert(
      fc.property(junk, (request) => {
        expect(evaluate(set, request as AccessRequest)).toMatchObject({
          allowed: false,
          decidedBy: { kind: 'request' },
        });
      }),
      { numRuns: 500 },
    );
  });
});

describe('a policy that is right but in one place', () => {
  it('never throws, and never allows where it is broken', () => {
    let broken = 0;
    let total = 0;
    fc.assert(
      fc.property(
        inventories().chain((content) => {
          const inventory = createInventory(content);
          return fc.record({
            inputs: policies(
              language({ maxPolicies: 2, modes: ['Enforce'], tiers: ['Namespaced', 'Admin'] }),
            ),
            asked: fc.array(requests(inventory, asking()), { minLength: 4, maxLength: 4 }),
          });
        }),
        spoiling,
        ({ inputs, asked }, { where, what, extra }) => {
          const [first, ...rest] = inputs;
          if (first === undefined) return;
          const bad = spoilt(first, where, what, extra);
          const set = compilePolicySet([bad, ...rest, open], {
            ...OPTIONS,
            roles: roles(),
            identity: () => [],
            namespaces: () => [],
          });
          for (const request of asked) {
            const decision = evaluate(set, request);
            const spoke = set
              .concerning(request.target)
              .some(
                ({ problems, mode, target }) =>
                  problems !== undefined && mode === 'Enforce' && target.ports === undefined,
              );
            total++;
            if (!spoke) continue;
            broken++;
            expect(decision.allowed).toBe(false);
          }
        },
      ),
      { numRuns: 800 },
    );
    expect(broken / total).toBeGreaterThan(0.1);
  });
});

describe('a request that is right but in one place', () => {
  it('never throws', () => {
    const refused = { count: 0 };
    fc.assert(
      fc.property(
        inventories().chain((content) => {
          const inventory = createInventory(content);
          return fc.record({ inputs: policies(language()), asked: requests(inventory, asking()) });
        }),
        fc.array(spoiling, { minLength: 8, maxLength: 8 }),
        ({ inputs, asked }, list) => {
          const set = compilePolicySet(inputs, {
            ...OPTIONS,
            roles: roles(),
            identity: () => [],
            namespaces: () => [],
          });
          for (const { where, what, extra } of list) {
            const { decidedBy, reason } = evaluate(set, spoilt(asked, where, what, extra));
            if (decidedBy.kind === 'request') refused.count++;
            expect(reason).not.toBe('');
          }
        },
      ),
      { numRuns: 800 },
    );
    expect(refused.count).toBeGreaterThan(500);
  });
});
