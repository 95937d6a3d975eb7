import type { ValidatedToken } from '../../access/policy/model.js';
import type { TokenResult } from '../../identity/tokens/validator.js';

/** What validates tokens; see `TokenValidator`. */
export interface Tokens {
  validate(token: string): Promise<TokenResult>;
  validateCached(token: string): TokenResult | undefined;
}

/** The token of a request: the valid one or null, and why one that came is not valid. */
export interface TokenFinding {
  readonly token: ValidatedToken | null;
  /** Holds nothing of the token. */
  readonly problem?: string;
}

const NONE: TokenFinding = { token: null };
/** RFC 6750 §2.1: the scheme, in any case (RFC 9110 §11.1), one or more spaces, a token68. */
const BEARER = /^bearer +([\w.~+/-]+=*) *$/i;

/** Validates the bearer token of an Authorization header. Answers at once when the answer is in memory. */
export function findToken(
  authorization: string | undefined,
  tokens: Tokens,
): TokenFinding | Promise<TokenFinding> {
  if (authorization === undefined || !/^bearer\b/i.test(authorization)) return NONE;
  const token = BEARER.exec(authorization)?.[1];
  // Also when several came, which arrive joined by commas: none of them is taken for the right one.
  if (token === undefined)
    return { token: null, problem: 'the Authorization header is no single bearer token' };
  const known = tokens.validateCached(token);
  return known === undefined ? tokens.validate(token).then(finding) : finding(known);
}

function finding(result: TokenResult): TokenFinding {
  return result.ok ? { token: result.token } : { token: null, problem: result.reason };
}
