import { podFacts } from '../../cluster/pod-facts.js';
import type { Store, StoredObject } from '../../store/store.js';

/** On which nodes the agents' pods are. */
export interface AgentPods {
  /** Whether an agent's pod is on this node. */
  on(nodeName: string): boolean;
  nodes(): Iterable<string>;
  close(): void;
}

/** Follows the pods of the agents' service account, so that nobody has to look at all pods for one. */
export function followAgentPods(
  store: Store,
  serviceAccount: { readonly namespace: string; readonly name: string },
): AgentPods {
  const nodeByUid = new Map<string, string>();
  const podsByNode = new Map<string, number>();
  const count = (nodeName: string, by: number): void => {
    const pods = (podsByNode.get(nodeName) ?? 0) + by;
    if (pods === 0) podsByNode.delete(nodeName);
    else podsByNode.set(nodeName, pods);
  };
  const remove = (uid: string): void => {
    const nodeName = nodeByUid.get(uid);
    if (nodeName === undefined) return;
    nodeByUid.delete(uid);
    count(nodeName, -1);
  };
  const put = (pod: StoredObject): void => {
    remove(pod.metadata.uid);
    const facts = pod.metadata.namespace === serviceAccount.namespace ? podFacts(pod) : undefined;
    if (facts === undefined || facts.nodeName === '' || facts.serviceAccount !== serviceAccount.name) return;
    nodeByUid.set(facts.uid, facts.nodeName);
    count(facts.nodeName, 1);
  };
  const close = store.subscribe((changes) => {
    for (const { kind, before, after } of changes) {
      if (kind !== 'Pod') continue;
      if (before !== undefined && before.metadata.uid !== after?.metadata.uid) remove(before.metadata.uid);
      if (after !== undefined) put(after);
    }
  });
  for (const pod of store.list('Pod')) put(pod);
  return { on: (nodeName) => podsByNode.has(nodeName), nodes: () => podsByNode.keys(), close };
}
