import type { ClaimMatch, TokenMatch } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import { certain, type Leaf, type Space, type ValueClass } from '../space.js';
import { pathKey, structuredVariable, type StructuredVariable } from './structured.js';

/** Tokens of end users: whether there is one, and what its claims may be. */
export interface TokenDimensions {
  readonly seen: Node;
  /** Where a valid token is there. */
  readonly present: Node;
  variable(path: readonly string[]): StructuredVariable | undefined;
  /** Which claims can be together: an inner one needs the object that holds it. */
  readonly constraint: Node;
  token(match: TokenMatch): Leaf;
  claim(match: ClaimMatch): Leaf;
}

export interface TokenAtoms {
  readonly tokens: readonly TokenMatch[];
  /** Of granted roles. */
  readonly claims: readonly ClaimMatch[];
}

// RFC 7519 §4.1 and OpenID Connect Core §2: one text, never a list.
const SINGLE = new Set(['iss', 'sub', 'acr']);

export function tokenDimensions(space: Space, atoms: TokenAtoms): TokenDimensions {
  const { diagram } = space;
  const root = space.add('token', 'token', [
    { words: 'none', put: (draft) => void (draft.token = 'none') },
    { words: 'valid', odd: 0.1, put: (draft) => void (draft.token = 'present') },
    { words: 'not seen', unseen: true, odd: 1, put: (draft) => void (draft.token = 'unseen') },
  ]);
  const present = space.where(root, (index) => index === 1);
  const seen = space.where(root, (index) => index < 2);
  const matches = [...atoms.claims, ...atoms.tokens.flatMap(claimsOf)];
  const variables = claimVariables(space, matches);
  const age = ageDimension(
    space,
    atoms.tokens.flatMap(({ maxAuthAge }) => maxAuthAge ?? []),
  );
  const holds = (match: ClaimMatch): Node => {
    const variable = variables.get(pathKey(match.path));
    return variable === undefined ? 0 : claimHolds(space, variable, match);
  };
  /** No token is no; one that is not seen is unknown. */
  const withToken = (node: Node): Leaf => space.onlyWhere(seen, certain(diagram.and(present, node)));
  return {
    seen,
    present,
    variable: (path) => variables.get(pathKey(path)),
    constraint: diagram.and(...nesting(space, [...variables.values()])),
    claim: (match) => withToken(holds(match)),
    token: (match) =>
      withToken(
        diagram.and(
          ...claimsOf(match).map(holds),
          match.maxAuthAge === undefined ? 1 : age(match.maxAuthAge),
        ),
      ),
  };
}

/** Everything that a token match says, but for the age, as conditions on claims. */
function claimsOf(match: TokenMatch): readonly ClaimMatch[] {
  const one = (name: string, values: readonly string[] | undefined): readonly ClaimMatch[] =>
    values === undefined ? [] : [{ path: [name], operator: 'In', values }];
  return [
    ...one('iss', match.issuers),
    ...one('aud', match.audiences),
    ...one('sub', match.subjects),
    ...one('acr', match.acr),
    ...(match.amr === undefined
      ? []
      : [{ path: ['amr'], operator: 'ContainsAll', values: match.amr } as const]),
    ...(match.claims ?? []),
  ];
}

function claimVariables(
  space: Space,
  matches: readonly ClaimMatch[],
): ReadonlyMap<string, StructuredVariable> {
  const byPath = new Map<string, { path: readonly string[]; values: Set<string> }>();
  for (const { path, values } of matches) {
    const entry = byPath.get(pathKey(path)) ?? { path, values: new Set() };
    byPath.set(pathKey(path), entry);
    for (const value of values) entry.values.add(value);
  }
  const paths = [...byPath.values()].map(({ path }) => path);
  return new Map(
    [...byPath].map(([key, { path, values }]) => [
      key,
      structuredVariable(space, {
        field: 'token',
        name: `claim ${path.join('.')}`,
        path,
        named: [...values],
        ...(SINGLE.has(key) ? {} : { listed: [...values] }),
        object: paths.some((inner) => within(inner, path)),
        drafts: ({ claims }) => claims,
      }),
    ]),
  );
}

function claimHolds({ diagram }: Space, variable: StructuredVariable, match: ClaimMatch): Node {
  switch (match.operator) {
    case 'Exists':
      return variable.present;
    case 'DoesNotExist':
      return diagram.not(variable.present);
    case 'In':
      return diagram.or(...match.values.map(variable.holds));
    case 'NotIn':
      return diagram.not(diagram.or(...match.values.map(variable.holds)));
    case 'ContainsAll':
      return diagram.and(...match.values.map(variable.holds));
  }
}

/** A claim within another can only be there when the other is an object. */
function nesting({ diagram }: Space, variables: readonly StructuredVariable[]): readonly Node[] {
  return variables.flatMap((outer) =>
    variables
      .filter((inner) => within(inner.path, outer.path))
      .map((inner) => diagram.or(diagram.not(inner.present), outer.object)),
  );
}

/** How long ago the end user was authenticated: within each bound that is named, longer ago, or not said. */
function ageDimension(space: Space, bounds: readonly number[]): (bound: number) => Node {
  const sorted = [...new Set(bounds)].sort((a, b) => a - b);
  if (sorted.length === 0) return () => 0;
  const last = sorted.at(-1) ?? 0;
  const dimension = space.add('token', 'authentication', [
    ...sorted.map((bound): ValueClass => ({
      words: `at most ${bound / 1000} s ago`,
      put: (draft) => void (draft.authAge = bound),
    })),
    { words: 'longer ago', put: (draft) => void (draft.authAge = last + 60_000) },
    { words: 'at a time not said', put: (draft) => void (draft.authAge = undefined) },
  ]);
  return (bound) => space.where(dimension, (index) => (sorted[index] ?? Infinity) <= bound);
}

function within(inner: readonly string[], outer: readonly string[]): boolean {
  return inner.length > outer.length && outer.every((name, index) => inner[index] === name);
}
