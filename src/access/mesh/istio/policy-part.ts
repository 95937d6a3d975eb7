import { holdsAt, nextInstant, timeHolds } from '../../policy/effective.js';
import type { Effect, LabelRequirement, Policy, Rule, Target } from '../../policy/model.js';
import { closes } from '../../policy/target-policies.js';
import type { InventoryWorkload } from '../inventory.js';
import type { KubernetesObject, RenderContext, RenderedPart, Verdict } from '../renderer.js';
import { Findings } from './findings.js';
import { EVERY_PORT, type Dialect, type IstioRule } from './language.js';
import { authorizationPolicies, requestAuthentication, type ObjectPlace } from './objects.js';
import type { PortScope } from './operations.js';
import { placements, type Placement } from './placements.js';
import { asksToken, istioRules } from './rules.js';
import type { WaypointMap } from './waypoints.js';

/** What a rendering of policies needs besides the context. */
export interface PartOptions {
  readonly root: string;
  readonly dialect: Dialect;
  /** Of ambient; whoever is behind one has rules of its own (waypoint-part.ts). */
  readonly waypoints: WaypointMap;
}

/**
 * What one namespaced or Admin policy says by itself: its Allow rules are further ALLOW rules of what it selects, its
 * Deny rules further DENY rules, whatever other policies say. Baseline policies speak only where no namespaced one does:
 * workload-part.ts renders them.
 */
export function policyPart(policy: Policy, context: RenderContext, options: PartOptions): RenderedPart {
  const { behind } = options.waypoints;
  const selected = behind.size === 0 ? [] : context.inventory.selected(policy.target);
  const rest = selected.filter((workload) => !behind.has(workload));
  const split = rest.length < selected.length && policy.mode === 'Enforce';
  if (split && rest.length === 0) return { objects: [], verdicts: [] };
  const findings = new Findings(policy, split ? rest.map(workloadName) : undefined);
  const whole = findings.of();
  const { mode } = options.dialect;
  for (const condition of CONDITIONS[mode === 'sidecar' ? mode : 'ambient']) whole.holdsIf(condition);
  const until = nextInstant([policy], context.time, context.zones);
  const part = (objects: readonly KubernetesObject[], more: readonly Verdict[] = []): RenderedPart => ({
    objects,
    verdicts: [...findings.verdicts(), ...more],
    ...(until === undefined ? {} : { until }),
  });
  if (policy.mode === 'Audit') {
    const reason = noShadow(policy, mode);
    if (reason !== undefined) {
      whole.lost(reason);
      return part([]);
    }
    whole.holdsIf('what it would say is reported in the shadow results of Istio and never enforced');
  }
  if (policy.tier === 'Baseline') return part([]);
  if (policy.problems !== undefined) {
    whole.holdsIf('the policy cannot be compiled, so it denies everything');
    return part(policy.mode === 'Audit' ? [] : broken(policy, context, options));
  }
  if (!holdsAt(policy, context.time)) whole.holdsIf('the policy does not hold now, so it opens nothing');
  const elsewhere: Verdict[] = [];
  return part(spoken(policy, context, options, findings, elsewhere), elsewhere);
}

const workloadName = ({ namespace, name }: InventoryWorkload): string => `${namespace}/${name}`;

/** What holds for every policy, so that it is said once. */
const CONDITIONS: Readonly<Record<'sidecar' | 'ambient', readonly string[]>> = {
  sidecar: [
    "callers of other trust domains are refused in TLS, unless the mesh's trustDomainAliases name these",
    'HTTP requests whose path holds "*" or that name no host are refused',
  ],
  ambient: [
    'ztunnel decides about connections; where a waypoint is in front of which the inventory says nothing, it sees the identity of the waypoint',
    'callers whose SPIFFE ID is not of the form /ns/<namespace>/sa/<service account> cannot connect',
  ],
};

function noShadow({ tier }: Policy, mode: Dialect['mode']): string | undefined {
  if (mode === 'ambient') return 'ztunnel has no shadow mode to rely on: older ones enforce such a policy';
  // Which workloads it speaks for depends on other policies.
  return tier === 'Baseline' ? 'a Baseline policy has no shadow mode in Istio' : undefined;
}

/** The place of a policy's objects: named after the policy, its kind, and what of it they say. */
function placeOf({ ref, mode }: Policy, placement: Placement, suffix: readonly string[]): ObjectPlace {
  const kind = ref.kind === 'AccessPolicy' ? 'access' : 'cluster';
  return {
    name: [kind, ref.name, ...suffix],
    placement,
    policies: [ref],
    ...(mode === 'Audit' ? { dryRun: true } : {}),
  };
}

