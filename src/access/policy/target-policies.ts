import { appendTo } from '../../lib/append-to.js';
import { serviceAccountUri } from './spiffe-namespace.js';
import type { Policy, Principal, Rule, Tier } from './model.js';
import { ruleList, type IndexedRule, type RankedRule, type RuleList } from './rule-list.js';

/**
 * The order of the decision. The first stage that has something to say decides, so what two sets say together is
 * what the one says whose stage comes first.
 */
export const STAGE = {
  adminDeny: 0,
  deny: 1,
  allow: 2,
  /** A namespaced policy allows some, but not this request. */
  closed: 3,
  baselineDeny: 4,
  baselineAllow: 5,
  /** A policy of the cluster's allows some, but not this request. */
  clusterClosed: 6,
  default: 7,
} as const;

export type Stage = (typeof STAGE)[keyof typeof STAGE];

/** Rules under whom they are for, so that a request meets only those that could concern its caller. */
export interface RuleIndex {
  /** Most targets have rules of few kinds only. */
  readonly isEmpty: boolean;
  readonly byUri: ReadonlyMap<string, RuleList>;
  readonly byTrustDomain: ReadonlyMap<string, RuleList>;
  /** Under `trust-domain/namespace`. */
  readonly byNamespace: ReadonlyMap<string, RuleList>;
  readonly authenticated: RuleList;
  readonly anyone: RuleList;
}

/** A policy that speaks for whole ports of the target: it closes them, or is broken and denies on them. */
export interface PortClaim {
  readonly policy: Policy;
  readonly ports: ReadonlySet<number> | undefined;
}

/** What one group of policies says about one target. */
export interface Decider {
  readonly adminDeny: RuleIndex;
  readonly deny: RuleIndex;
  readonly allow: RuleIndex;
  readonly baselineDeny: RuleIndex;
  readonly baselineAllow: RuleIndex;
  readonly broken: Readonly<Record<Tier, readonly PortClaim[]>>;
  readonly closing: Readonly<Record<Tier, readonly PortClaim[]>>;
  /** Every Allow rule, in order: for saying which came nearest. */
  readonly allowRules: readonly RankedRule[];
}

/** What concerns one target. */
export interface TargetPolicies {
  readonly enforced: Decider;
  /** Each audited policy by itself. */
  readonly audited: readonly { readonly policy: Policy; readonly decider: Decider }[];
}

export function compileTarget(policies: readonly Policy[]): TargetPolicies {
  return {
    enforced: compileDecider(policies.filter(({ mode }) => mode === 'Enforce')),
    audited: policies
      .filter(({ mode }) => mode === 'Audit')
      .map((policy) => ({ policy, decider: compileDecider([policy]) })),
  };
}

function compileDecider(policies: readonly Policy[]): Decider {
  const claims = (tier: Tier, holds: (policy: Policy) => boolean): readonly PortClaim[] =>
    policies
      .filter((policy) => policy.tier === tier && holds(policy))
      .map((policy) => ({ policy, ports: portSet(policy) }));
  const perTier = (holds: (policy: Policy) => boolean): Decider['broken'] => ({
    Admin: claims('Admin', holds),
    Namespaced: claims('Namespaced', holds),
    Baseline: claims('Baseline', holds),
  });
  const ranked = policies
    .flatMap((policy) => policy.rules.map((rule) => ({ policy, rule, ports: portSet(policy) })))
    .map((entry, rank): RankedRule => ({ ...entry, rank }));
  const index = (effect: Rule['effect'], ...tiers: readonly Tier[]): RuleIndex =>
    indexRules(ranked.filter(({ rule, policy }) => rule.effect === effect && tiers.includes(policy.tier)));
  return {
    adminDeny: index('Deny', 'Admin'),
    deny: index('Deny', 'Namespaced'),
    allow: index('Allow', 'Admin', 'Namespaced'),
    baselineDeny: index('Deny', 'Baseline'),
    baselineAllow: index('Allow', 'Baseline'),
    broken: perTier((policy) => policy.problems !== undefined),
    closing: perTier(closes),
    allowRules: ranked.filter(({ rule }) => rule.effect === 'Allow'),
  };
}

/**
 * A policy with an Allow rule, or with no rule at all, closes its target. It does so also outside its validity: the
 * end of a permission must never open a target to everybody.
 */
export function closes(policy: Policy): boolean {
  return policy.rules.length === 0 || policy.rules.some(({ effect }) => effect === 'Allow');
}

function portSet(policy: Policy): ReadonlySet<number> | undefined {
  return policy.target.ports === undefined ? undefined : new Set(policy.target.ports);
}

function indexRules(rules: readonly RankedRule[]): RuleIndex {
  const byUri = new Map<string, IndexedRule[]>();
  const byTrustDomain = new Map<string, IndexedRule[]>();
  const byNamespace = new Map<string, IndexedRule[]>();
  const authenticated: IndexedRule[] = [];
  const anyone: IndexedRule[] = [];
  const put = (principal: Principal, entry: IndexedRule): void => {
    switch (principal.kind) {
      case 'spiffeId':
        appendTo(byUri, principal.uri, entry);
        break;
      case 'identity':
        for (const uri of principal.uris) appendTo(byUri, uri, entry);
        break;
      case 'serviceAccount':
        appendTo(byUri, serviceAccountUri(principal), entry);
        break;
      case 'namespace':
        appendTo(byNamespace, `${principal.trustDomain}/${principal.namespace}`, entry);
        break;
      case 'trustDomain':
        appendTo(byTrustDomain, principal.trustDomain, entry);
        break;
      case 'authenticated':
        authenticated.push(entry);
        break;
      case 'anyone':
        anyone.push(entry);
        break;
    }
  };
  for (const ranked of rules) {
    for (const source of ranked.rule.from) {
      const plain = source.except.length === 0 && source.ipBlocks === undefined;
      for (const principal of source.any) put(principal, { ranked, source, plain });
    }
  }
  return {
    isEmpty: rules.length === 0,
    byUri: listed(byUri),
    byTrustDomain: listed(byTrustDomain),
    byNamespace: listed(byNamespace),
    authenticated: ruleList(authenticated),
    anyone: ruleList(anyone),
  };
}

function listed(map: ReadonlyMap<string, readonly IndexedRule[]>): ReadonlyMap<string, RuleList> {
  return new Map([...map].map(([key, rules]) => [key, ruleList(rules)]));
}
