import type { PolicyDiff } from '../../src/access/analysis/diff.js';
import type * as Diff from '../../src/access/analysis/diff.js';
import type * as InventoryRoom from '../../src/access/mesh/inventory.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import type * as Sets from '../../src/access/policy/policy-set.js';
import { bounded, type BenchRow } from './row.js';

const POLICIES = 1000;
const NAMESPACES = 100;
const RULES = 10;
const WORKLOADS = 10;

/** Two sets of 1,000 policies (10,000 rules) over 1,000 workloads: with one rule changed, and with all of them changed. */
export async function run(): Promise<BenchRow[]> {
  // What is shipped is measured; the types are those of its source.
  const built = async <T>(path: string): Promise<T> =>
    (await import(new URL(`../../dist/access/${path}`, import.meta.url).href)) as T;
  const { diffPolicySets } = await built<typeof Diff>('analysis/diff.js');
  const { compilePolicySet } = await built<typeof Sets>('policy/policy-set.js');
  const { createInventory } = await built<typeof InventoryRoom>('mesh/inventory.js');
  const inventory = createInventory({
    trustDomain: 'td',
    namespaces: Array.from({ length: NAMESPACES }, (_, at) => ({ name: `ns-${at}`, labels: {} })),
    workloads: Array.from({ length: NAMESPACES * WORKLOADS }, (_, at) => ({
      namespace: `ns-${at % NAMESPACES}`,
      name: `app-${Math.floor(at / NAMESPACES)}`,
      serviceAccount: `sa-${Math.floor(at / NAMESPACES)}`,
      labels: { app: `app-${Math.floor(at / NAMESPACES)}` },
      namespaceLabels: {},
      spiffeIds: [`spiffe://td/ns/ns-${at % NAMESPACES}/sa/sa-${Math.floor(at / NAMESPACES)}`],
      ports: [{ port: 8080, protocol: 'http' as const }],
    })),
  });
  const set = (change: (policy: number, rule: number) => boolean): Sets.PolicySet =>
    compilePolicySet(
      Array.from({ length: POLICIES }, (_, at) => policy(at, change)),
      { trustDomain: 'td' },
    );
  const compare = (changed: Sets.PolicySet): { readonly ms: number; readonly diff: PolicyDiff } => {
    const before = set(() => false);
    const from = performance.now();
    const diff = diffPolicySets(before, changed, inventory, { from: 0 });
    return { ms: performance.now() - from, diff };
  };
  const one = compare(set((at, rule) => at === 500 && rule === 3));
  const all = compare(set(() => true));
  if (one.diff.gained.length === 0 || all.diff.gained.length === 0)
    throw new Error('the change was not found');
  return [
    bounded('diff of two sets of 1,000 policies, one rule changed', one.ms, 'ms', 5000),
    bounded('diff of two sets of 1,000 policies, every rule changed', all.ms, 'ms', 5000),
  ];
}

function policy(at: number, change: (policy: number, rule: number) => boolean): PolicyInput {
  return {
    kind: 'AccessPolicy',
    metadata: { name: `p-${at}`, namespace: `ns-${at % NAMESPACES}` },
    spec: {
      target: { podSelector: { matchLabels: { app: `app-${Math.floor(at / NAMESPACES)}` } } },
      rules: Array.from({ length: RULES }, (_, rule) => ({
        name: `r-${rule}`,
        from: [{ serviceAccounts: [{ namespace: `ns-${(at + rule) % NAMESPACES}`, name: `sa-${rule}` }] }],
        to: [
          {
            ports: [8080],
            http: {
              methods: change(at, rule) ? ['GET', 'POST'] : ['GET'],
              paths: [{ prefix: `/api/v${rule}` }, { template: `/files/{id}/v${rule}` }],
            },
          },
        ],
      })),
    },
  };
}
