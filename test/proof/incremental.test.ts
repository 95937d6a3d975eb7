import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createIncrementalRender } from '../../src/access/mesh/incremental.js';
import { createInventory, type Inventory } from '../../src/access/mesh/inventory.js';
import {
  render,
  type KubernetesObject,
  type RenderContext,
  type Renderer,
  type Verdict,
} from '../../src/access/mesh/renderer.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import { policyName, type LabelRequirement } from '../../src/access/policy/model.js';
import { createPolicyCompiler } from '../../src/access/policy/policy-compiler.js';
import type { PrincipalResolver } from '../../src/access/policy/principals.js';
import { labelsMatch } from '../../src/access/policy/selector.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { MESHES, rendererOf } from '../../src/cli/meshes.js';
import { language, policies, proof, roles, WORLD } from '../support/policies.js';
import { inventories } from '../support/policy-worlds.js';
import { layouts, withWaypoints } from './istio-waypoint-world.js';

interface Case {
  readonly name: string;
  readonly make: () => Renderer;
  readonly inventory: fc.Arbitrary<Inventory>;
  /** At most such a part of the parts of a small world is rendered after the edit of a policy; 0.6 unless said. */
  readonly share?: number;
}

const inventory = inventories().map(createInventory);
const behindWaypoints = fc
  .tuple(inventory, layouts)
  .map(
    ([one, layout]) =>
      withWaypoints({ inventory: one, inputs: [], defaultAction: 'Deny', requests: [] }, layout).inventory,
  );

/** Every mesh, with the options that change what a part depends on. */
const CASES: readonly Case[] = [
  ...MESHES.map((name) => ({ name, make: () => rendererOf(name, {}), inventory })),
  { name: 'istio, ambient', make: () => rendererOf('istio', { ambient: true }), inventory },
  {
    name: 'istio, waypoints',
    make: () => rendererOf('istio', { ambient: true }),
    inventory: behindWaypoints,
    // A Service that leads to all workloads of a namespace is touched by the policies of each.
    share: 0.8,
  },
  {
    name: 'networkpolicy, outer layer',
    make: () => rendererOf('networkpolicy', { outerLayer: true }),
    inventory,
  },
  {
    name: 'networkpolicy, cluster-wide too',
    make: () => rendererOf('networkpolicy', { clusterNetworkPolicy: 10 }),
    inventory,
  },
];

const HOUR = 3_600_000;
const keys = ['a', 'b', 'c', 'd', 'e', 'f'];
const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const ISSUERS = [
  undefined,
  [{ issuer: 'https://issuer.example', jwksUri: 'https://issuer.example/keys' }],
] as const;

type Edit =
  | { readonly kind: 'put'; readonly key: string; readonly input: PolicyInput }
  | { readonly kind: 'remove'; readonly key: string }
  | { readonly kind: 'roles' }
  | { readonly kind: 'world'; readonly context: Pick<RenderContext, 'inventory' | 'issuers'> }
  /** To the instant at which something is said to end, or some time on. */
  | { readonly kind: 'time'; readonly by: number | 'until' };

const put = fc
  .record({
    key: pick(keys),
    input: policies(language({ maxPolicies: 1 })).map(([first]) => first as PolicyInput),
    broken: fc.nat(9),
  })
  .map(({ key, input, broken }): Edit => {
    const spec = broken > 0 ? input.spec : { ...input.spec, rules: [{ name: '', from: [] }] };
    return { kind: 'put', key, input: { ...input, metadata: { ...input.metadata, name: key }, spec } };
  });

const edits = (worlds: fc.Arbitrary<Inventory>): fc.Arbitrary<readonly Edit[]> =>
  fc.array(
    fc.oneof(
      { weight: 7, arbitrary: put },
      { weight: 3, arbitrary: pick(keys).map((key): Edit => ({ kind: 'remove', key })) },
      {
        weight: 5,
        arbitrary: pick([1, HOUR, -HOUR, 'until', 'until', 'until', 'until'] as const).map((by): Edit => ({
          kind: 'time',
          by,
        })),
      },
      { weight: 1, arbitrary: fc.constant<Edit>({ kind: 'roles' }) },
      {
        weight: 1,
        arbitrary: fc
          .record({ inventory: worlds, issuers: pick(ISSUERS) })
          .map(({ inventory: one, issuers }): Edit => ({
            kind: 'world',
            context: { inventory: one, ...(issuers === undefined ? {} : { issuers }) },
          })),
      },
    ),
    { minLength: 4, maxLength: 14 },
  );

