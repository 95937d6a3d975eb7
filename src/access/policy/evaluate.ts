import { readFacts, type Facts } from './facts.js';
import { inValidity, matchesConditions, matchesOperation, matchesPorts, matchesSource } from './match.js';
import { anyOf, isEnough } from './three-valued.js';
import type { AccessRequest, Effect, PolicyRef, Tier } from './model.js';
import type { PolicySet } from './policy-set.js';
import {
  explainAllowed,
  explainAudit,
  explainDenied,
  nearestRule,
  type NearMiss,
  type Outcome,
} from './reason.js';
import { candidates, type IndexedRule, type RankedRule, type RuleList } from './rule-list.js';
import { STAGE, type Decider, type PortClaim, type RuleIndex, type Stage } from './target-policies.js';

/** What decided. */
export type DecidedBy =
  | { readonly kind: 'rule'; readonly policy: PolicyRef; readonly tier: Tier; readonly rule: string }
  /** The policy allows others, and no rule allows this; or it could not be compiled (`broken`). */
  | {
      readonly kind: 'policy';
      readonly policy: PolicyRef;
      readonly tier: Tier;
      readonly why: 'closed' | 'broken';
    }
  /** The request itself cannot be read in one way only, so it is refused whatever the policies say. */
  | { readonly kind: 'request' }
  | { readonly kind: 'default' };

/** What a policy in Audit mode would have said. */
export interface AuditFinding {
  readonly policy: PolicyRef;
  /** Absent when no single rule says it. */
  readonly rule?: string;
  readonly wouldHave: Effect;
  /** True when the answer would be another one if the policy were enforced. */
  readonly changesAnswer: boolean;
  readonly reason: string;
}

/** An answer. */
export interface Decision {
  readonly allowed: boolean;
  readonly decidedBy: DecidedBy;
  /** Why, in words; holds no more of the request than its identity, method and path. Worked out when first read. */
  readonly reason: string;
  /** When no rule allowed: the Allow rule that came nearest, and what it missed. Worked out when first read. */
  readonly nearest: NearMiss | undefined;
  readonly audit: readonly AuditFinding[];
}

/**
 * Decides one request: Admin deny → deny → allow (Admin and namespaced) → Baseline → default. A target that a policy
 * with Allow rules (or without rules) speaks for denies what no rule allows; a namespaced one keeps Baseline out.
 *
 * Total: never throws for what a request holds, and denies what it cannot read.
 */
export function evaluate(set: PolicySet, request: AccessRequest): Decision {
  const facts = readFacts(request);
  if ('refused' in facts) return refused(facts.refused);
  const target = set.forTarget(request.target);
  const enforced = decide(target.enforced, facts, set.defaultAction);
  const audit = target.audited.flatMap(({ policy, decider }): readonly AuditFinding[] => {
    const alone = decide(decider, facts, set.defaultAction);
    if (alone.stage === STAGE.default) return [];
    const { rule } = alone;
    return [
      {
        policy: policy.ref,
        ...(rule === undefined ? {} : { rule: rule.rule.name }),
        wouldHave: alone.effect,
        changesAnswer: alone.stage < enforced.stage && alone.effect !== enforced.effect,
        reason: explainAudit(alone, policy),
      },
    ];
  });
  return new LazyDecision(enforced, target.enforced, facts, request, audit);
}

/** Reasons cost more than answers, and most are never read. */
class LazyDecision implements Decision {
  readonly allowed: boolean;
  readonly decidedBy: DecidedBy;
  readonly audit: readonly AuditFinding[];
  readonly #outcome: Outcome;
  readonly #decider: Decider;
  readonly #facts: Facts;
  readonly #request: AccessRequest;
  #reason: string | undefined;
  /** null until it was asked for. */
  #nearest: NearMiss | undefined | null = null;

  constructor(
    outcome: Outcome,
    decider: Decider,
    facts: Facts,
    request: AccessRequest,
    audit: readonly AuditFinding[],
  ) {
    this.allowed = outcome.effect === 'Allow';
    this.decidedBy = decidedBy(outcome);
    this.audit = audit;
    this.#outcome = outcome;
    this.#decider = decider;
    this.#facts = facts;
    this.#request = request;
  }

