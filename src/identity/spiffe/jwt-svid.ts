import type { JWK } from 'jose';
import { SignetError } from '../../lib/errors.js';
import type { TrustBundle } from './bundle.js';
import type { SpiffeId } from './id.js';
import { parseSpiffeId } from './id.js';

/** The longest token that is read, in characters. */
export const MAX_JWT_SVID_LENGTH = 16 * 1024;
/** How far clocks may differ, in milliseconds: what go-spiffe grants. */
export const JWT_SVID_LEEWAY_MS = 60_000;
/** The most audiences in one token. */
export const MAX_AUDIENCES = 100;

/**
 * Why a JWT-SVID is refused. Codes: `JwtSvidMalformed`, `JwtSvidExpired`, `JwtSvidNotYetValid`, `JwtSvidAudience`,
 * `JwtSvidUntrusted` (no bundle, or no such key in it), `JwtSvidSignature`. No message holds the token.
 */
export class JwtSvidError extends SignetError {}

/** A JWT-SVID, taken apart. */
export interface JwtSvid {
  readonly id: SpiffeId;
  readonly audience: readonly string[];
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly issuedAt?: number;
  /** All claims, as in the token. */
  readonly claims: Record<string, unknown>;
  /** The token itself: a bearer secret, never to be logged. */
  readonly token: string;
}

/** JWT-SVID §2.1: nothing symmetric, no EdDSA, no "none". */
const ALGORITHMS: readonly string[] = [
  ...['RS256', 'RS384', 'RS512'],
  ...['ES256', 'ES384', 'ES512'],
  ...['PS256', 'PS384', 'PS512'],
];
const HEADERS: ReadonlySet<string> = new Set(['alg', 'kid', 'typ']);

function fail(code: string, message: string, cause?: unknown): never {
  throw new JwtSvidError(code, message, cause === undefined ? undefined : { cause });
}

function malformed(message: string): never {
  fail('JwtSvidMalformed', message);
}

interface Header {
  readonly alg: string;
  readonly kid: string | undefined;
}