function resolverOf({ inventory: one }: Pick<RenderContext, 'inventory'>): PrincipalResolver {
  return {
    trustDomain: one.trustDomain,
    identity: ({ namespace, name }) =>
      one.workloads.find((workload) => workload.namespace === namespace && workload.name === name)
        ?.spiffeIds ?? [],
    namespaces: (requirements: readonly LabelRequirement[]) =>
      one.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map(({ name }) => name),
  };
}

const objectKey = ({ apiVersion, kind, metadata }: KubernetesObject): string =>
  [apiVersion, kind, metadata.namespace, metadata.name].join();

/** What somebody knows who only hears of changes. */
class Follower {
  readonly objects = new Map<string, KubernetesObject>();
  readonly verdicts = new Map<string, readonly Verdict[]>();

  hear({
    changed,
    removed,
    verdicts,
  }: ReturnType<ReturnType<typeof createIncrementalRender>['update']>): void {
    for (const object of removed) {
      expect(this.objects.get(objectKey(object))).toEqual(object);
      this.objects.delete(objectKey(object));
    }
    for (const object of changed) {
      expect(this.objects.get(objectKey(object))).not.toEqual(object);
      this.objects.set(objectKey(object), object);
    }
    for (const { policy, verdicts: list } of verdicts) {
      const key = `${policy.kind} ${policyName(policy)}`;
      expect(this.verdicts.get(key) ?? []).not.toEqual(list);
      if (list.length === 0) this.verdicts.delete(key);
      else this.verdicts.set(key, list);
    }
  }
}

