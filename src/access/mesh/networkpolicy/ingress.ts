import { textOf } from '../ip-regions.js';
import type { Peers } from '../pod-peers.js';
import { groupByPeers, type OpenPort, type PortRange } from '../pod-ports.js';
import type { PodIndex } from '../pods.js';
import { NAMESPACE_LABEL } from './names.js';

/**
 * The ingress rules of a NetworkPolicy: one for each distinct set of peers. A set without anybody has no rule at all, for
 * an empty `from` would let in everybody; and no rules at all let in nobody.
 */
export function ingressRules(ports: readonly OpenPort[], index: PodIndex): readonly object[] {
  return groupByPeers(ports).flatMap(({ peers, ranges }) => {
    const from = peers.everyone ? undefined : peersOf(peers, index);
    if (from?.length === 0) return [];
    return [
      {
        ...(from === undefined ? {} : { from }),
        ...(ranges === undefined ? {} : { ports: ranges.flatMap(networkPorts) }),
      },
    ];
  });
}

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;

/** One port is TCP, as all that speaks an identity is; a range stands for ports that no policy names, so for all of it. */
function networkPorts({ first, last }: PortRange): readonly object[] {
  if (first === last) return [{ protocol: 'TCP', port: first }];
  return PROTOCOLS.map((protocol) => ({ protocol, port: first, endPort: last }));
}

function peersOf({ blocks, namespaces, pods }: Peers, index: PodIndex): readonly object[] {
  return [
    ...blocks.map(({ block, except }) => ({
      ipBlock: {
        cidr: textOf(block),
        ...(except.length === 0 ? {} : { except: except.map(textOf) }),
      },
    })),
    ...(namespaces.length === 0 ? [] : [{ namespaceSelector: namesSelector(namespaces) }]),
    ...pods.map((one) => ({
      namespaceSelector: namesSelector([one.namespace]),
      podSelector: index.selector(one),
    })),
  ];
}

/** Namespaces by name. */
export function namesSelector(names: readonly string[]): object {
  const [only] = names;
  return names.length === 1
    ? { matchLabels: { [NAMESPACE_LABEL]: only } }
    : { matchExpressions: [{ key: NAMESPACE_LABEL, operator: 'In', values: names }] };
}
