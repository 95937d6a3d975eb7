import type { PolicySet } from './policy-set.js';
import { labelsMatch } from './selector.js';
import { isOpen, nextChange, type ZoneClock } from './time-window.js';
import type { Conditions, Effect, NetworkOperation, Policy, Rule, Source, TargetWorkload } from './model.js';
import { closes } from './target-policies.js';

/** Conditions that are left once the time and the target are known. */
export type ResidualConditions = Omit<Conditions, 'during' | 'outside' | 'targetLabels'>;

/** A rule as it stands for one workload at one instant: what can be decided of it is decided. */
export interface EffectiveRule {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly from: readonly Source[];
  /** Absent means every request. Without ports: they are those of the group. Never empty. */
  readonly to?: readonly Omit<NetworkOperation, 'ports'>[];
  /** Absent means always. */
  readonly when?: ResidualConditions;
}

/**
 * What holds on some ports of a workload. A request is
 * allowed = not deny, and (allow, or where there is a baseline: not its deny, and (its allow, or fallback is Allow)).
 */
export interface EffectivePorts {
  /** `others` stands for every port that no other group names. */
  readonly ports: readonly number[] | 'others';
  readonly deny: readonly EffectiveRule[];
  readonly allow: readonly EffectiveRule[];
  /** Absent where a namespaced policy closes the ports: then what `allow` does not allow is denied. */
  readonly baseline?: { readonly deny: readonly EffectiveRule[]; readonly allow: readonly EffectiveRule[] };
  /** What a request gets that no rule speaks of. */
  readonly fallback: Effect;
  /** A policy that could not be compiled, for which everything is denied; no other field says anything then. */
  readonly broken?: Policy;
}

/** What the enforced policies together say about one workload at one instant. */
export interface EffectivePolicy {
  readonly groups: readonly EffectivePorts[];
  /** The policies that concern the workload, audited ones too. */
  readonly policies: readonly Policy[];
  /** When this may become another; undefined when it never does by itself. Milliseconds since the epoch. */
  readonly until?: number;
}

/**
 * The policies that concern a workload as two ordered lists per port, for those who translate them: everything that
 * depends on the time, on the target and on the port is worked out. Audited policies are left out.
 */
export function effectivePolicy(
  set: PolicySet,
  workload: TargetWorkload,
  time: number,
  zones: ZoneClock,
): EffectivePolicy {
  const policies = set.concerning(workload);
  const enforced = policies.filter(({ mode }) => mode === 'Enforce');
  const candidates = enforced.flatMap((policy) => rulesAt(policy, workload, time, zones));
  const until = nextInstant(enforced, time, zones);
  return {
    groups: portGroups(enforced, candidates).map((ports) => groupOf(ports, enforced, candidates, set)),
    policies,
    ...(until === undefined ? {} : { until }),
  };
}

/** The first instant after `time` at which one of these policies may say something else by itself. */
export function nextInstant(policies: readonly Policy[], time: number, zones: ZoneClock): number | undefined {
  const instants = policies.flatMap(({ validity, rules }) => [
    validity?.from,
    validity?.until,
    ...rules.flatMap(({ when }) =>
      [...(when?.during ?? []), ...(when?.outside ?? [])].map((window) => nextChange(window, time, zones)),
    ),
  ]);
  const later = instants.filter((instant) => instant !== undefined && instant > time) as number[];
  return later.length === 0 ? undefined : Math.min(...later);
}

/** Whether the rules of a policy hold at an instant; what it closes stays closed at any time. */
export function holdsAt({ validity }: Policy, time: number): boolean {
  return (
    (validity?.from === undefined || time >= validity.from) &&
    (validity?.until === undefined || time < validity.until)
  );
}

/** Whether the conditions of a rule that are about the time hold. */
export function timeHolds(when: Conditions | undefined, time: number, zones: ZoneClock): boolean {
  return (
    (when?.during === undefined || when.during.some((window) => isOpen(window, time, zones))) &&
    !(when?.outside ?? []).some((window) => isOpen(window, time, zones))
  );
}

