import type { LabelRequirement, Policy } from '../../policy/model.js';
import { closes } from '../../policy/target-policies.js';
import { objectMetadata, objectName } from '../objects.js';
import { selectorOfRequirements, type PodSelector } from '../pods.js';
import type { KubernetesObject, RenderContext } from '../renderer.js';
import { NAMESPACE, NAMESPACE_LABELS, POD_LABELS, SERVICE_ACCOUNT } from './labels.js';

/**
 * What a policy closes, by its own selector: pods that are new are closed before they are in the inventory. Cilium's rules
 * only ever add to each other, so this takes nothing from what others open.
 */
export function closingObjects(
  policy: Policy,
  { set }: RenderContext,
  isIdentityLabel: (key: string) => boolean,
): readonly KubernetesObject[] {
  const { target, ref } = policy;
  if (set.defaultAction === 'Deny' || policy.mode !== 'Enforce') return [];
  if (policy.problems === undefined && !closes(policy)) return [];
  // A policy about some ports closes no others, and what Cilium does not compare cannot select.
  if (target.ports !== undefined || target.pods.some(({ key }) => !isIdentityLabel(key))) return [];
  const parts = [
    selectorOfRequirements(target.pods, POD_LABELS),
    selectorOfRequirements(oneOf(SERVICE_ACCOUNT, target.serviceAccounts)),
  ];
  const cluster = ref.kind === 'ClusterAccessPolicy';
  if (cluster) {
    parts.push(
      selectorOfRequirements(target.namespaces, NAMESPACE_LABELS),
      selectorOfRequirements(oneOf(NAMESPACE, target.namespaceNames)),
    );
  }
  const expressions = parts.map((part) => part && (part.matchExpressions ?? []));
  if (expressions.includes(undefined)) return [];
  const matchExpressions = expressions.flatMap((list) => list ?? []);
  const endpointSelector: PodSelector = matchExpressions.length === 0 ? {} : { matchExpressions };
  const name = objectName('closed-by', cluster ? 'cluster' : 'policy', ref.name);
  return [
    {
      apiVersion: 'cilium.io/v2',
      kind: cluster ? 'CiliumClusterwideNetworkPolicy' : 'CiliumNetworkPolicy',
      metadata: objectMetadata(name, cluster ? undefined : ref.namespace, [ref]),
      spec: { endpointSelector, enableDefaultDeny: { ingress: true }, ingress: [{}] },
    },
  ];
}

function oneOf(key: string, values: readonly string[] | undefined): readonly LabelRequirement[] {
  return values === undefined ? [] : [{ kind: 'in', key, values: new Set(values) }];
}
