import type { Target, TargetWorkload } from '../../../access/policy/model.js';
import { selects } from '../../../access/policy/selector.js';
import { podFacts } from '../../../cluster/pod-facts.js';
import type { Store, StoreChange, StoredObject } from '../../../store/store.js';

/** Pods that no policy can tell apart. */
interface Group {
  readonly target: TargetWorkload;
  pods: number;
}

/** How many pods there are of each kind, to count those that a policy protects without looking at each. */
export class PodCensus {
  /** By namespace, then by what policies see of a pod. */
  readonly #groups = new Map<string, Map<string, Group>>();
  readonly #namespaceLabels: (namespace: string) => Readonly<Record<string, string>>;

  constructor(store: Pick<Store, 'list' | 'get'>) {
    this.#namespaceLabels = (name) => ({
      ...store.get('Namespace', name)?.metadata.labels,
      'kubernetes.io/metadata.name': name,
    });
    for (const pod of store.list('Pod')) this.#count(pod, 1);
  }

  /** Takes a change of a pod. */
  change({ before, after }: StoreChange): void {
    if (before !== undefined) this.#count(before, -1);
    if (after !== undefined) this.#count(after, 1);
  }

  /** How many pods a target selects. */
  selected(target: Target): number {
    const namespaces = new Set(target.namespaceNames ?? this.#groups.keys());
    let pods = 0;
    for (const namespace of namespaces) {
      const namespaceLabels = this.#namespaceLabels(namespace);
      for (const group of this.#groups.get(namespace)?.values() ?? [])
        if (selects(target, { ...group.target, namespaceLabels })) pods += group.pods;
    }
    return pods;
  }

  #count(pod: StoredObject, by: number): void {
    const facts = podFacts(pod);
    if (facts === undefined) return;
    const { namespace, serviceAccount, labels } = facts;
    const groups = this.#groups.get(namespace) ?? new Map<string, Group>();
    this.#groups.set(namespace, groups);
    const key = JSON.stringify([serviceAccount, Object.entries(labels).sort()]);
    const group = groups.get(key) ?? {
      target: { namespace, name: '', serviceAccount, labels, namespaceLabels: {} },
      pods: 0,
    };
    group.pods += by;
    if (group.pods > 0) groups.set(key, group);
    else groups.delete(key);
    if (groups.size === 0) this.#groups.delete(namespace);
  }
}
