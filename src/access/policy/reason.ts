import type { Facts } from './facts.js';
import { conditionsMissed } from './reason-conditions.js';
import {
  inValidity,
  matchesHosts,
  matchesMethods,
  matchesPaths,
  matchesPorts,
  matchesSource,
  matchesConditions,
  matchesGrant,
  matchesHeaderFields,
  matchesParameters,
} from './match.js';
import {
  describePrincipal,
  policyName,
  type Conditions,
  type Effect,
  type ActionOperation,
  type Entity,
  type NetworkOperation,
  type Operation,
  type Policy,
  type PolicyRef,
  type Rule,
  type TargetWorkload,
  type ValueMatch,
} from './model.js';
import { describePath } from './path.js';
import type { RankedRule } from './rule-list.js';
import type { Stage } from './target-policies.js';

/** What a group of policies says. */
export interface Outcome {
  readonly stage: Stage;
  readonly effect: Effect;
  readonly rule?: RankedRule;
  readonly claim?: { readonly policy: Policy; readonly why: 'closed' | 'broken' };
}

export type MissedField =
  | 'source'
  | 'time'
  | 'port'
  | 'method'
  | 'host'
  | 'path'
  | 'header'
  | 'query'
  | 'role'
  | 'action'
  | 'resource'
  | keyof Conditions;

/** The Allow rule that came nearest to a request that no rule allows. */
export interface NearMiss {
  readonly policy: PolicyRef;
  readonly rule: string;
  /** What did not match; never empty. */
  readonly missed: readonly { readonly field: MissedField; readonly reason: string }[];
}

/** A field that did not match, and why: put in words only for the rule that is told. */
interface Missed {
  readonly field: MissedField;
  readonly reason: () => string;
}

/** How many rules are looked at for the nearest; the answer does not depend on it, only the hint. */
const MAX_COMPARED = 128;
/** How many alternatives a reason lists. */
const MAX_LISTED = 4;

interface Near {
  readonly ranked: RankedRule;
  readonly missed: readonly Missed[];
  readonly cost: number;
}

/**
 * The rule that misses the fewest fields; among equals one that is for the caller, then the first. Those that could be for
 * the caller, `own`, are looked at first: with one of them, hardly any other has to be.
 */
export function nearestRule(
  own: readonly RankedRule[],
  rules: readonly RankedRule[],
  isAsked: (ranked: RankedRule) => boolean,
  facts: Facts,
): NearMiss | undefined {
  let best = nearestOf(own, facts, undefined);
  // The others are not for the caller, which is already that far.
  if (best === undefined || best.cost > SOURCE_COST) best = nearestOf(rules.filter(isAsked), facts, best);
  if (best === undefined) return undefined;
  const { policy, rule } = best.ranked;
  const missed = best.missed.map(({ field, reason }) => ({ field, reason: reason() }));
  return { policy: policy.ref, rule: rule.name, missed };
}

function nearestOf(rules: readonly RankedRule[], facts: Facts, known: Near | undefined): Near | undefined {
  let best = known;
  for (const ranked of rules.slice(0, MAX_COMPARED)) {
    const missed = missedFields(ranked, facts);
    const cost = missed.reduce((sum, { field }) => sum + costOf(field), 0);
    if (best === undefined || cost < best.cost) best = { ranked, missed, cost };
  }
  return best;
}

const SOURCE_COST = 2.5;

/**
 * People look for the rule that is about them first, so being for another counts more than two other fields. A caller
 * who lacks nothing but a token can get one, so that is nearest of all.
 */
export function costOf(field: MissedField): number {
  if (field === 'source') return SOURCE_COST;
  return field === 'token' || field === 'role' ? 0.4 : 1;
}

function missedFields({ rule, policy, ports }: RankedRule, facts: Facts): readonly Missed[] {
  const missed: Missed[] = [];
  if (!isForCaller(rule, facts)) missed.push({ field: 'source', reason: () => sourceMissed(rule, facts) });
  if (!inValidity(policy.validity, facts.time)) {
    const over = policy.validity?.until !== undefined && facts.time >= policy.validity.until;
    missed.push({
      field: 'time',
      reason: () => (over ? 'the policy is over' : 'the policy does not hold yet'),
    });
  }
  if (matchesPorts(ports, facts) !== 'yes') {
    missed.push({ field: 'port', reason: () => portMissed([...(ports ?? [])], facts) });
  }
  if (rule.to !== undefined) missed.push(...operationMissed(rule.to, facts));
  if (matchesConditions(rule.when, facts) !== 'yes') missed.push(...conditionsMissed(rule.when, facts));
  return missed;
}

