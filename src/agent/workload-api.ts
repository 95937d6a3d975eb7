import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import { verifyJwtSvid } from '../identity/spiffe/jwt-svid.js';
import type { Registration } from '../identity/registration/registration.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { HandlersOf } from '../rpc/definition.js';
import type {
  JWTSVIDRequest,
  JWTSVIDResponse,
  SpiffeWorkloadAPIService,
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
} from '../rpc/gen/spiffe/workload.js';
import { type CallContext, StatusError } from '../rpc/service.js';
import { audienceSet, type JwtAnswer, type JwtKeeper } from './jwt-keeper.js';
import { jwtBundlesMessage, x509BundlesMessage, x509SvidMessage } from './messages.js';
import { type CallParts, type CallSession, openSession } from './session.js';
import { type StreamContent, streamView } from './stream.js';
import { describeSubject } from './subject.js';
import type { SubjectView } from './views.js';

/** What the Workload API's handlers are made from. */
export interface WorkloadApiParts extends CallParts {
  readonly logger: Logger;
  readonly jwt: JwtKeeper;
  /** Aborted when the agent stops. */
  readonly stopped: AbortSignal;
}

/** The five stable methods of the Workload API (SPIFFE_Workload_API.md), by method name. */
export type WorkloadApiHandlers = Required<HandlersOf<SpiffeWorkloadAPIService>>;

const MAX_AUDIENCES = 64;
const MAX_AUDIENCE_LENGTH = 1_024;
/** The longest token that is looked at, in characters. */
const MAX_TOKEN_LENGTH = 64 * 1024;

/** The SVIDs, whole as soon as none is on its way any more. */
const svids: StreamContent = {
  readiness(view) {
    if (view.ownBundle === undefined) return 'hold';
    switch (view.completeness) {
      case 'complete':
        return 'send';
      case 'partial':
        return 'soon';
      case 'empty':
      case 'unregistered':
        return 'hold';
    }
  },
  message: x509SvidMessage,
};

/** Bundles are for whoever has an identity, signed already or not. */
function bundles(message: (view: SubjectView) => Uint8Array): StreamContent {
  return { readiness: (view) => (isKnown(view) ? 'send' : 'hold'), message };
}

function isKnown(view: SubjectView): boolean {
  return view.registrations.length > 0 && view.ownBundle !== undefined;
}

export function createWorkloadApi(parts: WorkloadApiParts): WorkloadApiHandlers {
  return {
    fetchX509Svid: async (_request, context, sink) => {
      checkHeader(context);
      await streamView(parts, context, sink, svids);
    },
    fetchX509Bundles: async (_request, context, sink) => {
      checkHeader(context);
      await streamView(parts, context, sink, bundles(x509BundlesMessage));
    },
    fetchJwtBundles: async (_request, context, sink) => {
      checkHeader(context);
      await streamView(parts, context, sink, bundles(jwtBundlesMessage));
    },
    fetchJwtsvid: async (request, context) => {
      checkHeader(context);
      const asked = readJwtRequest(request);
      return withSession(parts, context, (session) => fetchJwt(parts, session, asked));
    },
    validateJwtsvid: async (request, context) => {
      checkHeader(context);
      checkValidateRequest(request);
      return withSession(parts, context, (session) => validateJwt(parts, session, request));
    },
  };
}

/** The header that keeps a browser or a confused proxy from making such a call (Workload API §4, Workload Endpoint §6). */
function checkHeader(context: CallContext): void {
  if (context.metadata('workload.spiffe.io') === 'true') return;
  throw new StatusError(
    'InvalidArgument',
    'security header missing: send the metadata "workload.spiffe.io: true" with each call',
  );
}

async function withSession<T>(
  parts: CallParts,
  context: CallContext,
  answer: (session: CallSession) => Promise<T>,
): Promise<T> {
  const session = await openSession(parts, context, 'unary');
  try {
    return await answer(session);
  } finally {
    session.close();
  }
}

interface JwtQuestion {
  readonly audience: readonly string[];
  /** Empty: all identities. */
  readonly spiffeId: string;
}

function readJwtRequest({ audience, spiffeId }: JWTSVIDRequest): JwtQuestion {
  if (audience.length === 0)
    throw new StatusError('InvalidArgument', 'audience is empty: name who the JWT-SVID is for');
  if (audience.length > MAX_AUDIENCES)
    throw new StatusError(
      'InvalidArgument',
      `audience has ${audience.length} values; ${MAX_AUDIENCES} are allowed`,
    );
  for (const value of audience) {
    if (value === '') throw new StatusError('InvalidArgument', 'audience has an empty value');
    if (value.length > MAX_AUDIENCE_LENGTH)
      throw new StatusError(
        'InvalidArgument',
        `an audience value is longer than ${MAX_AUDIENCE_LENGTH} characters`,
      );
  }
  if (spiffeId === '') return { audience: audienceSet(audience), spiffeId };
  try {
    return { audience: audienceSet(audience), spiffeId: parseSpiffeId(spiffeId).uri };
  } catch (error) {
    throw new StatusError('InvalidArgument', `spiffe_id: ${SignetError.from(error).message}`, {
      cause: error,
    });
  }
}

