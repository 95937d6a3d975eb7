import type { LabelRequirement, Target } from '../../policy/model.js';
import { labelsMatch } from '../../policy/selector.js';
import type { Inventory, InventoryWorkload } from '../inventory.js';

/** Where an object lies, and which pods it selects there. In the root namespace it selects in the whole mesh. */
export interface Placement {
  readonly namespace: string;
  /** Absent selects every pod. */
  readonly matchLabels?: Readonly<Record<string, string>>;
  /** Workloads that are selected though the policy does not select them. */
  readonly over: readonly InventoryWorkload[];
  /** The workloads that are meant, where they are named one by one. */
  readonly meant?: readonly InventoryWorkload[];
}

const MAX_SELECTORS = 16;

/**
 * Where to put what is said of a target. Istio's selectors are labels with one value each; a target that needs more is
 * said by the labels of the workloads that there are.
 */
export function placements(
  target: Target,
  inventory: Inventory,
  root: string,
  spared: Spared = NOBODY,
): readonly Placement[] {
  const selected = spared.size === 0 ? [] : inventory.selected(target);
  if (selected.some((workload) => spared.has(workload))) {
    return beside(target, selected, spared, inventory, root);
  }
  const selectors = target.serviceAccounts === undefined ? selectorsOf(target.pods) : undefined;
  const everywhere = target.namespaceNames === undefined && target.namespaces.length === 0;
  if (selectors !== undefined && everywhere) return selectors.map((labels) => placement(root, labels));
  if (selectors === undefined) return oneByOne(inventory.selected(target), inventory, root);
  return namespacesOf(target, inventory).flatMap((namespace) =>
    namespace === root
      ? oneByOne(
          inventory.selected(target).filter((workload) => workload.namespace === root),
          inventory,
          root,
        )
      : selectors.map((labels) => placement(namespace, labels)),
  );
}

/** Workloads that an object is not to select, though the target does. */
export type Spared = ReadonlyMap<InventoryWorkload, unknown>;

const NOBODY: Spared = new Map();

/** In the namespaces with somebody to spare, one by one. */
function beside(
  target: Target,
  selected: readonly InventoryWorkload[],
  spared: Spared,
  inventory: Inventory,
  root: string,
): readonly Placement[] {
  const byNamespace = Map.groupBy(selected, ({ namespace }) => namespace);
  const everywhere = target.namespaceNames === undefined && target.namespaces.length === 0;
  const names = everywhere ? inventory.namespaces.map(({ name }) => name) : namespacesOf(target, inventory);
  return names.flatMap((namespace) => {
    const here = byNamespace.get(namespace) ?? [];
    if (namespace !== root && !here.some((workload) => spared.has(workload))) {
      return placements({ ...target, namespaceNames: [namespace], namespaces: [] }, inventory, root);
    }
    const meant = here.filter((workload) => !spared.has(workload));
    return oneByOne(meant, inventory, root);
  });
}

function placement(
  namespace: string,
  labels: Readonly<Record<string, string>>,
  over: readonly InventoryWorkload[] = [],
): Placement {
  return { namespace, over, ...(Object.keys(labels).length === 0 ? {} : { matchLabels: labels }) };
}

/** Requirements as selectors that select together what they select; undefined when Istio cannot say them. */
function selectorsOf(
  requirements: readonly LabelRequirement[],
): readonly Readonly<Record<string, string>>[] | undefined {
  let selectors: Readonly<Record<string, string>>[] = [{}];
  for (const requirement of requirements) {
    if (requirement.kind !== 'in') return undefined;
    const { key, values } = requirement;
    selectors = selectors.flatMap((labels) => {
      const known = Object.hasOwn(labels, key) ? labels[key] : undefined;
      if (known !== undefined) return values.has(known) ? [labels] : [];
      return [...values].map((value) => ({ ...labels, [key]: value }));
    });
    if (selectors.length > MAX_SELECTORS) return undefined;
  }
  return selectors;
}

function namespacesOf(target: Target, { namespaces }: Inventory): readonly string[] {
  if (target.namespaces.length === 0) return [...new Set(target.namespaceNames)];
  return namespaces
    .filter(
      ({ name, labels }) =>
        (target.namespaceNames === undefined || target.namespaceNames.includes(name)) &&
        labelsMatch(target.namespaces, labels),
    )
    .map(({ name }) => name);
}

function oneByOne(
  meant: readonly InventoryWorkload[],
  inventory: Inventory,
  root: string,
): readonly Placement[] {
  const all = new Set(meant);
  const byLabels = new Map<string, InventoryWorkload[]>();
  for (const workload of meant) {
    const key = JSON.stringify([workload.namespace, Object.entries(workload.labels).sort()]);
    const list = byLabels.get(key);
    if (list === undefined) byLabels.set(key, [workload]);
    else list.push(workload);
  }
  return [...byLabels.values()].flatMap((list) => {
    const [first] = list;
    if (first === undefined) return [];
    const over = alsoSelected(first, inventory, root).filter((workload) => !all.has(workload));
    return [{ ...placement(first.namespace, first.labels, over), meant: list }];
  });
}

/** The other workloads that a selector of all of a workload's labels selects too. */
export function alsoSelected(
  { namespace, labels }: InventoryWorkload,
  inventory: Inventory,
  root: string,
): readonly InventoryWorkload[] {
  const pods = Object.entries(labels).map(([key, value]): LabelRequirement => ({
    kind: 'in',
    key,
    values: new Set([value]),
  }));
  const target: Target = {
    ...(namespace === root ? {} : { namespaceNames: [namespace] }),
    namespaces: [],
    pods,
  };
  return inventory.selected(target);
}
