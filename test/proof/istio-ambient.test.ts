import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { startIstio, type Istio } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { language, WORLD, proofSeed, proofRuns } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';
import { onIpv4, renderWorld, sample, toYaml, verdictsOf } from './istio-world.js';
import { ztunnelAllows } from './ztunnel.js';

const RUNS = proofRuns(150);
const SEED = proofSeed();

(rig.isSkipped('istio') ? describe.skip : describe)('ztunnel and the policies', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  it('traps 8, 9, 11: allows no connection that the policies deny, and all where the verdicts say Exact', async () => {
    const said = language({ principals: [...language().principals, 'ipBlock'] });
    const asked = asking({ unseen: false, http: 'never', applications: false, times: [WORLD.now] });
    const seen = { allow: 0, deny: 0, exact: 0, narrower: 0 };
    for (const world of sample(worlds(said, asked, 12), RUNS, SEED)) {
      const { rendering, context } = renderWorld(world, { mode: 'ambient' });
      const policies = rendering.objects.filter(({ kind }) => kind === 'AuthorizationPolicy');
      const handed = await istio.ambient(toYaml(policies));
      // istiod has nothing against any of it, so nothing was dropped.
      expect(handed.filter(({ status }) => status !== null)).toEqual([]);
      const selectors = new Map(
        policies.map(({ metadata, spec }) => [
          `${metadata.namespace}/${metadata.name}`,
          (spec?.['selector'] as { readonly matchLabels: Readonly<Record<string, string>> } | undefined)
            ?.matchLabels,
        ]),
      );
      for (const drawn of world.requests) {
        const { source, port = 0, sourceIp = '' } = onIpv4(drawn);
        const request = { source, port, sourceIp, target: drawn.target, time: drawn.time };
        const allowed = ztunnelAllows(
          handed,
          ({ namespace, name }) => selectors.get(`${namespace}/${name}`),
          request.target,
          { source, port, sourceIp },
        );
        const decision = evaluate(context.set, request);
        const verdicts = verdictsOf(rendering, request.target as InventoryWorkload, context.set);
        const exact = verdicts.every(({ fidelity }) => fidelity === 'Exact');
        const known = source === undefined || /^spiffe:\/\/[^/]+\/ns\/[^/]+\/sa\/[^/]+$/.test(source);
        const shown = JSON.stringify({ request, decision: decision.reason, objects: policies });
        if (allowed && !decision.allowed) throw new Error(`wider: ${shown}`);
        if (exact && known && allowed !== decision.allowed) throw new Error(`not exact: ${shown}`);
        seen[allowed ? 'allow' : 'deny'] += 1;
        seen[exact ? 'exact' : 'narrower'] += 1;
      }
    }
    const tenth = (RUNS * 12) / 10;
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(tenth);
  }, 120_000);
});
