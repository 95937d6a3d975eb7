import { MAX_AUDIENCES } from '../spiffe/jwt-svid.js';
import type { IssuerSettings } from './issuer-config.js';
import type { JsonObject } from './json.js';
import { refuse } from './refusal.js';

const MAX_SUBJECT_LENGTH = 2048;
/** The last instant that Date can say, in seconds. */
const MAX_NUMERIC_DATE = 8.64e12;

/** The registered claims (RFC 7519 §4.1), by type but not yet by meaning. Times in milliseconds since the epoch. */
export interface RegisteredClaims {
  readonly issuer: string | undefined;
  readonly subject: string;
  readonly audiences: readonly string[];
  readonly expiresAt: number;
  readonly notBefore: number | undefined;
  readonly issuedAt: number | undefined;
}

function malformed(reason: string): never {
  refuse('TokenMalformed', reason);
}

/** @throws TokenRefusal `TokenMalformed` */
export function readClaims(claims: JsonObject): RegisteredClaims {
  const { iss, sub } = claims;
  if (iss !== undefined && typeof iss !== 'string') malformed('claim "iss" must be a text');
  if (typeof sub !== 'string' || sub === '' || sub.length > MAX_SUBJECT_LENGTH)
    malformed(`claim "sub" must be a text of 1 to ${MAX_SUBJECT_LENGTH} characters`);
  return {
    issuer: iss,
    subject: sub,
    audiences: readAudiences(claims['aud']),
    expiresAt: numericDate(claims, 'exp') ?? malformed('the token has no claim "exp"'),
    notBefore: numericDate(claims, 'nbf'),
    issuedAt: numericDate(claims, 'iat'),
  };
}

function readAudiences(aud: unknown): readonly string[] {
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  if (audiences.length > MAX_AUDIENCES)
    malformed(`claim "aud" has ${audiences.length} members; ${MAX_AUDIENCES} are allowed`);
  if (audiences.length === 0 || !audiences.every((value) => typeof value === 'string' && value !== ''))
    malformed('claim "aud" must be a text or a list of texts');
  return Object.freeze(audiences as string[]);
}

/** A NumericDate (RFC 7519 §2). */
function numericDate(claims: JsonObject, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_NUMERIC_DATE))
    malformed(`claim "${name}" must be a number of seconds since 1970`);
  return Math.floor(value * 1000);
}

/** @throws TokenRefusal `TokenWrongAudience` */
export function checkAudience(audiences: readonly string[], settings: IssuerSettings): void {
  if (audiences.some((audience) => settings.audiences.has(audience))) return;
  const ours = [...settings.audiences].map((audience) => `"${audience}"`).join(' or ');
  refuse('TokenWrongAudience', `the token is for others; its "aud" must hold ${ours}`);
}

/**
 * Whether the token counts at this time. All its times are asked again on each use, so an answer from the cache is the
 * answer that a new verification would give, wherever the clock has gone.
 *
 * @throws TokenRefusal `TokenExpired`, `TokenNotYetValid`, `TokenTooOld`, `TokenMalformed`
 */
export function checkTimes(
  times: Pick<RegisteredClaims, 'expiresAt' | 'notBefore' | 'issuedAt'>,
  { clockSkewMs, maxAgeMs }: IssuerSettings,
  now: number,
): void {
  const { expiresAt, notBefore, issuedAt } = times;
  if (now - clockSkewMs >= expiresAt)
    refuse('TokenExpired', `the token expired ${seconds(now - expiresAt)} ago`);
  const start = Math.max(notBefore ?? 0, issuedAt ?? 0);
  if (now + clockSkewMs < start)
    refuse('TokenNotYetValid', `the token is valid in ${seconds(start - now)} only`);
  if (maxAgeMs === undefined) return;
  if (issuedAt === undefined)
    malformed('the token has no claim "iat", which its issuer\'s maximum age needs');
  if (now - clockSkewMs >= issuedAt + maxAgeMs)
    refuse(
      'TokenTooOld',
      `the token was issued ${seconds(now - issuedAt)} ago; its issuer's maximum age is ${seconds(maxAgeMs)}`,
    );
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`;
}
