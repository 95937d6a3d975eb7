import type { SpiffeId } from '../spiffe/id.js';
import { isTimely } from './authority-set.js';
import type { JwtSigner, JwtRequest } from './jwt-authority.js';
import { CaError } from './errors.js';
import type { X509Request, X509Signer } from './x509-authority.js';

/** The most audiences in one JWT-SVID, and the most characters in one. */
export const MAX_AUDIENCES = 32;
export const MAX_AUDIENCE_LENGTH = 2048;
const LONGEST_TTL_SECONDS = 20 * 365 * 24 * 60 * 60;

/** Throws CaError `SignRequestInvalid` for what may never be signed, whoever asks. */
export function checkX509Request(request: X509Request, trustDomain: string): void {
  checkId(request.spiffeId, trustDomain);
  checkTtl(request.ttlSeconds);
}

/** Throws CaError `SignRequestInvalid` for what may never be signed, whoever asks. */
export function checkJwtRequest(request: JwtRequest, trustDomain: string): void {
  checkId(request.spiffeId, trustDomain);
  checkTtl(request.ttlSeconds);
  const { audience } = request;
  if (audience.length === 0) throw invalid('no audience is given; a JWT-SVID must name at least one');
  if (audience.length > MAX_AUDIENCES)
    throw invalid(`${audience.length} audiences are given; at most ${MAX_AUDIENCES} are allowed`);
  for (const one of audience) {
    if (typeof one !== 'string' || one === '')
      throw invalid('an audience is empty; name who will read the token');
    if (one.length > MAX_AUDIENCE_LENGTH) {
      throw invalid(`an audience has ${one.length} characters; ${MAX_AUDIENCE_LENGTH} are allowed`);
    }
  }
}

function checkId(id: SpiffeId, trustDomain: string): void {
  if (id.trustDomain !== trustDomain)
    throw invalid(`${id.uri} is not of trust domain "${trustDomain}", and this CA signs for no other`);
  if (id.path === '') throw invalid(`${id.uri} names the trust domain itself; an SVID names a workload`);
}

function checkTtl(seconds: number): void {
  if (Number.isSafeInteger(seconds) && seconds > 0 && seconds <= LONGEST_TTL_SECONDS) return;
  throw invalid(`the lifetime is ${seconds}; it must be a whole number of seconds, at least 1`);
}

function invalid(message: string): CaError {
  return new CaError('SignRequestInvalid', message);
}

/**
 * The signer, if it may sign now; else the rotation is woken, which finds a new one.
 *
 * @throws CaError `AuthorityUnavailable`
 */
export function requireSigner<S extends X509Signer | JwtSigner>(
  signer: S | undefined,
  now: number,
  rotation: { wake(): void },
): S {
  if (signer !== undefined && isTimely(signer.authority, now)) return signer;
  rotation.wake();
  const why =
    signer === undefined
      ? 'none is active yet'
      : `${signer.authority.id} is valid from ${iso(signer.authority.notBefore)} to ${iso(signer.authority.notAfter)}, and the clock says ${iso(now)}`;
  throw new CaError(
    'AuthorityUnavailable',
    `no authority may sign now: ${why}. A new one is prepared, and signs once it is published; check the clock if this lasts`,
  );
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
