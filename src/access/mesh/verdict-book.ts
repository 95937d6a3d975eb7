import type { Policy, Rule } from '../policy/model.js';
import type { InventoryWorkload } from './inventory.js';
import type { Verdict } from './renderer.js';

interface Entry {
  readonly policy: Policy;
  readonly rule: Rule | undefined;
  /** What is lost, so that it is not exact. */
  readonly losses: Set<string>;
  /** Under which condition what is said holds; loses nothing by itself. */
  readonly conditions: Set<string>;
  /** Whether something of it is said. */
  said: boolean;
}

/** Collects what becomes of rules on one workload. What is not written down is exact. */
export class VerdictBook {
  readonly #target: string;
  readonly #entries = new Map<Policy | Rule, Entry>();
  readonly #byDefault = new Set<string>();

  constructor({ namespace, name }: InventoryWorkload) {
    this.#target = `${namespace}/${name}`;
  }

  /** Opens the entry of a policy as a whole, or of one of its rules. */
  open(policy: Policy, rule?: Rule): void {
    this.#entry(policy, rule);
  }

  /** Something of the rule is said in the mesh's own words. */
  said(policy: Policy, rule?: Rule): void {
    this.#entry(policy, rule).said = true;
  }

  /** Something of the rule is lost. */
  lost(policy: Policy, rule: Rule | undefined, reason: string): void {
    this.#entry(policy, rule).losses.add(reason);
  }

  /** What is said of the rule holds under a condition. */
  condition(policy: Policy, rule: Rule | undefined, reason: string): void {
    this.#entry(policy, rule).conditions.add(reason);
  }

  /** Something is lost of what no rule speaks of. */
  lostByDefault(reason: string): void {
    this.#byDefault.add(reason);
  }

  verdicts(): readonly Verdict[] {
    return [...this.#entries.values()].map(({ policy, rule, losses, conditions, said }) => {
      const byDefault = rule === undefined ? this.#byDefault : [];
      const narrower = said || (losses.size === 0 && rule === undefined && this.#byDefault.size > 0);
      const lost = new Set([...losses, ...byDefault]);
      return {
        policy: policy.ref,
        ...(rule === undefined ? {} : { rule: rule.name }),
        fidelity: lost.size === 0 ? 'Exact' : narrower ? 'Narrower' : 'Unsupported',
        reasons: [...lost, ...conditions],
        targets: [this.#target],
      };
    });
  }

  #entry(policy: Policy, rule: Rule | undefined): Entry {
    const key = rule ?? policy;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { policy, rule, losses: new Set(), conditions: new Set(), said: false };
      this.#entries.set(key, entry);
    }
    return entry;
  }
}
