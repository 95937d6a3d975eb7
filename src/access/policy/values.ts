import type { HttpRequest, ValueMatch } from './model.js';
import { readList, readObject, readTexts, readWord, type ProblemReport } from './read.js';
import { allOf, not, of, type Match } from './three-valued.js';

/** An operator, `In` unless said, and the values that it takes. */
export function readOperatorAndValues<T extends string>(
  record: Readonly<Record<string, unknown>>,
  operators: readonly T[],
  field: string,
  report: ProblemReport,
): { readonly operator: T; readonly values: readonly string[] } | undefined {
  const fallback = operators.find((word) => word === 'In');
  const operator = readWord(record['operator'], `${field}.operator`, operators, fallback, report);
  if (operator === undefined) return undefined;
  if (operator === 'Exists' || operator === 'DoesNotExist') {
    if (record['values'] === undefined) return { operator, values: [] };
    report.add(`${field}.values`, `does not go with ${operator}; leave it out`);
    return undefined;
  }
  const list = readTexts(record['values'], `${field}.values`, report, (text) => text, { empty: true });
  if (list !== undefined) return { operator, values: list };
  if (record['values'] === undefined) report.add(`${field}.values`, `must be given with ${operator}`);
  return undefined;
}

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;
const HEADER = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;

/** Headers or query parameters; names of headers in lower case. */
export function readValueMatches(
  value: unknown,
  field: string,
  kind: 'header' | 'parameter',
  report: ProblemReport,
): readonly ValueMatch[] | undefined {
  return readList(value, field, report)?.flatMap((entry, index) => {
    const at = `${field}[${index}]`;
    const record = readObject(entry, at, ['name', 'operator', 'values'], report);
    if (record === undefined) return [];
    const { name } = record;
    const right = typeof name === 'string' && (kind === 'header' ? HEADER.test(name) : name !== '');
    if (!right) report.add(`${at}.name`, `must be the name of a ${kind}`);
    const match = readOperatorAndValues(record, OPERATORS, at, report);
    if (!right || match === undefined) return [];
    return [{ name: kind === 'header' ? name.toLowerCase() : name, ...match }];
  });
}

/**
 * Headers, as they reach us: lines of one name joined by ",". What programs could split in two ways is unknown.
 */
export function matchesHeaders(matches: readonly ValueMatch[], headers: HttpRequest['headers']): Match {
  if (headers === undefined) return 'unknown';
  return allOf(matches, ({ name, operator, values }) => {
    const value: unknown = Object.hasOwn(headers, name) ? headers[name] : undefined;
    if (operator === 'Exists') return of(value !== undefined);
    if (operator === 'DoesNotExist') return of(value === undefined);
    const isIn = headerIn(value, values);
    return operator === 'In' ? isIn : not(isIn);
  });
}

function headerIn(value: unknown, values: readonly string[]): Match {
  if (value === undefined) return 'no';
  if (typeof value !== 'string') return 'unknown';
  if (values.includes(value)) return 'yes';
  if (!value.includes(',')) return 'no';
  return value.split(',').some((member) => values.includes(member.trim())) ? 'unknown' : 'no';
}

/** Every value of every parameter; undefined when the query cannot be decoded in one way. */
export type Query = ReadonlyMap<string, readonly string[]> | undefined;

/** Reads the query of a request target (application/x-www-form-urlencoded: "+" is a space). */
export function parseQuery(target: string): Query {
  const mark = target.indexOf('?');
  const parameters = new Map<string, string[]>();
  if (mark < 0) return parameters;
  for (const part of target.slice(mark + 1).split('&')) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const name = decoded(equals < 0 ? part : part.slice(0, equals));
    const value = decoded(equals < 0 ? '' : part.slice(equals + 1));
    if (name === undefined || value === undefined) return undefined;
    const known = parameters.get(name);
    if (known === undefined) parameters.set(name, [value]);
    else known.push(value);
  }
  return parameters;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

export function matchesQuery(matches: readonly ValueMatch[], query: Query): Match {
  if (query === undefined) return 'unknown';
  return allOf(matches, ({ name, operator, values }) => {
    const found = query.get(name) ?? [];
    if (operator === 'Exists') return of(found.length > 0);
    if (operator === 'DoesNotExist') return of(found.length === 0);
    const isIn = parameterIn(found, values);
    return operator === 'In' ? isIn : not(isIn);
  });
}

function parameterIn(found: readonly string[], values: readonly string[]): Match {
  const count = found.filter((value) => values.includes(value)).length;
  if (count === 0) return 'no';
  return count === found.length ? 'yes' : 'unknown';
}
