import { effectivePolicy, type EffectivePolicy, type EffectiveRule } from '../../policy/effective.js';
import type { Match } from '../../policy/match.js';
import { policyName, type Policy } from '../../policy/model.js';
import { selects } from '../../policy/selector.js';
import { closes } from '../../policy/target-policies.js';
import type { Inventory, InventoryWorkload } from '../inventory.js';
import { objectMetadata, objectName } from '../objects.js';
import { Callers, type CallerOptions } from '../pod-callers.js';
import {
  everyoneFound,
  findPeers,
  isForEveryone,
  portQuestion,
  type OpaqueMatch,
  type PeersFound,
} from '../pod-peers.js';
import { groupPorts, type PortGroups } from '../pod-ports.js';
import { lookAlikeVerdicts, RuleFates, unseenFields, type Sayable } from '../pod-verdicts.js';
import { createPodIndex, selectorOfRequirements, type PodSelector } from '../pods.js';
import type { KubernetesObject, RenderContext, RenderedPart, Renderer, Verdict } from '../renderer.js';
import { denyObjects, type ClusterTier } from './cluster.js';
import { ingressRules } from './ingress.js';

export interface NetworkPolicyOptions extends CallerOptions {
  /**
   * Render Deny rules as ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) too, with this priority, 0 to 1000.
   * Without, nothing is rendered of that kind, since a cluster need not have it.
   */
  readonly clusterNetworkPolicy?: { readonly priority: number };
  /**
   * A mesh behind the network policies enforces what they cannot see: HTTP, tokens, attributes. Then Allow rules open the
   * connections that they need, and Deny rules about such things are left to the mesh. False unless said.
   */
  readonly assumeHttpEnforcedElsewhere?: boolean;
}

const SEES_PODS =
  'a network policy sees pods, not identities: exact for pods of the inventory, each with the identities that it holds, and for callers from outside without one';
const NODE = 'what runs on the pod’s own node is always let in (the kubelet’s probes among it)';
const OUTER = 'exact only together with the mesh that enforces HTTP and the other conditions';

/**
 * Kubernetes NetworkPolicy. Pods that cannot be told apart by their labels get one object that lets in whoever all their
 * policies let in; what policies close is closed by their own selectors too, so that pods that are new are closed before
 * they are in the inventory.
 */
export function networkPolicyRenderer(options: NetworkPolicyOptions = {}): Renderer {
  const worlds = new WeakMap<Inventory, Callers>();
  const callersOf = (inventory: Inventory): Callers => {
    let callers = worlds.get(inventory);
    if (callers === undefined) {
      const index = createPodIndex(inventory, { serviceAccounts: false, label: () => true });
      worlds.set(inventory, (callers = new Callers(index, options)));
    }
    return callers;
  };
  return {
    mesh: 'networkpolicy',
    renderShared: (context) => ({ objects: defaultDeny(context), verdicts: [] }),
    renderPolicy: (policy, context) => ({
      objects: closingObjects(policy, context),
      verdicts: policyVerdicts(policy),
    }),
    renderWorkload: (workload, context) =>
      renderPods(workload, context, callersOf(context.inventory), options),
  };
}

/** Where nothing is allowed unless a policy says so, each namespace as a whole is closed. */
function defaultDeny({ set, inventory }: RenderContext): readonly KubernetesObject[] {
  if (set.defaultAction === 'Allow') return [];
  return inventory.namespaces.map(({ name }) =>
    networkPolicy(objectName('default-deny'), name, [], { podSelector: {}, ingress: [] }),
  );
}

/** What a policy closes, by its own selector. Network policies only ever add, so this takes nothing from others. */
function closingObjects(policy: Policy, { set, inventory }: RenderContext): readonly KubernetesObject[] {
  const { target, ref } = policy;
  if (set.defaultAction === 'Deny' || policy.mode !== 'Enforce') return [];
  if (policy.problems === undefined && !closes(policy)) return [];
  if (target.ports !== undefined || target.serviceAccounts !== undefined) return [];
  const podSelector = selectorOfRequirements(target.pods);
  if (podSelector === undefined) return [];
  return inventory.namespaces
    .filter(({ name, labels }) =>
      selects(
        { ...target, pods: [] },
        { namespace: name, namespaceLabels: labels, name: '', serviceAccount: '', labels: {} },
      ),
    )
    .map(({ name }) =>
      networkPolicy(
        objectName('closed-by', ref.kind === 'AccessPolicy' ? 'policy' : 'cluster', ref.name),
        name,
        [policy],
        {
          podSelector,
          ingress: [],
        },
      ),
    );
}

function policyVerdicts(policy: Policy): readonly Verdict[] {
  if (policy.mode === 'Audit') {
    const reason =
      'network policies cannot report what they would deny, so nothing is rendered of an audited policy';
    return [{ policy: policy.ref, fidelity: 'Unsupported', reasons: [reason] }];
  }
  if (policy.problems !== undefined) {
    const reason = 'the policy could not be compiled, so nothing is let in on its target';
    return [{ policy: policy.ref, fidelity: 'Exact', reasons: [reason] }];
  }
  return policy.rules.length === 0 ? [{ policy: policy.ref, fidelity: 'Exact', reasons: [NODE] }] : [];
}

