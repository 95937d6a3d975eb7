import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { diffPolicySets, type PolicyDiff } from '../../src/access/analysis/diff.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import { compileWorld, language, policies, proofRuns, WORLD, type Language } from '../support/policies.js';
import { asking, requests, worlds, type World } from '../support/policy-worlds.js';

/*
 * The diff decides over all requests; the evaluator over one. Each is written from the semantics without the other, so
 * random requests find what the one sees and the other does not.
 */

const FROM = WORLD.now - 1;

/** What is compared exactly: nothing may be unknown. */
const EXACT: readonly (readonly [string, Language])[] = [
  ['principals, targets, tiers, operations', language({ when: [], validity: false, roles: false })],
  [
    'validity and windows',
    language({ operations: ['methods'], when: ['during', 'outside'], maxPolicies: 3 }),
  ],
  ['tokens and roles', language({ operations: ['paths', 'actions'], when: ['token'], maxPolicies: 3 })],
  [
    'labels and posture',
    language({
      operations: ['ports'],
      when: ['sourceLabels', 'targetLabels', 'sourcePosture'],
      maxPolicies: 3,
    }),
  ],
];

interface Change {
  readonly world: World;
  readonly after: readonly PolicyInput[];
  readonly defaults: readonly ('Allow' | 'Deny')[];
}

/** Another set altogether, or the same with one policy of another set: changes are small where they matter. */
function changes(said: Language): fc.Arbitrary<Change> {
  const count = 30;
  return worlds(said, asking(), count).chain((world) =>
    fc
      .record({ other: policies(said), mix: fc.integer({ min: 0, max: 4 }), both: fc.boolean() })
      .map(({ other, mix, both }): Change => {
        const kept = world.inputs.filter((_, index) => index !== mix);
        const [first] = other;
        const renamed =
          first === undefined ? [] : [{ ...first, metadata: { ...first.metadata, name: 'new' } }];
        return {
          world,
          after: mix === 4 ? other : [...kept, ...(both ? renamed : [])],
          defaults: mix === 3 ? ['Allow', 'Deny'] : both ? ['Allow', 'Allow'] : ['Deny', 'Deny'],
        };
      }),
  );
}

function compared({ world, after, defaults }: Change) {
  const sets = [
    compileWorld(world.inputs, world.inventory, { defaultAction: defaults[0] ?? 'Deny' }),
    compileWorld(after, world.inventory, { defaultAction: defaults[1] ?? 'Deny' }),
  ] as const;
  const diff = diffPolicySets(sets[0], sets[1], world.inventory, { from: FROM });
  return { sets, diff };
}

function witnesses(diff: PolicyDiff) {
  return [...diff.gained, ...diff.lost];
}

describe('the diff of two policy sets', () => {
  it.each(EXACT)('has witnesses, and misses no request that is answered differently: %s', (_, said) => {
    const seen = { equal: 0, differing: 0, found: 0 };
    fc.assert(
      fc.property(changes(said), (change) => {
        const { sets, diff } = compared(change);
        for (const { witness, before, after } of witnesses(diff)) {
          expect([evaluate(sets[0], witness).allowed, evaluate(sets[1], witness).allowed]).toEqual([
            before.allowed,
            after.allowed,
          ]);
          expect(before.allowed).not.toBe(after.allowed);
        }
        expect(diff.unknown).toEqual([]);
        if (diff.equal === true) seen.equal++;
        else seen.differing++;
        const differing = change.world.requests.filter(
          (request) => evaluate(sets[0], request).allowed !== evaluate(sets[1], request).allowed,
        );
        seen.found += differing.length;
        if (diff.equal === true) expect(differing).toEqual([]);
        if (differing.some((request) => evaluate(sets[1], request).allowed)) {
          expect(diff.gained).not.toEqual([]);
        }
        if (differing.some((request) => evaluate(sets[0], request).allowed))
          expect(diff.lost).not.toEqual([]);
      }),
      { numRuns: proofRuns(60) },
    );
    expect(seen.equal).toBeGreaterThan(0);
    expect(seen.differing).toBeGreaterThan(0);
    expect(seen.found).toBeGreaterThan(0);
  });
});
