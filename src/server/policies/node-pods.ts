import { podFacts } from '../../cluster/pod-facts.js';
import type { StoredObject } from '../../store/store.js';

/** Which pods are on which node, and of which namespaces. */
export class NodePods {
  /** By node, then by namespace: keys of pods, `namespace/name`. */
  readonly #nodes = new Map<string, Map<string, Set<string>>>();

  /** The namespaces that have a pod on the node. */
  namespaces(nodeName: string): Iterable<string> {
    return this.#nodes.get(nodeName)?.keys() ?? [];
  }

  *pods(nodeName: string): Iterable<string> {
    for (const keys of this.#nodes.get(nodeName)?.values() ?? []) yield* keys;
  }

  /** True when it is the first pod of its namespace on the node. */
  add(nodeName: string, namespace: string, key: string): boolean {
    const namespaces = this.#nodes.get(nodeName) ?? new Map<string, Set<string>>();
    this.#nodes.set(nodeName, namespaces);
    const keys = namespaces.get(namespace);
    if (keys === undefined) namespaces.set(namespace, new Set([key]));
    else keys.add(key);
    return keys === undefined;
  }

  /** True when it was the last pod of its namespace on the node. */
  remove(nodeName: string, namespace: string, key: string): boolean {
    const namespaces = this.#nodes.get(nodeName);
    const keys = namespaces?.get(namespace);
    if (namespaces === undefined || keys?.delete(key) !== true || keys.size > 0) return false;
    namespaces.delete(namespace);
    if (namespaces.size === 0) this.#nodes.delete(nodeName);
    return true;
  }
}

/** The node that a pod runs on; undefined when it has ended, or is bound to none yet. */
export function nodeOf(pod: StoredObject | undefined): string | undefined {
  const facts = pod === undefined ? undefined : podFacts(pod);
  return facts === undefined || facts.nodeName === '' ? undefined : facts.nodeName;
}
