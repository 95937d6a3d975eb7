import type { PolicyProblem } from './model.js';

/**
 * Reading of input whose shape nobody has checked yet. Each reader tells the report what is wrong and answers
 * undefined; whoever asked goes on, so that one pass finds every problem.
 */
export class ProblemReport {
  readonly problems: PolicyProblem[] = [];

  add(field: string, message: string): void {
    this.problems.push({ field, message });
    return undefined;
  }
}

/** The longest list that is read, in every place of a policy. */
export const MAX_LIST = 4096;

/** A text for a message: short, and safe to print. */
export function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? typeof value);
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** Whether a value is an object, and no list. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An object with no other fields than these: a misspelt field must never read as "any". */
export function readObject(
  value: unknown,
  field: string,
  known: readonly string[],
  report: ProblemReport,
): Readonly<Record<string, unknown>> | undefined {
  if (!isRecord(value)) {
    report.add(field, 'must be an object');
    return undefined;
  }
  for (const key of Object.keys(value)) {
    if (value[key] !== undefined && !known.includes(key)) {
      report.add(
        `${field}.${key}`,
        `is not a field that this version understands; known are ${known.join(', ')}`,
      );
    }
  }
  return value;
}

/** A list that is there and not empty; undefined when the field is absent. */
export function readList(
  value: unknown,
  field: string,
  report: ProblemReport,
): readonly unknown[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) {
    report.add(field, 'must be a list');
    return undefined;
  }
  if (value.length === 0) {
    report.add(field, 'is an empty list; leave the field out, or say what it holds');
    return undefined;
  }
  if (value.length > MAX_LIST) {
    report.add(field, `has ${value.length} entries; ${MAX_LIST} are allowed`);
    return undefined;
  }
  return value as readonly unknown[];
}

/** A list of texts, each mapped by `parse`, which reports and answers undefined for what it does not accept. */
export function readTexts<T>(
  value: unknown,
  field: string,
  report: ProblemReport,
  parse: (text: string, field: string) => T | undefined,
  options: { readonly empty?: boolean } = {},
): readonly T[] | undefined {
  const list = readList(value, field, report);
  if (list === undefined) return undefined;
  const result: T[] = [];
  for (const [index, item] of list.entries()) {
    const at = `${field}[${index}]`;
    if (typeof item !== 'string' || (item === '' && options.empty !== true)) {
      report.add(at, options.empty === true ? 'must be a text' : 'must be a text that is not empty');
    } else {
      const parsed = parse(item, at);
      if (parsed !== undefined) result.push(parsed);
    }
  }
  return result;
}

/** One of a few words, or `fallback` when absent. */
export function readWord<T extends string>(
  value: unknown,
  field: string,
  words: readonly T[],
  fallback: T | undefined,
  report: ProblemReport,
): T | undefined {
  if (value === undefined && fallback !== undefined) return fallback;
  const word = words.find((candidate) => candidate === value);
  if (word === undefined) report.add(field, `${shown(value)} is none of ${words.join(', ')}`);
  return word;
}

/** Port numbers. */
export function readPorts(
  value: unknown,
  field: string,
  report: ProblemReport,
): readonly number[] | undefined {
  const list = readList(value, field, report);
  if (list === undefined) return undefined;
  const ports: number[] = [];
  for (const [index, item] of list.entries()) {
    if (typeof item === 'number' && Number.isInteger(item) && item >= 1 && item <= 65535) ports.push(item);
    else report.add(`${field}[${index}]`, `${shown(item)} is no port; write a number from 1 to 65535`);
  }
  return ports;
}
