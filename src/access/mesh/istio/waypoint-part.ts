import {
  effectivePolicy,
  holdsAt,
  type EffectivePolicy,
  type EffectivePorts,
  type EffectiveRule,
} from '../../policy/effective.js';
import type { Effect, Policy } from '../../policy/model.js';
import type { InventoryWorkload } from '../inventory.js';
import { joinParts, type KubernetesObject, type RenderContext, type RenderedPart } from '../renderer.js';
import { EVERY_PORT, type Dialect, type IstioRule } from './language.js';
import { authorizationPolicies, requestAuthentication, type ObjectPlace } from './objects.js';
import { scopeOperation, type PortScope } from './operations.js';
import { alsoSelected } from './placements.js';
import type { PartOptions } from './policy-part.js';
import { waypointForm } from './request-form.js';
import { asksToken, asRule, istioRules } from './rules.js';
import { WorkloadBooks } from './workload-books.js';
import { isAmbient, targetPortOf, type Front, type ServedService, type Waypoint } from './waypoints.js';

/*
 * A waypoint judges requests by the callers' own identities and by the ports of Services, and takes notice of nothing but
 * targetRefs (istio.io, ambient/usage/l7-features; pilot/pkg/model/policyattachment.go ShouldAttachPolicy). The ztunnel in
 * front of the pods then sees the waypoint as the caller (istio.io, ambient/usage/l4-policy). So the whole policy is said
 * to the waypoint, once for each Service, and the ztunnel lets in nobody but the waypoint: who calls past it is refused.
 */

/** How a workload behind waypoints is guarded; its Services by the first workload that each selects. */
export function waypointPart(
  workload: InventoryWorkload,
  front: Front,
  context: RenderContext,
  options: PartOptions,
): RenderedPart {
  const services = front.served
    .filter(({ workloads }) => workloads[0] === workload)
    .map((one) => servicePart(one, context, options));
  return joinParts([podPart(workload, front, context, options), ...services]);
}

/** What belongs to the waypoints themselves. */
export function waypointObjects(context: RenderContext, options: PartOptions): readonly KubernetesObject[] {
  const { waypoints, served, behind } = options.waypoints;
  const concerned = new Set<Waypoint>();
  for (const [workload, front] of behind) {
    if (enforcedOf(workload, context).length === 0) continue;
    for (const waypoint of front.waypoints) concerned.add(waypoint);
  }
  return waypoints.flatMap((waypoint) => {
    const { namespace, name } = waypoint;
    const form = waypointForm(namespace, name);
    if (!concerned.has(waypoint)) return [form];
    // The ztunnels trust the waypoint, so it must not pass what no rules are about: calls to the addresses of pods, which have
    // no Service, and Services that are not known yet. What is said to the Gateway holds for these too.
    const target = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name } as const;
    const closed = { name: ['waypoint', name], placement: { namespace, target }, policies: [] };
    const passed = context.set.defaultAction === 'Allow' ? served : [];
    return [
      form,
      ...authorizationPolicies('ALLOW', [], closed),
      ...passed
        .filter((one) => one.waypoint === waypoint && isUnconcerned(one, context))
        .flatMap((one) =>
          authorizationPolicies('ALLOW', [{ to: [{ operation: EVERY_PORT }] }], placeOf(one, [])),
        ),
    ];
  });
}

const enforcedOf = (workload: InventoryWorkload, { set }: RenderContext): readonly Policy[] =>
  set.concerning(workload).filter(({ mode }) => mode === 'Enforce');

const policiesOf = ({ workloads }: ServedService, context: RenderContext): readonly Policy[] => [
  ...new Set(workloads.flatMap((workload) => enforcedOf(workload, context))),
];

/** Whether it leads to workloads that are known, and no policy is about any. */
const isUnconcerned = (one: ServedService, context: RenderContext): boolean =>
  one.workloads.length > 0 && policiesOf(one, context).length === 0;

function placeOf({ service }: ServedService, policies: readonly Policy[]): ObjectPlace {
  const { namespace, name } = service;
  return {
    name: ['service', name],
    placement: { namespace, target: { group: '', kind: 'Service', name } },
    policies: policies.map(({ ref }) => ref),
  };
}

const asWaypoint = ({ dialect }: PartOptions): Dialect => ({ ...dialect, mode: 'waypoint' });

