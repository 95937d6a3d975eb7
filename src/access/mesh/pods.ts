import { appendTo } from '../../lib/append-to.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { namespaceOf, serviceAccountUri } from '../policy/spiffe-namespace.js';
import type { LabelRequirement, Principal } from '../policy/model.js';
import type { Inventory, InventoryWorkload } from './inventory.js';

/** Pods that an engine which knows pods by their labels cannot tell apart. */
export interface PodClass {
  readonly namespace: string;
  /** Only where the engine compares it. */
  readonly serviceAccount?: string;
  /** Those labels that the engine compares. */
  readonly labels: Readonly<Record<string, string>>;
  /** Never empty. */
  readonly workloads: readonly InventoryWorkload[];
}

/** The pods of one namespace. */
export interface PodNamespace {
  readonly name: string;
  readonly classes: readonly PodClass[];
  /** Whether all IDs that its pods hold lie under `/ns/<this namespace>/` of the own trust domain. */
  readonly regular: boolean;
  /** Whether there are pods and all that runs in each of them holds an ID. */
  readonly covered: boolean;
}

/** A metav1.LabelSelector. */
export interface PodSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
    readonly values?: readonly string[];
  }[];
}

/** What an engine compares of a pod, beside its namespace. */
export interface PodView {
  readonly serviceAccounts: boolean;
  /** Whether the engine looks at a label. */
  label(key: string): boolean;
}

/** The pods of an inventory as an engine sees them. */
export interface PodIndex {
  readonly trustDomain: string;
  readonly namespaces: readonly PodNamespace[];
  namespace(name: string): PodNamespace | undefined;
  classOf(workload: InventoryWorkload): PodClass;
  /** The classes in which somebody holds an ID that the principal names; not for `anyone` and `authenticated`. */
  holders(principal: Principal): readonly PodClass[];
  /** Whether a pod of the inventory holds an ID. */
  isHeld(uri: string): boolean;
  /** Selects, of the pods of the namespace that are in the inventory, those of the class and no others. */
  selector(pods: PodClass): PodSelector;
}

const byKey = ([a]: readonly [string, string], [b]: readonly [string, string]): number =>
  a < b ? -1 : a > b ? 1 : 0;

export function createPodIndex(inventory: Inventory, view: PodView): PodIndex {
  const classes = new Map<string, PodClass & { readonly workloads: InventoryWorkload[] }>();
  const classOf = new Map<InventoryWorkload, PodClass>();
  const holding = new Map<string, Set<PodClass>>();
  const add = (key: string, pods: PodClass): void => {
    const known = holding.get(key);
    if (known === undefined) holding.set(key, new Set([pods]));
    else known.add(pods);
  };
  for (const workload of inventory.workloads) {
    const labels = Object.entries(workload.labels)
      .filter(([key]) => view.label(key))
      .sort(byKey);
    const { namespace } = workload;
    const serviceAccount = view.serviceAccounts ? workload.serviceAccount : undefined;
    const key = JSON.stringify([namespace, serviceAccount, labels]);
    let pods = classes.get(key);
    if (pods === undefined) {
      pods = {
        namespace,
        ...(serviceAccount === undefined ? {} : { serviceAccount }),
        labels: Object.fromEntries(labels),
        workloads: [],
      };
      classes.set(key, pods);
    }
    pods.workloads.push(workload);
    classOf.set(workload, pods);
    for (const uri of workload.spiffeIds) {
      const id = parseSpiffeId(uri);
      const inside = namespaceOf(id.path);
      add(uri, pods);
      add(`td ${id.trustDomain}`, pods);
      if (inside !== undefined) add(`ns ${id.trustDomain}/${inside}`, pods);
    }
  }
  const namespaces = groupNamespaces(inventory, [...classes.values()]);
  const holders = (key: string): readonly PodClass[] => [...(holding.get(key) ?? [])];
  const selectors = new Map<PodClass, PodSelector>();
  const byLabel = new LabelLookup([...classes.values()]);
  return {
    trustDomain: inventory.trustDomain,
    namespaces: [...namespaces.values()],
    namespace: (name) => namespaces.get(name),
    classOf(workload) {
      const pods = classOf.get(workload);
      if (pods === undefined) throw new RangeError('the workload is not of this inventory');
      return pods;
    },
    isHeld: (uri) => holding.has(uri),
    holders(principal) {
      switch (principal.kind) {
        case 'spiffeId':
          return holders(principal.uri);
        case 'identity':
          return [...new Set(principal.uris.flatMap(holders))];
        case 'serviceAccount':
          return holders(serviceAccountUri(principal));
        case 'namespace':
          return holders(`ns ${principal.trustDomain}/${principal.namespace}`);
        case 'trustDomain':
          return holders(`td ${principal.trustDomain}`);
        case 'authenticated':
        case 'anyone':
          throw new RangeError(`${principal.kind} is not looked up`);
      }
    },
    selector(pods) {
      let selector = selectors.get(pods);
      if (selector === undefined) selectors.set(pods, (selector = selectorOf(pods, byLabel.supersets(pods))));
      return selector;
    },
  };
}

