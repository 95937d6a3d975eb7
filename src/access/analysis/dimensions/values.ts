import type { ValueMatch } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import type { Draft, ValueDraft } from '../draft.js';
import { certain, fresh, type Leaf, type Space, type ValueClass } from '../space.js';

/** Headers or query parameters: for each name what it may be, where the whole of them is seen. */
export interface ValueDimensions {
  matches(match: ValueMatch): Leaf;
}

/** How a kind of value is made, and what several of them in one place mean. */
interface Kind {
  readonly field: 'header' | 'query';
  readonly drafts: (draft: Draft) => Map<string, ValueDraft>;
  readonly seen: Node;
  /** Whether a value may stand as one of several. */
  readonly mayBeMember: (value: string) => boolean;
  /** Whether a condition on a value is met by several values of which these are among `asked`, and others. */
  readonly several: (space: Space, parts: Several) => Leaf;
}

interface Several {
  /** One of those asked is among them. */
  readonly some: Node;
  /** One that is not asked is among them. */
  readonly others: Node;
}

/** Where headers are seen: a value with commas might be a list, so a member that fits is unknown (RFC 9110 §5.3). */
export function headerDimensions(
  space: Space,
  matches: readonly ValueMatch[],
  httpSeen: Node,
): ValueDimensions {
  const root = space.add('header', 'headers', [
    { words: 'seen', put: (draft) => void (draft.headersSeen = true) },
    { words: 'not seen', unseen: true, odd: 1, put: (draft) => void (draft.headersSeen = false) },
  ]);
  return valueDimensions(space, matches, {
    field: 'header',
    drafts: ({ headers }) => headers,
    seen: space.diagram.and(
      httpSeen,
      space.where(root, (index) => index === 0),
    ),
    mayBeMember: (value) => !value.includes(',') && value === value.trim(),
    several: (_, { some }) => ({ yes: 0, possible: some }),
  });
}

/** A parameter may come several times: all of them among the values is yes, some of them unknown. */
export function queryDimensions(
  space: Space,
  matches: readonly ValueMatch[],
  httpSeen: Node,
): ValueDimensions {
  const root = space.add('query', 'query', [
    { words: 'can be decoded', put: (draft) => void (draft.queryBroken = false) },
    { words: 'cannot be decoded', odd: 2, put: (draft) => void (draft.queryBroken = true) },
  ]);
  return valueDimensions(space, matches, {
    field: 'query',
    drafts: ({ query }) => query,
    seen: space.diagram.and(
      httpSeen,
      space.where(root, (index) => index === 0),
    ),
    mayBeMember: () => true,
    several: ({ diagram }, { some, others }) => ({ yes: diagram.minus(some, others), possible: some }),
  });
}

function valueDimensions(space: Space, matches: readonly ValueMatch[], kind: Kind): ValueDimensions {
  const byName = new Map<string, ValueMatch[]>();
  for (const match of matches) {
    const list = byName.get(match.name);
    if (list === undefined) byName.set(match.name, [match]);
    else list.push(match);
  }
  const conditions = new Map(
    [...byName].map(([name, list]) => [name, oneName(space, name, list, kind)] as const),
  );
  return {
    matches: (match) => {
      const condition = conditions.get(match.name);
      return condition === undefined ? certain(0) : space.onlyWhere(kind.seen, condition(match));
    },
  };
}

function oneName(
  space: Space,
  name: string,
  matches: readonly ValueMatch[],
  kind: Kind,
): (match: ValueMatch) => Leaf {
  const named = [...new Set(matches.flatMap(({ values }) => values))];
  const taken = new Set(named);
  const other = fresh('other', taken);
  const label = `${kind.field === 'header' ? 'header' : 'query parameter'} ${name}`;
  const draftOf = (draft: Draft): ValueDraft => {
    const drafts = kind.drafts(draft);
    let value = drafts.get(name);
    if (value === undefined) {
      value = { name, shape: 'absent', value: '', other, members: [] };
      drafts.set(name, value);
    }
    return value;
  };
  const shape = space.add(kind.field, label, [
    { words: 'absent', put: (draft) => void (draftOf(draft).shape = 'absent') },
    ...[...named, other].map((value, index): ValueClass => ({
      words: index < named.length ? JSON.stringify(value) : 'any other value',
      ...(index < named.length ? {} : { rest: true }),
      put: (draft) => void Object.assign(draftOf(draft), { shape: 'one', value }),
    })),
    { words: 'several values', odd: 2, put: (draft) => void (draftOf(draft).shape = 'several') },
  ]);
  const several = space.where(shape, (index) => index === named.length + 2);
  const members = new Map<string, Node>();
  for (const value of [...named, other]) {
    if (!kind.mayBeMember(value)) continue;
    const member = space.add(kind.field, `${label}, among several ${JSON.stringify(value)}`, [
      { words: 'no', put: () => undefined },
      { words: 'yes', odd: 1, put: (draft) => void draftOf(draft).members.push(value) },
    ]);
    members.set(
      value,
      space.where(member, (index) => index === 1),
    );
  }
  return (match) => {
    const { diagram } = space;
    const present = space.where(shape, (index) => index > 0);
    if (match.operator === 'Exists') return certain(present);
    if (match.operator === 'DoesNotExist') return certain(diagram.not(present));
    const one = space.where(shape, (index) => match.values.includes(named[index - 1] ?? other));
    const among = kind.several(space, {
      some: diagram.or(...match.values.map((value) => members.get(value) ?? 0)),
      others: diagram.or(
        ...[...members].flatMap(([value, node]) => (match.values.includes(value) ? [] : [node])),
      ),
    });
    const holds: Leaf = {
      yes: diagram.or(one, diagram.and(several, among.yes)),
      possible: diagram.or(one, diagram.and(several, among.possible)),
    };
    return match.operator === 'In' ? holds : space.not(holds);
  };
}