function operationMissed(operations: readonly Operation[], facts: Facts): readonly Missed[] {
  let best: readonly Missed[] | undefined;
  for (const operation of operations) {
    const missed = oneOperationMissed(operation, facts);
    if (best === undefined || missed.length < best.length) best = missed;
  }
  return best ?? [{ field: 'role', reason: () => 'its roles permit nothing' }];
}

function oneOperationMissed(operation: Operation, facts: Facts): readonly Missed[] {
  if (operation.kind === 'action') return actionMissed(operation, facts);
  if (facts.request.application !== undefined) {
    return [{ field: 'action', reason: () => 'it is about network requests' }];
  }
  const { http } = facts;
  const missed: Missed[] = [];
  if (matchesPorts(operation.ports, facts) !== 'yes') {
    missed.push({ field: 'port', reason: () => portMissed(operation.ports ?? [], facts) });
  }
  if (matchesMethods(operation, facts) !== 'yes') {
    missed.push({ field: 'method', reason: () => methodMissed(operation, facts) });
  }
  if (matchesHosts(operation, facts) !== 'yes') {
    missed.push({
      field: 'host',
      reason: () => `host ${http?.host ?? '(none)'} is not ${listed(operation.hosts ?? [])}`,
    });
  }
  if (matchesPaths(operation, facts) !== 'yes') {
    missed.push({ field: 'path', reason: () => pathMissed(operation, facts) });
  }
  return [...missed, ...fieldsMissed(operation, facts), ...grantMissed(operation, facts)];
}

function fieldsMissed(operation: NetworkOperation, facts: Facts): readonly Missed[] {
  const missed: Missed[] = [];
  if (matchesHeaderFields(operation, facts) !== 'yes') {
    missed.push({
      field: 'header',
      reason: () => `header ${namesOf(operation.headers)} is not as asked for`,
    });
  }
  if (matchesParameters(operation, facts) !== 'yes') {
    missed.push({
      field: 'query',
      reason: () => `query parameter ${namesOf(operation.query)} is not as asked for`,
    });
  }
  return missed;
}

function grantMissed(operation: Operation, facts: Facts): readonly Missed[] {
  const { grantedBy } = operation;
  if (grantedBy?.claim === undefined || matchesGrant(operation, facts) === 'yes') return [];
  const { role, claim } = grantedBy;
  const reason = (): string => `no token grants role ${role} by its claim ${claim.path.join('/')}`;
  return [{ field: 'role', reason }];
}

function actionMissed(operation: ActionOperation, facts: Facts): readonly Missed[] {
  const { application } = facts.request;
  if (application === undefined)
    return [{ field: 'action', reason: () => "it is about an application's actions" }];
  const { action, resource } = application;
  const missed: Missed[] = [];
  const { actions = [action.name] } = operation;
  if (!actions.includes(action.name)) {
    missed.push({
      field: 'action',
      reason: () => `action ${shortPath(action.name)} is not ${listed(actions)}`,
    });
  }
  const types = operation.resources ?? [];
  if (
    types.length > 0 &&
    !types.some(({ type, ids }) => type === resource.type && ids?.includes(resource.id) !== false)
  ) {
    missed.push({
      field: 'resource',
      reason: () => {
        const wanted = listed(types.map(({ type }) => type));
        return `resource ${shortPath(resource.type)} ${shortPath(resource.id)} is not among ${wanted}`;
      },
    });
  }
  return [...missed, ...grantMissed(operation, facts)];
}

function methodMissed({ methods = [] }: NetworkOperation, { http }: Facts): string {
  return http === undefined ? 'no HTTP is seen' : `method ${http.method} is not ${listed(methods)}`;
}

function pathMissed({ paths = [] }: NetworkOperation, { http }: Facts): string {
  return http === undefined
    ? 'no HTTP is seen'
    : `path ${shortPath(http.path)} is not ${listed(paths.map(describePath))}`;
}

