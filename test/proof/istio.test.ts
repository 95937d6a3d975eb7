import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startIstio, type Istio, type IstioAdmission } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { language, WORLD, type Language, proofSeed, proofRuns } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';
import { askIstio, sample, type Asked } from './istio-world.js';

const RUNS = proofRuns(60);
const SEED = proofSeed();

const asked = asking({ unseen: false, http: 'declared', applications: false, times: [WORLD.now] });

const isWider = ({ answer, decision }: Asked): boolean => answer.decision === 'allow' && !decision.allowed;
const isExact = ({ verdicts }: Asked): boolean => verdicts.every(({ fidelity }) => fidelity === 'Exact');
/** The condition under which "exact" is said. */
const isOwn = ({ request }: Asked): boolean =>
  request.source === undefined || request.source.startsWith(`spiffe://${WORLD.trustDomain}/`);

function shown({ request, answer, decision, set, verdicts, rendering }: Asked): string {
  return JSON.stringify(
    {
      request,
      answer,
      policies: [decision.allowed, decision.reason],
      set: set.concerning(request.target),
      default: set.defaultAction,
      verdicts: verdicts.filter(({ fidelity }) => fidelity !== 'Exact'),
      objects: rendering.objects.filter(({ kind }) => kind !== 'EnvoyFilter'),
    },
    (_, value: unknown) => (value instanceof Set ? [...(value as Set<unknown>)] : value),
    1,
  );
}

(rig.isSkipped('istio') ? describe.skip : describe)('Istio and the policies', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  async function campaign(said: Language, aliases?: readonly string[]): Promise<readonly Asked[]> {
    const refused: IstioAdmission[] = [];
    const all = await askIstio(
      istio,
      sample(worlds(said, asked, 12), RUNS, SEED),
      (admission) => {
        // Istio warns of every EnvoyFilter, whatever it says.
        const warned = (admission.warnings ?? []).length > 0 && admission.kind !== 'EnvoyFilter';
        if (!admission.accepted || warned) refused.push(admission);
      },
      aliases,
    );
    expect(refused).toEqual([]);
    expect(all.filter(({ answer }) => answer.decision === 'error').map(shown)).toEqual([]);
    expect(all.filter(isWider).map(shown).slice(0, 3)).toEqual([]);
    expect(
      all
        .filter((one) => isExact(one) && isOwn(one))
        .filter(({ answer, decision }) => (answer.decision === 'allow') !== decision.allowed)
        .map(shown)
        .slice(0, 3),
    ).toEqual([]);
    const share = (holds: (one: Asked) => boolean): number => all.filter(holds).length / all.length;
    expect(share(({ answer }) => answer.decision === 'allow')).toBeGreaterThan(0.1);
    expect(share(({ answer }) => answer.decision === 'deny')).toBeGreaterThan(0.1);
    expect(share(isExact)).toBeGreaterThan(0.1);
    expect(share((one) => !isExact(one))).toBeGreaterThan(0.1);
    return all;
  }

  it('allows nothing that the policies deny, and all that they allow where the verdicts say Exact', async () => {
    await campaign(language());
  }, 120_000);

  it('holds for headers, queries, tokens, roles, hours, labels and addresses', async () => {
    const base = language();
    await campaign(
      language({
        principals: [...base.principals, 'ipBlock'],
        operations: [...base.operations, 'headers', 'query', 'actions'],
        when: ['token', 'during', 'outside', 'targetLabels', 'sourceLabels', 'attributes'],
        roles: true,
      }),
    );
  }, 120_000);

  it('trap 4: holds with an alias of the trust domain, which Istio takes for the trust domain itself', async () => {
    const all = await campaign(language(), ['td.evil']);
    expect(
      all.some(({ request, answer }) => request.source?.includes('td.evil') && answer.decision === 'allow'),
    ).toBe(true);
  }, 120_000);
});
