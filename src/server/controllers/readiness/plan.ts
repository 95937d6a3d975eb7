import type { Registration } from '../../../identity/registration/registration.js';
import { oneLine } from '../one-line.js';

/** The condition that pods with the gate of the same name wait for. */
export const IDENTITY_CONDITION = 'signet.dev/identity';

/** A pod's condition, but for when it changed. */
export interface IdentityCondition {
  readonly status: 'True' | 'False';
  readonly reason: string;
  readonly message: string;
}

/** What is known of a pod that has the gate and a node. */
export interface ReadinessFacts {
  /** Those that are in force. */
  readonly registrations: readonly Registration[];
  /** End of the newest X.509-SVID of a registration that was ever known here; milliseconds since the epoch. */
  readonly notAfterOf: (registrationId: string) => number | undefined;
  /** Why the pod has no identity. */
  readonly explain: () => string;
  /** Why signing for one of its registrations was refused here last. */
  readonly refusal: (registrationId: string) => string | undefined;
  readonly nodeName: string;
  /** Whether a pod of the agent is on its node. */
  readonly hasAgent: boolean;
  /** As the pod has it now. */
  readonly present: IdentityCondition | undefined;
  /** Whether this replica leads, and has been told by now of the SVIDs that others know of. */
  readonly leads: boolean;
  /** For how long it has been known here that the pod has a node; milliseconds. */
  readonly knownForMs: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** What is done about a pod: a condition is written if it is not there already, and it is looked at again after a while. */
export interface ReadinessPlan {
  readonly condition: IdentityCondition | undefined;
  readonly againAfterMs: number | undefined;
}

/** An identity comes within milliseconds, as a rule: what is not there yet is not told before. */
const GRACE_MS = 2_000;
/** Reasons change without anything that is heard of: an agent comes to the node. */
const LOOK_MS = 10_000;
/** A timer that waits longer is set again: the wall clock may jump. */
const LONGEST_LOOK_MS = 60 * 60_000;

/**
 * Whether a pod has its identity: an X.509-SVID for each of its registrations.
 *
 * Any replica says yes, whichever knows: the pod must not wait for the leader to be told. No is said by the leader alone,
 * or by the replica that refused to sign. Once there was a yes, only what is certain takes it back: no identity is for the
 * pod any more, or what it has is over. Another identity that is yet to be signed, or a replica that was just started,
 * must not take a pod out of service that does its work.
 */
export function planReadiness(facts: ReadinessFacts): ReadinessPlan {
  const { registrations, notAfterOf, present, leads, now } = facts;
  if (registrations.length === 0) return withoutIdentity(facts);
  const ends = registrations.map(({ id }) => notAfterOf(id));
  const first = Math.min(...ends.map((end) => end ?? Number.POSITIVE_INFINITY));
  if (ends.every((end) => end !== undefined && end > now))
    return {
      condition: { status: 'True', reason: 'SvidIssued', message: issued(registrations) },
      // Only the leader tells of what is over.
      againAfterMs: leads ? Math.min(first - now, LONGEST_LOOK_MS) : undefined,
    };
  const isOver = ends.some((end) => end !== undefined && end <= now);
  if (leads && isOver)
    return no('SvidExpired', `its SVID is over, and no other was signed${agentText(facts)}`);
  if (present?.status === 'True') return { condition: undefined, againAfterMs: leads ? LOOK_MS : undefined };
  return waiting(facts);
}

function withoutIdentity({ leads, knownForMs, explain }: ReadinessFacts): ReadinessPlan {
  if (!leads) return { condition: undefined, againAfterMs: undefined };
  if (knownForMs < GRACE_MS) return { condition: undefined, againAfterMs: GRACE_MS - knownForMs };
  return no('NoIdentity', explain());
}

/** Registered, and never ready before. */
function waiting(facts: ReadinessFacts): ReadinessPlan {
  const { registrations, refusal, present, leads, knownForMs, hasAgent, nodeName } = facts;
  const refused = registrations.map(({ id }) => refusal(id)).find((reason) => reason !== undefined);
  if (refused !== undefined) return no('SigningRefused', refused);
  if (!leads) return { condition: undefined, againAfterMs: undefined };
  if (knownForMs < GRACE_MS) return { condition: undefined, againAfterMs: GRACE_MS - knownForMs };
  // Another replica knows better.
  if (present?.reason === 'SigningRefused') return { condition: undefined, againAfterMs: LOOK_MS };
  if (!hasAgent)
    return no(
      'NoAgent',
      `no agent of Signet's is on node ${nodeName}; see to the pods of the DaemonSet signet-agent`,
    );
  return no(
    'SvidPending',
    `${issued(registrations)} is registered, and the agent on node ${nodeName} has no SVID of it yet`,
  );
}

function no(reason: string, message: string): ReadinessPlan {
  return { condition: { status: 'False', reason, message: oneLine(message) }, againAfterMs: LOOK_MS };
}

function agentText({ hasAgent, nodeName }: ReadinessFacts): string {
  return hasAgent ? '; the log of the agent on its node says why' : `; no agent is on node ${nodeName}`;
}

function issued(registrations: readonly Registration[]): string {
  const [first, ...more] = registrations;
  return oneLine(`${first?.spiffeId.uri ?? ''}${more.length === 0 ? '' : ` and ${more.length} more`}`);
}