async function fetchJwt(
  parts: WorkloadApiParts,
  session: CallSession,
  asked: JwtQuestion,
): Promise<JWTSVIDResponse> {
  const wanted = (view: SubjectView): readonly Registration[] =>
    view.registrations.filter(({ spiffeId }) => asked.spiffeId === '' || spiffeId.uri === asked.spiffeId);
  await session.until(
    (view) => isKnown(view) && (asked.spiffeId === '' || wanted(view).length > 0 || !view.awaitsContainer),
  );
  const found = wanted(session.view);
  if (found.length === 0) {
    const own = session.view.registrations.map(({ spiffeId }) => spiffeId.uri);
    throw new StatusError(
      'PermissionDenied',
      `${describeSubject(session.subject)} has no identity ${asked.spiffeId}; it has ${own.slice(0, 16).join(', ')}`,
    );
  }
  const allowed = found.filter((registration) => mayAsk(registration, asked.audience));
  if (allowed.length === 0) throw audienceRefusal(found, asked.audience);
  const misses = parts.jwt.misses(allowed, asked.audience);
  if (misses > 0) parts.fairness.signJwt(session.subject, misses);
  const answers = await session.waiter.guard(
    parts.jwt.fetch(allowed, asked.audience, parts.stopped, session.requestId),
  );
  const svids = allowed.flatMap(({ spiffeId, hint }, index) => {
    const answer = answers[index];
    return answer?.ok === true ? [{ spiffeId: spiffeId.uri, svid: answer.token, hint }] : [];
  });
  // One identity that cannot be signed for does not take the others away.
  const refused = answers.find((answer) => !answer.ok);
  if (svids.length === 0 && refused?.ok === false) throw jwtRefusal(refused);
  return { svids };
}

function mayAsk({ audiences }: Registration, audience: readonly string[]): boolean {
  return audiences.length === 0 || audience.every((value) => audiences.includes(value));
}

function audienceRefusal(found: readonly Registration[], audience: readonly string[]): StatusError {
  const [first] = found;
  const names =
    first === undefined ? '' : `${first.spiffeId.uri} may have only ${first.audiences.join(', ')}`;
  return new StatusError(
    'PermissionDenied',
    `no JWT-SVID for audience ${audience.slice(0, 8).join(', ')}: ${names}`,
  );
}

function jwtRefusal(refused: Extract<JwtAnswer, { ok: false }>): StatusError {
  return new StatusError(
    refused.retryable ? 'Unavailable' : 'PermissionDenied',
    `the JWT-SVID was not signed: ${refused.message}`,
    { code: refused.code },
  );
}

function checkValidateRequest({ audience, svid }: ValidateJWTSVIDRequest): void {
  if (audience === '')
    throw new StatusError('InvalidArgument', 'audience is empty: name yourself as the token should');
  if (svid === '') throw new StatusError('InvalidArgument', 'svid is empty: send the JWT-SVID to validate');
  if (svid.length > MAX_TOKEN_LENGTH)
    throw new StatusError('InvalidArgument', `svid is longer than ${MAX_TOKEN_LENGTH} characters`);
}

async function validateJwt(
  parts: WorkloadApiParts,
  session: CallSession,
  { audience, svid }: ValidateJWTSVIDRequest,
): Promise<ValidateJWTSVIDResponse> {
  await session.until(isKnown);
  const { ownBundle, foreignBundles } = session.view;
  const byName = new Map<string, TrustBundle>();
  for (const handed of [ownBundle, ...foreignBundles])
    if (handed !== undefined) byName.set(handed.bundle.trustDomain, handed.bundle);
  try {
    const valid = await verifyJwtSvid({
      token: svid,
      audience,
      bundles: (trustDomain) => byName.get(trustDomain),
      now: parts.clock.now(),
    });
    return { spiffeId: valid.id.uri, claims: valid.claims };
  } catch (error) {
    // The reason, never the token: it may be good elsewhere.
    throw new StatusError(
      'InvalidArgument',
      `the JWT-SVID is not valid: ${SignetError.from(error).message}`,
      { cause: error },
    );
  }
}
