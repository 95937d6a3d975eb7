import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createInventory, type Inventory } from '../mesh/inventory.js';
import { effectivePolicy } from './effective.js';
import { evaluate } from './evaluate.js';
import type { PolicyInput, RoleInput } from './input.js';
import type { AccessRequest, LabelRequirement, Policy, TargetWorkload } from './model.js';
import { createPolicyCompiler, type NamedPolicy } from './policy-compiler.js';
import { compilePolicySet, type PolicySet } from './policy-set.js';
import type { PrincipalResolver } from './principals.js';
import { labelsMatch } from './selector.js';
import { ZoneClock } from './time-window.js';
import { language, policies, proof, roles, WORLD } from '../../../test/support/policies.js';
import { asking, inventories, requests } from '../../../test/support/policy-worlds.js';

/** Asks are counted, so that a test can say what was compiled again. */
function resolverOf(inventory: Inventory, asked: string[] = []): PrincipalResolver {
  return {
    trustDomain: inventory.trustDomain,
    identity({ namespace, name }) {
      asked.push(`${namespace}/${name}`);
      return inventory.workloads.find((one) => one.namespace === namespace && one.name === name)?.spiffeIds;
    },
    namespaces: (requirements: readonly LabelRequirement[]) =>
      inventory.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map(({ name }) => name),
  };
}

const ROLE_SETS: readonly (readonly RoleInput[])[] = [
  roles(),
  [],
  // One that others include is gone, one is broken, one stands twice.
  roles().filter(({ metadata }) => metadata.name !== 'reader'),
  [
    ...roles(),
    { kind: 'AccessRole', metadata: { name: 'nothing' }, spec: { permissions: [{ actions: ['x'] }] } },
  ],
  [
    { kind: 'AccessRole', metadata: { name: 'reader' }, spec: { includes: ['writer'] } },
    { kind: 'AccessRole', metadata: { name: 'writer' }, spec: { includes: ['reader'] } },
  ],
];

type Edit =
  | { readonly kind: 'put'; readonly key: string; readonly input: PolicyInput }
  | { readonly kind: 'remove'; readonly key: string }
  | { readonly kind: 'roles'; readonly roles: readonly RoleInput[] }
  | { readonly kind: 'world'; readonly inventory: Inventory };

const keys = ['a', 'b', 'c', 'd'];
const input = policies(language()).map(([first]) => first as PolicyInput);
const inventory = inventories().map(createInventory);

const edit: fc.Arbitrary<Edit> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({ key: fc.constantFrom(...keys), input, broken: fc.nat(9) })
      .map(({ key, input: one, broken }): Edit => {
        const named = { ...one, metadata: { ...one.metadata, name: key } };
        const spec = broken > 0 ? one.spec : { ...one.spec, target: { podSelector: 5 } as never };
        return { kind: 'put', key, input: { ...named, spec } };
      }),
  },
  { weight: 2, arbitrary: fc.constantFrom(...keys).map((key): Edit => ({ kind: 'remove', key })) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...ROLE_SETS).map((list): Edit => ({ kind: 'roles', roles: list })),
  },
  { weight: 1, arbitrary: inventory.map((one): Edit => ({ kind: 'world', inventory: one })) },
);

const zones = new ZoneClock();

/** All that a set can be asked. */
function said(set: PolicySet, asks: readonly AccessRequest[]): unknown {
  return {
    policies: set.policies.map(comparable),
    decisions: asks.map((ask) => JSON.stringify(evaluate(set, ask))),
    effective: asks.map(({ target, time }) => {
      const { policies: concerning, ...rest } = effectivePolicy(set, target, time, zones);
      return JSON.stringify([concerning.map(({ ref }) => ref), rest], textOfSets);
    }),
  };
}

/** Functions, of CEL conditions, are never equal. */
const comparable = (policy: Policy): string => JSON.stringify(policy, textOfSets);
const textOfSets = (_: string, value: unknown): unknown => (value instanceof Set ? [...value] : value);

