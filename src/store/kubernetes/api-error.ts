import { SignetError } from '../../lib/errors.js';

/** Codes of {@link ApiError}; stable. */
export type ApiErrorCode =
  /** 400 and 422: the API server refuses what was sent; the message is its own. */
  | 'ApiInvalid'
  /** 401: the credentials are not (or no longer) valid. */
  | 'ApiUnauthorized'
  /** 403: RBAC does not allow it; the message names the missing right. */
  | 'ApiForbidden'
  /** 404: no such object, or the API server does not know the kind. */
  | 'ApiNotFound'
  /** 409: somebody else wrote meanwhile, or it exists already. */
  | 'ApiConflict'
  /** 410: the version is too old to go on from; list anew. */
  | 'ApiGone'
  /** 429 and 503: come back later, at `retryAfterMs` if it says so. */
  | 'ApiThrottled'
  /** Any other answer than success. */
  | 'ApiFailed'
  /** The answer does not fit the bounds, or is no JSON. */
  | 'ApiAnswerUnusable'
  /** No answer within the time that the request had. */
  | 'ApiTimeout'
  /** No connection, or it broke. */
  | 'ApiUnreachable'
  /** There is no usable kubeconfig, or it names what is not there. */
  | 'KubeconfigInvalid';

/** Why the API server did not do what was asked. Never holds a header or a body that was sent. */
export class ApiError extends SignetError {
  override readonly code: ApiErrorCode;
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** `reason` of the Status object, e.g. `AlreadyExists`. */
  readonly reason: string | undefined;
  /** How long the API server wants us to wait, milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ApiErrorCode,
    message: string,
    details: {
      readonly status?: number;
      readonly reason?: string | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.reason = details.reason;
    this.retryAfterMs = details.retryAfterMs;
  }

  /** Total: whatever a transport threw, as an ApiError. */
  static override from(thrown: unknown): ApiError {
    if (thrown instanceof ApiError) return thrown;
    const { message } = SignetError.from(thrown);
    return new ApiError('ApiUnreachable', message, { cause: thrown });
  }
}

const LONGEST_MESSAGE = 1024;
/** Nobody is told to wait longer than this; milliseconds. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/**
 * The error that an answer means, or that a Status object in the stream of a watch means (`{"kind": "Status", "code": 410}`).
 *
 * @param what the request, for people: `GET /api/v1/pods`
 */
export function errorOfAnswer(status: number, body: unknown, what: string, retryAfter?: string): ApiError {
  const { message, reason } = statusFields(body);
  const seconds = Number(retryAfter);
  const retryAfterMs =
    retryAfter !== undefined && Number.isFinite(seconds) && seconds >= 0
      ? Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS)
      : undefined;
  const text = (message ?? `HTTP status ${status}`).slice(0, LONGEST_MESSAGE);
  return new ApiError(codeOfStatus(status), `${what}: ${text}`, { status, reason, retryAfterMs });
}

function codeOfStatus(status: number): ApiErrorCode {
  switch (status) {
    case 400:
    case 415:
    case 422:
      return 'ApiInvalid';
    case 401:
      return 'ApiUnauthorized';
    case 403:
      return 'ApiForbidden';
    case 404:
      return 'ApiNotFound';
    case 409:
      return 'ApiConflict';
    case 410:
      return 'ApiGone';
    case 429:
    case 503:
      return 'ApiThrottled';
    case 504:
      return 'ApiTimeout';
    default:
      return 'ApiFailed';
  }
}

function statusFields(body: unknown): { readonly message?: string; readonly reason?: string } {
  if (typeof body !== 'object' || body === null) return {};
  const { message, reason } = body as { readonly message?: unknown; readonly reason?: unknown };
  return {
    ...(typeof message === 'string' ? { message } : {}),
    ...(typeof reason === 'string' ? { reason } : {}),
  };
}
