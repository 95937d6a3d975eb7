import type { EffectiveRule } from '../../policy/effective.js';
import type { Policy } from '../../policy/model.js';
import type { InventoryWorkload } from '../inventory.js';
import type { Fidelity, Verdict } from '../renderer.js';
import type { RuleEntries } from './rules.js';

interface Finding {
  readonly reasons: Set<string>;
  readonly notes: Set<string>;
  kept: boolean;
}

/** Gathers, per rule, what was lost on which ports. */
export class Findings {
  readonly #target: string;
  readonly #byRule = new Map<object, Finding>();

  constructor({ namespace, name }: InventoryWorkload) {
    this.#target = `${namespace}/${name}`;
  }

  add({ rule }: EffectiveRule, { entries, reasons, notes }: RuleEntries, http: boolean): void {
    const finding = this.#byRule.get(rule) ?? { reasons: new Set(), notes: new Set(), kept: false };
    this.#byRule.set(rule, finding);
    for (const reason of reasons) finding.reasons.add(`${http ? '' : 'on TCP ports: '}${reason}`);
    for (const note of notes) finding.notes.add(note);
    finding.kept ||= entries.length > 0 || reasons.length === 0;
  }

  /** One verdict for each rule of these policies, and for each policy that has none. */
  verdicts(policies: readonly Policy[]): readonly Verdict[] {
    const targets = [this.#target];
    return policies.flatMap((policy): readonly Verdict[] => {
      const { ref: of } = policy;
      if (policy.rules.length === 0) return [{ policy: of, fidelity: 'Exact', reasons: [], targets }];
      return policy.rules.map((rule) => {
        const { fidelity, reasons } = judge(rule.effect, this.#byRule.get(rule));
        return { policy: of, rule: rule.name, fidelity, reasons, targets };
      });
    });
  }
}

function judge(
  effect: 'Allow' | 'Deny',
  finding: Finding | undefined,
): { readonly fidelity: Fidelity; readonly reasons: readonly string[] } {
  // What does not hold now, or on no port of this workload, needs no saying.
  if (finding === undefined) return { fidelity: 'Exact', reasons: [] };
  const reasons = [...finding.reasons];
  if (reasons.length === 0) return { fidelity: 'Exact', reasons: [...finding.notes] };
  const consequence =
    effect === 'Allow' ? 'what this is about is not allowed' : 'more is denied than the rule says';
  return {
    fidelity: finding.kept ? 'Narrower' : 'Unsupported',
    reasons: reasons.map((reason) => `${reason}; ${consequence}`),
  };
}
