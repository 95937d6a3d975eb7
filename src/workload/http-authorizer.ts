import { evaluate, type Decision } from '../access/policy/evaluate.js';
import type { HttpRequest, TargetWorkload } from '../access/policy/model.js';
import type { PolicySet } from '../access/policy/policy-set.js';

/** Decides on each HTTP request of a peer that was verified. */
export interface RequestAuthorizer {
  decide(request: PeerRequest): Decision;
}

export interface PeerRequest {
  /** SPIFFE ID of the caller. */
  readonly source: string;
  readonly http: HttpRequest;
  /** The local port. */
  readonly port?: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
}

/**
 * Decides by access policies. A function instead of a set is asked at each request, so that new policies take effect
 * at once.
 */
export function httpAuthorizer(
  policies: PolicySet | (() => PolicySet),
  target: TargetWorkload,
): RequestAuthorizer {
  const current = typeof policies === 'function' ? policies : () => policies;
  return { decide: (request) => evaluate(current(), { ...request, target }) };
}