describe('policies that are compiled again in part', () => {
  it('are what they would be if all were compiled anew, and sets of before stay as they were', () => {
    let allowed = 0;
    let decided = 0;
    let problems = 0;
    const world = inventory.chain((first) =>
      fc.record({
        first: fc.constant(first),
        edits: fc.array(edit, { minLength: 1, maxLength: 8 }),
        defaultAction: fc.constantFrom('Allow', 'Deny'),
        asks: fc.array(requests(first, asking()), { minLength: 6, maxLength: 6 }),
      }),
    );
    fc.assert(
      fc.property(world, ({ first, edits, defaultAction, asks }) => {
        const inputs = new Map<string, PolicyInput>();
        let now = first;
        let granted = roles();
        const compiler = createPolicyCompiler([], { ...resolverOf(first), roles: granted, defaultAction });
        const versions: [PolicySet, unknown][] = [];
        for (const one of edits) {
          if (one.kind === 'put') inputs.set(one.key, one.input);
          if (one.kind === 'remove') inputs.delete(one.key);
          if (one.kind === 'roles') granted = one.roles;
          if (one.kind === 'world') now = one.inventory;
          const set = compiler.update({
            ...(one.kind === 'put' ? { policies: [one] } : {}),
            ...(one.kind === 'remove' ? { policies: [{ key: one.key, input: undefined }] } : {}),
            ...(one.kind === 'roles' ? { roles: granted } : {}),
            ...(one.kind === 'world' ? { resolver: resolverOf(now) } : {}),
          });
          const anew = compilePolicySet([...inputs.values()], {
            ...resolverOf(now),
            roles: granted,
            defaultAction,
          });
          const answers = said(set, asks);
          expect(answers).toEqual(said(anew, asks));
          versions.push([set, answers]);
          for (const ask of asks) {
            decided++;
            if (evaluate(set, ask).allowed) allowed++;
          }
          problems += set.policies.filter(({ problems: list }) => list !== undefined).length;
        }
        for (const [set, answers] of versions) expect(said(set, asks)).toEqual(answers);
      }),
      proof(120),
    );
    // Both answers and broken policies are common, or nothing is proved.
    expect(allowed / decided).toBeGreaterThan(0.1);
    expect(allowed / decided).toBeLessThan(0.9);
    expect(problems).toBeGreaterThan(20);
  });

  const named = (key: string, from: object, more: object = {}): NamedPolicy => ({
    key,
    input: {
      kind: 'AccessPolicy',
      metadata: { namespace: 'a', name: key },
      spec: { target: {}, rules: [{ name: 'r', from: [from], ...more }] },
    },
  });
  const byName = (set: PolicySet): ReadonlyMap<string, Policy> =>
    new Map(set.policies.map((policy) => [policy.ref.name, policy]));
  /** The names of policies that were compiled again between two sets. */
  const recompiled = (before: PolicySet, after: PolicySet): readonly string[] => {
    const known = byName(before);
    return [...byName(after)].filter(([name, policy]) => known.get(name) !== policy).map(([name]) => name);
  };

  it('are compiled again only where what they ask is answered otherwise', () => {
    const [reader, writer] = roles();
    if (reader === undefined || writer === undefined) throw new Error('there are roles');
    const world = (labels: Readonly<Record<string, string>>, ids: readonly string[]): Inventory =>
      createInventory({
        trustDomain: WORLD.trustDomain,
        namespaces: [{ name: 'a', labels }],
        workloads: [
          {
            ...{ namespace: 'a', name: 'one', serviceAccount: 'x', labels: {}, namespaceLabels: labels },
            ...{ spiffeIds: ids, ports: [] },
          },
        ],
      });
    const id = `spiffe://${WORLD.trustDomain}/ns/a/sa/x`;
    const compiler = createPolicyCompiler(
      [
        named('plain', { anyone: true }),
        named('identity', { identities: [{ namespace: 'a', name: 'one' }] }),
        named('selector', { namespaceSelector: { matchLabels: { team: 'red' } } }),
        // By way of the role that it includes.
        named('role', { anyone: true }, { roles: [{ name: 'writer' }] }),
        named('missing', { anyone: true }, { roles: [{ name: 'none' }] }),
      ],
      { ...resolverOf(world({ team: 'red' }, [id])), roles: [reader, writer] },
    );
    let before = compiler.set;
    const next = (changes: Parameters<typeof compiler.update>[0]): readonly string[] => {
      const after = compiler.update(changes);
      const names = recompiled(before, after);
      before = after;
      return names;
    };
    // Another object that answers the same.
    expect(next({ resolver: resolverOf(world({ team: 'red' }, [id])) })).toEqual([]);
    expect(next({ resolver: resolverOf(world({ team: 'red' }, [])) })).toEqual(['identity']);
    expect(next({ resolver: resolverOf(world({ team: 'blue' }, [])) })).toEqual(['selector']);
    expect(next({ roles: [reader, writer] })).toEqual([]);
    expect(next({ roles: [{ ...reader }, writer] })).toEqual(['role']);
    const none: RoleInput = { kind: 'AccessRole', metadata: { name: 'none' }, spec: {} };
    expect(next({ roles: [...compilerRoles(reader, writer), none] })).toEqual(['missing', 'role']);
    expect(next({ policies: [named('plain', { anyAuthenticated: true })] })).toEqual(['plain']);
    expect(next({ resolver: { ...resolverOf(world({ team: 'blue' }, [])), trustDomain: 'other' } })).toEqual([
      'identity',
      'missing',
      'plain',
      'role',
      'selector',
    ]);
  });

  const compilerRoles = (...list: readonly RoleInput[]): readonly RoleInput[] =>
    list.map((one) => ({ ...one }));

  it('keep what is known of targets that no changed policy concerns', () => {
    const target = (name: string): TargetWorkload => ({
      ...{ namespace: 'a', name, serviceAccount: 'x', labels: { app: name }, namespaceLabels: {} },
    });
    const about = (key: string, app: string): NamedPolicy => {
      const policy = named(key, { anyone: true });
      const spec = {
        rules: policy.input?.spec.rules ?? [],
        target: { podSelector: { matchLabels: { app } } },
      };
      return { key, input: { ...(policy.input as PolicyInput), spec } };
    };
    const compiler = createPolicyCompiler([about('p', 'one'), about('q', 'two')], { trustDomain: 'td' });
    const [one, two] = [target('one'), target('two')];
    const first = compiler.set;
    const [ofOne, ofTwo] = [first.forTarget(one), first.forTarget(two)];
    const second = compiler.update({ policies: [about('p', 'one')] });
    expect(second.forTarget(two)).toBe(ofTwo);
    expect(second.forTarget(one)).not.toBe(ofOne);
    expect(first.forTarget(one)).toBe(ofOne);
    const third = compiler.update({ policies: [{ key: 'p', input: undefined }] });
    expect(third.concerning(one)).toEqual([]);
    expect(third.forTarget(two)).toBe(ofTwo);
  });

  it('stay as they were when whoever answers throws', () => {
    const compiler = createPolicyCompiler([named('p', { identities: [{ namespace: 'a', name: 'one' }] })], {
      trustDomain: 'td',
      identity: () => [],
    });
    const { set } = compiler;
    const failing: PrincipalResolver = {
      trustDomain: 'td',
      identity() {
        throw new Error('the store is not there');
      },
    };
    expect(() => compiler.update({ resolver: failing })).toThrow('the store is not there');
    expect(compiler.set).toBe(set);
    expect(recompiled(set, compiler.update({ policies: [named('q', { anyone: true })] }))).toEqual(['q']);
  });

  it('are changed many at a time too', () => {
    const many = (from: object): readonly NamedPolicy[] =>
      Array.from({ length: 400 }, (_, index) => named(`p${index}`, from));
    const compiler = createPolicyCompiler(many({ anyone: true }), { trustDomain: 'td' });
    const names = compiler.set.policies.map(({ ref }) => ref.name);
    expect(names).toHaveLength(400);
    expect(names).toEqual([...names].sort());
    const set = compiler.update({
      policies: [...many({ anyAuthenticated: true }), named('a', { anyone: true })],
    });
    const inputs = [named('a', { anyone: true }), ...many({ anyAuthenticated: true })];
    const anew = compilePolicySet(
      inputs.flatMap(({ input: one }) => one ?? []),
      { trustDomain: 'td' },
    );
    expect(set.policies).toEqual(anew.policies);
    const target: TargetWorkload = {
      ...{ namespace: 'a', name: 'x', serviceAccount: 'x', labels: {}, namespaceLabels: {} },
    };
    expect(set.concerning(target)).toEqual(anew.concerning(target));
  });

  it('refuses to take out of a set what is not in it', () => {
    const { set } = createPolicyCompiler([named('p', { anyone: true })], { trustDomain: 'td' });
    const [policy] = set.policies;
    if (policy === undefined) throw new Error('there is a policy');
    expect(() => set.replace([{ ...policy }], [])).toThrow(RangeError);
    const others = Array.from({ length: 300 }, () => ({ ...policy }));
    expect(() => set.replace(others, [])).toThrow(RangeError);
    expect(set.replace([policy], []).policies).toEqual([]);
  });
});
