import { conditionFields, operationFields, portField, type ComparedField } from './explain-fields.js';
import { shortened } from './explain-words.js';
import { evaluate, type AuditFinding, type DecidedBy, type Decision } from './evaluate.js';
import { readFacts, type Facts } from './facts.js';
import { inValidity, matchesPorts, matchesSource } from './match.js';
import {
  describePrincipal,
  type AccessRequest,
  type Effect,
  type Policy,
  type PolicyProblem,
  type PolicyRef,
  type Rule,
  type Source,
  type SourceMatch,
  type Tier,
  type Validity,
} from './model.js';
import type { PolicySet } from './policy-set.js';
import { costOf, type MissedField } from './reason.js';
import { closes } from './target-policies.js';
import { anyOf, isEnough, type Match } from './three-valued.js';

/** A field of a rule, and what the request has instead. */
export interface ExplainedField {
  readonly field: MissedField;
  /** What the rule asks for. */
  readonly asked: string;
  /** What the request has, as it is: whoever may read this may read the request. */
  readonly found: string;
}

/** A rule, held against the request. */
export interface ExplainedRule {
  readonly policy: PolicyRef;
  readonly rule: string;
  readonly matches: boolean;
  /** What kept it from matching; empty when it matches. */
  readonly missed: readonly ExplainedField[];
  /** What a Deny rule took for met since nobody can say that it is not. */
  readonly unsure: readonly ExplainedField[];
}

/** The steps of a decision, in order (DESIGN: Admin deny → deny → allow → Baseline → default). */
export const STEPS = [
  'adminDeny',
  'deny',
  'allow',
  /** A namespaced policy allows some, and so denies what no rule allows. */
  'closed',
  'baselineDeny',
  'baselineAllow',
  /** A cluster-wide policy does. */
  'clusterClosed',
  'default',
] as const;

export type StepName = (typeof STEPS)[number];

/** One step. */
export interface ExplainedStep {
  readonly step: StepName;
  /** `decides`: the answer comes from here. `silent`: it says nothing of the request. `notReached`: an earlier one decided. */
  readonly state: 'decides' | 'silent' | 'notReached';
  /** What it says of the request, whether that decides or comes too late; absent when it says nothing. */
  readonly answer?: Effect;
  /** The rules of this step that concern the target: those that match first, then the nearest. */
  readonly rules: readonly ExplainedRule[];
  /** How many rules more there are, further away than those that are told. */
  readonly further: number;
  /** Policies that deny here as a whole: since they cannot be compiled, or since they close the target. */
  readonly policies: readonly PolicyRef[];
}

/** A policy that concerns the target. */
export interface ExplainedPolicy {
  readonly policy: PolicyRef;
  readonly tier: Tier;
  readonly mode: Policy['mode'];
  /** Whether its rules hold at the time of the request. What it closes it closes at any time. */
  readonly state: 'holds' | 'notYet' | 'over' | 'broken';
  /** RFC 3339. */
  readonly from?: string;
  /** RFC 3339; no longer at this instant. */
  readonly until?: string;
  readonly problems?: readonly PolicyProblem[];
}

/** What a policy in Audit mode would say. */
export interface ExplainedAudit {
  readonly policy: PolicyRef;
  /** Absent when it says nothing of the request. */
  readonly finding?: AuditFinding;
  readonly rules: readonly ExplainedRule[];
  readonly further: number;
}

/** An answer, and everything that led to it. */
export interface Explanation extends Pick<Decision, 'allowed' | 'reason' | 'nearest' | 'audit'> {
  readonly decidedBy: DecidedBy;
  /** All policies that concern the target, by name. */
  readonly policies: readonly ExplainedPolicy[];
  /** Empty when the request itself is refused. */
  readonly steps: readonly ExplainedStep[];
  readonly audited: readonly ExplainedAudit[];
}

/** How many rules of a step are told; the nearest first. */
const MAX_TOLD = 10;

/**
 * What `evaluate` answers, with the whole way there: step by step, which rules concern the target, and of each that does not
 * match, which fields it asks for that the request does not have. Holds values of the request, so it is for whoever may see
 * that. Costs as much as all rules that concern the target; the answer itself is evaluate's.
 */
