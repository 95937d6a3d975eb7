import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { diffPolicySets, equivalent, type PolicyDiff } from '../../src/access/analysis/diff.js';
import type { OperationInput, PolicyInput } from '../../src/access/policy/input.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import { compileWorld, language, policies, WORLD, type Language, proof } from '../support/policies.js';
import { asking, worlds, type World } from '../support/policy-worlds.js';

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
  [
    'attributes',
    language({ operations: ['methods', 'actions'], when: ['attributes', 'token'], maxPolicies: 3 }),
  ],
];

/** Attributes deep within others are compared by their text, as CEL is. */
const DEEP = 'subject.realm.roles';

/** What is compared by its text where nothing else decides. */
const OPAQUE = language({
  operations: ['paths', 'actions'],
  when: ['attributes', 'cel', 'token'],
  maxPolicies: 3,
});

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
        fc.pre(!JSON.stringify([change.world.inputs, change.after]).includes(DEEP));
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
      proof(60),
    );
    expect(seen.equal).toBeGreaterThan(0);
    expect(seen.differing).toBeGreaterThan(0);
    expect(seen.found).toBeGreaterThan(0);
  });

  it('says what hangs on attributes or CEL, and is never wrong about what it does not', () => {
    const seen = { unknown: 0, equal: 0 };
    fc.assert(
      fc.property(changes(OPAQUE), (change) => {
        const { sets, diff } = compared(change);
        for (const { before, after } of witnesses(diff)) expect(before.allowed).not.toBe(after.allowed);
        for (const { rules } of diff.unknown) expect(rules).not.toEqual([]);
        if (diff.unknown.length > 0) seen.unknown++;
        if (diff.equal !== true) return;
        seen.equal++;
        for (const request of change.world.requests) {
          expect(evaluate(sets[0], request).allowed).toBe(evaluate(sets[1], request).allowed);
        }
      }),
      proof(60),
    );
    expect(seen.unknown).toBeGreaterThan(0);
    expect(seen.equal).toBeGreaterThan(0);
  });

  it('knows a set again however it is ordered and named', () => {
    const said = language({ when: ['token', 'during', 'sourceLabels'] });
    fc.assert(
      fc.property(worlds(said), ({ inventory, inputs }) => {
        const other = inputs.toReversed().map((input, index) => ({
          ...input,
          metadata: { ...input.metadata, name: `other${index}` },
          spec: { ...input.spec, rules: input.spec.rules.toReversed() },
        }));
        const sets = [compileWorld(inputs, inventory), compileWorld(other, inventory)] as const;
        expect(equivalent(sets[0], sets[1], inventory, { from: FROM })).toBe(true);
      }),
      proof(60),
    );
  });

  /** Each adds one access, or takes one away, on a target that nothing else speaks of. */
  const MUTATIONS: readonly (readonly [string, OperationInput, OperationInput])[] = [
    ['ports', { ports: [8080] }, { ports: [8080, 9000] }],
    ['methods', { http: { methods: ['GET'] } }, { http: { methods: ['GET', 'HEAD'] } }],
    ['hosts', { http: { hosts: ['a.example'] } }, { http: { hosts: ['a.example', '*.a.example'] } }],
    ['an exact path', { http: { paths: [{ exact: '/a' }] } }, { http: { paths: [{ exact: '/a/' }] } }],
    ['a prefix', { http: { paths: [{ exact: '/a' }] } }, { http: { paths: [{ prefix: '/a' }] } }],
    [
      'a template',
      { http: { paths: [{ template: '/a/{x}' }] } },
      { http: { paths: [{ template: '/a/{x=**}' }] } },
    ],
    [
      'a header',
      { http: { headers: [{ name: 'x', values: ['1'] }] } },
      { http: { headers: [{ name: 'x', operator: 'Exists' }] } },
    ],
    [
      'a parameter',
      { http: { query: [{ name: 'q', values: ['1'] }] } },
      { http: { query: [{ name: 'q', values: ['1', '2'] }] } },
    ],
    ['actions', { actions: ['read'] }, { actions: ['read', 'write'] }],
    ['resources', { resources: [{ type: 'a', ids: ['1'] }] }, { resources: [{ type: 'a' }] }],
  ];

  it.each(MUTATIONS)('finds a change of %s, and what it opens', (_, narrow, wide) => {
    const [inventory] = fc.sample(worlds(), 1).map((world) => world.inventory);
    if (inventory === undefined) throw new Error('there is no world');
    const set = (to: OperationInput) =>
      compileWorld(
        [
          {
            kind: 'AccessPolicy',
            metadata: { name: 'p', namespace: 'a' },
            spec: { target: {}, rules: [{ name: 'r', from: [{ namespaces: ['ab'] }], to: [to] }] },
          },
        ],
        inventory,
      );
    const diff = diffPolicySets(set(narrow), set(wide), inventory, { from: FROM });
    expect(diff.equal).toBe(false);
    expect(diff.gained).not.toEqual([]);
    for (const { witness, seen } of diff.gained.slice(0, 1)) {
      expect(seen).toBe('everything');
      expect(witness.source).toMatch(/^spiffe:\/\/td\/ns\/ab\//);
    }
    expect(equivalent(set(wide), set(wide), inventory, { from: FROM })).toBe(true);
  });

  it('says that it gave up where rules combine in too many ways, and lists no more than was asked', () => {
    const [inventory] = fc.sample(worlds(), 1).map((world) => world.inventory);
    if (inventory === undefined) throw new Error('there is no world');
    const set = (methods: readonly string[]) =>
      compileWorld(
        Array.from({ length: 20 }, (_, at) => ({
          kind: 'AccessPolicy',
          metadata: { name: `p${at}`, namespace: 'a' },
          spec: {
            target: {},
            rules: [
              {
                name: 'r',
                from: [{ spiffeIDs: [`spiffe://td/${at}`] }],
                to: [{ http: { methods, paths: [{ exact: `/${at}` }] } }],
              },
            ],
          },
        })),
        inventory,
      );
    const sets = [set(['GET']), set(['GET', 'POST'])] as const;
    const cut = diffPolicySets(sets[0], sets[1], inventory, { from: FROM, limit: 3, limitPerTarget: 2 });
    expect([cut.gained.length, cut.more.gained]).toEqual([2, 18]);
    const { equal, unknown } = diffPolicySets(sets[0], sets[1], inventory, { from: FROM, maxNodes: 20 });
    expect(equal).toBeUndefined();
    expect(unknown.map(({ reason }) => reason)).toEqual([expect.stringContaining('too many ways')]);
  });
});