function broken(
  policy: Policy,
  { inventory }: RenderContext,
  { root, waypoints }: PartOptions,
): readonly KubernetesObject[] {
  const { ports } = policy.target;
  const operation = ports === undefined ? EVERY_PORT : { ports: ports.map(String) };
  return placements(policy.target, inventory, root, waypoints.behind).flatMap((placement, index) =>
    authorizationPolicies(
      'DENY',
      [{ to: [{ operation }] }],
      placeOf(policy, placement, ['broken', String(index)]),
    ),
  );
}

interface Group {
  readonly target: Target;
  readonly rules: readonly Rule[];
}

/** Rules by the further labels that they ask of the target; the first group is that of the target itself. */
function groupsOf({ target, rules }: Policy): readonly Group[] {
  const groups = new Map<string, { readonly target: Target; readonly rules: Rule[] }>();
  groups.set('', { target, rules: [] });
  for (const rule of rules) {
    const labels = rule.when?.targetLabels ?? [];
    const key = labels.map(requirementText).join();
    const group = groups.get(key) ?? { target: { ...target, pods: [...target.pods, ...labels] }, rules: [] };
    group.rules.push(rule);
    groups.set(key, group);
  }
  return [...groups.values()];
}

function requirementText(requirement: LabelRequirement): string {
  const values = 'values' in requirement ? [...requirement.values] : [];
  return JSON.stringify([requirement.kind, requirement.key, values]);
}

function spoken(
  policy: Policy,
  context: RenderContext,
  options: PartOptions,
  findings: Findings,
  elsewhere: Verdict[],
): readonly KubernetesObject[] {
  const live = holdsAt(policy, context.time);
  const { ports } = policy.target;
  const scope: PortScope = ports === undefined ? { notPorts: [] } : { ports };
  return groupsOf(policy).flatMap(({ target, rules }, group): readonly KubernetesObject[] => {
    const now = rules.filter(({ when }) => live && timeHolds(when, context.time, context.zones));
    for (const rule of rules) findings.of(rule);
    const said = (effect: Effect): readonly IstioRule[] =>
      now
        .filter((rule) => rule.effect === effect)
        .flatMap((rule) => istioRules(rule, scope, effect, options.dialect, findings.of(rule)));
    const allow = said('Allow');
    const deny = said('Deny');
    // With no rule of a group alive there is nothing to say, but for the target, which stays closed.
    const closing = group === 0 && closes(policy);
    if (allow.length === 0 && deny.length === 0 && !closing) return [];
    const tokens = policy.mode === 'Enforce' && options.dialect.mode === 'sidecar' && now.some(asksToken);
    const issuers = context.issuers ?? [];
    const spots = placements(target, context.inventory, options.root, options.waypoints.behind);
    return spots.flatMap((placement, index) => {
      const place = placeOf(policy, placement, [String(group), String(index)]);
      const opened = allow.length > 0 && placement.over.length === 0;
      elsewhere.push(...overVerdicts(policy, placement, allow.length > 0, deny.length > 0));
      // Where everything is denied by default, the target is closed already, and nobody else has to be with it.
      const closed =
        closing && !opened && !(placement.over.length > 0 && context.set.defaultAction === 'Deny');
      return [
        ...authorizationPolicies('DENY', deny, place),
        ...(opened || closed ? authorizationPolicies('ALLOW', opened ? allow : [], place) : []),
        ...(tokens && issuers.length > 0 ? [requestAuthentication(issuers, place)] : []),
      ];
    });
  });
}

/** Istio cannot select what is meant without selecting others too: they must not get what the rules allow. */
function overVerdicts(
  policy: Policy,
  { over, meant = [] }: Placement,
  allows: boolean,
  denies: boolean,
): readonly Verdict[] {
  if (over.length === 0) return [];
  const names = over.map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
  const targets = meant.map(({ namespace, name }) => `${namespace}/${name}`);
  const findings = new Findings(policy, [
    ...targets,
    ...over.map(({ namespace, name }) => `${namespace}/${name}`),
  ]);
  const notes = findings.of();
  const reason = `the labels of the workload are among those of ${names} too, which Istio cannot tell apart`;
  if (allows) notes.lost(`${reason}; so nothing is allowed`);
  if (denies) notes.lost(`${reason}; so the Deny rules hold there too`);
  if (!allows && !denies) notes.lost(`${reason}; so these are closed too`);
  notes.isSaid();
  return findings.verdicts();
}