const namesOf = (matches: readonly ValueMatch[] = []): string => listed(matches.map(({ name }) => name));

function isForCaller({ from }: Rule, facts: Facts): boolean {
  return from.some((source) => matchesSource(source, facts) === 'yes');
}

function sourceMissed(rule: Rule, facts: Facts): string {
  const caller = facts.source?.uri ?? 'a caller without identity';
  const named = rule.from.filter((source) => matchesSource({ any: source.any, except: [] }, facts) === 'yes');
  const from = named.filter((source) => matchesSource({ ...source, except: [] }, facts) === 'yes');
  if (from.length > 0) return `${caller} is excepted`;
  if (named.length > 0) {
    const blocks = listed(named.flatMap(({ ipBlocks }) => (ipBlocks ?? []).map(({ text }) => text)));
    return `address ${shortPath(facts.request.sourceIp ?? '(not known)')} is not in ${blocks}`;
  }
  return `${caller} is not ${listed(rule.from.flatMap(({ any }) => any.map(describePrincipal)))}`;
}

function portMissed(ports: readonly number[], facts: Facts): string {
  return facts.port === undefined
    ? 'the port is not known'
    : `port ${facts.port} is not ${listed(ports.map(String))}`;
}

function listed(items: readonly string[]): string {
  if (items.length === 0) return 'anything that it names';
  const more = items.length > MAX_LISTED ? ` or one of ${items.length - MAX_LISTED} more` : '';
  return `${items.slice(0, MAX_LISTED).join(' or ')}${more}`;
}

function shortPath(path: string): string {
  return path.length > 200 ? `${path.slice(0, 200)}…` : path;
}

function inWords(ref: PolicyRef): string {
  return `policy ${policyName(ref)}`;
}

export function explainAllowed({ rule }: Outcome): string {
  if (rule === undefined) return 'allowed by default: no policy speaks for this target';
  return `allowed by rule "${rule.rule.name}" of ${inWords(rule.policy.ref)}`;
}

export function explainDenied(
  { rule, claim }: Outcome,
  nearest: NearMiss | undefined,
  facts: Facts,
  target: TargetWorkload,
): string {
  if (rule !== undefined) return `denied by rule "${rule.rule.name}" of ${inWords(rule.policy.ref)}`;
  if (claim?.why === 'broken') return `denied: ${brokenInWords(claim.policy)}`;
  const where = `${target.namespace}/${target.name}`;
  if (nearest === undefined) {
    return claim === undefined
      ? `denied by default: no policy speaks for ${where}`
      : `denied: ${inWords(claim.policy.ref)} allows nobody`;
  }
  const missed = nearest.missed.map(({ reason }) => reason).join(', and ');
  return `no rule allows ${whatInWords(facts)} ${where} to ${whoInWords(facts)}; nearest is rule "${nearest.rule}" of ${inWords(nearest.policy)}, but ${missed}`;
}

function whatInWords({ http, request: { application } }: Facts): string {
  if (application !== undefined) {
    const { action, resource } = application;
    return `action ${shortPath(action.name)} on ${entityInWords(resource)} in`;
  }
  return http === undefined ? 'access on' : `${http.method} ${shortPath(http.path)} on`;
}

function whoInWords({ source, request: { application } }: Facts): string {
  if (source !== undefined) return source.uri;
  return application?.subject === undefined
    ? 'a caller without identity'
    : entityInWords(application.subject);
}

const entityInWords = ({ type, id }: Entity): string => `${shortPath(type)} ${shortPath(id)}`;

export function explainAudit({ rule, claim, effect }: Outcome, policy: Policy): string {
  const verb = effect === 'Allow' ? 'would have allowed' : 'would have denied';
  if (rule !== undefined) return `rule "${rule.rule.name}" of ${inWords(policy.ref)} ${verb} it`;
  if (claim?.why === 'broken') return `would have denied: ${brokenInWords(policy)}`;
  return `${inWords(policy.ref)} ${verb} it: none of its rules allows it`;
}

function brokenInWords(policy: Policy): string {
  const [first, ...others] = policy.problems ?? [];
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  const problem = first === undefined ? 'it has problems' : `${first.field} ${first.message}`;
  return `${inWords(policy.ref)} cannot be compiled, so it opens nothing: ${problem}${more}`;
}