/** What is left of a rule's conditions once the time and the target are known; undefined when nothing is. */
export function residualConditions(when: Conditions | undefined): ResidualConditions | undefined {
  const { token, sourceLabels, sourcePosture, attributes, cel } = when ?? {};
  const rest = {
    ...(token === undefined ? {} : { token }),
    ...(sourceLabels === undefined ? {} : { sourceLabels }),
    ...(sourcePosture === undefined ? {} : { sourcePosture }),
    ...(attributes === undefined ? {} : { attributes }),
    ...(cel === undefined ? {} : { cel }),
  };
  return Object.keys(rest).length === 0 ? undefined : rest;
}

/** The rules of a policy that hold at an instant for a workload. */
function rulesAt(
  policy: Policy,
  workload: TargetWorkload,
  time: number,
  zones: ZoneClock,
): readonly EffectiveRule[] {
  if (!holdsAt(policy, time)) return [];
  return policy.rules.flatMap((rule): readonly EffectiveRule[] => {
    const { when } = rule;
    if (!timeHolds(when, time, zones)) return [];
    if (when?.targetLabels !== undefined && !labelsMatch(when.targetLabels, workload.labels)) return [];
    const residual = residualConditions(when);
    return [{ policy, rule, from: rule.from, ...(residual === undefined ? {} : { when: residual }) }];
  });
}

/** Every port that is named somewhere, by itself, and all others. */
function portGroups(
  policies: readonly Policy[],
  rules: readonly EffectiveRule[],
): readonly (number | 'others')[] {
  const named = new Set<number>(policies.flatMap(({ target }) => target.ports ?? []));
  for (const { rule } of rules) {
    for (const operation of rule.to ?? []) {
      if (operation.kind === 'network') for (const port of operation.ports ?? []) named.add(port);
    }
  }
  return [...[...named].sort((a, b) => a - b), 'others'];
}

function groupOf(
  port: number | 'others',
  policies: readonly Policy[],
  candidates: readonly EffectiveRule[],
  set: PolicySet,
): EffectivePorts {
  const on = ({ target }: Policy): boolean =>
    target.ports === undefined || (port !== 'others' && target.ports.includes(port));
  const here = policies.filter(on);
  const ports = port === 'others' ? port : [port];
  const broken = here.find(({ problems, tier }) => problems !== undefined && tier !== 'Baseline');
  if (broken !== undefined) return { ports, deny: [], allow: [], fallback: 'Deny', broken };
  const rules = candidates.filter(({ policy }) => on(policy)).flatMap((rule) => onPort(rule, port));
  const of = (effect: Effect, baseline: boolean): readonly EffectiveRule[] =>
    rules.filter(({ policy, rule }) => rule.effect === effect && (policy.tier === 'Baseline') === baseline);
  const deny = of('Deny', false);
  const allow = of('Allow', false);
  if (here.some((policy) => policy.tier === 'Namespaced' && closes(policy))) {
    return { ports, deny, allow, fallback: 'Deny' };
  }
  // A Baseline policy that could not be compiled denies what reaches its tier.
  if (here.some(({ problems }) => problems !== undefined)) return { ports, deny, allow, fallback: 'Deny' };
  const fallback = here.some(closes) ? 'Deny' : set.defaultAction;
  return { ports, deny, allow, baseline: { deny: of('Deny', true), allow: of('Allow', true) }, fallback };
}

function onPort(rule: EffectiveRule, port: number | 'others'): readonly EffectiveRule[] {
  const operations = rule.rule.to;
  if (operations === undefined) return [rule];
  const to = operations.flatMap((operation) => {
    if (operation.kind === 'action') return [];
    const { ports, ...rest } = operation;
    return ports === undefined || (port !== 'others' && ports.includes(port)) ? [rest] : [];
  });
  return to.length === 0 ? [] : [{ ...rule, to }];
}