describe('a rendering that follows its policies', () => {
  for (const { name, make, inventory: worlds, share = 0.6 } of CASES) {
    it(`${name}: is what it would be if all were rendered anew, after every change`, () => {
      let updates = 0;
      let parts = 0;
      let all = 0;
      let objects = 0;
      let due = 0;
      const first = fc.record({
        inventory: worlds,
        edits: edits(worlds),
        defaultAction: pick(['Allow', 'Deny'] as const),
      });
      fc.assert(
        fc.property(first, ({ inventory: start, edits: list, defaultAction }) => {
          const renderer = make();
          const incremental = createIncrementalRender(renderer);
          const follower = new Follower();
          const zones = new ZoneClock();
          let context: Pick<RenderContext, 'inventory' | 'issuers'> = { inventory: start };
          let time: number = WORLD.now;
          let until: number | undefined;
          const compiler = createPolicyCompiler([], {
            ...resolverOf(context),
            roles: roles(),
            defaultAction,
          });
          const apply = (edit: Edit): void => {
            if (edit.kind === 'put') compiler.update({ policies: [edit] });
            if (edit.kind === 'remove') compiler.update({ policies: [{ key: edit.key, input: undefined }] });
            if (edit.kind === 'roles') compiler.update({ roles: roles() });
            if (edit.kind === 'time') time = edit.by === 'until' ? (until ?? time) : time + edit.by;
            if (edit.kind === 'world') {
              context = edit.context;
              compiler.update({ resolver: resolverOf(context) });
            }
          };
          for (const edit of [undefined, ...list]) {
            if (edit !== undefined) apply(edit);
            const now: RenderContext = { ...context, set: compiler.set, time, zones };
            const change = incremental.update(now);
            follower.hear(change);
            until = change.until;
            const anew = render(make(), now);
            expect(incremental.rendering()).toEqual(anew);
            expect(change.until).toBe(anew.until);
            expect(new Map(anew.objects.map((object) => [objectKey(object), object]))).toEqual(
              follower.objects,
            );
            expect(
              Object.groupBy(anew.verdicts, ({ policy }) => `${policy.kind} ${policyName(policy)}`),
            ).toEqual(Object.assign(Object.create(null), Object.fromEntries(follower.verdicts)));
            updates++;
            if (edit?.kind === 'time' && edit.by === 'until' && change.parts > 0) due++;
            if (edit?.kind === 'put') {
              parts += change.parts;
              all += now.set.policies.length + now.inventory.workloads.length;
            }
            objects += anew.objects.length;
          }
        }),
        proof(40),
      );
      expect(updates).toBeGreaterThan(60);
      expect(objects).toBeGreaterThan(20);
      // OPA's rendering is one document. The others render a small part of a small world.
      if (name === 'opa') return;
      expect(parts / all).toBeLessThan(share);
      expect(due).toBeGreaterThan(4);
    });
  }

  it('renders nothing when nothing changed, and is as it was when a renderer fails', () => {
    let fails = false;
    const renderer: Renderer = {
      mesh: 'test',
      renderPolicy({ ref }) {
        if (fails) throw new Error('cannot be rendered');
        return {
          objects: [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: ref.name } }],
          verdicts: [],
        };
      },
    };
    const one = createInventory({ trustDomain: 'td', namespaces: [], workloads: [] });
    const named = (key: string) => ({
      key,
      input: {
        kind: 'AccessPolicy',
        metadata: { namespace: 'a', name: key },
        spec: { target: {}, rules: [] },
      },
    });
    const compiler = createPolicyCompiler([named('p')], { trustDomain: 'td' });
    const incremental = createIncrementalRender(renderer);
    const context = (): RenderContext => ({
      ...{ set: compiler.set, inventory: one, time: 0, zones: new ZoneClock() },
    });
    expect(incremental.update(context()).changed.map(({ metadata }) => metadata.name)).toEqual(['p']);
    expect(incremental.update(context())).toEqual({ changed: [], removed: [], verdicts: [], parts: 0 });
    compiler.update({ policies: [named('q')] });
    fails = true;
    expect(() => incremental.update(context())).toThrow('cannot be rendered');
    expect(incremental.rendering().objects.map(({ metadata }) => metadata.name)).toEqual(['p']);
    fails = false;
    expect(incremental.update(context()).changed.map(({ metadata }) => metadata.name)).toEqual(['q']);
  });

  it('asks a renderer again that looks at all policies, or at a workload that is not of the inventory', () => {
    const stranger = {
      ...{ namespace: 'a', name: 'x', serviceAccount: 'x', labels: {}, namespaceLabels: {} },
    };
    const counting = (count: (context: RenderContext) => number): Renderer => ({
      mesh: 'test',
      renderShared: (context) => ({
        objects: [
          {
            apiVersion: 'v1',
            kind: 'ConfigMap',
            metadata: { name: 'shared' },
            data: { count: String(count(context)) },
          },
        ],
        verdicts: [],
      }),
    });
    for (const renderer of [
      counting(({ set }) => set.policies.length),
      counting(({ set }) => set.concerning(stranger).length),
      counting(({ set }) => set.forTarget(stranger).enforced.allowRules.length),
    ]) {
      const compiler = createPolicyCompiler([], { trustDomain: 'td' });
      const incremental = createIncrementalRender(renderer);
      const counted = (): unknown =>
        incremental.update({
          set: compiler.set,
          inventory: createInventoryOnce(),
          time: 0,
          zones: new ZoneClock(),
        }).changed[0]?.data?.['count'];
      expect(counted()).toBe('0');
      const input = {
        kind: 'AccessPolicy',
        metadata: { namespace: 'a', name: 'p' },
        spec: { target: {}, rules: [{ name: 'r', from: [{ anyone: true }] }] },
      };
      compiler.update({ policies: [{ key: 'p', input }] });
      expect(counted()).toBe('1');
    }
  });

  const empty = createInventory({ trustDomain: 'td', namespaces: [], workloads: [] });
  const createInventoryOnce = (): typeof empty => empty;
});
