import { appendTo } from '../../lib/append-to.js';
import { compilePolicy } from './compile.js';
import type { PolicyInput, RoleInput } from './input.js';
import { policyName, type Effect, type Policy, type TargetWorkload } from './model.js';
import type { PrincipalResolver } from './principals.js';
import { compileRoles } from './roles.js';
import { selects } from './selector.js';
import { compileTarget, type TargetPolicies } from './target-policies.js';

/** Every policy, findable by target: what a target costs depends on the policies that concern it alone. */
export interface PolicySet {
  readonly policies: readonly Policy[];
  /** What a request gets that no policy speaks of. */
  readonly defaultAction: Effect;
  /**
   * The policies that concern a workload. Worked out once per object and kept as long as that object lives, so the
   * memory is the caller's to bound.
   */
  forTarget(workload: TargetWorkload): TargetPolicies;
  /** The policies that concern a workload, audited ones too, by name. */
  concerning(workload: TargetWorkload): readonly Policy[];
}

export interface PolicySetOptions {
  /** `Deny` unless said. */
  readonly defaultAction?: Effect;
  /** The AccessRoles that rules may grant. */
  readonly roles?: readonly RoleInput[];
}

/** Resources, compiled and indexed. Policies that cannot be compiled are in the set, with their problems, and deny. */
export function compilePolicySet(
  inputs: readonly PolicyInput[],
  options: PrincipalResolver & PolicySetOptions,
): PolicySet {
  const roles = compileRoles(options.roles ?? []);
  return createPolicySet(
    inputs.map((input) => compilePolicy(input, options, roles)),
    options,
  );
}

export function createPolicySet(policies: readonly Policy[], options: PolicySetOptions = {}): PolicySet {
  // By name, so that an answer names the same rule whatever order the policies came in.
  const sorted = [...policies].sort((a, b) => compare(policyName(a.ref), policyName(b.ref)));
  const everywhere = new LabelIndex();
  const byNamespace = new Map<string, LabelIndex>();
  for (const [order, policy] of sorted.entries()) {
    const names = policy.target.namespaceNames;
    if (names === undefined) everywhere.add(policy, order);
    for (const name of new Set(names)) {
      let index = byNamespace.get(name);
      if (index === undefined) byNamespace.set(name, (index = new LabelIndex()));
      index.add(policy, order);
    }
  }
  const targets = new WeakMap<TargetWorkload, TargetPolicies>();
  const concerning = (workload: TargetWorkload): readonly Policy[] =>
    [...everywhere.candidates(workload), ...(byNamespace.get(workload.namespace)?.candidates(workload) ?? [])]
      .filter(({ policy }) => selects(policy.target, workload))
      .sort((a, b) => a.order - b.order)
      .map(({ policy }) => policy);
  return {
    policies: sorted,
    defaultAction: options.defaultAction ?? 'Deny',
    concerning,
    forTarget(workload) {
      const known = targets.get(workload);
      if (known !== undefined) return known;
      const target = compileTarget(concerning(workload));
      targets.set(workload, target);
      return target;
    },
  };
}

interface Entry {
  readonly policy: Policy;
  readonly order: number;
}

/** Policies under one label that they require, where they require one; the others are candidates always. */
class LabelIndex {
  readonly #byLabel = new Map<string, Entry[]>();
  readonly #always: Entry[] = [];

  add(policy: Policy, order: number): void {
    const entry = { policy, order };
    const required = policy.target.pods.find(({ kind }) => kind === 'in');
    if (required?.kind !== 'in') {
      this.#always.push(entry);
      return;
    }
    for (const value of required.values) {
      const key = labelKey(required.key, value);
      appendTo(this.#byLabel, key, entry);
    }
  }

  candidates(workload: TargetWorkload): readonly Entry[] {
    const found = [...this.#always];
    for (const [key, value] of Object.entries(workload.labels)) {
      found.push(...(this.#byLabel.get(labelKey(key, value)) ?? []));
    }
    return found;
  }
}

const labelKey = (key: string, value: string): string => `${key}=${value}`;
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
