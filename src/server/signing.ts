import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { CaError } from '../identity/ca/errors.js';
import type { CaErrorCode } from '../identity/ca/errors.js';
import { parseCsr } from '../identity/pki/csr.js';
import { PkiError } from '../identity/pki/errors.js';
import type { Registration } from '../identity/registration/registration.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type {
  NodeApi,
  SignJwtRequest,
  SignJwtResult,
  SignRefusal,
  SignX509Request,
  SignX509Result,
} from '../rpc/node-api.js';
import { MAX_SIGN_BATCH } from '../rpc/node-api.js';
import { callLogger } from '../rpc/request-id.js';
import { StatusError } from '../rpc/service.js';

/** What signing asks of the CA. */
export type SigningAuthority = Pick<CertificateAuthority, 'signX509' | 'signJwt'>;

/** Where signing looks up what an agent may have signed. */
export interface RegistrationLookup {
  /** The registration as it stands now, or undefined when it is gone (or is not the caller's). */
  get(id: string): Registration | undefined;
}

/** What a signing service is made of. */
export interface SigningOptions {
  readonly ca: SigningAuthority;
  readonly registrations: RegistrationLookup;
  readonly logger: Logger;
  /** Told how each signing of an X.509-SVID for a registration ended: `undefined` or why it was refused. */
  readonly signed?: (registrationId: string, refusal: SignRefusal | undefined) => void;
}

/** The signing half of {@link NodeApi}. */
export type SigningService = Pick<NodeApi, 'signX509' | 'signJwt'>;

/** Refusals that may go away by themselves. All else is as wrong the next time. */
const RETRYABLE: ReadonlySet<string> = new Set<CaErrorCode>([
  'AuthorityUnavailable',
  'AuthorityNotYetValid',
  'AuthorityExpired',
  'StateStale',
  'CaClosed',
]);
/** Our own fault, so the caller learns no more than that; the log has the rest. */
const INTERNAL = 'Internal';
/** Longer ids are no ids of ours, and must not be echoed. */
const MAX_ID_LENGTH = 1024;
const MAX_SHOWN_ID = 200;

/**
 * Signs what registrations allow. The registration is looked up again for each request, at the moment of signing, and
 * says everything that the SVID says; from the CSR comes the public key alone. A refusal fails its own request.
 *
 * The methods reject with StatusError `InvalidArgument` when the batch is too large, and with the signal's reason when
 * it is aborted.
 */
export function createSigningService(options: SigningOptions): SigningService {
  const { ca } = options;
  const loggerOf = (requestId: string | undefined): Logger =>
    requestId === undefined ? options.logger : callLogger(options.logger, { requestId });

  const lookUp = (id: string): Registration => {
    const registration = id.length > MAX_ID_LENGTH ? undefined : options.registrations.get(id);
    if (registration !== undefined) return registration;
    throw new Refused(
      'RegistrationNotFound',
      `registration ${JSON.stringify(id.slice(0, MAX_SHOWN_ID))} does not exist (any more), or belongs to another node`,
    );
  };

  /** A registration that there is has its refusals told. */
  const telling = async <T>(id: string, sign: () => Promise<T>): Promise<T> => {
    try {
      const result = await sign();
      options.signed?.(id, undefined);
      return result;
    } catch (error) {
      options.signed?.(id, verdictOf(error));
      throw error;
    }
  };

  const signOneX509 = async (request: SignX509Request, logger: Logger): Promise<SignX509Result> => {
    const registration = lookUp(request.registrationId);
    const signed = await telling(registration.id, () =>
      ca.signX509({
        spki: parseCsr(request.csr).spki,
        spiffeId: registration.spiffeId,
        dnsNames: registration.dnsNames,
        ttlSeconds: registration.x509TtlSeconds,
      }),
    );
    logger.debug('X.509-SVID signed', {
      spiffeId: registration.spiffeId.uri,
      registration: registration.id,
      serial: signed.serial,
      authority: signed.authorityId,
    });
    return { ok: true, ...signed };
  };

  const signOneJwt = async (request: SignJwtRequest, logger: Logger): Promise<SignJwtResult> => {
    const registration = lookUp(request.registrationId);
    checkAudiences(registration, request.audience);
    const signed = await ca.signJwt({
      spiffeId: registration.spiffeId,
      audience: request.audience,
      ttlSeconds: registration.jwtTtlSeconds,
    });
    logger.debug('JWT-SVID signed', {
      spiffeId: registration.spiffeId.uri,
      registration: registration.id,
      keyId: signed.keyId,
    });
    return { ok: true, ...signed };
  };

  return {
    signX509: (requests, signal, requestId) => batch(requests, signal, loggerOf(requestId), signOneX509),
    signJwt: (requests, signal, requestId) => batch(requests, signal, loggerOf(requestId), signOneJwt),
  };
}

/** A refusal of this room's own. */
class Refused extends SignetError {}

function checkAudiences(registration: Registration, audience: readonly string[]): void {
  const allowed = registration.audiences;
  if (allowed.length === 0) return;
  const foreign = audience.find((one) => !allowed.includes(one));
  if (foreign === undefined) return;
  const { kind, name } = registration.identity;
  throw new Refused(
    'AudienceNotAllowed',
    `audience ${JSON.stringify(foreign.slice(0, 200))} is not among those that ${kind} ${name} allows (${allowed.slice(0, 8).join(', ')}); add it to spec.audiences`,
  );
}

async function batch<Req extends { readonly registrationId: string }, Res>(
  requests: readonly Req[],
  signal: AbortSignal | undefined,
  logger: Logger,
  sign: (request: Req, logger: Logger) => Promise<Res>,
): Promise<(Res | SignRefusal)[]> {
  if (requests.length > MAX_SIGN_BATCH) {
    throw new StatusError(
      'InvalidArgument',
      `the batch has ${requests.length} requests; ${MAX_SIGN_BATCH} are allowed`,
      {
        code: 'BatchTooLarge',
      },
    );
  }
  const results: (Res | SignRefusal)[] = [];
  for (const [index, request] of requests.entries()) {
    if (index % YIELD_EVERY === 0) await breathe(index, signal);
    try {
      results.push(await sign(request, logger));
    } catch (error) {
      results.push(refusalOf(error, request, logger));
    }
  }
  return results;
}

/** Signing is synchronous work, so after this many the event loop gets a turn: about 5 ms. */
const YIELD_EVERY = 32;

async function breathe(index: number, signal: AbortSignal | undefined): Promise<void> {
  if (index > 0) await new Promise((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}

function refusalOf(
  error: unknown,
  { registrationId }: { readonly registrationId: string },
  logger: Logger,
): SignRefusal {
  const verdict = verdictOf(error);
  const { code, message } = SignetError.from(error);
  const fields = { registration: registrationId.slice(0, MAX_SHOWN_ID), code, reason: message };
  if (verdict.code === INTERNAL) logger.error('signing failed', fields);
  else logger.warn('signing refused', fields);
  return verdict;
}

function verdictOf(error: unknown): SignRefusal {
  const known = error instanceof Refused || error instanceof CaError || error instanceof PkiError;
  if (known && error.code !== 'IssuedInvalid' && error.code !== 'SelfCheckFailed')
    return { ok: false, code: error.code, message: error.message, retryable: RETRYABLE.has(error.code) };
  return {
    ok: false,
    code: INTERNAL,
    message: 'the server could not sign; its log says why',
    retryable: true,
  };
}
