import {
  effectivePolicy,
  type EffectivePolicy,
  type EffectivePorts,
  type EffectiveRule,
} from '../../policy/effective.js';
import type { Effect, Policy } from '../../policy/model.js';
import { closes } from '../../policy/target-policies.js';
import type { InventoryWorkload } from '../inventory.js';
import type { KubernetesObject, RenderContext, RenderedPart } from '../renderer.js';
import { type IstioOperation, type IstioRule } from './language.js';
import {
  authorizationPolicies,
  peerAuthentication,
  requestAuthentication,
  type MutualTls,
  type ObjectPlace,
} from './objects.js';
import { scopeOperation, type PortScope } from './operations.js';
import { alsoSelected } from './placements.js';
import type { PartOptions } from './policy-part.js';
import { asksToken, asRule, istioRules } from './rules.js';
import { waypointPart } from './waypoint-part.js';
import { WorkloadBooks } from './workload-books.js';

const NOTHING: RenderedPart = { objects: [], verdicts: [] };

/**
 * What depends on all policies of one workload: the Baseline tier, the ports that no policy closes though another policy
 * has Istio close the workload, and whether plaintext is taken. Everything is said by the labels of the workload.
 */
export function workloadPart(
  workload: InventoryWorkload,
  context: RenderContext,
  options: PartOptions,
): RenderedPart {
  const { set, inventory } = context;
  const { behind } = options.waypoints;
  const front = behind.get(workload);
  if (front !== undefined) return waypointPart(workload, front, context, options);
  const enforced = set.concerning(workload).filter(({ mode }) => mode === 'Enforce');
  const anonymous = enforced.some(admitsAnonymous);
  const byDefault = set.defaultAction === 'Allow' && enforced.length > 0;
  if (!anonymous && !byDefault && !enforced.some(({ tier }) => tier === 'Baseline')) return NOTHING;
  const effective = effectivePolicy(set, workload, context.time, context.zones);
  const books = new WorkloadBooks(workload);
  const mine = complement(effective, enforced, options, books);
  const others = alsoSelected(workload, inventory, options.root).filter((other) => other !== workload);
  const alike = others.every((other) => !behind.has(other) && isAlike(other, mine.allow, context, options));
  if (!alike) loseAllow(books, enforced, others);
  const place: ObjectPlace = {
    name: ['workload', workload.name],
    placement: { namespace: workload.namespace, ...matchLabels(workload) },
    policies: mine.policies.map(({ ref }) => ref),
  };
  const needed = mine.closed || (mine.allow.length > 0 && (mine.restricts || set.defaultAction === 'Deny'));
  return {
    objects: [
      ...authorizationPolicies('DENY', mine.deny, place),
      ...(needed && alike ? authorizationPolicies('ALLOW', mine.allow, place) : []),
      ...tokenObjects(effective, context, options, place),
      ...transport(workload, effective, context, options, place),
    ],
    verdicts: books.verdicts(),
    ...(effective.until === undefined ? {} : { until: effective.until }),
  };
}

const matchLabels = ({ labels }: InventoryWorkload): Pick<ObjectPlace['placement'], 'matchLabels'> =>
  Object.keys(labels).length === 0 ? {} : { matchLabels: labels };

/** What the policies together say beyond what each says by itself. */
interface Complement {
  readonly allow: readonly IstioRule[];
  readonly deny: readonly IstioRule[];
  /** A Baseline policy closes some ports, so that Istio has to close the workload. */
  readonly closed: boolean;
  /** Some policy has Istio close the workload. */
  readonly restricts: boolean;
  readonly policies: readonly Policy[];
}

