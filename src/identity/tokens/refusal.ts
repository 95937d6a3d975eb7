import { SignetError } from '../../lib/errors.js';

/**
 * Why a token is refused. Stable: policies, audit logs and clients may match on them.
 *
 * - `TokenMalformed`: not a JWT in compact form, or a claim has the wrong type, is missing, or breaks a bound
 * - `TokenAlgorithmRefused`: `none`, symmetric, not configured for the issuer, or not what its key is for
 * - `TokenWrongType`: the header's `typ` says that it is another kind of token
 * - `TokenUnknownIssuer`, `TokenWrongAudience`
 * - `TokenExpired`, `TokenNotYetValid`, `TokenTooOld` (issued longer ago than the issuer's maximum age)
 * - `TokenUnknownKey`: the issuer publishes no such key
 * - `TokenKeysUnavailable`: the issuer's keys could not be got, or not for so long that they no longer count
 * - `TokenBadSignature`
 * - `TokenRevoked`
 */
export const TOKEN_REFUSAL_CODES = [
  'TokenMalformed',
  'TokenAlgorithmRefused',
  'TokenWrongType',
  'TokenUnknownIssuer',
  'TokenWrongAudience',
  'TokenExpired',
  'TokenNotYetValid',
  'TokenTooOld',
  'TokenUnknownKey',
  'TokenKeysUnavailable',
  'TokenBadSignature',
  'TokenRevoked',
] as const;

export type TokenRefusalCode = (typeof TOKEN_REFUSAL_CODES)[number];

/**
 * Raised inside this room, and turned into a result by the validator. The message holds nothing of the token: it goes
 * into logs and to callers, and a token is a secret of its bearer.
 */
export class TokenRefusal extends SignetError {
  declare readonly code: TokenRefusalCode;
}

/** @throws TokenRefusal always */
export function refuse(code: TokenRefusalCode, reason: string): never {
  throw new TokenRefusal(code, reason);
}

/** Why the configuration of issuers is refused (`TokenIssuersInvalid`). */
export class TokenConfigError extends SignetError {}
