import { compilePolicy } from './compile.js';
import type { PolicyInput, RoleInput } from './input.js';
import { policyName, type Effect, type Policy, type TargetWorkload } from './model.js';
import { PolicyIndex } from './policy-index.js';
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
  /**
   * The set with other policies in place of some. This one stays as it is, for those who read it; what is known of targets
   * that the changed policies do not concern holds on. Costs what the changed policies touch, however many there are.
   *
   * @throws RangeError when one of `removed` is not of this set
   */
  replace(removed: readonly Policy[], added: readonly Policy[]): PolicySet;
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
  const sorted = [...policies].sort(byName);
  return new IndexedPolicySet(
    sorted,
    options.defaultAction ?? 'Deny',
    PolicyIndex.of(sorted),
    new WeakMap<TargetWorkload, KnownTarget>(),
  );
}

/** From here on, indexing everything anew is quicker than taking policies out and putting them in one by one. */
const MANY = 256;

/** What some policies say of a target. */
interface KnownTarget {
  readonly concerning: readonly Policy[];
  readonly policies: TargetPolicies;
}

class IndexedPolicySet implements PolicySet {
  readonly policies: readonly Policy[];
  readonly defaultAction: Effect;
  readonly #index: PolicyIndex;
  readonly #targets = new WeakMap<TargetWorkload, TargetPolicies>();
  /** What the last of the sets that came out of each other to be asked knew of a target. */
  readonly #known: WeakMap<TargetWorkload, KnownTarget>;

  constructor(
    policies: readonly Policy[],
    defaultAction: Effect,
    index: PolicyIndex,
    known: WeakMap<TargetWorkload, KnownTarget>,
  ) {
    this.policies = policies;
    this.defaultAction = defaultAction;
    this.#index = index;
    this.#known = known;
  }

  forTarget(workload: TargetWorkload): TargetPolicies {
    const known = this.#targets.get(workload);
    if (known !== undefined) return known;
    const target = this.#lookUp(workload);
    this.#targets.set(workload, target);
    return target;
  }

  concerning(workload: TargetWorkload): readonly Policy[] {
    return this.#index
      .candidates(workload)
      .filter(({ target }) => selects(target, workload))
      .sort(byName);
  }

  replace(removed: readonly Policy[], added: readonly Policy[]): PolicySet {
    if (removed.length === 0 && added.length === 0) return this;
    return removed.length + added.length > MANY
      ? this.#replaceMany(removed, added)
      : this.#replaceFew(removed, added);
  }

  #replaceFew(removed: readonly Policy[], added: readonly Policy[]): PolicySet {
    const policies = [...this.policies];
    let index = this.#index;
    for (const policy of removed) {
      const at = policies.indexOf(policy, lowerBound(policies, policy));
      if (at < 0) throw new RangeError(`policy ${policyName(policy.ref)} is not of this set`);
      policies.splice(at, 1);
      index = index.remove(policy);
    }
    for (const policy of added) {
      policies.splice(lowerBound(policies, policy), 0, policy);
      index = index.add(policy);
    }
    return new IndexedPolicySet(policies, this.defaultAction, index, this.#known);
  }

  #replaceMany(removed: readonly Policy[], added: readonly Policy[]): PolicySet {
    const gone = new Set(removed);
    const policies = this.policies.filter((policy) => !gone.delete(policy));
    const [missing] = gone;
    if (missing !== undefined) throw new RangeError(`policy ${policyName(missing.ref)} is not of this set`);
    policies.push(...added);
    policies.sort(byName);
    return new IndexedPolicySet(policies, this.defaultAction, PolicyIndex.of(policies), this.#known);
  }

  /** What another set worked out holds here too where the same policies concern the target. */
  #lookUp(workload: TargetWorkload): TargetPolicies {
    const concerning = this.concerning(workload);
    const before = this.#known.get(workload);
    if (before !== undefined && isSame(before.concerning, concerning)) return before.policies;
    const policies = compileTarget(concerning);
    this.#known.set(workload, { concerning, policies });
    return policies;
  }
}

const isSame = (a: readonly Policy[], b: readonly Policy[]): boolean =>
  a.length === b.length && a.every((policy, index) => policy === b[index]);

/** Where a policy stands, or would, among policies in order. */
function lowerBound(policies: readonly Policy[], policy: Policy): number {
  let low = 0;
  let high = policies.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = policies[middle];
    if (other !== undefined && byName(other, policy) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const byName = (a: Policy, b: Policy): number =>
  compare(policyName(a.ref), policyName(b.ref)) || compare(a.ref.kind, b.ref.kind);
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
