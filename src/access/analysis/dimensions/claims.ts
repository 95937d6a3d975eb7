import type { ClaimMatch, TokenMatch } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import type { ClaimDraft, Draft } from '../draft.js';
import { certain, fresh, type Leaf, type Space, type ValueClass } from '../space.js';

/** Tokens of end users: whether there is one, and what its claims may be. */
export interface TokenDimensions {
  readonly seen: Node;
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

/** One claim: absent, one value, a list or an object. */
interface ClaimVariable {
  readonly path: readonly string[];
  readonly present: Node;
  /** Absent where no claim within it is named. */
  readonly object: Node | undefined;
  /** Where the claim is, or holds, a value. */
  readonly holds: (value: string) => Node;
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
    const variable = variables.get(keyOf(match.path));
    return variable === undefined ? 0 : claimHolds(space, variable, match);
  };
  /** No token is no; one that is not seen is unknown. */
  const withToken = (node: Node): Leaf => space.onlyWhere(seen, certain(diagram.and(present, node)));
  return {
    seen,
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

function claimVariables(space: Space, matches: readonly ClaimMatch[]): ReadonlyMap<string, ClaimVariable> {
  const byPath = new Map<string, { path: readonly string[]; values: Set<string> }>();
  for (const { path, values } of matches) {
    const entry = byPath.get(keyOf(path)) ?? { path, values: new Set() };
    byPath.set(keyOf(path), entry);
    for (const value of values) entry.values.add(value);
    // The objects around it are claims too, which may be named by themselves.
  }
  const paths = [...byPath.values()].map(({ path }) => path);
  return new Map(
    [...byPath].map(([key, { path, values }]) => [
      key,
      claimVariable(
        space,
        path,
        [...values],
        paths.some((inner) => within(inner, path)),
      ),
    ]),
  );
}

function claimVariable(
  space: Space,
  path: readonly string[],
  named: readonly string[],
  hasInner: boolean,
): ClaimVariable {
  const other = fresh('other', new Set(named));
  const name = path.join('.');
  const key = keyOf(path);
  const draftOf = (draft: Draft): ClaimDraft => {
    let claim = draft.claims.get(key);
    if (claim === undefined) {
      claim = { path, shape: 'absent', value: '', other, members: [] };
      draft.claims.set(key, claim);
    }
    return claim;
  };
  const single = SINGLE.has(key);
  const shapes: ValueClass[] = [
    { words: 'absent', put: (draft) => void (draftOf(draft).shape = 'absent') },
    ...[...named, other].map((value, index): ValueClass => ({
      words: index < named.length ? JSON.stringify(value) : 'any other value',
      ...(index < named.length ? {} : { rest: true }),
      put: (draft) => void Object.assign(draftOf(draft), { shape: 'one', value }),
    })),
  ];
  const list = single ? -1 : shapes.push({ words: 'a list', odd: 0.5, put: putShape('list') }) - 1;
  const object = hasInner ? shapes.push({ words: 'an object', odd: 0.5, put: putShape('object') }) - 1 : -1;
  function putShape(shape: ClaimDraft['shape']): ValueClass['put'] {
    return (draft) => void (draftOf(draft).shape = shape);
  }
  const shape = space.add('token', `claim ${name}`, shapes);
  const members = new Map<string, Node>();
  for (const value of single ? [] : named) {
    const member = space.add('token', `claim ${name} lists ${JSON.stringify(value)}`, [
      { words: 'no', put: () => undefined },
      { words: 'yes', odd: 0.1, put: (draft) => void draftOf(draft).members.push(value) },
    ]);
    members.set(
      value,
      space.where(member, (index) => index === 1),
    );
  }
  const inList = space.where(shape, (index) => index === list);
  return {
    path,
    present: space.where(shape, (index) => index > 0),
    object: hasInner ? space.where(shape, (index) => index === object) : undefined,
    holds: (value) =>
      space.diagram.or(
        space.where(shape, (index) => named[index - 1] === value),
        space.diagram.and(inList, members.get(value) ?? 0),
      ),
  };
}

function claimHolds({ diagram }: Space, variable: ClaimVariable, match: ClaimMatch): Node {
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
function nesting({ diagram }: Space, variables: readonly ClaimVariable[]): readonly Node[] {
  return variables.flatMap((outer) =>
    variables
      .filter((inner) => outer.object !== undefined && within(inner.path, outer.path))
      .map((inner) => diagram.or(diagram.not(inner.present), outer.object ?? 1)),
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

const keyOf = (path: readonly string[]): string => path.join('\0');

function within(inner: readonly string[], outer: readonly string[]): boolean {
  return inner.length > outer.length && outer.every((name, index) => inner[index] === name);
}
