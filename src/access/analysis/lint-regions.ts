import type { Inventory } from '../mesh/inventory.js';
import { policyName, type Policy, type TargetWorkload } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import { ZoneClock } from '../policy/time-window.js';
import { FALSE, TooComplexError, type Node } from './diagram.js';
import { labelsImplied, selectsWithin } from './implication.js';
import { finding, LINT_RULES, type Finding } from './lint-rules.js';
import { TargetSpace, type RuleRegion } from './target-space.js';

/**
 * Rules that match nothing, that are denied altogether, or that others cover. Decided exactly, for every workload that a
 * policy can select: compared with those policies alone that select all of these workloads too.
 */
export function lintRegions(set: PolicySet, inventory: Inventory, time: number): readonly Finding[] {
  const namespaces = new Map(inventory.namespaces.map((one) => [one.name, one]));
  const enforced = set.policies.filter(({ mode, problems }) => mode === 'Enforce' && problems === undefined);
  const clock = new ZoneClock();
  return enforced.flatMap((policy) => {
    if (policy.validity?.until !== undefined && policy.validity.until <= time) return [];
    const nearby = candidates(policy, enforced).filter(
      (other) => other !== policy && selectsWithin(policy.target, other.target, namespaces),
    );
    try {
      return lintPolicy(policy, nearby, { time, clock });
    } catch (error) {
      if (!(error instanceof TooComplexError)) throw error;
      return [finding(LINT_RULES.notAnalysed, error.message, { policy: policy.ref })];
    }
  });
}

function candidates({ target }: Policy, all: readonly Policy[]): readonly Policy[] {
  const [name] = target.namespaceNames ?? [];
  return all.filter((other) => {
    const names = other.target.namespaceNames;
    return names === undefined || (name !== undefined && names.includes(name));
  });
}

// Labels of the target are judged by what the policy's selector says, so the workload itself does not matter.
const SOMEBODY: TargetWorkload = {
  namespace: '',
  name: '',
  serviceAccount: '',
  labels: {},
  namespaceLabels: {},
};

function lintPolicy(
  policy: Policy,
  nearby: readonly Policy[],
  { time, clock }: { readonly time: number; readonly clock: ZoneClock },
): readonly Finding[] {
  const all = [policy, ...nearby];
  const space = new TargetSpace(SOMEBODY, all, {
    from: time,
    clock,
    knownIds: [],
    targetLabelsHold: (asked) => labelsImplied(policy.target.pods, asked),
  });
  const regions = space.regions(all);
  const gone = new Set<RuleRegion>();
  const findings: Finding[] = [];
  // From the last on, so that of two rules that say the same the first one stays.
  for (const own of regions.filter((region) => region.policy === policy).reverse()) {
    // Whether the rule holds depends on labels that the selector leaves open.
    const labels = own.rule.when?.targetLabels;
    if (labels !== undefined && !labelsImplied(policy.target.pods, labels)) continue;
    const found = lintRegion(
      space,
      own,
      regions.filter((region) => region !== own && !gone.has(region)),
    );
    if (found === undefined) continue;
    gone.add(own);
    findings.unshift(found);
  }
  return findings;
}

function lintRegion(space: TargetSpace, own: RuleRegion, others: readonly RuleRegion[]): Finding | undefined {
  const { diagram } = space;
  const { policy, rule, region } = own;
  const where = { policy: policy.ref, rule: rule.name };
  if (region === FALSE) return finding(LINT_RULES.empty, 'no request can match the rule', where);
  const denies = others.filter((other) => other.rule.effect === 'Deny' && reaches(other.policy, policy));
  const denied = union(space, denies);
  const covers = (node: Node): boolean => diagram.implies(region, node);
  if (rule.effect === 'Allow' && covers(denied)) {
    return finding(
      LINT_RULES.contradicted,
      `all that it allows is denied by ${named(denies, covers)}`,
      where,
    );
  }
  const same = others.filter((other) => other.rule.effect === rule.effect && reaches(other.policy, policy));
  if (!covers(diagram.or(union(space, same), denied))) return undefined;
  const verb = rule.effect === 'Allow' ? 'allowed' : 'denied';
  return finding(
    LINT_RULES.redundant,
    `all that it says is ${verb} by ${named(same, covers)} already`,
    where,
  );
}

/** Whether what one policy says comes first, or at the same stage, where another speaks too. */
function reaches(other: Policy, policy: Policy): boolean {
  return policy.tier === 'Baseline' || other.tier !== 'Baseline';
}

function union({ diagram }: TargetSpace, regions: readonly RuleRegion[]): Node {
  return diagram.or(...regions.map(({ region }) => region));
}

function named(regions: readonly RuleRegion[], covers: (node: Node) => boolean): string {
  const one = regions.find(({ region }) => covers(region));
  if (one === undefined) return 'other rules together';
  return `rule "${one.rule.name}" of ${policyName(one.policy.ref)}`;
}
