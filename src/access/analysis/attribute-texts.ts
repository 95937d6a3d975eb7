import type { AttributeMatch } from '../policy/model.js';
import { compareOrdered, parseInstant } from '../policy/scalar.js';

/** Made of parts of a request that are dimensions of their own, or of the target: these are compared by their text. */
const COMPOSED: Readonly<Record<string, ReadonlySet<string>>> = {
  subject: new Set(['spiffeId', 'trustDomain', 'namespace', 'serviceAccount', 'labels', 'type', 'auth_time']),
  resource: new Set(['id', 'namespace', 'name', 'labels', 'port']),
  action: new Set(['method', 'path', 'host']),
  environment: new Set(['time', 'ip']),
};

/** Whether an attribute is compared exactly: one that is given by name, and is not made of other parts of the request. */
export function isComparable({ path, other }: AttributeMatch): boolean {
  return [path, ...(other === undefined ? [] : [other])].every(([root = '', name = '', ...deeper]) => {
    const composed = COMPOSED[root];
    return deeper.length === 0 && composed?.has(name) === false;
  });
}

type Comparison = Exclude<AttributeMatch['operator'], 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'>;

/** Whether a comparison of two texts holds; undefined when they have no order. */
export function scalarOrder(operator: Comparison, a: string, b: string): boolean | undefined {
  if (operator === 'Equals') return a === b;
  if (operator === 'NotEquals') return a !== b;
  const order = compareOrdered(a, b);
  if (order === undefined) return undefined;
  switch (operator) {
    case 'GreaterThan':
      return order > 0;
    case 'AtLeast':
      return order >= 0;
    case 'LessThan':
      return order < 0;
    case 'AtMost':
      return order <= 0;
  }
}

/**
 * Texts that attributes may have: those that are named, two that are not, and around everything that is put in order two
 * on each side, so that two attributes may stand to each other in every way.
 */
export function attributeTexts(
  matches: readonly AttributeMatch[],
  callers: readonly string[],
): readonly string[] {
  const named = new Set(matches.flatMap(({ values }) => values));
  const ordered = matches.filter(({ operator }) =>
    ['GreaterThan', 'AtLeast', 'LessThan', 'AtMost'].includes(operator),
  );
  const texts = new Set([...named, 'other-value', 'other-value-2']);
  if (
    matches.some(({ other }) => other?.join('.') === 'subject.id') ||
    matches.some(({ path, other }) => other !== undefined && path.join('.') === 'subject.id')
  ) {
    for (const uri of callers) texts.add(uri);
  }
  if (ordered.length === 0) return [...texts];
  const bounds = ordered.flatMap(({ values }) => values);
  for (const text of between(bounds, Number, String)) texts.add(text);
  const instants = bounds.filter((text) => parseInstant(text) !== undefined);
  if (instants.length > 0) {
    for (const text of between(
      instants,
      (one) => parseInstant(one) ?? Number.NaN,
      (time) => new Date(time).toISOString(),
    )) {
      texts.add(text);
    }
  }
  return [...texts];
}

/** Two values below all, above all, and between each two. */
function between(
  texts: readonly string[],
  read: (text: string) => number,
  write: (value: number) => string,
): readonly string[] {
  const values = [...new Set(texts.map(read).filter((value) => Number.isFinite(value)))].sort(
    (a, b) => a - b,
  );
  const all = values.length === 0 ? [0] : values;
  const step = 3000;
  const first = (all[0] ?? 0) - step;
  const last = (all.at(-1) ?? 0) + step;
  return [first, ...all, last].flatMap((value, index, list) => {
    const next = list[index + 1];
    if (next === undefined) return [write(value)];
    return [write(value), write(value + (next - value) / 3), write(value + ((next - value) * 2) / 3)];
  });
}
