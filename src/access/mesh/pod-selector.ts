import type { Inventory, InventoryWorkload } from './inventory.js';

/** A metav1.LabelSelector. */
export interface PodSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: 'DoesNotExist' | 'NotIn';
    readonly values?: readonly string[];
  }[];
}

/** How the pods of one workload are told from all others of its namespace. */
export interface Selection {
  /** The workload's own labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Selects the workload, and no other of the inventory but its `twins`. */
  readonly selector: PodSelector;
  /** Others whose labels are a superset, and which are not twins: `labels` alone would select them too. */
  readonly covered: readonly InventoryWorkload[];
  /** Others with the very same labels: no selector tells them apart. */
  readonly twins: readonly InventoryWorkload[];
}

/** How to select a workload's pods. */
export function selectionOf(workload: InventoryWorkload, inventory: Inventory): Selection {
  const own = Object.entries(workload.labels);
  const others = neighbours(inventory, workload).filter(
    (other) => other !== workload && own.every(([key, value]) => valueOf(other, key) === value),
  );
  const twins = others.filter(({ labels }) => Object.keys(labels).length === own.length);
  const covered = others.filter((other) => !twins.includes(other));
  // One label that the other has and this one has not is enough to leave the other out.
  const keys = new Set<string>();
  for (const { labels } of covered) {
    const extra = Object.keys(labels)
      .sort()
      .filter((key) => !Object.hasOwn(workload.labels, key));
    if (!extra.some((key) => keys.has(key)) && extra[0] !== undefined) keys.add(extra[0]);
  }
  const expressions = [...keys].map((key) => ({ key, operator: 'DoesNotExist' as const }));
  return {
    labels: workload.labels,
    selector: {
      ...(own.length === 0 ? {} : { matchLabels: workload.labels }),
      ...(expressions.length === 0 ? {} : { matchExpressions: expressions }),
    },
    covered,
    twins,
  };
}

function valueOf({ labels }: InventoryWorkload, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

type Groups = ReadonlyMap<string, readonly InventoryWorkload[]>;
const caches = new WeakMap<Inventory, Groups>();

/** The workloads of the same namespace. */
function neighbours(inventory: Inventory, { namespace }: InventoryWorkload): readonly InventoryWorkload[] {
  let groups = caches.get(inventory);
  if (groups === undefined) {
    groups = Map.groupBy(inventory.workloads, (workload) => workload.namespace);
    caches.set(inventory, groups);
  }
  return groups.get(namespace) ?? [];
}
