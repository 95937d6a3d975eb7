import { isObject } from './json.js';

/** Reads the fields of one object of a configuration, and collects what is wrong with them. */
export class FieldReader {
  readonly isObject: boolean;
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #problems: string[];

  constructor(value: unknown, path: string, problems: string[]) {
    this.isObject = isObject(value);
    this.#object = isObject(value) ? value : {};
    this.#path = path;
    this.#problems = problems;
    if (!this.isObject) problems.push(`${path}: must be an object with the fields of an issuer`);
  }

  problem(field: string, what: string): void {
    this.#problems.push(`${this.#path}.${field}: ${what}`);
  }

  has(field: string): boolean {
    return this.value(field) !== undefined;
  }

  value(field: string): unknown {
    return Object.hasOwn(this.#object, field) ? this.#object[field] : undefined;
  }

  allowOnly(fields: readonly string[]): void {
    for (const name of Object.keys(this.#object))
      if (!fields.includes(name)) this.problem(name, `is unknown; the fields are ${fields.join(', ')}`);
  }

  /** Undefined when absent, and when it is wrong, which is then said. */
  text(field: string, maxLength: number): string | undefined {
    const value = this.value(field);
    if (value === undefined) return undefined;
    if (typeof value === 'string' && value !== '' && value.length <= maxLength) return value;
    this.problem(field, `must be a text of 1 to ${maxLength} characters`);
    return undefined;
  }

  texts(field: string, maxItems: number, maxLength: number): readonly string[] | undefined {
    const value = this.value(field);
    if (value === undefined) return undefined;
    const fits = (item: unknown): boolean =>
      typeof item === 'string' && item !== '' && item.length <= maxLength;
    if (Array.isArray(value) && value.length > 0 && value.length <= maxItems && value.every(fits))
      return value as string[];
    this.problem(
      field,
      `must be a list of 1 to ${maxItems} texts, each of 1 to ${maxLength} characters: write ["…"]`,
    );
    return undefined;
  }

  number(field: string, least: number, most: number): number | undefined {
    const value = this.value(field);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value >= least && value <= most) return value;
    this.problem(field, `must be a number of seconds from ${least} to ${most}`);
    return undefined;
  }
}
