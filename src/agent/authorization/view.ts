import type { Inventory } from '../../access/mesh/inventory.js';
import type { SourceWorkload, TargetWorkload } from '../../access/policy/model.js';
import type { PolicySet } from '../../access/policy/policy-set.js';

/** Everything that decisions are made from, at one moment. A value: the next one replaces it as a whole. */
export interface AuthorizationView {
  readonly policies: PolicySet;
  readonly inventory: Inventory;
  /** A pod as the target of requests; undefined when there is no such pod, or it has ended. */
  pod(uid: string): TargetWorkload | undefined;
  /** The workload whose pods hold the ID; undefined when none does, or several do that are not alike. */
  target(uri: string): TargetWorkload | undefined;
  /** What is known of whoever holds the ID; undefined when nobody does, or its holders are not alike. */
  source(uri: string): SourceWorkload | undefined;
}

/** The view as it is now. */
export interface AuthorizationViews {
  /** Undefined when the policies cannot be told: nothing is allowed then. */
  readonly current: AuthorizationView | undefined;
}

/** The same, for those who act on a change. */
export interface WatchedAuthorizationViews extends AuthorizationViews {
  /** Calls `listener` after each change, until what it returns is called. */
  subscribe(listener: () => void): () => void;
}
