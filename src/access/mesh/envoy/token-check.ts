import { CLAIMS, headerKey, isUsable, USUAL_ALGORITHMS, type EnvoyIssuer } from './issuers.js';
import { all, any, claimIs, header, matches, NEVER, not, type Json, type Predicate } from './predicate.js';

const AUTHORIZATION = header('authorization');
/** What may hold a token, for us, for Envoy, or for the workload behind. */
const ANY_BEARER = matches(AUTHORIZATION, '(?i:\\C*bearer[\\t ]\\C*|bearer\\C*)');
/** Exactly one token, as JWS has them (RFC 7515 §7.1). Of several, Envoy would take the first, and the workload another. */
const ONE_BEARER = matches(AUTHORIZATION, '(?i:bearer) +[\\w-]+\\.[\\w-]+\\.[\\w-]+ *');

const text = (pattern: string): Json => ({
  string_match: { safe_regex: { google_re2: {}, regex: pattern } },
});
const exactly = (value: string): Json => ({ string_match: { exact: value } });

/**
 * What our own validator asks of a token, and Envoy does not, or not to the last character: that the algorithm is one
 * that its issuer may use, the kind of token, headers that would change its meaning, its audience and its subject.
 */
function isOf(issuer: EnvoyIssuer): Predicate {
  const inHeader = (name: string, value: Json): Predicate => claimIs([headerKey(issuer), name], value);
  const inClaims = (name: string, value: Json): Predicate => claimIs([CLAIMS, name], value);
  const hasHeader = (name: string): Predicate => inHeader(name, { present_match: true });
  const absentOr = (name: string, value: Json): Predicate =>
    any([not(hasHeader(name)), inHeader(name, value)]);
  const { algorithms = USUAL_ALGORITHMS, audiences } = issuer;
  return all([
    inClaims('iss', exactly(issuer.issuer)),
    inClaims('sub', text('\\C+')),
    any(algorithms.map((name) => inHeader('alg', exactly(name)))),
    absentOr('typ', text('(?i:(?:application/)?(?:at\\+)?jwt)')),
    absentOr('cty', text('(?i:(?:application/)?json)')),
    ...['crit', 'b64', 'enc', 'zip'].map((name) => not(hasHeader(name))),
    ...(audiences === undefined
      ? []
      : [
          any(
            audiences.flatMap((audience) => [
              inClaims('aud', exactly(audience)),
              inClaims('aud', { list_match: { one_of: exactly(audience) } }),
            ]),
          ),
        ]),
  ]);
}

/**
 * A request with a token, or with what somebody could take for one, that was not verified to be one of these issuers'.
 * So a chain that lacks the filter that verifies refuses tokens, rather than overlook what rules say of them.
 */
export function refusedToken(issuers: readonly EnvoyIssuer[]): Predicate {
  const usable = issuers.filter(isUsable);
  // Then no rule that speaks of tokens allows anything, and denying ones ask for none.
  if (usable.length === 0) return NEVER;
  return all([ANY_BEARER, not(all([ONE_BEARER, any(usable.map(isOf))]))]);
}
