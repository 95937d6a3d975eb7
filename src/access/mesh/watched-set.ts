import type { Policy, TargetWorkload } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';

/** What somebody asked a policy set, and so depends on. */
export interface SetReads {
  /** The workloads whose policies were asked for. */
  readonly targets: ReadonlySet<TargetWorkload>;
  /** Whether all policies were looked at. */
  readonly everything: boolean;
}

/** A policy set that notes what it is asked. */
export class WatchedSet implements PolicySet {
  readonly #set: PolicySet;
  #targets = new Set<TargetWorkload>();
  #everything = false;

  constructor(set: PolicySet) {
    this.#set = set;
  }

  /** What was asked since this was called last. */
  take(): SetReads {
    const reads = { targets: this.#targets, everything: this.#everything };
    this.#targets = new Set();
    this.#everything = false;
    return reads;
  }

  get policies(): readonly Policy[] {
    this.#everything = true;
    return this.#set.policies;
  }

  get defaultAction(): PolicySet['defaultAction'] {
    return this.#set.defaultAction;
  }

  forTarget(workload: TargetWorkload): ReturnType<PolicySet['forTarget']> {
    this.#targets.add(workload);
    return this.#set.forTarget(workload);
  }

  concerning(workload: TargetWorkload): readonly Policy[] {
    this.#targets.add(workload);
    return this.#set.concerning(workload);
  }

  replace(removed: readonly Policy[], added: readonly Policy[]): PolicySet {
    this.#everything = true;
    return this.#set.replace(removed, added);
  }
}
