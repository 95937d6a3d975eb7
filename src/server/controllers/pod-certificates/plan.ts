import type { PodFacts, Registration } from '../../../identity/registration/registration.js';
import type { PodCertificateRequest } from './request.js';

/** Which of its identities a pod wants, by the hint of the identity; the first unless said. */
export const HINT_ANNOTATION = 'signet.dev/hint';

/** What is known of the pod that a request is for. */
export interface PodKnowledge {
  /** Undefined while it has not been seen, and when it is gone. */
  readonly pod: PodFacts | undefined;
  /** In the order in which a workload gets them. */
  readonly registrations: readonly Registration[];
  /** Why it has no identity, for people. */
  readonly explanation: string;
}

/** What is done about a request. */
export type PodCertificatePlan =
  /** It is not ours to answer, or has its answer. */
  | { readonly do: 'nothing' }
  /** What it needs may be on its way. Milliseconds. */
  | { readonly do: 'wait'; readonly ms: number; readonly why: string }
  /** For good: the kubelet does not ask again, and the pod does not start. */
  | { readonly do: 'deny'; readonly reason: string; readonly message: string }
  | { readonly do: 'sign'; readonly registration: Registration; readonly ttlSeconds: number };

/**
 * A pod and its identity are often made together, and come to be known here in any order: a request gets this long before
 * it is denied for want of them.
 */
const GRACE_MS = 30_000;
const LOOK_MS = 1_000;
/** The API server's bounds (KEP-4317): on the whole time from notBefore to notAfter. */
const SHORTEST_SECONDS = 3_600;

/** Decides about a request, but for its key. `backdateSeconds` is how far before now a certificate begins. */
export function planPodCertificate(
  request: PodCertificateRequest,
  known: PodKnowledge,
  {
    signerName,
    backdateSeconds,
    now,
  }: {
    readonly signerName: string;
    readonly backdateSeconds: number;
    /** Milliseconds since the epoch. */
    readonly now: number;
  },
): PodCertificatePlan {
  if (request.signerName !== signerName || request.answered) return { do: 'nothing' };
  const unknown = Object.keys(request.annotations).find((name) => name !== HINT_ANNOTATION);
  if (unknown !== undefined)
    return deny(
      'InvalidUnverifiedUserAnnotations',
      `this signer knows ${HINT_ANNOTATION} alone, not ${JSON.stringify(unknown.slice(0, 200))}`,
    );
  // A clock that went back must not keep a request waiting for ever.
  const isNew = Math.abs(now - request.createdAt) < GRACE_MS;
  const later = (reason: string, message: string): PodCertificatePlan =>
    isNew ? { do: 'wait', ms: LOOK_MS, why: message } : deny(reason, message);
  const { pod, registrations } = known;
  if (pod === undefined)
    return later(
      'PodUnknown',
      `pod ${request.namespace}/${request.podName} (uid ${request.podUid}) is not known here`,
    );
  const difference = differenceOf(request, pod);
  if (difference !== undefined) return later('PodMismatch', difference);
  // A certificate is for all containers that mount its volume.
  const ofPod = registrations.filter(({ containers }) => containers === undefined);
  const [first] = ofPod;
  if (first === undefined) return later('NoIdentity', known.explanation);
  const hint = request.annotations[HINT_ANNOTATION];
  const registration = hint === undefined ? first : ofPod.find((one) => one.hint === hint);
  if (registration === undefined)
    return later(
      'InvalidUnverifiedUserAnnotations',
      `the pod has no identity with hint ${JSON.stringify((hint ?? '').slice(0, 200))}`,
    );
  return lifetimeOf(request, registration, backdateSeconds);
}

/** The request must be for the pod that we know, on its node: whoever may create requests could write anything. */
function differenceOf(request: PodCertificateRequest, pod: PodFacts): string | undefined {
  const pairs: readonly (readonly [string, string, string])[] = [
    ['namespace', request.namespace, pod.namespace],
    ['podName', request.podName, pod.name],
    ['serviceAccountName', request.serviceAccountName, pod.serviceAccount],
    ['nodeName', request.nodeName, pod.nodeName],
  ];
  const wrong = pairs.find(([, asked, real]) => asked !== real);
  if (wrong === undefined) return undefined;
  return `${wrong[0]} is ${JSON.stringify(wrong[1])}, and that of the pod ${JSON.stringify(wrong[2])}`;
}

function lifetimeOf(
  request: PodCertificateRequest,
  registration: Registration,
  backdateSeconds: number,
): PodCertificatePlan {
  const { x509TtlSeconds, identity } = registration;
  const shortest = SHORTEST_SECONDS - backdateSeconds;
  if (x509TtlSeconds < shortest)
    return deny(
      'LifetimeTooShort',
      `${identity.kind} ${identity.name} allows certificates of ${x509TtlSeconds} s, and those of pods live an hour at least; set x509TTL to 1h or more, or use the Workload API`,
    );
  const ttlSeconds = Math.min(x509TtlSeconds, request.maxExpirationSeconds - backdateSeconds);
  return { do: 'sign', registration, ttlSeconds };
}

function deny(reason: string, message: string): PodCertificatePlan {
  return { do: 'deny', reason, message };
}