/** What {@link verifyJwtSvid} needs. */
export interface JwtSvidVerification {
  readonly token: string;
  /** Who we are: must be in the token's `aud` (§3.2). Undefined only for tools that show tokens of others. */
  readonly audience: string | undefined;
  /** The bundle of a trust domain, or undefined where there is none. */
  readonly bundles: (trustDomain: string) => TrustBundle | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Verifies a JWT-SVID (JWT-SVID §2–4): form, signature by a key of the trust domain that it names, expiry, audience.
 *
 * @throws JwtSvidError
 */
export async function verifyJwtSvid(options: JwtSvidVerification): Promise<JwtSvid> {
  const { header, svid } = take(options.token);
  checkTimes(svid, options.now);
  const { audience } = options;
  if (audience !== undefined && !svid.audience.includes(audience)) {
    fail('JwtSvidAudience', `the token is for ${list(svid.audience)}, not for "${audience}"`);
  }
  await verifySignature(options, header, svid.id);
  return svid;
}

/**
 * Takes a JWT-SVID apart without verifying its signature, times or audience. For those who got it from a Workload API,
 * which they trust; never for a token that somebody presents.
 *
 * @throws JwtSvidError `JwtSvidMalformed`
 */
export function parseJwtSvidUnverified(token: string): JwtSvid {
  return take(token).svid;
}

async function verifySignature(options: JwtSvidVerification, header: Header, id: SpiffeId): Promise<void> {
  const { kid, alg } = header;
  // Without it every key would have to be tried; SPIFFE clients refuse such tokens, and so do we.
  if (kid === undefined) malformed('the header has no "kid", so the key that signed is unknown');
  const bundle = options.bundles(id.trustDomain);
  if (bundle === undefined)
    fail('JwtSvidUntrusted', `there is no bundle of trust domain "${id.trustDomain}"`);
  const authority = bundle.jwtAuthorities.find(({ keyId }) => keyId === kid);
  if (authority === undefined) {
    fail(
      'JwtSvidUntrusted',
      `the bundle of trust domain "${id.trustDomain}" has no key with the token's key ID`,
    );
  }
  // Most agents never verify a token, and it is large.
  const { compactVerify, errors } = await import('jose');
  try {
    await compactVerify(options.token, authority.jwk as JWK, { algorithms: [alg] });
  } catch (cause) {
    const wrong = cause instanceof errors.JWSSignatureVerificationFailed;
    fail(
      'JwtSvidSignature',
      wrong
        ? 'the signature of the token is wrong'
        : `the token's algorithm ${alg} does not fit the key it names`,
      cause,
    );
  }
}

function list(values: readonly string[]): string {
  return values.map((value) => `"${value}"`).join(', ');
}

function checkTimes({ expiresAt, issuedAt, claims }: JwtSvid, now: number): void {
  if (now - JWT_SVID_LEEWAY_MS >= expiresAt)
    fail('JwtSvidExpired', `the token expired at ${new Date(expiresAt).toISOString()}`);
  const notBefore = numericDate(claims, 'nbf');
  const start = Math.max(notBefore ?? 0, issuedAt ?? 0);
  if (now + JWT_SVID_LEEWAY_MS < start)
    fail('JwtSvidNotYetValid', `the token is valid from ${new Date(start).toISOString()} only`);
}

function take(token: string): { header: Header; svid: JwtSvid } {
  if (token.length > MAX_JWT_SVID_LENGTH)
    malformed(`the token has ${token.length} characters; ${MAX_JWT_SVID_LENGTH} are allowed`);
  // §2: the compact serialisation only.
  const parts = token.split('.');
  const [first, second, third] = parts;
  if (parts.length !== 3 || first === undefined || second === undefined || third === undefined)
    malformed('the token is no JWS in compact serialisation');
  if (third === '') malformed('the token has no signature');
  const header = readHeader(decodeJson(first, 'header'));
  const claims = decodeJson(second, 'payload');
  if (!BASE64URL.test(third)) malformed('the signature of the token is not base64url');
  const issuedAt = numericDate(claims, 'iat');
  const svid: JwtSvid = {
    id: readSubject(claims),
    audience: readAudience(claims),
    // §3.3: must be there.
    expiresAt: numericDate(claims, 'exp') ?? malformed('the token has no claim "exp"'),
    ...(issuedAt === undefined ? {} : { issuedAt }),
    claims,
    token,
  };
  return { header, svid };
}

const BASE64URL = /^[A-Za-z0-9_-]+$/;

function decodeJson(part: string, what: string): Record<string, unknown> {
  if (!BASE64URL.test(part)) malformed(`the ${what} of the token is not base64url`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(part, 'base64url')));
  } catch {
    // Without the cause: the parser's message quotes the text, which is part of a secret.
    malformed(`the ${what} of the token is no JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    malformed(`the ${what} of the token is no JSON object`);
  return value as Record<string, unknown>;
}

function readHeader(header: Record<string, unknown>): Header {
  const { alg, kid, typ } = header;
  // §2: any other header must not be there; `crit`, `jku` or `x5c` would change what is verified.
  for (const name of Object.keys(header))
    if (!HEADERS.has(name)) malformed(`header "${name}" is not allowed in a JWT-SVID`);
  if (typeof alg !== 'string' || !ALGORITHMS.includes(alg))
    malformed(`the algorithm of the token is not allowed; JWT-SVIDs use ${ALGORITHMS.join(', ')}`);
  if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') malformed('header "typ" must be "JWT" or "JOSE"');
  if (kid !== undefined && (typeof kid !== 'string' || kid === ''))
    malformed('header "kid" must be a text that is not empty');
  return { alg, kid };
}

function readSubject(claims: Record<string, unknown>): SpiffeId {
  const { sub } = claims;
  if (typeof sub !== 'string' || sub === '') malformed('the token has no claim "sub"');
  try {
    return parseSpiffeId(sub);
  } catch (cause) {
    fail(
      'JwtSvidMalformed',
      `claim "sub" is no SPIFFE ID: ${cause instanceof Error ? cause.message : 'unreadable'}`,
      cause,
    );
  }
}

function readAudience(claims: Record<string, unknown>): readonly string[] {
  const { aud } = claims;
  const audience: unknown[] = Array.isArray(aud) ? aud : aud === undefined ? [] : [aud];
  if (audience.length === 0) malformed('the token has no claim "aud"');
  if (audience.length > MAX_AUDIENCES)
    malformed(`claim "aud" has ${audience.length} members; ${MAX_AUDIENCES} are allowed`);
  if (!audience.every((value) => typeof value === 'string' && value !== ''))
    malformed('claim "aud" must be a text or a list of texts');
  return audience as string[];
}

/** The last instant that Date can say, in seconds. */
const MAX_NUMERIC_DATE = 8.64e12;

/** A NumericDate claim (RFC 7519 §2) in milliseconds. */
function numericDate(claims: Record<string, unknown>, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_NUMERIC_DATE))
    malformed(`claim "${name}" must be a number of seconds since 1970`);
  return Math.floor(value * 1000);
}
