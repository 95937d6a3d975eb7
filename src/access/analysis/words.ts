import type { Cube } from './diagram.js';
import { FIELDS, type Dimension, type Field, type Space } from './space.js';

/** Longer lists of values are cut, and say so. */
const MAX_LISTED = 6;

/** What requests of a class have in common in one dimension; what is not said may be anything. */
export interface ClassPart {
  readonly field: Field;
  /** `port`, `header x-team`. */
  readonly name: string;
  readonly words: string;
}

/** A cube in words, one part for each dimension that it narrows. */
export function describeCube(space: Space, cube: Cube): readonly ClassPart[] {
  const parts = cube.flatMap(([variable, values]): readonly ClassPart[] => {
    const dimension = space.dimensions[variable];
    if (dimension === undefined) return [];
    // What every plain request has need not be said.
    const plain = [...dimension.classes.keys()].filter((value) => dimension.classes[value]?.unseen !== true);
    if (values.length === plain.length && plain.every((value) => values.includes(value))) return [];
    if (
      dimension.field === 'action' &&
      dimension.name === 'request' &&
      values[0] === 0 &&
      values.length === 1
    )
      return [];
    return [{ field: dimension.field, name: dimension.name, words: valuesInWords(dimension, values) }];
  });
  return parts.sort((a, b) => FIELDS.indexOf(a.field) - FIELDS.indexOf(b.field));
}

function valuesInWords({ classes }: Dimension, values: readonly number[]): string {
  const inside = new Set(values);
  const said = classes.filter((_, index) => inside.has(index));
  const others = classes.filter((value, index) => !inside.has(index) && value.unseen !== true);
  const unseen = said.some((value) => value.unseen === true);
  if (!said.some(({ rest }) => rest === true) || others.length === 0 || unseen) return listed(said);
  // What is left out is what somebody named, so that says more.
  return `any but ${listed(others)}`;
}

function listed(classes: readonly { readonly words: string }[]): string {
  const words = classes.map((each) => each.words);
  if (words.length <= MAX_LISTED) return words.join(', ');
  return `${words.slice(0, MAX_LISTED).join(', ')} and ${words.length - MAX_LISTED} more`;
}

/** All parts in one line. */
export function sentence(parts: readonly ClassPart[]): string {
  if (parts.length === 0) return 'every request';
  return parts.map(({ name, words }) => `${name}: ${words}`).join('; ');
}
