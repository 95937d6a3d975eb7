import { textOf } from '../ip-regions.js';
import type { Peers } from '../pod-peers.js';
import type { PortRange } from '../pod-ports.js';
import type { PodClass, PodIndex, PodSelector } from '../pods.js';
import { NAMESPACE, POD_LABELS, SERVICE_ACCOUNT } from './labels.js';

/** One kind of peer, for one rule: Cilium does not take several kinds in one (`Sanitize`). */
export type CiliumPeers =
  | { readonly fromEntities: readonly string[] }
  | { readonly fromEndpoints: readonly PodSelector[] }
  | {
      readonly fromCIDRSet: readonly { readonly cidr: string; readonly except?: readonly string[] }[];
    };

/** Who is let in or denied, as peers of rules; none when nobody is. */
export function ciliumPeers(peers: Peers, index: PodIndex): readonly CiliumPeers[] {
  const { everyone, world, blocks, namespaces, pods } = peers;
  if (everyone) return [{ fromEntities: ['all'] }];
  const endpoints = [
    ...(namespaces.length === 0
      ? []
      : [{ matchExpressions: [{ key: NAMESPACE, operator: 'In' as const, values: namespaces }] }]),
    ...pods.map((one) => podSelector(one, index, true)),
  ];
  const networks = blocks.map(({ block, except }) => ({
    cidr: textOf(block),
    ...(except.length === 0 ? {} : { except: except.map(textOf) }),
  }));
  return [
    ...(world ? [{ fromEntities: ['world'] }] : []),
    ...(networks.length === 0 ? [] : [{ fromCIDRSet: networks }]),
    ...(endpoints.length === 0 ? [] : [{ fromEndpoints: endpoints }]),
  ];
}

/** Selects the pods of a class, and no others that are known. */
export function podSelector(pods: PodClass, index: PodIndex, withNamespace: boolean): PodSelector {
  const { matchLabels, matchExpressions } = index.selector(pods);
  const labels = Object.entries(matchLabels ?? {}).map(([key, value]) => [`${POD_LABELS}${key}`, value]);
  return {
    matchLabels: {
      ...(withNamespace ? { [NAMESPACE]: pods.namespace } : {}),
      ...(pods.serviceAccount === undefined ? {} : { [SERVICE_ACCOUNT]: pods.serviceAccount }),
      ...(Object.fromEntries(labels) as Readonly<Record<string, string>>),
    },
    ...(matchExpressions === undefined
      ? {}
      : {
          matchExpressions: matchExpressions.map(({ key, ...rest }) => ({
            key: `${POD_LABELS}${key}`,
            ...rest,
          })),
        }),
  };
}

/** Cilium takes 40 ports for one rule. */
const MAX_PORTS = 40;

/** `toPorts`; absent for all ports. */
export function toPorts(ranges: readonly PortRange[] | undefined): { readonly toPorts?: readonly object[] } {
  if (ranges === undefined) return {};
  const lists = Array.from({ length: Math.ceil(ranges.length / MAX_PORTS) }, (_, index) =>
    ranges.slice(index * MAX_PORTS, (index + 1) * MAX_PORTS),
  );
  return { toPorts: lists.map((list) => ({ ports: list.map(portOf) })) };
}

/** One port is TCP, as all that speaks an identity is; a range stands for ports that no policy names, so for all of it. */
function portOf({ first, last }: PortRange): object {
  if (first === last) return { port: String(first), protocol: 'TCP' };
  return { port: String(first), endPort: last, protocol: 'ANY' };
}
