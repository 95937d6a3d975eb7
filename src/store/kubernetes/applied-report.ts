/** A kind of object that a set may hold. */
export interface AppliedKind {
  readonly group: string;
  readonly kind: string;
  /** Those that we can write, the best first: the first that the API server serves is used. */
  readonly versions: readonly string[];
}

/** Why an object is not as it should be. Stable. */
export type ApplyFailureCode =
  /** The API server does not serve the kind in that version: its CRD is missing. Looked at again when it does. */
  | 'NotServed'
  /** The present objects of the kind have not been read: it has just begun, or RBAC forbids it. Try again. */
  | 'NotSynced'
  /** There is an object of that name that Signet has not made; it is left alone. */
  | 'NotOurs'
  /** Another owner wants an object of that name. */
  | 'Claimed'
  /** The namespace is gone or going: nothing is left to do. */
  | 'NamespaceGone'
  /** The object is being deleted; looked at again when it is gone. */
  | 'BeingDeleted'
  /** The API server refuses the object: only another object will do. */
  | 'Refused'
  /** RBAC forbids it. Try again. */
  | 'Forbidden'
  /** Anything else. Try again. */
  | 'Failed';

export interface ApplyFailure {
  /** `security.istio.io/v1 AuthorizationPolicy payments/allow` */
  readonly object: string;
  readonly code: ApplyFailureCode;
  readonly message: string;
  /** Whether trying again later may help though nothing is heard. */
  readonly retry: boolean;
}

/** What bringing an owner's objects in line came to. */
export interface ApplyReport {
  readonly applied: number;
  readonly removed: number;
  /** As they should be already: nothing was written. */
  readonly unchanged: number;
  readonly failures: readonly ApplyFailure[];
}

export function failure(
  object: string,
  code: ApplyFailureCode,
  message: string,
  retry: boolean,
): ApplyFailure {
  return { object, code, message: message.slice(0, 1024), retry };
}