function groupNamespaces(
  inventory: Inventory,
  classes: readonly PodClass[],
): ReadonlyMap<string, PodNamespace> {
  const grouped = new Map<string, PodClass[]>(inventory.namespaces.map(({ name }) => [name, []]));
  for (const pods of classes) {
    const list = grouped.get(pods.namespace);
    if (list === undefined) grouped.set(pods.namespace, [pods]);
    else list.push(pods);
  }
  return new Map(
    [...grouped].map(([name, list]) => {
      const all = list.flatMap(({ workloads }) => workloads);
      const prefix = `spiffe://${inventory.trustDomain}/ns/${name}/`;
      const regular = all.every(({ spiffeIds }) => spiffeIds.every((uri) => uri.startsWith(prefix)));
      const isCovered = ({ spiffeIds, alsoWithout }: InventoryWorkload): boolean =>
        spiffeIds.length > 0 && alsoWithout !== true;
      const covered = regular && all.length > 0 && all.every(isCovered);
      return [name, { name, classes: list, regular, covered }];
    }),
  );
}

/** Labels are not enough where other pods have these labels and more: then what the others have must be absent. */
function selectorOf(pods: PodClass, supersets: readonly PodClass[]): PodSelector {
  const extra = new Set(
    supersets.flatMap(({ labels }) => Object.keys(labels).filter((key) => !Object.hasOwn(pods.labels, key))),
  );
  return {
    ...(Object.keys(pods.labels).length === 0 ? {} : { matchLabels: pods.labels }),
    ...(extra.size === 0
      ? {}
      : {
          matchExpressions: [...extra].sort().map((key) => ({ key, operator: 'DoesNotExist' as const })),
        }),
  };
}

/** Finds the classes that have all labels of another, without looking at all of them. */
class LabelLookup {
  readonly #byLabel = new Map<string, PodClass[]>();
  readonly #byNamespace = new Map<string, PodClass[]>();

  constructor(classes: readonly PodClass[]) {
    for (const pods of classes) {
      appendTo(this.#byNamespace, this.#place(pods), pods);
      for (const label of Object.entries(pods.labels)) appendTo(this.#byLabel, this.#key(pods, label), pods);
    }
  }

  supersets(pods: PodClass): readonly PodClass[] {
    const labels = Object.entries(pods.labels);
    let candidates = this.#byNamespace.get(this.#place(pods)) ?? [];
    for (const label of labels) {
      const list = this.#byLabel.get(this.#key(pods, label)) ?? [];
      if (list.length < candidates.length) candidates = list;
    }
    return candidates.filter(
      (other) => other !== pods && labels.every(([key, value]) => other.labels[key] === value),
    );
  }

  #place({ namespace, serviceAccount }: PodClass): string {
    return JSON.stringify([namespace, serviceAccount]);
  }

  #key(pods: PodClass, label: readonly [string, string]): string {
    return JSON.stringify([this.#place(pods), label]);
  }
}

const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;
const LABEL_KEY =
  /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

/**
 * Requirements as a selector; undefined where no pod can meet them, since they ask for a label that Kubernetes does not
 * take. `prefix` goes before each key.
 */
export function selectorOfRequirements(
  requirements: readonly LabelRequirement[],
  prefix = '',
): PodSelector | undefined {
  const expressions: NonNullable<PodSelector['matchExpressions']>[number][] = [];
  for (const requirement of requirements) {
    const { kind } = requirement;
    const valid = LABEL_KEY.test(requirement.key);
    const key = `${prefix}${requirement.key}`;
    const values =
      'values' in requirement
        ? [...requirement.values].filter((value) => LABEL_VALUE.test(value)).sort()
        : [];
    if (kind === 'in' || kind === 'exists') {
      if (!valid || (kind === 'in' && values.length === 0)) return undefined;
      expressions.push(kind === 'in' ? { key, operator: 'In', values } : { key, operator: 'Exists' });
    } else if (valid && kind === 'absent') expressions.push({ key, operator: 'DoesNotExist' });
    else if (valid && values.length > 0) expressions.push({ key, operator: 'NotIn', values });
  }
  return expressions.length === 0 ? {} : { matchExpressions: expressions };
}
