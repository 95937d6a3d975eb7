import { isComparable } from './attribute-texts.js';
import type { AttributeMatch, Conditions } from '../policy/model.js';

/**
 * The conditions that are compared by their text alone, by name: one is the same as itself, and nothing else is known of
 * it. CEL, and attributes that are made of other parts of a
 * request or lie deep within one.
 */
export function opaqueNames({ cel, attributes }: Conditions): readonly string[] {
  return [
    ...(cel === undefined ? [] : [`CEL ${cel.text}`]),
    ...(attributes ?? [])
      .filter((match) => !isComparable(match))
      .map((match) => `attribute ${attributeText(match)}`),
  ];
}

function attributeText({ path, operator, values, other }: AttributeMatch): string {
  const right =
    other === undefined ? values.map((value) => JSON.stringify(value)).join(', ') : other.join('.');
  return `${path.join('.')} ${operator}${right === '' ? '' : ` ${right}`}`;
}