function networkPolicy(
  name: string,
  namespace: string,
  policies: readonly Policy[],
  spec: { readonly podSelector: PodSelector; readonly ingress: readonly object[] },
): KubernetesObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: objectMetadata(
      name,
      namespace,
      policies.map(({ ref }) => ref),
    ),
    // policyTypes is said, or a policy without ingress rules could be read as one about egress.
    spec: { podSelector: spec.podSelector, policyTypes: ['Ingress'], ingress: spec.ingress },
  };
}

function renderPods(
  workload: InventoryWorkload,
  context: RenderContext,
  callers: Callers,
  options: NetworkPolicyOptions,
): RenderedPart {
  const pods = callers.index.classOf(workload);
  // Pods that look alike get one object, with the name of the first.
  if (pods.workloads[0] !== workload) return { objects: [], verdicts: [] };
  const { set, time, zones } = context;
  const effective = pods.workloads.map((member) => effectivePolicy(set, member, time, zones));
  const elsewhere = options.assumeHttpEnforcedElsewhere ?? false;
  const opaque: OpaqueMatch = (rule) => opaqueMatch(rule, elsewhere);
  const excepts = options.clusterNetworkPolicy !== undefined;
  const fates = new RuleFates(callers, opaque, (rule) => describe(rule, elsewhere));
  const ports = groupPorts(effective).map((port) => {
    const found = findFor(port, callers, opaque, excepts);
    fates.add(port, found);
    return { ...port, peers: found.peers };
  });
  const policies = distinct(effective);
  const enforced = policies.filter(({ mode }) => mode === 'Enforce');
  const objects: KubernetesObject[] = [];
  const isClosed = enforced.some((policy) => policy.problems !== undefined || closes(policy));
  if (set.defaultAction === 'Deny' || isClosed || !ports.every(({ peers }) => peers.everyone)) {
    objects.push(
      networkPolicy(objectName('workload', workload.name), pods.namespace, enforced, {
        podSelector: callers.index.selector(pods),
        ingress: ingressRules(ports, callers.index),
      }),
    );
  }
  if (options.clusterNetworkPolicy !== undefined) {
    const tier: ClusterTier =
      objects.length === 0 && enforced.every((policy) => policy.tier === 'Baseline') ? 'Baseline' : 'Admin';
    const { priority } = options.clusterNetworkPolicy;
    objects.push(...denyObjects(pods, ports, { callers, opaque, tier, priority, policies: enforced }));
  }
  const targets = pods.workloads.map(({ namespace, name }) => `${namespace}/${name}`);
  const until = soonest(effective);
  return {
    objects,
    verdicts: [
      ...fates.verdicts(targets, [SEES_PODS, NODE, ...(elsewhere ? [OUTER] : [])]),
      ...lookAlikeVerdicts(effective, targets),
    ],
    ...(until === undefined ? {} : { until }),
  };
}

function findFor(
  { groups }: PortGroups,
  callers: Callers,
  opaque: OpaqueMatch,
  excepts: boolean,
): PeersFound {
  if (isForEveryone(groups, opaque)) return everyoneFound;
  // Some network plugins compare address blocks with the addresses of pods too.
  return findPeers({ ...portQuestion(groups, opaque), blocksReachPods: true, excepts }, callers);
}

function opaqueMatch(rule: EffectiveRule, elsewhere: boolean): Match {
  if (unseenFields(rule).length === 0) return 'yes';
  if (!elsewhere) return 'unknown';
  return rule.rule.effect === 'Allow' ? 'yes' : 'no';
}

function describe(rule: EffectiveRule, elsewhere: boolean): Sayable {
  const fields = unseenFields(rule);
  if (fields.length === 0 || elsewhere) return { reasons: [], nothing: false };
  const list = fields.join(', ');
  return rule.rule.effect === 'Allow'
    ? {
        reasons: [
          `${list}: a network policy sees connections only, so the rule is left out; let the mesh enforce it and say so (assumeHttpEnforcedElsewhere)`,
        ],
        nothing: true,
      }
    : {
        reasons: [
          `${list}: a network policy sees connections only, so whoever the rule is for is not let in at all`,
        ],
        nothing: false,
      };
}

function distinct(effective: readonly EffectivePolicy[]): readonly Policy[] {
  const policies = new Set(effective.flatMap((one) => one.policies));
  return [...policies].sort((a, b) => (policyName(a.ref) < policyName(b.ref) ? -1 : 1));
}

function soonest(effective: readonly EffectivePolicy[]): number | undefined {
  const instants = effective.flatMap(({ until }) => until ?? []);
  return instants.length === 0 ? undefined : Math.min(...instants);
}
