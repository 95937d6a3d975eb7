import { isObject, type JsonObject } from '../../lib/strict-json.js';

/** What is asked of us about a pod that is being created. */
export interface PodReview {
  readonly uid: string;
  readonly namespace: string;
  readonly pod: JsonObject;
}

/** What is answered: let it in, changed or not, or refuse it. */
export interface ReviewAnswer {
  readonly allowed: boolean;
  /** Why not, for whoever created the object. */
  readonly message?: string;
  readonly patch?: readonly object[];
  readonly warnings?: readonly string[];
}

const API_VERSION = 'admission.k8s.io/v1';
/** The API server writes warnings into headers: 256 characters of each are shown, 4,096 of all. */
const LONGEST_WARNING = 256;
const MOST_WARNINGS = 8;
/** Of a Status. Longer ones only fill logs. */
const LONGEST_MESSAGE = 4096;

/**
 * Reads an AdmissionReview (admission.k8s.io/v1) about the creation of a Pod; a text says what is wrong with it. Nothing
 * else is asked for by our configuration, so nothing else is answered.
 */
export function readPodReview(body: JsonObject): PodReview | string {
  const { apiVersion, kind, request } = body;
  if (apiVersion !== API_VERSION || kind !== 'AdmissionReview')
    return `must be an AdmissionReview of ${API_VERSION}`;
  if (!isObject(request)) return 'has no request';
  const { uid, namespace, operation, object } = request;
  if (typeof uid !== 'string' || uid === '' || uid.length > 128) return 'has no request.uid';
  if (!isPodKind(request['kind']) || (request['subResource'] ?? '') !== '')
    return 'is not about a Pod of v1; let the rules of the webhook name resource pods alone';
  if (operation !== 'CREATE')
    return 'is not about a creation; let the rules of the webhook name CREATE alone';
  if (typeof namespace !== 'string' || namespace === '') return 'has no request.namespace';
  if (!isObject(object) || !isObject(object['spec'])) return 'has no request.object with a spec';
  return { uid, namespace, pod: object };
}

/** The answer to a review, for the request with this uid. */
export function reviewAnswer(uid: string, { allowed, message, patch, warnings = [] }: ReviewAnswer): object {
  return {
    apiVersion: API_VERSION,
    kind: 'AdmissionReview',
    response: {
      ...{ uid, allowed },
      ...(message === undefined ? {} : { status: refusal(message) }),
      ...(patch === undefined
        ? {}
        : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') }),
      ...(warnings.length === 0 ? {} : { warnings: warnings.slice(0, MOST_WARNINGS).map(warning) }),
    },
  };
}

function refusal(message: string): object {
  const text = message.length <= LONGEST_MESSAGE ? message : `${message.slice(0, LONGEST_MESSAGE - 1)}…`;
  return { status: 'Failure', code: 422, reason: 'Invalid', message: text };
}

/** One line: it becomes a header. */
function warning(text: string): string {
  const line = text.replaceAll(/\p{Cc}+/gu, ' ');
  return line.length <= LONGEST_WARNING ? line : `${line.slice(0, LONGEST_WARNING - 1)}…`;
}

function isPodKind(kind: unknown): boolean {
  return isObject(kind) && kind['group'] === '' && kind['version'] === 'v1' && kind['kind'] === 'Pod';
}
