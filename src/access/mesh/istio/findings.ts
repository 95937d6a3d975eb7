import type { Policy, Rule } from '../../policy/model.js';
import type { Verdict } from '../renderer.js';

interface Finding {
  /** What is lost, so that the rendering is narrower. */
  readonly losses: Set<string>;
  /** Under which condition it is exact. */
  readonly conditions: Set<string>;
  said: boolean;
}

/** What becomes of one policy. What is not written down is exact. */
export class Findings {
  readonly #policy: Policy;
  readonly #targets: readonly string[] | undefined;
  readonly #entries = new Map<Rule | undefined, Finding>();

  constructor(policy: Policy, targets?: readonly string[]) {
    this.#policy = policy;
    this.#targets = targets;
  }

  /** The notes of one rule, or of the policy as a whole. */
  of(rule?: Rule): RuleNotes {
    const entry = this.#entries.get(rule) ?? { losses: new Set(), conditions: new Set(), said: false };
    this.#entries.set(rule, entry);
    return {
      lost: (reason) => void entry.losses.add(reason),
      holdsIf: (reason) => void entry.conditions.add(reason),
      isSaid: () => (entry.said = true),
    };
  }

  verdicts(): readonly Verdict[] {
    return [...this.#entries].map(([rule, { losses, conditions, said }]) => ({
      policy: this.#policy.ref,
      ...(rule === undefined ? {} : { rule: rule.name }),
      fidelity: losses.size === 0 ? 'Exact' : said ? 'Narrower' : 'Unsupported',
      reasons: [...losses, ...conditions],
      ...(this.#targets === undefined ? {} : { targets: this.#targets }),
    }));
  }
}

/** Where a translation writes down what it could not say. */
export interface RuleNotes {
  /** Something is lost: the mesh denies more. */
  lost(reason: string): void;
  /** It is exact under a condition. */
  holdsIf(reason: string): void;
  /** Something of it is said. */
  isSaid(): void;
}
