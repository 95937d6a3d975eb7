import type { TemplateData } from '../spiffe/template.js';
import type { IdentityRules } from './identity-rules.js';
import type { Namer } from './names.js';
import { digest } from './digest.js';
import { type Failure, failure, identityTitle } from './outcome.js';
import type { IdentityRef, PodFacts, Registration, RegistrationSubject } from './registration.js';
import { containerFailure, ofContainers } from './containers.js';
import { requirementFailure } from './requirements.js';

/** An identity made ready to be given to many subjects. */
export interface ReadyIdentity {
  readonly rules: IdentityRules;
  readonly namer: Namer;
  readonly problem: Failure | undefined;
}

/** One subject × one identity that selects it. */
export interface Grant<Identity extends ReadyIdentity = ReadyIdentity> {
  readonly identity: Identity;
  readonly result: Registration | Failure;
}

/** The pod waits for a node: no failure, and not yet a registration. */
export const POD_NOT_BOUND: Failure = Object.freeze({
  reason: 'PodNotBound',
  message: 'the pod is not bound to a node yet',
});

const STATIC_POD_UNCLEAR: Failure = Object.freeze({
  reason: 'StaticPodUnclear',
  message: 'its annotations do not say under which UID its node runs it, as those of a mirror pod do',
});

const NOTHING: readonly never[] = Object.freeze([]);

/**
 * So many identities of either kind are given to one pod: who may write identities in a namespace could otherwise have any
 * number of SVIDs signed for, and sent to, nodes that are others' too.
 */
export const MOST_IDENTITIES = 64;

const TOO_MANY_IDENTITIES: Failure = Object.freeze(
  failure(
    'TooManyIdentities',
    `${MOST_IDENTITIES} others of its kind, which come before it by name, are given to the pod already; let it select fewer pods, or take some of the others away`,
  ),
);

/** Whether two registrations with one ID are the same in every field. */
export function isSame(a: Registration, b: Registration): boolean {
  return a.revision === b.revision && a.nodeName === b.nodeName && sameSubject(a.subject, b.subject);
}

function sameSubject(a: RegistrationSubject, b: RegistrationSubject): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/** Tells a registration from a failure. */
export function isRegistration(result: Registration | Failure): result is Registration {
  return 'spiffeId' in result;
}

