import type { IdentityRef, Registration } from './registration.js';

/** Why there is no registration. `reason` is stable PascalCase; `message` is for people and says the fix. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** The longest message of a failure, in characters: one may be kept for every pod there is. */
const MAX_MESSAGE = 1000;

/** A failure, its message cut to what is worth keeping: names and labels come from anybody. */
export function failure(reason: string, message: string): Failure {
  return {
    reason,
    message: message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE - 1)}…`,
  };
}

/** A pod that an identity selects and that gets no registration from it. */
export interface PodFailure extends Failure {
  /** `namespace/name`. */
  readonly pod: string;
}

/** What became of one identity. */
export interface IdentityOutcome {
  readonly ref: IdentityRef;
  readonly generation: number;
  /** What is wrong with the identity itself; no pod gets anything from it then. */
  readonly problem?: Failure;
  /** It is for single containers, or for static pods: nothing but the shared socket of a node tells them. */
  readonly sharedSocketOnly?: true;
  readonly podsSelected: number;
  readonly registrations: number;
  /** Selected pods that no node holds yet. */
  readonly pending: number;
  /** The first of them by name, capped; never of the identity's own problem. */
  readonly failures: readonly PodFailure[];
  /** How many there are in all. */
  readonly failuresTotal: number;
}

/** What one change changed. */
export interface RegistrationDelta {
  /** New or changed. */
  readonly changed: readonly Registration[];
  /**
   * As they were before they went. One whose node changed is in both lists: it went from the old node and came to the
   * new one.
   */
  readonly removed: readonly Registration[];
  /** Identities whose outcome may have changed. */
  readonly outcomes: readonly IdentityRef[];
}

/** A stable key of an identity: `WorkloadIdentity/namespace/name` or `ClusterWorkloadIdentity/name`. */
export function identityKey(ref: IdentityRef): string {
  return ref.namespace === '' ? `${ref.kind}/${ref.name}` : `${ref.kind}/${ref.namespace}/${ref.name}`;
}

/** How people name an identity: `WorkloadIdentity shop/payments`. */
export function identityTitle(ref: IdentityRef): string {
  return ref.namespace === '' ? `${ref.kind} ${ref.name}` : `${ref.kind} ${ref.namespace}/${ref.name}`;
}
