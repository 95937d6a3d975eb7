import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createInventory } from '../../src/access/mesh/inventory.js';
import {
  networkPolicyRenderer,
  type NetworkPolicyOptions,
} from '../../src/access/mesh/networkpolicy/renderer.js';
import { render } from '../../src/access/mesh/renderer.js';
import { startCilium, type Cilium } from '../rig/cilium.js';
import { startKubeSchema, type KubeSchema } from '../rig/kube-schema.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, policies, proofRuns } from '../support/policies.js';
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
          expect([...wrong, ...problems]).toEqual([]);
        },
      ),
      { numRuns: proofRuns(150) },
    );
    process.stderr.write(`networkpolicy: ${JSON.stringify(tally)}\n`);
    expect(tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 20);
    expect(tally.exactAllowed).toBeGreaterThan(tally.exact / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 20);
  }, 120_000);
});
