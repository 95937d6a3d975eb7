import type { EffectivePolicy, EffectiveRule } from '../policy/effective.js';
import type { Match } from '../policy/match.js';
import { describePrincipal } from '../policy/model.js';
import { textOf } from './ip-regions.js';
import type { Callers } from './pod-callers.js';
import { matchesRule, rulesOf, type OpaqueMatch, type PeersFound } from './pod-peers.js';
import type { PortGroups } from './pod-ports.js';
import type { PodClass } from './pods.js';
import type { Fidelity, Verdict } from './renderer.js';

/** What an engine can say of a rule on a port, beside whom it is for. */
export interface Sayable {
  /** Why the rule, or some of it, cannot be said; empty when all can. */
  readonly reasons: readonly string[];
  /** Whether nothing of it can. */
  readonly nothing: boolean;
}

export type Describe = (rule: EffectiveRule, port: number | 'others') => Sayable;

interface Fate {
  readonly rule: EffectiveRule;
  readonly reasons: Set<string>;
  ports: number;
  lost: number;
}

const MAX_NAMES = 3;

/** Collects what became of the rules that concern some pods. */
export class RuleFates {
  readonly #callers: Callers;
  readonly #opaque: OpaqueMatch;
  readonly #describe: Describe;
  readonly #fates = new Map<string, Fate>();

  constructor(callers: Callers, opaque: OpaqueMatch, describe: Describe) {
    this.#callers = callers;
    this.#opaque = opaque;
    this.#describe = describe;
  }

  /** One port is rendered. */
  add({ port, groups }: PortGroups, found: PeersFound): void {
    const rules = groups.flatMap(rulesOf);
    for (const rule of rules) this.#judge(rule, port);
    for (const pods of found.blurred) this.#blame(rules, (rule) => this.#blurs(rule, pods), blurReason(pods));
    for (const block of found.blurredBlocks) {
      const nobody = this.#callers.nobody(block);
      const outside = this.#callers.outside(block);
      const meets = (rule: EffectiveRule): boolean =>
        matchesRule(rule, nobody, this.#opaque) !== 'no' ||
        matchesRule(rule, outside, this.#opaque) === 'unknown';
      this.#blame(
        rules,
        meets,
        `callers from ${textOf(block)} cannot be told from pods, or not by identity, so they are not let in; say the addresses of pods`,
      );
    }
  }

  /** Verdicts on these workloads; `conditions` are those under which what is exact is. */
  verdicts(targets: readonly string[], conditions: readonly string[]): readonly Verdict[] {
    return [...this.#fates.values()].map(({ rule, reasons, ports, lost }): Verdict => {
      const fidelity: Fidelity = reasons.size === 0 ? 'Exact' : lost === ports ? 'Unsupported' : 'Narrower';
      return {
        policy: rule.policy.ref,
        rule: rule.rule.name,
        fidelity,
        reasons: fidelity === 'Exact' ? conditions : [...reasons],
        targets,
      };
    });
  }

  #judge(rule: EffectiveRule, port: number | 'others'): void {
    const fate = this.#fate(rule);
    const { reasons, nothing } = this.#describe(rule, port);
    fate.ports += 1;
    if (nothing) fate.lost += 1;
    for (const reason of reasons) fate.reasons.add(reason);
    for (const reason of this.#outsideReasons(rule)) fate.reasons.add(reason);
  }

  /** Who is no pod has no identity that a network engine could see. */
  #outsideReasons({ from, rule }: EffectiveRule): readonly string[] {
    return from
      .flatMap(({ any, except }) => [...any, ...except.flatMap((match) => match.any)])
      .filter((principal) => this.#callers.mayBeOutside(principal))
      .map((principal) => {
        const who = describePrincipal(principal);
        return rule.effect === 'Allow'
          ? `from: ${who}: callers outside the cluster are not known by identity, so only pods of the inventory count`
          : `from: ${who}: callers outside the cluster are not known by identity, so where these could be meant nobody from there is let in`;
      });
  }

  #blurs(rule: EffectiveRule, pods: PodClass): boolean {
    const answers = new Set<Match>(
      this.#callers.of(pods).map((caller) => matchesRule(rule, caller, this.#opaque)),
    );
    return answers.size > 1 || answers.has('unknown');
  }

  /** Those that it is due to; where that cannot be told, all. */
  #blame(rules: readonly EffectiveRule[], isDueTo: (rule: EffectiveRule) => boolean, reason: string): void {
    const due = rules.filter(isDueTo);
    for (const rule of due.length === 0 ? rules : due) this.#fate(rule).reasons.add(reason);
  }

  #fate(rule: EffectiveRule): Fate {
    const { kind, namespace, name } = rule.policy.ref;
    const key = JSON.stringify([kind, namespace, name, rule.rule.name]);
    let fate = this.#fates.get(key);
    if (fate === undefined) this.#fates.set(key, (fate = { rule, reasons: new Set(), ports: 0, lost: 0 }));
    return fate;
  }
}

/** Pods that look alike are let in for only as far as the policies of all of them go. */
export function lookAlikeVerdicts(
  effective: readonly EffectivePolicy[],
  targets: readonly string[],
): readonly Verdict[] {
  const enforced = effective.map(({ policies }) => policies.filter(({ mode }) => mode === 'Enforce'));
  const partial = new Set(
    enforced.flat().filter((policy) => !enforced.every((policies) => policies.includes(policy))),
  );
  const reason = `the policy is about some of ${targets.join(', ')} only, whose pods look alike, so each of them lets in only whom all of them may`;
  return [...partial].map(({ ref }) => ({ policy: ref, fidelity: 'Narrower', reasons: [reason], targets }));
}

function blurReason({ workloads, labels, serviceAccount }: PodClass): string {
  const names = workloads.slice(0, MAX_NAMES).map(({ namespace, name }) => `${namespace}/${name}`);
  const more = workloads.length > MAX_NAMES ? ` and ${workloads.length - MAX_NAMES} more` : '';
  const why =
    Object.keys(labels).length === 0 && serviceAccount === undefined
      ? 'carry no label to select them by'
      : 'cannot be told apart by what the rules look at (identities that they share, addresses, service accounts)';
  return `pods of ${names.join(', ')}${more} ${why}, so they are not let in`;
}

/** The fields of a rule that only somebody who sees the request can compare. */
export function unseenFields(rule: EffectiveRule): readonly string[] {
  const fields: string[] = [];
  const operations = rule.to ?? [];
  // One operation that is about the connection alone stands for all that the others say.
  if (rule.to !== undefined && !operations.some(isConnection)) {
    const said = new Set(operations.flatMap((operation) => Object.keys(operation)));
    for (const name of ['methods', 'hosts', 'paths', 'headers', 'query'] as const) {
      if (said.has(name)) fields.push(`to.http.${name}`);
    }
    if (operations.some(({ grantedBy }) => grantedBy?.claim !== undefined)) fields.push('roles.claim');
  }
  const { token, sourcePosture, attributes, cel } = rule.when ?? {};
  if (token !== undefined) fields.push('when.token');
  if (sourcePosture !== undefined) fields.push('when.sourcePosture');
  if (attributes !== undefined) fields.push('when.attributes');
  if (cel !== undefined) fields.push('when.cel');
  return fields;
}

/** Whether an operation is about the connection alone. */
export function isConnection(operation: NonNullable<EffectiveRule['to']>[number]): boolean {
  const { methods, hosts, paths, headers, query, grantedBy } = operation;
  return (
    [methods, hosts, paths, headers, query].every((part) => part === undefined) &&
    grantedBy?.claim === undefined
  );
}
