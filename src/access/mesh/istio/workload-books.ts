import type { Policy } from '../../policy/model.js';
import type { InventoryWorkload } from '../inventory.js';
import type { RenderedPart } from '../renderer.js';
import { Findings, type RuleNotes } from './findings.js';

/** Verdicts about one workload, or about some together, by policy. */
export class WorkloadBooks {
  readonly #targets: readonly string[];
  readonly #findings = new Map<Policy, Findings>();

  constructor(...workloads: readonly InventoryWorkload[]) {
    this.#targets = workloads.map(({ namespace, name }) => `${namespace}/${name}`);
  }

  of(policy: Policy, rule?: Policy['rules'][number]): RuleNotes {
    const findings = this.#findings.get(policy) ?? new Findings(policy, this.#targets);
    this.#findings.set(policy, findings);
    return findings.of(rule);
  }

  verdicts(): RenderedPart['verdicts'] {
    return [...this.#findings.values()].flatMap((findings) => findings.verdicts());
  }
}
