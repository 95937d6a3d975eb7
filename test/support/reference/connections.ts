/** Holds a mesh that sees connections only against the policies: random worlds, random callers. */
import fc from 'fast-check';
import { createInventory, type InventoryWorkload } from '../../../src/access/mesh/inventory.js';
import { render, type Renderer, type Rendering } from '../../../src/access/mesh/renderer.js';
import { evaluate } from '../../../src/access/policy/evaluate.js';
import type { AccessRequest } from '../../../src/access/policy/model.js';
import type { PolicySet } from '../../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../../src/access/policy/time-window.js';
import { compileWorld, language, WORLD, proof } from '../policies.js';
import { asking, worlds } from '../policy-worlds.js';

const zones = new ZoneClock();

const wide = language({
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
  operations: ['ports', 'ports', 'methods', 'paths', 'actions'],
  when: ['token', 'during', 'outside', 'sourceLabels', 'targetLabels'],
});
const plain = language({
  principals: ['spiffeId', 'serviceAccount', 'identity', 'anyone'],
  operations: ['ports'],
  targetPorts: false,
  maxPolicies: 2,
  maxRules: 2,
});

/** Who is named one by one, which every mesh can say. */
const listed = language({
  principals: ['spiffeId', 'serviceAccount', 'identity'],
  operations: ['ports'],
  effects: ['Allow'],
  modes: ['Enforce'],
  tiers: ['Namespaced'],
  selectors: [],
  targetPorts: false,
  except: false,
  validity: false,
});

/** What was asked, and how it was answered. */
export interface Tally {
  asked: number;
  open: number;
  exact: number;
  exactOpen: number;
  narrower: number;
}

export function renderFor(
  renderer: Renderer,
  set: PolicySet,
  inventory: ReturnType<typeof createInventory>,
): Rendering {
  return render(renderer, { set, inventory, time: WORLD.now, zones });
}

/** Throws where the mesh lets in whom the policies deny, or differs though the verdicts say exact. */
export function holdAgainst(
  renderer: Renderer,
  allows: (rendering: Rendering, request: AccessRequest & { readonly target: InventoryWorkload }) => boolean,
): Tally {
  const tally: Tally = { asked: 0, open: 0, exact: 0, exactOpen: 0, narrower: 0 };
  const asked = asking({ unseen: false, http: 'never', applications: false, times: [WORLD.now] });
  fc.assert(
    fc.property(
      fc.oneof(worlds(wide, asked, 30), worlds(plain, asked, 30), {
        weight: 2,
        arbitrary: worlds(listed, asked, 30),
      }),
      fc.constantFrom('Allow' as const, 'Deny' as const),
      ({ inventory, inputs, requests }, defaultAction) => {
        const set = compileWorld(inputs, inventory, { defaultAction });
        const rendering = renderFor(renderer, set, inventory);
        for (const request of requests) {
          const target = request.target as InventoryWorkload;
          const own = rendering.verdicts.filter(({ targets }) =>
            targets?.includes(`${target.namespace}/${target.name}`),
          );
          const isExact = own.length > 0 && own.every(({ fidelity }) => fidelity === 'Exact');
          const isDeclared = target.ports.some(({ port }) => port === request.port);
          const wanted = evaluate(set, request).allowed;
          const given = allows(rendering, { ...request, target });
          tally.asked++;
          if (given) tally.open++;
          if (isExact && isDeclared) tally.exact++;
          if (isExact && isDeclared && given) tally.exactOpen++;
          if (!isExact) tally.narrower++;
          if (given && !wanted) throw new Error(`wider: ${JSON.stringify(request)}`);
          if (isExact && isDeclared && given !== wanted)
            throw new Error(`not exact: ${JSON.stringify(request)}`);
        }
      },
    ),
    { ...proof(400), endOnFailure: true },
  );
  return tally;
}

/** One workload, and another that carries its labels and one more. */
export const PAIR = createInventory({
  trustDomain: WORLD.trustDomain,
  namespaces: [{ name: 'a', labels: {} }],
  workloads: [
    { name: 'one', serviceAccount: 'x', labels: { app: 'one' } },
    { name: 'one-canary', serviceAccount: 'y', labels: { app: 'one', track: 'canary' } },
  ].map((workload) => ({
    ...workload,
    namespace: 'a',
    namespaceLabels: {},
    spiffeIds: [`spiffe://td/ns/a/sa/${workload.serviceAccount}`],
    ports: [
      { port: 8080, protocol: 'http' as const, name: 'web' },
      { port: 9000, protocol: 'tcp' as const },
    ],
  })),
});