export function explain(set: PolicySet, request: AccessRequest): Explanation {
  const { allowed, decidedBy, reason, nearest, audit } = evaluate(set, request);
  const answer = { allowed, decidedBy, reason, nearest, audit };
  const facts = readFacts(request);
  if ('refused' in facts) return { ...answer, policies: [], steps: [], audited: [] };
  const policies = set.concerning(request.target);
  const enforced = policies.filter(({ mode }) => mode === 'Enforce');
  return {
    ...answer,
    policies: policies.map((policy) => policyOf(policy, facts)),
    steps: stepsOf(enforced, facts, set.defaultAction),
    audited: policies.filter(({ mode }) => mode === 'Audit').map((policy) => auditOf(policy, audit, facts)),
  };
}

function policyOf({ ref, tier, mode, validity, problems }: Policy, { time }: Facts): ExplainedPolicy {
  const instant = (value: number | undefined): string | undefined =>
    value === undefined ? undefined : new Date(value).toISOString();
  const from = instant(validity?.from);
  const until = instant(validity?.until);
  return {
    policy: ref,
    tier,
    mode,
    state: problems === undefined ? stateOf(validity, time) : 'broken',
    ...(from === undefined ? {} : { from }),
    ...(until === undefined ? {} : { until }),
    ...(problems === undefined ? {} : { problems }),
  };
}

function stateOf(validity: Validity | undefined, time: number): 'holds' | 'notYet' | 'over' {
  if (inValidity(validity, time)) return 'holds';
  return validity?.until !== undefined && time >= validity.until ? 'over' : 'notYet';
}

function auditOf(policy: Policy, audit: readonly AuditFinding[], facts: Facts): ExplainedAudit {
  const { ref } = policy;
  const finding = audit.find(({ policy: other }) => other === ref);
  return {
    policy: ref,
    ...(finding === undefined ? {} : { finding }),
    ...told(policy.rules.map((rule) => ruleOf(policy, rule, facts))),
  };
}

type Says = Pick<ExplainedStep, 'answer' | 'rules' | 'further' | 'policies'>;

function stepsOf(policies: readonly Policy[], facts: Facts, defaultAction: Effect): readonly ExplainedStep[] {
  const here = policies.filter(({ target }) => matchesPorts(target.ports, facts) !== 'no');
  const byRules = (effect: Effect, tiers: readonly Tier[], broken: boolean): Says => {
    const rules = policies
      .filter(({ tier }) => tiers.includes(tier))
      .flatMap((policy) =>
        policy.rules.filter((rule) => rule.effect === effect).map((rule) => ruleOf(policy, rule, facts)),
      );
    const whole = here.filter(
      ({ tier, problems }) => broken && tiers.includes(tier) && problems !== undefined,
    );
    const says = whole.length > 0 || rules.some(({ matches }) => matches);
    return { ...told(rules), policies: whole.map(({ ref }) => ref), ...(says ? { answer: effect } : {}) };
  };
  const byClosing = (...tiers: readonly Tier[]): Says => {
    const whole = tiers.flatMap((tier) => here.filter((policy) => policy.tier === tier && closes(policy)));
    const says = whole.length > 0 ? { answer: 'Deny' as const } : {};
    return { rules: [], further: 0, policies: whole.map(({ ref }) => ref), ...says };
  };
  const says: Readonly<Record<StepName, Says>> = {
    adminDeny: byRules('Deny', ['Admin'], true),
    deny: byRules('Deny', ['Namespaced'], true),
    allow: byRules('Allow', ['Admin', 'Namespaced'], false),
    closed: byClosing('Namespaced'),
    baselineDeny: byRules('Deny', ['Baseline'], true),
    baselineAllow: byRules('Allow', ['Baseline'], false),
    clusterClosed: byClosing('Admin', 'Baseline'),
    default: { answer: defaultAction, rules: [], further: 0, policies: [] },
  };
  const decisive = STEPS.findIndex((step) => says[step].answer !== undefined);
  return STEPS.map((step, index) => ({
    step,
    state: index < decisive ? 'silent' : index === decisive ? 'decides' : 'notReached',
    ...says[step],
  }));
}

