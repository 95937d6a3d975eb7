import { appendTo } from '../../lib/append-to.js';
import { PersistentMap } from '../../lib/persistent-map.js';
import type { Policy, TargetWorkload } from './model.js';

/**
 * Policies by where their targets are. Never changed: another policy gives another index, which shares with the one before
 * all that the policy is not about.
 */
export class PolicyIndex {
  readonly #everywhere: LabelIndex;
  readonly #byNamespace: PersistentMap<LabelIndex>;

  private constructor(everywhere: LabelIndex, byNamespace: PersistentMap<LabelIndex>) {
    this.#everywhere = everywhere;
    this.#byNamespace = byNamespace;
  }

  static of(policies: readonly Policy[]): PolicyIndex {
    const everywhere: Policy[] = [];
    const byNamespace = new Map<string, Policy[]>();
    for (const policy of policies) {
      const names = policy.target.namespaceNames;
      if (names === undefined) everywhere.push(policy);
      for (const name of new Set(names)) appendTo(byNamespace, name, policy);
    }
    return new PolicyIndex(
      LabelIndex.of(everywhere),
      PersistentMap.from(new Map([...byNamespace].map(([name, list]) => [name, LabelIndex.of(list)]))),
    );
  }

  add(policy: Policy): PolicyIndex {
    return this.#changed(policy, (index) => index.add(policy));
  }

  remove(policy: Policy): PolicyIndex {
    return this.#changed(policy, (index) => index.remove(policy));
  }

  /** Every policy that may concern a workload, once, in no order. */
  candidates(workload: TargetWorkload): readonly Policy[] {
    const here = this.#byNamespace.get(workload.namespace);
    const found = this.#everywhere.candidates(workload);
    return here === undefined ? found : [...found, ...here.candidates(workload)];
  }

  #changed(policy: Policy, change: (index: LabelIndex) => LabelIndex): PolicyIndex {
    const names = policy.target.namespaceNames;
    if (names === undefined) return new PolicyIndex(change(this.#everywhere), this.#byNamespace);
    let byNamespace = this.#byNamespace;
    for (const name of new Set(names)) {
      const index = change(byNamespace.get(name) ?? LabelIndex.of([]));
      byNamespace = byNamespace.with(name, index.isEmpty ? undefined : index);
    }
    return new PolicyIndex(this.#everywhere, byNamespace);
  }
}

/** Policies under one label that they require, where they require one; the others are candidates always. */
class LabelIndex {
  readonly #always: readonly Policy[];
  readonly #byLabel: PersistentMap<readonly Policy[]>;

  private constructor(always: readonly Policy[], byLabel: PersistentMap<readonly Policy[]>) {
    this.#always = always;
    this.#byLabel = byLabel;
  }

  static of(policies: readonly Policy[]): LabelIndex {
    const always: Policy[] = [];
    const byLabel = new Map<string, Policy[]>();
    for (const policy of policies) {
      const keys = labelKeys(policy);
      if (keys === undefined) always.push(policy);
      for (const key of keys ?? []) appendTo(byLabel, key, policy);
    }
    return new LabelIndex(always, PersistentMap.from<readonly Policy[]>(byLabel));
  }

  get isEmpty(): boolean {
    return this.#always.length === 0 && this.#byLabel.size === 0;
  }

  add(policy: Policy): LabelIndex {
    return this.#changed(policy, (list) => [...list, policy]);
  }

  remove(policy: Policy): LabelIndex {
    return this.#changed(policy, (list) => list.filter((other) => other !== policy));
  }

  candidates(workload: TargetWorkload): readonly Policy[] {
    const found = [...this.#always];
    if (this.#byLabel.size === 0) return found;
    for (const [key, value] of Object.entries(workload.labels)) {
      found.push(...(this.#byLabel.get(labelKey(key, value)) ?? []));
    }
    return found;
  }

  #changed(policy: Policy, change: (list: readonly Policy[]) => readonly Policy[]): LabelIndex {
    const keys = labelKeys(policy);
    if (keys === undefined) return new LabelIndex(change(this.#always), this.#byLabel);
    let byLabel = this.#byLabel;
    for (const key of keys) {
      const list = change(byLabel.get(key) ?? []);
      byLabel = byLabel.with(key, list.length === 0 ? undefined : list);
    }
    return new LabelIndex(this.#always, byLabel);
  }
}

/** The labels of which a workload must carry one; undefined where the target asks for none. */
function labelKeys({ target }: Policy): readonly string[] | undefined {
  const required = target.pods.find(({ kind }) => kind === 'in');
  return required?.kind === 'in'
    ? [...required.values].map((value) => labelKey(required.key, value))
    : undefined;
}

/** With the length of the key, so that two labels never give one text. */
const labelKey = (key: string, value: string): string => `${key.length} ${key} ${value}`;