  get nearest(): NearMiss | undefined {
    const { rule, claim, stage } = this.#outcome;
    if (this.allowed || rule !== undefined || claim?.why === 'broken') return undefined;
    if (this.#nearest === null) {
      // A Baseline's rule may well match what a namespaced policy has denied already.
      const isAsked = ({ policy }: RankedRule): boolean => stage > STAGE.closed || policy.tier !== 'Baseline';
      const { allow, baselineAllow, allowRules } = this.#decider;
      const own = [allow, baselineAllow].flatMap((index) => rulesOf(index, this.#facts));
      this.#nearest = nearestRule(own.filter(isAsked), allowRules, isAsked, this.#facts);
    }
    return this.#nearest;
  }

  get reason(): string {
    this.#reason ??= this.allowed
      ? explainAllowed(this.#outcome)
      : explainDenied(this.#outcome, this.nearest, this.#facts, this.#request.target);
    return this.#reason;
  }

  toJSON(): Decision {
    const { allowed, decidedBy, reason, nearest, audit } = this;
    return { allowed, decidedBy, reason, nearest, audit };
  }
}

function refused(reason: string): Decision {
  return {
    allowed: false,
    decidedBy: { kind: 'request' },
    reason: `the request is refused: ${reason}`,
    nearest: undefined,
    audit: [],
  };
}

function decidedBy({ rule, claim }: Outcome): DecidedBy {
  if (rule !== undefined) {
    return { kind: 'rule', policy: rule.policy.ref, tier: rule.policy.tier, rule: rule.rule.name };
  }
  if (claim === undefined) return { kind: 'default' };
  return { kind: 'policy', policy: claim.policy.ref, tier: claim.policy.tier, why: claim.why };
}

function decide(decider: Decider, facts: Facts, defaultAction: Effect): Outcome {
  const { broken, closing } = decider;
  return (
    byClaim(STAGE.adminDeny, broken.Admin, 'broken', facts) ??
    byRule(STAGE.adminDeny, 'Deny', decider.adminDeny, facts) ??
    byClaim(STAGE.deny, broken.Namespaced, 'broken', facts) ??
    byRule(STAGE.deny, 'Deny', decider.deny, facts) ??
    byRule(STAGE.allow, 'Allow', decider.allow, facts) ??
    byClaim(STAGE.closed, closing.Namespaced, 'closed', facts) ??
    byClaim(STAGE.baselineDeny, broken.Baseline, 'broken', facts) ??
    byRule(STAGE.baselineDeny, 'Deny', decider.baselineDeny, facts) ??
    byRule(STAGE.baselineAllow, 'Allow', decider.baselineAllow, facts) ??
    byClaim(STAGE.clusterClosed, closing.Admin, 'closed', facts) ??
    byClaim(STAGE.clusterClosed, closing.Baseline, 'closed', facts) ?? {
      stage: STAGE.default,
      effect: defaultAction,
    }
  );
}

function byClaim(
  stage: Stage,
  claims: readonly PortClaim[],
  why: 'closed' | 'broken',
  facts: Facts,
): Outcome | undefined {
  for (const { policy, ports } of claims) {
    if (matchesPorts(ports, facts) !== 'no') return { stage, effect: 'Deny', claim: { policy, why } };
  }
  return undefined;
}

function byRule(stage: Stage, effect: Effect, index: RuleIndex, facts: Facts): Outcome | undefined {
  if (index.isEmpty) return undefined;
  let best: RankedRule | undefined;
  for (const list of listsOf(index, facts)) best = firstMatch(list, facts, best);
  return best === undefined ? undefined : { stage, effect, rule: best };
}

/** Where the rules are that could concern the caller. */
function listsOf(index: RuleIndex, { source, sourceNamespace }: Facts): readonly (RuleList | undefined)[] {
  if (source === undefined) return [index.anyone];
  return [
    index.anyone,
    index.authenticated,
    index.byUri.get(source.uri),
    index.byTrustDomain.get(source.trustDomain),
    sourceNamespace === undefined || index.byNamespace.size === 0
      ? undefined
      : index.byNamespace.get(`${source.trustDomain}/${sourceNamespace}`),
  ];
}

/** The rules that could concern the caller, in order. */
function rulesOf(index: RuleIndex, facts: Facts): readonly RankedRule[] {
  return listsOf(index, facts)
    .flatMap((list) => list?.all.map(({ ranked }) => ranked) ?? [])
    .sort((a, b) => a.rank - b.rank);
}

function firstMatch(
  list: RuleList | undefined,
  facts: Facts,
  best: RankedRule | undefined,
): RankedRule | undefined {
  if (list === undefined) return best;
  if (list.byPath === undefined) return firstOf(list.all, facts, best);
  let first = best;
  for (const rules of candidates(list, facts)) first = firstOf(rules, facts, first);
  return first;
}

function firstOf(
  rules: readonly IndexedRule[],
  facts: Facts,
  best: RankedRule | undefined,
): RankedRule | undefined {
  for (const { ranked, source, plain } of rules) {
    if (best !== undefined && ranked.rank >= best.rank) return best;
    // The list was found under a principal that matches; what is left is where from, and whom the source excepts.
    if (!plain && !isEnough(matchesSource(source, facts), ranked.rule.effect)) continue;
    if (meets(ranked, facts)) return ranked;
  }
  return best;
}

function meets({ rule, policy, ports }: RankedRule, facts: Facts): boolean {
  const { effect, to, when } = rule;
  return (
    inValidity(policy.validity, facts.time) &&
    isEnough(matchesPorts(ports, facts), effect) &&
    (to === undefined ||
      isEnough(
        anyOf(to, (operation) => matchesOperation(operation, facts)),
        effect,
      )) &&
    (when === undefined || isEnough(matchesConditions(when, facts), effect))
  );
}