/** Those that match in their order, of which the first decides; then the others, the nearest first. */
function told(rules: readonly ExplainedRule[]): Pick<ExplainedStep, 'rules' | 'further'> {
  const cost = ({ missed }: ExplainedRule): number =>
    missed.reduce((sum, { field }) => sum + costOf(field), 0);
  const near = rules
    .map((rule) => ({ rule, cost: cost(rule) }))
    .sort((a, b) => a.cost - b.cost)
    .slice(0, MAX_TOLD)
    .map(({ rule }) => rule);
  return { rules: near, further: rules.length - near.length };
}

function ruleOf(policy: Policy, rule: Rule, facts: Facts): ExplainedRule {
  const fields = [
    sourceField(rule, facts),
    ...validityField(policy, facts),
    ...portField(policy.target.ports, facts),
    ...nearestOperation(rule, facts),
    ...conditionFields(rule.when, facts),
  ];
  const isMet = ({ match }: ComparedField): boolean => isEnough(match, rule.effect);
  const matches = fields.every(isMet);
  return {
    policy: policy.ref,
    rule: rule.name,
    matches,
    missed: fields.filter((field) => !isMet(field)).map(withoutMatch),
    unsure: matches ? fields.filter(({ match }) => match === 'unknown').map(withoutMatch) : [],
  };
}

const withoutMatch = ({ field, asked, found }: ComparedField): ExplainedField => ({ field, asked, found });

/** The fields of the operation that misses the fewest. */
function nearestOperation({ to, effect }: Rule, facts: Facts): readonly ComparedField[] {
  if (to === undefined) return [];
  let best: { readonly fields: readonly ComparedField[]; readonly missed: number } | undefined;
  for (const operation of to) {
    const fields = operationFields(operation, facts);
    const missed = fields.filter(({ match }) => !isEnough(match, effect)).length;
    if (best === undefined || missed < best.missed) best = { fields, missed };
    if (missed === 0) break;
  }
  const nothing: ComparedField = {
    ...{ field: 'role', match: 'no', asked: 'what its roles permit, which is nothing', found: 'a request' },
  };
  return best?.fields ?? [nothing];
}

function validityField({ validity }: Policy, { time }: Facts): readonly ComparedField[] {
  if (validity === undefined) return [];
  const { from, until } = validity;
  const asked = [
    'a time',
    ...(from === undefined ? [] : [`from ${new Date(from).toISOString()}`]),
    ...(until === undefined ? [] : [`until ${new Date(until).toISOString()}`]),
  ].join(' ');
  const match = inValidity(validity, time) ? 'yes' : 'no';
  return [{ field: 'time', match, asked, found: new Date(time).toISOString() }];
}

function sourceField({ from }: Rule, facts: Facts): ComparedField {
  const match: Match = anyOf(from, (source) => matchesSource(source, facts));
  const caller = facts.source?.uri ?? 'a caller without identity';
  const address = from.some(({ ipBlocks, except }) => ipBlocks !== undefined || except.length > 0)
    ? ` at ${shortened(facts.request.sourceIp ?? 'an unknown address')}`
    : '';
  const listed = from.slice(0, MAX_SOURCES).map(sourceInWords).join(' or ');
  const more = from.length > MAX_SOURCES ? ` or one of ${from.length - MAX_SOURCES} more` : '';
  return { field: 'source', match, asked: `${listed}${more}`, found: `${caller}${address}` };
}

/** How many sources of a rule, and principals of a source, are listed. */
const MAX_SOURCES = 4;

function sourceInWords(source: Source): string {
  const except = source.except.slice(0, MAX_SOURCES).map(matchInWords).join(' and ');
  return `${matchInWords(source)}${except === '' ? '' : `, but not ${except}`}`;
}

function matchInWords({ any, ipBlocks }: SourceMatch): string {
  const names = any.slice(0, MAX_SOURCES).map(describePrincipal);
  const more = any.length > MAX_SOURCES ? [`one of ${any.length - MAX_SOURCES} more`] : [];
  const who = any.length === 0 ? 'nobody' : [...names, ...more].join(' or ');
  return ipBlocks === undefined ? who : `${who} in ${ipBlocks.map(({ text }) => text).join(' or ')}`;
}