function complement(
  { groups }: EffectivePolicy,
  enforced: readonly Policy[],
  options: PartOptions,
  books: WorkloadBooks,
): Complement {
  const allow: IstioRule[] = [];
  const deny: IstioRule[] = [];
  const passed: IstioOperation[] = [];
  const named = groups.flatMap(({ ports }) => (ports === 'others' ? [] : ports));
  for (const policy of enforced) {
    if (policy.tier !== 'Baseline') continue;
    books.of(policy);
    for (const rule of policy.rules) books.of(policy, rule);
  }
  for (const { ports, baseline, fallback, allow: above } of groups) {
    if (baseline === undefined) continue;
    const scope: PortScope = ports === 'others' ? { notPorts: named } : { ports };
    const said = (rules: readonly EffectiveRule[], effect: Effect): readonly IstioRule[] =>
      rules.flatMap((one) =>
        istioRules(asRule(one), scope, effect, options.dialect, books.of(one.policy, one.rule)),
      );
    for (const one of above.length === 0 ? [] : baseline.deny) {
      books
        .of(one.policy, one.rule)
        .lost("Istio's DENY comes before every ALLOW, so what a higher tier allows is denied too");
    }
    deny.push(...said(baseline.deny, 'Deny'));
    allow.push(...said(baseline.allow, 'Allow'));
    if (fallback === 'Allow') passed.push(scopeOperation(scope));
  }
  if (passed.length > 0) allow.push({ to: passed.map((operation) => ({ operation })) });
  const baselines = enforced.filter(({ tier }) => tier === 'Baseline');
  return {
    allow,
    deny,
    closed: baselines.some(closes) && groups.some(({ baseline }) => baseline !== undefined),
    restricts: enforced.some((policy) => policy.problems === undefined && closes(policy)),
    policies: baselines.length > 0 ? baselines : enforced,
  };
}

/** Whether another workload, which the same labels select, is to be allowed the same. */
function isAlike(
  other: InventoryWorkload,
  allow: readonly IstioRule[],
  { set, time, zones }: RenderContext,
  options: PartOptions,
): boolean {
  if (allow.length === 0) return true;
  const enforced = set.concerning(other).filter(({ mode }) => mode === 'Enforce');
  const theirs = complement(
    effectivePolicy(set, other, time, zones),
    enforced,
    options,
    new WorkloadBooks(other),
  );
  return JSON.stringify(theirs.allow) === JSON.stringify(allow);
}

function loseAllow(
  books: WorkloadBooks,
  policies: readonly Policy[],
  others: readonly InventoryWorkload[],
): void {
  const names = others.map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
  for (const policy of policies) {
    const notes = books.of(policy);
    notes.lost(
      `the labels of the workload are among those of ${names} too, which Istio cannot tell apart; so ports that no policy closes are closed, and a Baseline allows nothing`,
    );
    notes.isSaid();
  }
}

function tokenObjects(
  { groups }: EffectivePolicy,
  { issuers = [] }: RenderContext,
  { dialect }: PartOptions,
  place: ObjectPlace,
): readonly KubernetesObject[] {
  if (dialect.mode === 'ambient' || issuers.length === 0) return [];
  const rules = groups.flatMap(({ baseline }) => [...(baseline?.allow ?? []), ...(baseline?.deny ?? [])]);
  return rules.some(({ rule }) => asksToken(rule)) ? [requestAuthentication(issuers, place)] : [];
}

function admitsAnonymous({ rules }: Policy): boolean {
  return rules.some(
    ({ effect, from }) =>
      effect === 'Allow' && from.some(({ any }) => any.some(({ kind }) => kind === 'anyone')),
  );
}

/** Callers without an identity come in plaintext, which STRICT refuses before any rule is asked. */
function transport(
  workload: InventoryWorkload,
  { groups }: EffectivePolicy,
  { set }: RenderContext,
  { root }: PartOptions,
  place: ObjectPlace,
): readonly KubernetesObject[] {
  // In the root namespace Istio ignores a PeerAuthentication with a selector.
  if (workload.namespace === root || Object.keys(workload.labels).length === 0) return [];
  const modes = groups.map((group): MutualTls => (takesPlaintext(group) ? 'PERMISSIVE' : 'STRICT'));
  // What there is without it: renderShared asks for STRICT where everything is denied by default.
  const usual: MutualTls = set.defaultAction === 'Deny' ? 'STRICT' : 'PERMISSIVE';
  if (modes.every((mode) => mode === usual)) return [];
  const mode = modes.at(-1) ?? usual;
  const ports = new Map<number, MutualTls>();
  for (const [index, group] of groups.entries()) {
    const own = modes[index];
    if (group.ports === 'others' || own === undefined || own === mode) continue;
    for (const port of group.ports) ports.set(port, own);
  }
  return [peerAuthentication(mode, ports, place)];
}

function takesPlaintext({ allow, baseline, fallback }: EffectivePorts): boolean {
  if (baseline !== undefined && fallback === 'Allow') return true;
  return [...allow, ...(baseline?.allow ?? [])].some(({ from }) =>
    from.some(({ any }) => any.some(({ kind }) => kind === 'anyone')),
  );
}
