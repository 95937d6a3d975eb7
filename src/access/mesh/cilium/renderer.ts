import { effectivePolicy, type EffectivePolicy, type EffectiveRule } from '../../policy/effective.js';
import { policyName, type Policy } from '../../policy/model.js';
import { closes } from '../../policy/target-policies.js';
import type { Inventory, InventoryWorkload } from '../inventory.js';
import { objectMetadata, objectName } from '../objects.js';
import { Callers, type CallerOptions } from '../pod-callers.js';
import { deniedPeers } from '../pod-denied.js';
import {
  everyoneFound,
  findPeers,
  isForEveryone,
  portQuestion,
  type OpaqueMatch,
  type Peers,
} from '../pod-peers.js';
import { groupByPeers, groupPorts, namedPorts, type PortGroups } from '../pod-ports.js';
import { lookAlikeVerdicts, RuleFates, unseenFields, type Sayable } from '../pod-verdicts.js';
import { createPodIndex, type PodSelector } from '../pods.js';
import type { KubernetesObject, RenderContext, RenderedPart, Renderer, Verdict } from '../renderer.js';
import { closingObjects } from './closing.js';
import { grantsOf, type HttpGrant } from './grants.js';
import { httpRules } from './http-rules.js';
import { isIdentityLabel, NAMESPACE } from './labels.js';
import { ciliumPeers, podSelector, toPorts } from './peers.js';

export interface CiliumOptions extends CallerOptions {
  /** Whether a label of pods is part of their identity in Cilium; as its own defaults say, unless given. */
  readonly isIdentityLabel?: (key: string) => boolean;
  /** The largest program of a regular expression that Cilium's Envoy takes; 100, its default, unless given. */
  readonly maxRegexProgramSize?: number;
}

const SEES_PODS =
  'Cilium sees pods, not identities: exact for pods of the inventory, each with the identities that it holds, and for callers from outside without one';
const HTTP =
  'HTTP rules hold on ports that a policy names or the workload declares as HTTP, for paths whose encoded characters are encoded as usual (capital digits, and only where need be)';
const NODE = 'what runs on the pod’s own node is always let in (the kubelet’s probes among it)';

/**
 * CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy. Callers are told by labels and service account, never by SPIFFE
 * ID. Each pod's Deny rules become `ingressDeny`, which nobody's rules can undo; HTTP becomes rules of Cilium's proxy.
 */
export function ciliumRenderer(options: CiliumOptions = {}): Renderer {
  const worlds = new WeakMap<Inventory, Callers>();
  const label = options.isIdentityLabel ?? isIdentityLabel;
  const callersOf = (inventory: Inventory): Callers => {
    let callers = worlds.get(inventory);
    if (callers === undefined) {
      const index = createPodIndex(inventory, { serviceAccounts: true, label });
      worlds.set(inventory, (callers = new Callers(index, options)));
    }
    return callers;
  };
  return {
    mesh: 'cilium',
    renderShared: (context) => ({ objects: defaultDeny(context), verdicts: [] }),
    renderPolicy: (policy, context) => ({
      objects: closingObjects(policy, context, label),
      verdicts: policyVerdicts(policy),
    }),
    renderWorkload: (workload, context) =>
      renderPods(workload, context, callersOf(context.inventory), options.maxRegexProgramSize ?? 100),
  };
}

/** Where nothing is allowed unless a policy says so, all namespaces are closed. */
function defaultDeny({ set, inventory }: RenderContext): readonly KubernetesObject[] {
  const names = inventory.namespaces.map(({ name }) => name).sort();
  if (set.defaultAction === 'Allow' || names.length === 0) return [];
  return [
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumClusterwideNetworkPolicy',
      metadata: objectMetadata(objectName('default-deny'), undefined, []),
      spec: {
        endpointSelector: { matchExpressions: [{ key: NAMESPACE, operator: 'In', values: names }] },
        enableDefaultDeny: { ingress: true },
        // A rule without peers: lets in nobody.
        ingress: [{}],
      },
    },
  ];
}

function policyVerdicts(policy: Policy): readonly Verdict[] {
  if (policy.mode === 'Audit') {
    const reason =
      'Cilium audits whole endpoints, not single policies, so nothing is rendered of an audited policy';
    return [{ policy: policy.ref, fidelity: 'Unsupported', reasons: [reason] }];
  }
  if (policy.problems !== undefined) {
    const reason = 'the policy could not be compiled, so nothing is let in on its target';
    return [{ policy: policy.ref, fidelity: 'Exact', reasons: [reason] }];
  }
  return policy.rules.length === 0 ? [{ policy: policy.ref, fidelity: 'Exact', reasons: [NODE] }] : [];
}

/** What a caller of a rule may do beyond being who it is cannot be told from the connection. */
const opaque: OpaqueMatch = (rule) => (unseenFields(rule).length === 0 ? 'yes' : 'unknown');

interface RenderedPort extends PortGroups {
  readonly peers: Peers;
  readonly grants: readonly HttpGrant[];
}