/** The ztunnel's side, and the verdicts about the workload. */
function podPart(
  workload: InventoryWorkload,
  front: Front,
  context: RenderContext,
  options: PartOptions,
): RenderedPart {
  const { set, inventory } = context;
  const enforced = enforcedOf(workload, context);
  if (enforced.length === 0) return { objects: [], verdicts: [] };
  const effective = effectivePolicy(set, workload, context.time, context.zones);
  const books = new WorkloadBooks(workload);
  for (const policy of enforced) {
    for (const condition of CONDITIONS) books.of(policy).holdsIf(condition);
    for (const rule of policy.rules) books.of(policy, rule);
    if (policy.problems !== undefined) {
      books.of(policy).holdsIf('the policy cannot be compiled, so it denies everything');
    } else if (!holdsAt(policy, context.time)) {
      books.of(policy).holdsIf('the policy does not hold now, so it opens nothing');
    }
  }
  const ports = reachedPorts(workload, front);
  judge(workload, front, effective, books, asWaypoint(options));
  const loseAll = (reason: string): void => {
    for (const policy of enforced) {
      books.of(policy).lost(reason);
      books.of(policy).isSaid();
    }
  };
  for (const reason of shortcomings(workload, front)) loseAll(reason);
  const others = alsoSelected(workload, inventory, options.root).filter((other) => other !== workload);
  const strangers = others.filter((other) => !isAlike(workload, other, context, options));
  if (strangers.length > 0) {
    const names = strangers.map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
    loseAll(
      `the labels of the workload are among those of ${names} too, which Istio cannot tell apart; so nothing is let through, there neither`,
    );
  }
  const principals = front.waypoints.flatMap((one) => (one.alsoHeldBy.length > 0 ? [] : one.principals));
  const open = strangers.length === 0 && principals.length > 0 && ports.length > 0;
  const rules: readonly IstioRule[] = open
    ? [
        {
          from: [{ source: { principals: [...new Set(principals)] } }],
          to: [{ operation: { ports: ports.map(String) } }],
        },
      ]
    : [];
  const { labels } = workload;
  const place: ObjectPlace = {
    name: ['workload', workload.name],
    placement: {
      namespace: workload.namespace,
      ...(Object.keys(labels).length === 0 ? {} : { matchLabels: labels }),
    },
    policies: enforced.map(({ ref }) => ref),
  };
  return {
    objects: authorizationPolicies('ALLOW', rules, place),
    verdicts: books.verdicts(),
    ...(effective.until === undefined ? {} : { until: effective.until }),
  };
}

const CONDITIONS: readonly string[] = [
  'it is called through a Service that uses a waypoint; whoever calls a pod by its address, or a port of no such Service, is refused',
  'neither routes nor hand-written endpoints lead from one Service to the pods of another',
  'callers are in the ambient mesh, with a SPIFFE ID of the form /ns/<namespace>/sa/<service account> of the own trust domain',
  'HTTP requests whose path holds "*" or that name no host are refused',
];

/** What keeps callers out, or the waypoint from being all that there is. */
function shortcomings(workload: InventoryWorkload, { waypoints, past }: Front): readonly string[] {
  const reasons = past.map(({ namespace, name, headless }) =>
    headless === true
      ? `Service ${namespace}/${name} has no address of its own, so who calls it comes past the waypoint and is refused`
      : `Service ${namespace}/${name} uses no waypoint, so who calls it is refused`,
  );
  for (const { namespace, name, principals, alsoHeldBy } of waypoints) {
    if (alsoHeldBy.length === 0) continue;
    const who = alsoHeldBy.map((other) => `${other.namespace}/${other.name}`).join(', ');
    reasons.push(
      `${who} has the identity of waypoint ${namespace}/${name} (${principals.join(', ')}), so nothing is let through; give the waypoint a service account of its own`,
    );
  }
  if (!isAmbient(workload)) {
    reasons.push('the pods are not labelled istio.io/dataplane-mode: ambient, so no ztunnel guards them');
  }
  return reasons;
}

/** The ports of the workload that Services with a waypoint lead to. */
function reachedPorts(workload: InventoryWorkload, { served }: Front): readonly number[] {
  const ports = served.flatMap(({ service }) =>
    service.ports.flatMap((port) => targetPortOf(port, workload) ?? []),
  );
  return [...new Set(ports)].sort((a, b) => a - b);
}

/** Whether another workload, which the same labels select, is behind the same waypoints and reached on the same ports. */
function isAlike(
  workload: InventoryWorkload,
  other: InventoryWorkload,
  context: RenderContext,
  { waypoints: { behind } }: PartOptions,
): boolean {
  const fronts = [behind.get(workload), behind.get(other)] as const;
  const [mine, theirs] = fronts;
  if (mine === undefined || theirs === undefined) return false;
  const text = (front: Front, one: InventoryWorkload): string =>
    JSON.stringify([
      front.waypoints.map(({ namespace, name }) => `${namespace}/${name}`).sort(),
      reachedPorts(one, front),
      enforcedOf(one, context).length > 0,
    ]);
  return text(mine, workload) === text(theirs, other);
}

/** Writes down what the waypoint cannot say of the workload's policies. */
function judge(
  workload: InventoryWorkload,
  front: Front,
  effective: EffectivePolicy,
  books: WorkloadBooks,
  dialect: Dialect,
): void {
  for (const { service } of front.served) portsOf(service, workload, effective, books, dialect);
  for (const { allow, baseline, fallback } of effective.groups) {
    for (const { policy, rule, from } of [...allow, ...(baseline?.allow ?? [])]) {
      if (from.some(({ any }) => any.some(({ kind }) => kind === 'anyone'))) {
        books
          .of(policy, rule)
          .lost('callers without an identity do not come through a waypoint, so they are refused');
      }
    }
    if (baseline === undefined || fallback === 'Deny') continue;
    for (const policy of effective.policies.filter(({ mode }) => mode === 'Enforce')) {
      books
        .of(policy)
        .lost(
          'on ports that no policy closes, callers without an identity are refused, since they do not come through a waypoint',
        );
      books.of(policy).isSaid();
    }
  }
}

