import type { Node } from '../diagram.js';
import type { Draft, StructuredDraft } from '../draft.js';
import { fresh, type Field, type Space, type ValueClass } from '../space.js';

/** A value that is absent, one text, a list of texts or an object: a claim or an attribute. */
export interface StructuredVariable {
  readonly path: readonly string[];
  readonly present: Node;
  readonly object: Node;
  readonly list: Node;
  /** Where it is one text, by text; the last one stands for all that are not named. */
  readonly scalars: ReadonlyMap<string, Node>;
  /** Where it is, or lists, a text. */
  readonly holds: (text: string) => Node;
}

export interface StructuredSpec {
  readonly field: Field;
  /** For people: `claim department`. */
  readonly name: string;
  readonly path: readonly string[];
  readonly named: readonly string[];
  /** Texts of which it matters whether a list holds them; without, there are no lists. */
  readonly listed?: readonly string[];
  readonly object: boolean;
  readonly drafts: (draft: Draft) => Map<string, StructuredDraft>;
}

export function structuredVariable(space: Space, spec: StructuredSpec): StructuredVariable {
  const { field, name, path, named, listed, object } = spec;
  const texts = [...named, fresh('other', new Set(named))];
  const other = texts.at(-1) ?? '';
  const draftOf = (draft: Draft): StructuredDraft => {
    const drafts = spec.drafts(draft);
    const key = pathKey(path);
    let value = drafts.get(key);
    if (value === undefined) {
      value = { path, shape: 'absent', value: '', other, members: [] };
      drafts.set(key, value);
    }
    return value;
  };
  const shaped =
    (shape: StructuredDraft['shape']): ValueClass['put'] =>
    (draft) =>
      void (draftOf(draft).shape = shape);
  const classes: ValueClass[] = [
    { words: 'absent', put: shaped('absent') },
    ...texts.map((value, index): ValueClass => ({
      words: index < named.length ? JSON.stringify(value) : 'any other value',
      ...(index < named.length ? {} : { rest: true }),
      put: (draft) => void Object.assign(draftOf(draft), { shape: 'one', value }),
    })),
  ];
  const listAt =
    listed === undefined ? -1 : classes.push({ words: 'a list', odd: 0.5, put: shaped('list') }) - 1;
  const objectAt = object ? classes.push({ words: 'an object', odd: 0.5, put: shaped('object') }) - 1 : -1;
  const shape = space.add(field, name, classes);
  const list = space.where(shape, (index) => index === listAt);
  const members = new Map<string, Node>();
  for (const value of new Set(listed)) {
    const member = space.add(field, `${name} lists ${JSON.stringify(value)}`, [
      { words: 'no', put: () => undefined },
      { words: 'yes', odd: 0.1, put: (draft) => void draftOf(draft).members.push(value) },
    ]);
    members.set(
      value,
      space.where(member, (index) => index === 1),
    );
  }
  const scalars = new Map(
    texts.map((text, at) => [text, space.where(shape, (index) => index === at + 1)] as const),
  );
  return {
    path,
    present: space.where(shape, (index) => index > 0),
    object: space.where(shape, (index) => index === objectAt),
    list,
    scalars,
    holds: (text) =>
      space.diagram.or(scalars.get(text) ?? 0, space.diagram.and(list, members.get(text) ?? 0)),
  };
}

export const pathKey = (path: readonly string[]): string => path.join('\0');
