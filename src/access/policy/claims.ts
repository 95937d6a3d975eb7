import type { ClaimMatch, TokenMatch, ValidatedToken } from './model.js';
import { scalarText } from './scalar.js';
import type { Match } from './three-valued.js';
import { shown, type ProblemReport } from './read.js';

/** The name of a claim, as it is or as a JSON pointer. */
export function readClaimName(value: unknown, field: string, report: ProblemReport): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > 512) {
    report.add(
      field,
      `${shown(value)} is no claim; write its name, or a JSON pointer: "/realm_access/roles"`,
    );
    return undefined;
  }
  if (value.startsWith('/') && /~(?![01])/.test(value)) {
    report.add(field, `${shown(value)} is no JSON pointer: "~" is written "~0" (RFC 6901)`);
    return undefined;
  }
  return value;
}

/** A claim name as a path: itself, or the steps of a JSON pointer (RFC 6901 §4). */
export function claimPath(name: string): readonly string[] {
  if (!name.startsWith('/')) return [name];
  return name
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** What stands at a path; undefined when nothing does. Own properties of objects only. */
export function valueAt(root: unknown, path: readonly string[]): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    if (!Object.hasOwn(value, step)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[step];
  }
  return value === null ? undefined : value;
}

/** The texts of a claim that is a scalar or a list; what is no scalar has none. */
function textsOf(value: unknown): readonly string[] {
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  return items.flatMap((item) => scalarText(item) ?? []);
}

/** Claims of a token that is there are definite: a missing claim is not In, and is NotIn. */
export function matchesClaim(
  { path, operator, values }: ClaimMatch,
  claims: ValidatedToken['claims'],
): boolean {
  const value = valueAt(claims, path);
  switch (operator) {
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'In':
      return textsOf(value).some((text) => values.includes(text));
    case 'NotIn':
      return !textsOf(value).some((text) => values.includes(text));
    case 'ContainsAll': {
      const texts = textsOf(value);
      return values.every((wanted) => texts.includes(wanted));
    }
  }
}

/** How far the clock of an issuer may be ahead, in milliseconds, before its `auth_time` is not believed. */
const AUTH_TIME_LEEWAY = 60_000;

/** Whether the user logged in at most `maxAge` milliseconds ago. */
export function authIsFresh(claims: ValidatedToken['claims'], maxAge: number, time: number): boolean {
  const authTime = valueAt(claims, ['auth_time']);
  if (typeof authTime !== 'number' || !Number.isFinite(authTime)) return false;
  const age = time - authTime * 1000;
  return age <= maxAge && age >= -AUTH_TIME_LEEWAY;
}

type Token = ValidatedToken | null | undefined;

/** Whether a claim can be said to match: no without a token, unknown where tokens are not seen. */
export function matchesTokenClaim(claim: ClaimMatch, token: Token): Match {
  if (token === undefined) return 'unknown';
  return token !== null && matchesClaim(claim, token.claims) ? 'yes' : 'no';
}

/** Whether a token is as asked for. */
export function matchesToken(match: TokenMatch, token: Token, time: number): Match {
  if (token === undefined) return 'unknown';
  if (token === null) return 'no';
  const { claims } = token;
  const oneOf = (name: string, wanted: readonly string[] | undefined): boolean =>
    wanted === undefined || textsOf(valueAt(claims, [name])).some((text) => wanted.includes(text));
  const holds =
    oneOf('iss', match.issuers) &&
    oneOf('aud', match.audiences) &&
    oneOf('sub', match.subjects) &&
    oneOf('acr', match.acr) &&
    (match.amr ?? []).every((method) => textsOf(valueAt(claims, ['amr'])).includes(method)) &&
    (match.claims ?? []).every((claim) => matchesClaim(claim, claims)) &&
    (match.maxAuthAge === undefined || authIsFresh(claims, match.maxAuthAge, time));
  return holds ? 'yes' : 'no';
}
