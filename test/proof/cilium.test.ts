import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ciliumRenderer, type CiliumOptions } from '../../src/access/mesh/cilium/renderer.js';
import { createInventory } from '../../src/access/mesh/inventory.js';
import { render } from '../../src/access/mesh/renderer.js';
import type { HttpRequest } from '../../src/access/policy/model.js';
import { startCilium, type Cilium } from '../rig/cilium.js';
import { startKubeSchema, type KubeSchema } from '../rig/kube-schema.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, policies, proofRuns, WORLD } from '../support/policies.js';
import {
  allowedBy,
  connections,
  contextOf,
  holdAgainstCilium,
  newTally,
  POD_NETWORK,
  podInventories,
} from '../support/pod-worlds.js';
import { asking, requests, TRICKY_PATHS } from '../support/policy-worlds.js';

const principals = [
  'spiffeId',
  'serviceAccount',
  'namespace',
  'namespaceSelector',
  'identity',
  'anyone',
  'ipBlock',
] as const;
const knobs = language({
  principals: [...principals, 'trustDomain', 'authenticated'],
  operations: ['ports', 'methods', 'hosts', 'paths', 'headers', 'query', 'grpc'],
  when: ['during', 'targetLabels', 'sourceLabels', 'token'],
});
const plain = language({ principals, operations: ['ports', 'methods', 'paths'], when: [], maxPolicies: 3 });

/** HTTP of the shared world, to whatever workload. */
const http: fc.Arbitrary<HttpRequest> = requests(
  createInventory({
    trustDomain: 'td',
    namespaces: [],
    workloads: [
      {
        namespace: 'a',
        name: 'one',
        serviceAccount: 'x',
        labels: {},
        namespaceLabels: {},
        spiffeIds: ['spiffe://td/x'],
        ports: [{ port: 8080, protocol: 'http' }],
      },
    ],
  }),
  asking({
    unseen: false,
    http: 'always',
    lowerCaseMethods: true,
    tokens: false,
    applications: false,
    strayPorts: false,
  }),
).map((request) => {
  if (request.http === undefined) throw new Error('HTTP is always asked');
  return request.http;
});

const options: fc.Arbitrary<CiliumOptions> = fc
  .record({ pods: fc.boolean(), outside: fc.boolean() })
  .map(({ pods, outside }) => ({
    ...(pods ? { podNetworks: [POD_NETWORK] } : {}),
    outsideHoldsIdentities: outside,
  }));

(rig.isSkipped('cilium') ? describe.skip : describe)('Cilium, decided by its own engine', () => {
  let cilium: Cilium;
  let schema: KubeSchema;
  beforeAll(async () => {
    cilium = await startCilium();
    schema = await startKubeSchema([await rig.crds('cilium')]);
  }, rig.rigTimeout);
  afterAll(async () => {
    await cilium.close();
    await schema.close();
  });

  it('never lets in what the policies deny, and answers alike where the verdicts say exact', async () => {
    const tally = newTally();
    await fc.assert(
      fc.asyncProperty(
        podInventories.chain((content) =>
          fc.record({
            content: fc.constant(content),
            inputs: fc.oneof(policies(knobs), policies(plain)),
            asked: connections(content, http, 40),
          }),
        ),
        options,
        fc.constantFrom('Allow' as const, 'Deny' as const),
        async ({ content, inputs, asked }, chosen, defaultAction) => {
          const inventory = createInventory(content);
          const set = compileWorld(inputs, inventory, { defaultAction });
          const rendering = render(ciliumRenderer(chosen), contextOf(set, inventory));
          const fitting = asked.filter(
            ({ isJudged, asked: { from, http: spoken } }) =>
              (isJudged || !('ip' in from) || chosen.outsideHoldsIdentities === true) &&
              // A connection that no rule about HTTP concerns is not looked into.
              (spoken === undefined || !isRefused(spoken)),
          );
          const wrong = await holdAgainstCilium(cilium, rendering, {
            asked: fitting,
            allows: allowedBy(set),
            isJudged: ({ asked: { http: spoken, port } }) =>
              spoken === undefined ||
              (!spoken.path.split('?')[0]?.includes('%') &&
                (port === WORLD.ports[0] || isNamed(inputs, port))),
            tally,
          });
          const problems = (await schema.validate(rendering.objects)).flat();
          expect([...wrong, ...problems]).toEqual([]);
        },
      ),
      { numRuns: proofRuns(150) },
    );
    process.stderr.write(`cilium: ${JSON.stringify(tally)}\n`);
    expect(tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.allowedByEngine).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 20);
    expect(tally.exactAllowed).toBeGreaterThan(tally.exact / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 20);
  }, 120_000);
});

function isRefused({ method, path }: HttpRequest): boolean {
  const [plainPath] = path.split('?');
  return method !== method.toUpperCase() || TRICKY_PATHS.some((tricky) => tricky === plainPath);
}

const isNamed = (inputs: unknown, port: number): boolean => JSON.stringify(inputs).includes(String(port));
