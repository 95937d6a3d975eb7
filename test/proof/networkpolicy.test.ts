import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createInventory } from '../../src/access/mesh/inventory.js';
import {
  networkPolicyRenderer,
  type NetworkPolicyOptions,
} from '../../src/access/mesh/networkpolicy/renderer.js';
import { render } from '../../src/access/mesh/renderer.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import { startCilium, type Cilium } from '../rig/cilium.js';
import { startKubeSchema, type KubeSchema } from '../rig/kube-schema.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, policies, proof } from '../support/policies.js';
import {
  allowedBy,
  connections,
  contextOf,
  holdAgainstCilium,
  newTally,
  POD_NETWORK,
  podInventories,
} from '../support/pod-worlds.js';

const knobs = language({
  principals: [
    'spiffeId',
    'serviceAccount',
    'namespace',
    'namespaceSelector',
    'trustDomain',
    'identity',
    'authenticated',
    'anyone',
    'ipBlock',
  ],
  operations: ['ports', 'ports', 'methods', 'paths'],
  when: ['during', 'targetLabels', 'sourceLabels', 'token'],
});
/** What network policies can say, for which verdicts are often exact. */
const plain = language({
  principals: [
    'spiffeId',
    'serviceAccount',
    'namespace',
    'namespaceSelector',
    'identity',
    'anyone',
    'ipBlock',
  ],
  operations: ['ports'],
  when: [],
  maxPolicies: 3,
});

const options: fc.Arbitrary<NetworkPolicyOptions> = fc
  .record({ pods: fc.boolean(), outside: fc.boolean(), cluster: fc.boolean() })
  .map(({ pods, outside, cluster }) => ({
    ...(pods ? { podNetworks: [POD_NETWORK] } : {}),
    outsideHoldsIdentities: outside,
    ...(cluster ? { clusterNetworkPolicy: { priority: 10 } } : {}),
  }));

(rig.isSkipped('cilium') ? describe.skip : describe)('NetworkPolicy, decided by Cilium', () => {
  let cilium: Cilium;
  let schema: KubeSchema;
  beforeAll(async () => {
    cilium = await startCilium();
    schema = await startKubeSchema([await rig.crds('network-policy')]);
  }, rig.rigTimeout);
  afterAll(async () => {
    await cilium.close();
    await schema.close();
  });

  it('never lets in whom the policies deny, and answers alike where the verdicts say exact', async () => {
    const tally = newTally();
    await fc.assert(
      fc.asyncProperty(
        podInventories.chain((content) =>
          fc.record({
            content: fc.constant(content),
            inputs: fc.oneof(policies(knobs), policies(plain)),
            asked: connections(content, undefined, 40),
          }),
        ),
        options,
        fc.constantFrom('Allow' as const, 'Deny' as const),
        async ({ content, inputs, asked }, chosen, defaultAction) => {
          const inventory = createInventory(content);
          const set = compileWorld(inputs, inventory, { defaultAction });
          const rendering = render(networkPolicyRenderer(chosen), contextOf(set, inventory));
          // An identity from outside contradicts the option that says there is none.
          const fitting = asked.filter(
            ({ isJudged, asked: { from } }) =>
              isJudged || !('ip' in from) || chosen.outsideHoldsIdentities === true,
          );
          const wrong = await holdAgainstCilium(cilium, rendering, {
            asked: fitting,
            allows: allowedBy(set),
            tally,
          });
          const cluster = rendering.objects.filter(({ kind }) => kind === 'ClusterNetworkPolicy');
          const problems = (await schema.validate(cluster)).flat();
          expect([...wrong, ...problems].slice(0, 3)).toEqual([]);
        },
      ),
      proof(150),
    );
    expect(tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 20);
    expect(tally.exactAllowed).toBeGreaterThan(tally.exact / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 20);
  }, 120_000);

  it('opens for a mesh that enforces HTTP what the policies would allow without their HTTP parts', async () => {
    const tally = newTally();
    const open = { defaultAction: 'Allow' } as const;
    const http = language({
      principals: ['spiffeId', 'serviceAccount', 'namespace', 'anyone'],
      operations: ['ports', 'methods', 'paths'],
      when: ['token'],
      roles: false,
      modes: ['Enforce'],
      effects: ['Allow', 'Allow', 'Allow', 'Allow', 'Allow', 'Allow', 'Deny'],
      maxPolicies: 3,
    });
    await fc.assert(
      fc.asyncProperty(
        podInventories.chain((content) =>
          fc.record({
            content: fc.constant(content),
            inputs: policies(http),
            asked: connections(content, undefined, 40),
          }),
        ),
        async ({ content, inputs, asked }) => {
          const inventory = createInventory(content);
          const renderer = networkPolicyRenderer({
            assumeHttpEnforcedElsewhere: true,
            outsideHoldsIdentities: false,
          });
          const rendering = render(renderer, contextOf(compileWorld(inputs, inventory, open), inventory));
          const allows = allowedBy(compileWorld(inputs.map(withoutHttp), inventory, open));
          const fitting = asked.filter(({ isJudged, asked: { from } }) => isJudged || !('ip' in from));
          const wrong = await holdAgainstCilium(cilium, rendering, { asked: fitting, allows, tally });
          expect(wrong.slice(0, 3)).toEqual([]);
        },
      ),
      proof(100),
    );
    expect(tally.exact).toBeGreaterThan(tally.asked / 10);
    expect(tally.exactAllowed).toBeGreaterThan(tally.exact / 25);
  }, 120_000);
});

/** A policy as it would be if nobody could see HTTP or tokens: permissions are wider, and prohibitions about them are gone. */
function withoutHttp(policy: PolicyInput): PolicyInput {
  const rules = policy.spec.rules.flatMap((rule): readonly RuleInput[] => {
    const { to, when, ...rest } = rule;
    if (rule.effect !== 'Deny') {
      const ports = to?.map((operation) => operation.ports);
      return ports === undefined || ports.includes(undefined)
        ? [rest]
        : [{ ...rest, to: [{ ports: [...new Set(ports.flatMap((list) => list ?? []))] }] }];
    }
    const connections = to?.filter(({ http: spoken, grpc }) => spoken === undefined && grpc === undefined);
    if (when?.token !== undefined || connections?.length === 0) return [];
    return [{ ...rest, ...(connections === undefined ? {} : { to: connections }) }];
  });
  // A policy that only denies closes nothing, also when nothing is left of it.
  const nothing: RuleInput = {
    name: 'nobody',
    effect: 'Deny',
    from: [{ spiffeIDs: ['spiffe://td/nobody'] }],
  };
  const lost = rules.length === 0 && policy.spec.rules.length > 0;
  return { ...policy, spec: { ...policy.spec, rules: lost ? [nothing] : rules } };
}
