import type { Policy } from '../../policy/model.js';
import { objectMetadata, objectName } from '../objects.js';
import type { Callers } from '../pod-callers.js';
import { deniedPeers } from '../pod-denied.js';
import type { OpaqueMatch, Peers } from '../pod-peers.js';
import { groupByPeers, type PortGroups, type PortRange } from '../pod-ports.js';
import type { PodClass } from '../pods.js';
import type { KubernetesObject } from '../renderer.js';
import { namesSelector } from './ingress.js';

export type ClusterTier = 'Admin' | 'Baseline';

export interface DenyContext {
  readonly callers: Callers;
  readonly opaque: OpaqueMatch;
  readonly tier: ClusterTier;
  readonly priority: number;
  readonly policies: readonly Policy[];
}

/** Limits of the API for lists of rules, of peers of a rule, and of ports of a rule. */
const LIMIT = 25;

/**
 * Who is denied, as ClusterNetworkPolicy, so that no NetworkPolicy of anybody's lets them in. All rules that we render
 * say Deny, so that objects of one priority cannot contradict each other.
 */
export function denyObjects(
  pods: PodClass,
  ports: readonly (PortGroups & { readonly peers: Peers })[],
  context: DenyContext,
): readonly KubernetesObject[] {
  const denied = ports.map(({ port, groups, peers }) => ({
    port,
    peers: deniedPeers(groups, peers, context.callers, context.opaque),
  }));
  const rules = groupByPeers(denied).flatMap(({ peers, ranges }) =>
    chunks(peersOf(peers, context)).flatMap((from) =>
      (ranges === undefined ? [undefined] : chunks(ranges.flatMap(protocols))).map((list) => ({
        action: 'Deny',
        from,
        ...(list === undefined ? {} : { protocols: list }),
      })),
    ),
  );
  const [first] = pods.workloads;
  return chunks(rules).map((ingress, index) => ({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: objectMetadata(
      objectName('workload', pods.namespace, first?.name ?? '', ...(index === 0 ? [] : [String(index)])),
      undefined,
      context.policies.map(({ ref }) => ref),
    ),
    spec: {
      tier: context.tier,
      priority: context.priority,
      subject: { pods: namespacedPods(pods, context.callers) },
      ingress,
    },
  }));
}

/** Ingress peers are pods and namespaces; addresses cannot be said. */
function peersOf({ everyone, namespaces, pods }: Peers, { callers }: DenyContext): readonly object[] {
  if (everyone) return [{ namespaces: {} }];
  return [
    ...(namespaces.length === 0 ? [] : [{ namespaces: namesSelector(namespaces) }]),
    ...pods.map((one) => ({ pods: namespacedPods(one, callers) })),
  ];
}

function namespacedPods(pods: PodClass, { index }: Callers): object {
  return { namespaceSelector: namesSelector([pods.namespace]), podSelector: index.selector(pods) };
}

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

function protocols({ first, last }: PortRange): readonly object[] {
  if (first === last) return [{ tcp: { destinationPort: { number: first } } }];
  return PROTOCOLS.map((protocol) => ({
    [protocol]: { destinationPort: { range: { start: first, end: last } } },
  }));
}

function chunks<T>(items: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / LIMIT) }, (_, index) =>
    items.slice(index * LIMIT, (index + 1) * LIMIT),
  );
}
