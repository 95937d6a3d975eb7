import { type IdentityOutcome, identityTitle } from '../identity/registration/outcome.js';
import type { IdentityStatus } from '../resources/identity.js';
import type { Condition } from '../resources/meta.js';
import type { IssuedSum } from './issued-svids.js';

/** The longest message in a status, in characters. */
const MAX_MESSAGE = 1024;

/**
 * The status of an identity. Equal facts give an equal status: times move only with what they tell of. `issued` is undefined
 * while it is not known yet what there is; then what was said before goes on to hold.
 */
export function identityStatus(
  outcome: IdentityOutcome,
  issued: IssuedSum | undefined,
  previous: IdentityStatus | undefined,
  now: number,
): IdentityStatus {
  return {
    conditions: [ready(outcome, previous, now)],
    podsSelected: outcome.podsSelected,
    ...(issued === undefined ? issuedBefore(outcome, previous) : issuedNow(issued)),
    ...(outcome.failures.length === 0
      ? {}
      : { failures: outcome.failures.map((failure) => ({ ...failure, message: cut(failure.message) })) }),
  };
}

type IssuedFields = Pick<IdentityStatus, 'svidsIssued' | 'nextExpiry'>;

function issuedNow({ count, nextExpiry }: IssuedSum): IssuedFields {
  return { svidsIssued: count, ...(nextExpiry === undefined ? {} : { nextExpiry: rfc3339(nextExpiry) }) };
}

/** No more than there are registrations now. */
function issuedBefore(
  { registrations }: IdentityOutcome,
  previous: IdentityStatus | undefined,
): IssuedFields {
  const count = Math.min(previous?.svidsIssued ?? 0, registrations);
  const nextExpiry = count === 0 ? undefined : previous?.nextExpiry;
  return { svidsIssued: count, ...(nextExpiry === undefined ? {} : { nextExpiry }) };
}

function ready(outcome: IdentityOutcome, previous: IdentityStatus | undefined, now: number): Condition {
  const verdict = judge(outcome);
  const old = previous?.conditions?.find(({ type }) => type === 'Ready');
  return {
    type: 'Ready',
    status: verdict.status,
    reason: verdict.reason,
    message: cut(verdict.message),
    lastTransitionTime: old?.status === verdict.status ? old.lastTransitionTime : rfc3339(now),
    observedGeneration: outcome.generation,
  };
}

function judge(outcome: IdentityOutcome): Pick<Condition, 'status' | 'reason' | 'message'> {
  const { problem, podsSelected, registrations, pending, failures, failuresTotal } = outcome;
  if (problem !== undefined) return { status: 'False', ...problem };
  if (failuresTotal > 0) {
    const reasons = new Set(failures.map(({ reason }) => reason));
    const masked = failuresTotal - failures.length;
    const more = masked === 0 ? '' : `; ${masked} of them are not listed`;
    return {
      status: 'False',
      reason: reasons.size === 1 ? (failures[0]?.reason ?? 'PodsFailed') : 'PodsFailed',
      message: `${failuresTotal} of ${podsSelected} selected pods get no identity from this ${outcome.ref.kind}${more}; first: ${failures[0]?.pod}: ${failures[0]?.message}`,
    };
  }
  if (podsSelected === 0 && registrations === 0)
    return {
      status: 'True',
      reason: 'NoPodsSelected',
      message: `${identityTitle(outcome.ref)} selects no pod now`,
    };
  if (podsSelected === 0)
    return {
      status: 'True',
      reason: 'Registered',
      message: 'processes that match get the identity on every node',
    };
  const socket =
    outcome.sharedSocketOnly === true ? '; it is given on the shared socket of their nodes alone' : '';
  const waiting = pending === 0 ? '' : `; ${pending} wait for a node`;
  return {
    status: 'True',
    reason: 'Registered',
    message: `${registrations} of ${podsSelected} selected pods have the identity${waiting}${socket}`,
  };
}

function cut(message: string): string {
  return message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE - 1)}…`;
}

/** As Kubernetes writes times: whole seconds, UTC. */
export function rfc3339(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