function renderPods(
  workload: InventoryWorkload,
  context: RenderContext,
  callers: Callers,
  maxProgramSize: number,
): RenderedPart {
  const { index } = callers;
  const pods = index.classOf(workload);
  // Pods that look alike get one object, with the name of the first.
  if (pods.workloads[0] !== workload) return { objects: [], verdicts: [] };
  const { set, time, zones } = context;
  const effective = pods.workloads.map((member) => effectivePolicy(set, member, time, zones));
  const declared = pods.workloads.flatMap((member) => member.ports);
  const speaksHttp = declared.filter(({ protocol }) => protocol !== 'tcp').map(({ port }) => port);
  const groups = groupPorts(effective, speaksHttp);
  const fates = new RuleFates(callers, opaque, (rule, port) =>
    describe(rule, port, speaksHttp.length > 0, maxProgramSize),
  );
  const ports = groups.map((port) => renderPort(port, { callers, fates, maxProgramSize }));
  const policies = [...new Set(effective.flatMap((one) => one.policies))]
    .filter(({ mode }) => mode === 'Enforce')
    .sort((a, b) => (policyName(a.ref) < policyName(b.ref) ? -1 : 1));
  const isClosed =
    set.defaultAction === 'Deny' ||
    policies.some((policy) => policy.problems !== undefined || closes(policy)) ||
    !ports.every(({ peers }) => peers.everyone);
  const ingress = isClosed ? allowRules(ports, callers) : [];
  const denied = groupByPeers(
    ports.map((port) => ({
      port: port.port,
      peers: deniedPeers(port.groups, port.peers, callers, opaque),
    })),
  ).flatMap(({ peers, ranges }) =>
    ciliumPeers(peers, index).map((from) => ({ ...from, ...toPorts(ranges) })),
  );
  const targets = pods.workloads.map(({ namespace, name }) => `${namespace}/${name}`);
  const until = soonest(effective);
  const object = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: objectMetadata(
      objectName('workload', workload.name),
      pods.namespace,
      policies.map(({ ref }) => ref),
    ),
    spec: {
      endpointSelector: podSelector(pods, index, false) satisfies PodSelector,
      // Said, since Deny rules alone would close the pod too.
      enableDefaultDeny: { ingress: isClosed },
      ...(isClosed ? { ingress: ingress.length === 0 ? [{}] : ingress } : {}),
      ...(denied.length === 0 ? {} : { ingressDeny: denied }),
    },
  };
  return {
    objects: isClosed || denied.length > 0 ? [object] : [],
    verdicts: [...fates.verdicts(targets, [SEES_PODS, HTTP, NODE]), ...lookAlikeVerdicts(effective, targets)],
    ...(until === undefined ? {} : { until }),
  };
}

function renderPort(
  port: PortGroups,
  context: { readonly callers: Callers; readonly fates: RuleFates; readonly maxProgramSize: number },
): RenderedPort {
  const { callers, fates, maxProgramSize } = context;
  if (isForEveryone(port.groups, opaque)) {
    fates.add(port, everyoneFound);
    return { ...port, peers: everyoneFound.peers, grants: [] };
  }
  const { grants, blurred, blurredBlocks } = grantsOf(port, callers, maxProgramSize, opaque);
  // Whom HTTP rules let in must not be among those that "everyone but" denies.
  const question = portQuestion(port.groups, opaque);
  const found = findPeers({ ...question, blocksReachPods: false, excepts: grants.length === 0 }, callers);
  // Who is kept out for HTTP's sake alone is let in by the rules of the proxy.
  fates.add(port, { peers: found.peers, blurred, blurredBlocks });
  return { ...port, peers: found.peers, grants };
}

/**
 * What is opened. A port with HTTP rules gets its rules by itself, so that a rule for a range or for all ports, which
 * would not be about HTTP, never is about the same port.
 */
function allowRules(ports: readonly RenderedPort[], { index }: Callers): readonly object[] {
  const withHttp = ports.filter(({ grants }) => grants.length > 0);
  const others = ports.filter(({ grants }) => grants.length === 0);
  const named = namedPorts(ports);
  return [
    ...groupByPeers(others, named).flatMap(({ peers, ranges }) =>
      ciliumPeers(peers, index).map((from) => ({ ...from, ...toPorts(ranges) })),
    ),
    ...withHttp.flatMap(({ port, peers, grants }) => {
      const list = [{ port: String(port), protocol: 'TCP' }];
      return [
        ...ciliumPeers(peers, index).map((from) => ({ ...from, toPorts: [{ ports: list }] })),
        ...grants.flatMap((grant) =>
          ciliumPeers(grant.peers, index).map((from) => ({
            ...from,
            toPorts: [{ ports: list, rules: { http: grant.rules } }],
          })),
        ),
      ];
    }),
  ];
}

function describe(
  rule: EffectiveRule,
  port: number | 'others',
  speaksHttp: boolean,
  maxProgramSize: number,
): Sayable {
  const fields = unseenFields(rule);
  if (fields.length === 0) return { reasons: [], nothing: false };
  const list = fields.join(', ');
  if (rule.rule.effect === 'Deny') {
    const reason = `${list}: Cilium denies connections only, so whoever the rule is for is not let in at all`;
    return { reasons: [reason], nothing: false };
  }
  const unseen = fields.filter((field) => !field.startsWith('to.http.') && field !== 'roles.claim');
  if (unseen.length > 0) {
    return {
      reasons: [`${unseen.join(', ')}: Cilium does not see this, so the rule is left out`],
      nothing: true,
    };
  }
  if (port === 'others') {
    const reason = `${list}: the workload declares no port that speaks HTTP, and the rule names none, so it is left out there`;
    return { reasons: speaksHttp ? [] : [reason], nothing: true };
  }
  const { rules, reasons } = httpRules(rule, maxProgramSize);
  return { reasons, nothing: rules.length === 0 };
}

function soonest(effective: readonly EffectivePolicy[]): number | undefined {
  const instants = effective.flatMap(({ until }) => until ?? []);
  return instants.length === 0 ? undefined : Math.min(...instants);
}
