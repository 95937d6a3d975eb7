import type { ClaimMatch, TokenMatch } from '../../policy/model.js';
import { CLAIMS, isUsable, type EnvoyIssuer } from './issuers.js';
import { allOf, exact, unsaid, type Leaf } from './leaf.js';
import { all, any, claimIs, not, type Json, type Predicate } from './predicate.js';

/** The JSON text of a number. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]?\d+)?$/;

const inClaim = (path: readonly string[], value: Json): Predicate => claimIs([CLAIMS, ...path], value);
/** null is as good as no claim. */
const isThere = (path: readonly string[]): Predicate =>
  all([inClaim(path, { present_match: true }), not(inClaim(path, { null_match: {} }))]);
/** Every token that is verified has an issuer, since it is by that that its keys are found. What else it must be like, was asked before (token-check.ts). */
const HAS_TOKEN = isThere(['iss']);

/** A scalar whose JSON text, or for strings whose value, is this one. */
function scalars(text: string): readonly Json[] {
  const number = NUMBER.test(text) && JSON.stringify(Number(text)) === text;
  return [
    { string_match: { exact: text } },
    ...(text === 'true' || text === 'false' ? [{ bool_match: text === 'true' }] : []),
    ...(number ? [{ double_match: { exact: Number(text) } }] : []),
  ];
}

/** The claim has this value, or is a list with an item that has it. */
const holds = (path: readonly string[], text: string): Predicate =>
  any(
    scalars(text).flatMap((value) => [
      inClaim(path, value),
      inClaim(path, { list_match: { one_of: value } }),
    ]),
  );

function claimPredicate({ path, operator, values }: ClaimMatch): Predicate {
  switch (operator) {
    case 'In':
      return any(values.map((value) => holds(path, value)));
    case 'ContainsAll':
      return all(values.map((value) => holds(path, value)));
    case 'NotIn':
      return all([HAS_TOKEN, not(any(values.map((value) => holds(path, value))))]);
    case 'Exists':
      return isThere(path);
    case 'DoesNotExist':
      return all([HAS_TOKEN, not(isThere(path))]);
  }
}

const REFUSES =
  'requests with a token that is not valid are refused (401, or 403 for another audience), whatever the policies say';

/** A claim of the token. */
export function claimLeaf(claim: ClaimMatch, issuers: readonly EnvoyIssuer[]): Leaf {
  const blind = cannotSee(issuers);
  return blind ?? { ...exact(claimPredicate(claim)), notes: [REFUSES] };
}

function cannotSee(issuers: readonly EnvoyIssuer[]): Leaf | undefined {
  if (issuers.some(isUsable)) return undefined;
  return unsaid('no token issuer is configured whose keys Envoy could get, so it cannot verify tokens');
}

/** What the end user's token must be like. */
export function tokenLeaf(token: TokenMatch, issuers: readonly EnvoyIssuer[]): Leaf {
  const blind = cannotSee(issuers);
  if (blind !== undefined) return blind;
  const oneOf = (claim: string, values: readonly string[] | undefined): readonly Predicate[] =>
    values === undefined ? [] : [any(values.map((value) => holds([claim], value)))];
  const known = all([
    HAS_TOKEN,
    ...oneOf('iss', token.issuers),
    ...oneOf('aud', token.audiences),
    ...oneOf('sub', token.subjects),
    ...oneOf('acr', token.acr),
    ...(token.amr ?? []).map((value) => holds(['amr'], value)),
    ...(token.claims ?? []).map(claimPredicate),
  ]);
  const leaf: Leaf = { ...exact(known), notes: [REFUSES] };
  if (token.maxAuthAge === undefined) return leaf;
  return allOf([leaf, unsaid('Envoy cannot compare auth_time with the time of the request (maxAuthAge)')]);
}
