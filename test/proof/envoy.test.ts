import { beforeAll, describe, expect, it } from '@jest/globals';
import { newCredentialSource, type CredentialSource } from '../rig/credentials.js';
import * as rig from '../rig/rig.js';
import { language, WORLD, proofSeed, proofRuns } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';
import { askEnvoy, newIssuers, sampleWorlds, type Asked, type Issuers } from './envoy-world.js';

const RUNS = proofRuns(60);
/** The whole language but what an application asks for itself. */
const SAID = language({
  principals: [...language().principals, 'ipBlock'],
  operations: ['ports', 'methods', 'hosts', 'paths', 'grpc', 'headers', 'query'],
  when: ['token', 'during', 'outside', 'sourceLabels', 'targetLabels', 'sourcePosture', 'attributes', 'cel'],
  roles: true,
});
const SEED = proofSeed();

(rig.isSkipped('envoy') ? describe.skip : describe)('Envoy and the policies', () => {
  let credentials: CredentialSource;
  let issuers: Issuers;
  beforeAll(async () => {
    await rig.envoy();
    credentials = await newCredentialSource(WORLD.trustDomains);
    issuers = await newIssuers();
  }, rig.rigTimeout);

  it.each([
    ['configured', SEED],
    ['served', SEED + 1],
  ] as const)(
    '%s, allows nothing that the policies deny, and all that they allow where the verdicts say Exact',
    async (delivery, seed) => {
      const asked = asking({ unseen: false, http: 'declared', applications: false, times: [WORLD.now] });
      const runs = delivery === 'served' ? Math.ceil(RUNS / 2) : RUNS;
      const sample = sampleWorlds(worlds(SAID, asked, 12), runs, seed);
      const campaign = await askEnvoy(sample, credentials, issuers, delivery);
      try {
        expect(campaign.asked.filter(isWider).map(describeAsked)).toEqual([]);
        expect(
          campaign.asked
            .filter((one) => isExact(one) && one.allowed !== one.decision.allowed)
            .map(describeAsked),
        ).toEqual([]);
        const share = (holds: (one: Asked) => boolean): number =>
          campaign.asked.filter(holds).length / campaign.asked.length;
        expect(share(({ allowed }) => allowed)).toBeGreaterThan(0.1);
        expect(share(({ allowed }) => !allowed)).toBeGreaterThan(0.1);
        expect(share(isExact)).toBeGreaterThan(0.1);
        expect(share((one) => !isExact(one))).toBeGreaterThan(0.1);
      } finally {
        await campaign.stop();
      }
    },
    120_000,
  );
});

const isWider = ({ allowed, decision }: Asked): boolean => allowed && !decision.allowed;
const isExact = ({ filters }: Asked): boolean =>
  filters.verdicts.every(({ fidelity }) => fidelity === 'Exact');

function describeAsked({ request, decision, allowed, answer, filters, set, world }: Asked): unknown {
  const { target, ...rest } = request;
  return {
    world,
    request: { ...rest, target: `${target.namespace}/${target.name}` },
    policies: { allowed: decision.allowed, reason: decision.reason },
    envoy: { allowed, details: answer?.headers['x-details'], status: answer?.status, why: answer?.why },
    rules: set.concerning(target),
    verdicts: filters.verdicts.filter(({ fidelity }) => fidelity !== 'Exact'),
  };
}
