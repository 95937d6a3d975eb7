import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { istioRenderer } from '../../src/access/mesh/istio/renderer.js';
import { render } from '../../src/access/mesh/renderer.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { startIstio, type Istio } from '../rig/istio.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, WORLD, proofSeed, proofRuns, type Language } from '../support/policies.js';
import { TOKENS } from '../support/policy-conditions.js';
import { asking, worlds } from '../support/policy-worlds.js';
import { asSeen, asSent, onIpv4, verdictsOf } from './istio-world.js';
import { askWaypoints, layouts, withWaypoints } from './istio-waypoint-world.js';

const RUNS = proofRuns(60);
const SEED = proofSeed();

function asConnection({
  source,
  sourceIp,
  sourceWorkload,
  target,
  port,
  time,
}: AccessRequest): AccessRequest {
  return {
    source,
    target,
    time,
    ...(sourceIp === undefined ? {} : { sourceIp }),
    ...(sourceWorkload === undefined ? {} : { sourceWorkload }),
    ...(port === undefined ? {} : { port }),
  };
}

const asked = asking({ unseen: false, http: 'declared', applications: false, times: [WORLD.now] });

(rig.isSkipped('istio') ? describe.skip : describe)('waypoints, ztunnel and the policies', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  async function campaign(said: Language): Promise<void> {
    const seen = { allow: 0, deny: 0, exact: 0, narrower: 0, pod: 0, past: 0, service: 0 };
    const both = fc.tuple(worlds(said, asked, 12), layouts);
    for (const [drawn, layout] of fc.sample(both, { numRuns: RUNS, seed: SEED })) {
      const world = withWaypoints(drawn, layout);
      const set = compileWorld(onIpv4(world.inputs), world.inventory, { defaultAction: world.defaultAction });
      const issuers = TOKENS.issuers.map((issuer) => ({ issuer, jwks: '__TEST_JWKS__' }));
      const context = {
        set,
        inventory: world.inventory,
        time: WORLD.now,
        zones: new ZoneClock(),
        issuers,
      };
      const rendering = render(istioRenderer(), context);
      const requests = world.requests.map((one) => asSent(onIpv4(one)));
      for (const way of await askWaypoints(istio, world, requests, rendering.objects)) {
        const { request, by, allowed } = way;
        const target = request.target as InventoryWorkload;
        // ztunnel sees connections and no HTTP: what is sent there alone is judged so.
        const decision = evaluate(set, asSeen(by === 'pod' ? asConnection(request) : request));
        const verdicts = verdictsOf(rendering, target, set);
        const exact = verdicts.every(({ fidelity }) => fidelity === 'Exact');
        const usual = /^spiffe:\/\/td\/ns\/[^/]+\/sa\/[^/]+$/.test(request.source ?? '');
        const shown = (): string =>
          JSON.stringify(
            { layout, way, decision, verdicts, set: set.concerning(target), objects: rendering.objects },
            (_, value: unknown) => (value instanceof Set ? [...(value as Set<unknown>)] : value),
            1,
          );
        if (allowed && !decision.allowed) throw new Error(`wider: ${shown()}`);
        if (by === 'service' && exact && usual && allowed !== decision.allowed)
          throw new Error(`not exact: ${shown()}`);
        seen[by] += 1;
        if (by !== 'service') continue;
        seen[allowed ? 'allow' : 'deny'] += 1;
        seen[exact ? 'exact' : 'narrower'] += 1;
      }
    }
    const tenth = seen.service / 10;
    for (const count of [seen.allow, seen.deny, seen.exact, seen.narrower])
      expect(count).toBeGreaterThan(tenth);
    expect(Math.min(seen.pod, seen.past)).toBeGreaterThan(tenth);
  }

  it('lets nothing through that the policies deny, on whatever way, and all where the verdicts say Exact', async () => {
    await campaign(language());
  }, 180_000);

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
  }, 180_000);
});