/** The order in which identities are given to one subject: the first is the subject's default (Workload API §5.2.1). */
export function compareIdentities(a: IdentityRef, b: IdentityRef): number {
  if (a.kind !== b.kind) return a.kind === 'WorkloadIdentity' ? -1 : 1;
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/**
 * What one pod gets of the identities that select it, which are sorted by {@link compareIdentities}. Of two that
 * collide (same SPIFFE ID, or same hint), the first is given and the other fails, naming the first.
 */
export function grantPod<Identity extends ReadyIdentity>(
  pod: PodFacts,
  subject: RegistrationSubject,
  selecting: readonly Identity[],
  trustDomain: string,
): readonly Grant<Identity>[] {
  if (selecting.length === 0) return NOTHING;
  const onlyFallbacks = selecting.every(({ rules }) => rules.fallback);
  const data: TemplateData = {
    trustDomain,
    namespace: pod.namespace,
    // A static pod has none, whatever its mirror says.
    ...(pod.staticUid === undefined ? { serviceAccount: pod.serviceAccount } : {}),
    podName: pod.name,
    podUid: pod.uid,
    nodeName: pod.nodeName,
    labels: pod.labels,
    annotations: pod.annotations,
  };
  const grants: Grant<Identity>[] = [];
  const given = new Given();
  for (const identity of selecting) {
    if (identity.rules.fallback && !onlyFallbacks) continue;
    const result = given.isFull(identity)
      ? TOO_MANY_IDENTITIES
      : grantOne(identity, pod, subject, data, given);
    if (isRegistration(result)) given.add(result);
    grants.push({ identity, result });
  }
  return grants;
}

/** What a pod has got so far. */
class Given {
  readonly #byUri = new Map<string, Registration>();
  readonly #byHint = new Map<string, Registration>();
  readonly #counts = { WorkloadIdentity: 0, ClusterWorkloadIdentity: 0 };

  add(registration: Registration): void {
    this.#byUri.set(registration.spiffeId.uri, registration);
    if (registration.hint !== '') this.#byHint.set(registration.hint, registration);
    this.#counts[registration.identity.kind] += 1;
  }

  isFull({ rules }: ReadyIdentity): boolean {
    return this.#counts[rules.ref.kind] >= MOST_IDENTITIES;
  }

  collision({ spiffeId: { uri }, hint }: Registration): Failure | undefined {
    const alike = this.#byUri.get(uri);
    if (alike !== undefined)
      return failure(
        'DuplicateSPIFFEID',
        `${identityTitle(alike.identity)} gives the pod the same SPIFFE ID ${uri} already; let one of the two select other pods`,
      );
    const hinted = this.#byHint.get(hint);
    return hinted === undefined ? undefined : hintConflict(hinted.identity, hint);
  }
}

function grantOne(
  identity: ReadyIdentity,
  pod: PodFacts,
  subject: RegistrationSubject,
  data: TemplateData,
  given: Given,
): Registration | Failure {
  if (identity.problem !== undefined) return identity.problem;
  if (pod.nodeName === '') return POD_NOT_BOUND;
  const unmet = requirementFailure(identity.rules.requirements, pod);
  if (unmet !== undefined) return unmet;
  const { containers, staticPods } = identity.rules;
  if (pod.staticUid === '') return STATIC_POD_UNCLEAR;
  const noContainer = containerFailure(containers, pod);
  if (noContainer !== undefined) return noContainer;
  const registration = register(identity, subject, pod.nodeName, data);
  if (!isRegistration(registration)) return registration;
  const refused = given.collision(registration);
  if (refused !== undefined) return refused;
  // The annotations of a mirror are anybody's to write, and its status is the node's: that has to name the container.
  return containers === undefined && !staticPods ? registration : ofContainers(registration, containers, pod);
}

/** The registration of a subject by an identity that has no problem, before it meets others. */
export function register(
  identity: ReadyIdentity,
  subject: RegistrationSubject,
  nodeName: string,
  data: TemplateData,
): Registration | Failure {
  const { rules, namer } = identity;
  const names = namer.names(data);
  if (!names.ok) return names.failure;
  return {
    id: registrationId(subject, rules.ref),
    subject,
    nodeName,
    spiffeId: names.spiffeId,
    x509TtlSeconds: rules.x509TtlSeconds,
    jwtTtlSeconds: rules.jwtTtlSeconds,
    ...(rules.keyType === undefined ? {} : { keyType: rules.keyType }),
    dnsNames: names.dnsNames,
    hint: rules.hint,
    federatesWith: rules.federatesWith,
    audiences: rules.audiences,
    identity: rules.ref,
    revision: subject.kind === 'pod' ? names.revision : digest([names.revision, subject.selector]),
  };
}

/** Processes have IDs that no pod's UID can make. */
export const PROCESS_ID_PREFIX = 'process//';

function registrationId(subject: RegistrationSubject, ref: IdentityRef): string {
  if (subject.kind === 'process') return `${PROCESS_ID_PREFIX}${ref.name}`;
  // The segments tell the kinds apart: a cluster-scoped identity has no namespace.
  // Joined rather than concatenated: the engine keeps a concatenation as its parts, which are many bytes more.
  return (ref.namespace === '' ? [subject.uid, ref.name] : [subject.uid, ref.namespace, ref.name]).join('/');
}

/** Hints are unique per workload (Workload API §5.2.1). */
export function hintConflict(other: IdentityRef, hint: string): Failure {
  const shown = hint.length > 80 ? `${hint.slice(0, 80)}…` : hint;
  return failure(
    'HintConflict',
    `${identityTitle(other)} gives the same workload the hint ${JSON.stringify(shown)} already; write another spec.hint in one of the two`,
  );
}
