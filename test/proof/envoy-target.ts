/** One workload behind the real Envoy, with policies as a test writes them. */
import { envoyFilters, type EnvoyFiltersOptions } from '../../src/access/mesh/envoy/filters.js';
import type { Json } from '../../src/access/mesh/envoy/predicate.js';
import { createInventory, type Inventory, type InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type { RenderContext, RenderedIssuer } from '../../src/access/mesh/renderer.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import { compilePolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { answerHello, bootstrap, echo, httpManager, listener } from '../rig/envoy-config.js';

/** The workload that is asked. */
export const TARGET: InventoryWorkload = {
  namespace: 'shop',
  name: 'payments',
  serviceAccount: 'payments',
  labels: { app: 'payments' },
  namespaceLabels: {},
  spiffeIds: ['spiffe://td/ns/shop/sa/payments'],
  ports: [{ port: 8080, protocol: 'http' }],
};

/** Its cluster. */
export const INVENTORY: Inventory = createInventory({
  trustDomain: 'td',
  namespaces: [{ name: 'shop', labels: {} }],
  workloads: [TARGET],
});

/** A policy of the workload's namespace. */
export function policy(
  name: string,
  rules: readonly Omit<PolicyInput['spec']['rules'][number], 'name'>[],
  spec: Partial<PolicyInput['spec']> = {},
): PolicyInput {
  const named = rules.map((rule, index) => ({ name: `r${index}`, ...rule }));
  return {
    kind: 'AccessPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { target: {}, ...spec, rules: named },
  };
}

/** What to render it with. */
export function contextOf(
  policies: readonly PolicyInput[],
  issuers: readonly RenderedIssuer[] = [],
  defaultAction: 'Allow' | 'Deny' = 'Deny',
): RenderContext {
  const set = compilePolicySet(policies, { trustDomain: 'td', defaultAction });
  const problems = set.policies.flatMap(({ problems: list }) => list ?? []);
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  return { set, inventory: INVENTORY, time: Date.UTC(2026, 0, 7), zones: new ZoneClock(), issuers };
}

/** A bootstrap with a listener `http` and a listener `raw` in front of the workload. */
export function targetConfig(
  context: RenderContext,
  tls: Json | undefined,
  options: EnvoyFiltersOptions = { port: 8080 },
): Json {
  const filters = envoyFilters(TARGET, context, options);
  const place = tls === undefined ? {} : { transportSocket: tls };
  const manager = httpManager(answerHello, filters.http, { ...filters.connectionManager });
  const listeners = [
    listener(manager, { name: 'http', ...place }),
    listener(echo, { name: 'raw', ...place, networkFilters: filters.network }),
  ];
  return bootstrap(listeners, filters.clusters);
}