interface Said {
  readonly allow: readonly IstioRule[];
  readonly deny: readonly IstioRule[];
  /** Whether a rule that holds asks for a token. */
  readonly tokens: boolean;
}

/** What a Service's waypoint is told on behalf of one of its workloads. */
function portsOf(
  service: ServedService['service'],
  workload: InventoryWorkload,
  { groups }: EffectivePolicy,
  books: WorkloadBooks,
  dialect: Dialect,
): Said {
  const parts = service.ports.flatMap((port): readonly Said[] => {
    const target = targetPortOf(port, workload);
    const group = target === undefined ? undefined : groupOf(groups, target);
    return group?.broken === undefined && group !== undefined
      ? [portOf(port.port, group, books, dialect)]
      : [];
  });
  return {
    allow: parts.flatMap(({ allow }) => allow),
    deny: parts.flatMap(({ deny }) => deny),
    tokens: parts.some(({ tokens }) => tokens),
  };
}

/** What holds on a port of the workload, on the Service's port in front of it. */
function portOf(
  port: number,
  { deny, allow, baseline, fallback }: EffectivePorts,
  books: WorkloadBooks,
  dialect: Dialect,
): Said {
  const scope: PortScope = { ports: [port] };
  const say = (rules: readonly EffectiveRule[], effect: Effect): readonly IstioRule[] =>
    rules.flatMap((one) => istioRules(asRule(one), scope, effect, dialect, books.of(one.policy, one.rule)));
  const below = baseline ?? { deny: [], allow: [] };
  for (const one of allow.length === 0 ? [] : below.deny) {
    books
      .of(one.policy, one.rule)
      .lost("Istio's DENY comes before every ALLOW, so what a higher tier allows is denied too");
  }
  const passed = baseline !== undefined && fallback === 'Allow';
  return {
    allow: [
      ...say([...allow, ...below.allow], 'Allow'),
      ...(passed ? [{ to: [{ operation: scopeOperation(scope) }] }] : []),
    ],
    deny: say([...deny, ...below.deny], 'Deny'),
    tokens: [...deny, ...allow, ...below.deny, ...below.allow].some(({ rule }) => asksToken(rule)),
  };
}

function groupOf(groups: readonly EffectivePorts[], port: number): EffectivePorts | undefined {
  return (
    groups.find(({ ports }) => ports !== 'others' && ports.includes(port)) ??
    groups.find(({ ports }) => ports === 'others')
  );
}

/** What the waypoint is told about a Service: what all its workloads allow, and what any denies. */
function servicePart(one: ServedService, context: RenderContext, options: PartOptions): RenderedPart {
  const { service, workloads } = one;
  const policies = policiesOf(one, context);
  if (policies.length === 0) return { objects: [], verdicts: [] };
  const effective = workloads.map((workload) =>
    effectivePolicy(context.set, workload, context.time, context.zones),
  );
  const dialect = asWaypoint(options);
  const said = workloads.map((workload, index) => {
    const books = new WorkloadBooks(workload);
    const policy = effective[index];
    return policy === undefined
      ? { allow: [], deny: [], tokens: false }
      : portsOf(service, workload, policy, books, dialect);
  });
  const allow = common(said.map((each) => each.allow));
  const deny = union(said.map((each) => each.deny));
  const books = new WorkloadBooks(...workloads);
  if (said.some((each) => unlike(each.allow, allow) || unlike(each.deny, deny))) {
    const names = workloads.map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
    for (const policy of policies) {
      books
        .of(policy)
        .lost(
          `Service ${service.namespace}/${service.name} leads to ${names}, for which the policies differ; it allows what all of them allow and denies what any denies`,
        );
      books.of(policy).isSaid();
    }
  }
  const place = placeOf(one, policies);
  const instants = effective.flatMap(({ until }) => (until === undefined ? [] : [until]));
  const issuers = context.issuers ?? [];
  return {
    objects: [
      ...authorizationPolicies('DENY', deny, place),
      ...authorizationPolicies('ALLOW', allow, place),
      ...(issuers.length > 0 && said.some(({ tokens }) => tokens)
        ? [requestAuthentication(issuers, place)]
        : []),
    ],
    verdicts: books.verdicts(),
    ...(instants.length === 0 ? {} : { until: Math.min(...instants) }),
  };
}

const textOf = (rule: IstioRule): string => JSON.stringify(rule);

function union(lists: readonly (readonly IstioRule[])[]): readonly IstioRule[] {
  return [...new Map(lists.flat().map((rule) => [textOf(rule), rule])).values()];
}

function common(lists: readonly (readonly IstioRule[])[]): readonly IstioRule[] {
  const texts = lists.map((list) => new Set(list.map(textOf)));
  return union(lists.slice(0, 1)).filter((rule) => texts.every((each) => each.has(textOf(rule))));
}

function unlike(some: readonly IstioRule[], all: readonly IstioRule[]): boolean {
  return new Set(some.map(textOf)).size !== all.length;
}
