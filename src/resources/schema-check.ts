import { checkRule, isTransitionRule } from './cel-rules.js';
import { didYouMean } from '../lib/did-you-mean.js';
import { error, quote } from './names.js';
import type { FieldPath, Problem } from './problem.js';
import type {
  CelRule,
  IntegerNode,
  ListNode,
  MapNode,
  ObjectNode,
  SchemaNode,
  StringNode,
} from './schema.js';

/*
 * A checker of our own rather than ajv over the JSON schema: the problems name what was meant (a field that was
 * misspelt, a number that wants quotes), which a general validator cannot know, the rules in CEL run in the same pass,
 * and defaults are filled in without changing the input.
 */

/** More problems than anybody mends in one go. */
const MAX_PROBLEMS = 50;

/** A value judged by a schema. */
export interface Checked {
  /** With defaults filled in; of no use where there is a problem. */
  readonly value: unknown;
  readonly problems: readonly Problem[];
}

/** Judges a value by a schema: form, unknown fields, defaults, and rules. The input is not changed. */
export function checkSchema(node: SchemaNode, value: unknown, path: FieldPath = []): Checked {
  const check = new Check();
  return { value: check.visit(node, value, path), problems: check.problems };
}

class Check {
  readonly problems: Problem[] = [];

  visit(node: SchemaNode, value: unknown, path: FieldPath): unknown {
    if (this.problems.length >= MAX_PROBLEMS) return value;
    const before = this.problems.length;
    const result = this.#form(node, value, path);
    // Rules rely on the form.
    if (this.problems.length === before) this.#rules(node.rules ?? [], result, path);
    return result;
  }

  #form(node: SchemaNode, value: unknown, path: FieldPath): unknown {
    if (value === null) {
      // The API server takes it for a field that is not there: an empty `podSelector:` would select every pod.
      this.#add(path, 'has no value', 'write a value, or remove the line');
      return value;
    }
    switch (node.type) {
      case 'object':
        return this.#object(node, value, path);
      case 'map':
        return this.#map(node, value, path);
      case 'list':
        return this.#list(node, value, path);
      case 'string':
        return this.#string(node, value, path);
      case 'integer':
        return this.#integer(node, value, path);
      case 'boolean':
        return this.#boolean(node.only === true, value, path);
    }
  }

  #object(node: ObjectNode, value: unknown, path: FieldPath): unknown {
    if (!isRecord(value)) return this.#wrongType('an object with fields', value, path);
    for (const key of Object.keys(value)) if (!node.properties.has(key)) this.#unknown(node, key, path);
    const result: Record<string, unknown> = {};
    for (const [key, field] of node.properties) {
      const given = Object.hasOwn(value, key) ? value[key] : undefined;
      const present =
        given ?? (given === undefined || field.node.default !== undefined ? field.node.default : given);
      if (present === undefined) {
        if (!field.optional)
          this.#add([...path, key], 'is missing', 'write it: ' + lowerFirst(field.node.description));
      } else result[key] = this.visit(field.node, present, [...path, key]);
    }
    return result;
  }

  #unknown(node: ObjectNode, key: string, path: FieldPath): void {
    const known = [...node.properties.keys()];
    const near = didYouMean(key, known);
    const fix = near === undefined ? `known here are ${known.join(', ')}` : `did you mean ${near}?`;
    this.#add([...path, key], `there is no field ${quote(key)}`, fix);
  }

  #map(node: MapNode, value: unknown, path: FieldPath): unknown {
    if (!isRecord(value)) return this.#wrongType('a map', value, path);
    const entries = Object.entries(value);
    if (entries.length > node.maxProperties) {
      this.#add(path, `has ${entries.length} entries; at most ${node.maxProperties} are allowed`);
      return value;
    }
    for (const [key, item] of entries) this.visit(node.value, item, [...path, key]);
    return value;
  }

  #list(node: ListNode, value: unknown, path: FieldPath): unknown {
    if (!Array.isArray(value))
      return this.#wrongType('a list', value, path, 'put "- " in front of each entry');
    const items = value as readonly unknown[];
    const { minItems = 0, maxItems } = node;
    if (items.length < minItems) {
      this.#add(path, 'is an empty list', 'remove it, or write at least one entry');
      return value;
    }
    if (items.length > maxItems) {
      this.#add(path, `has ${items.length} entries; at most ${maxItems} are allowed`);
      return value;
    }
    const result = items.map((item, index) => this.visit(node.items, item, [...path, index]));
    if (node.unique !== undefined) this.#unique(node.unique, result, path);
    return result;
  }

  #unique(unique: NonNullable<ListNode['unique']>, items: readonly unknown[], path: FieldPath): void {
    const seen = new Map<unknown, number>();
    items.forEach((item, index) => {
      const key = unique === 'set' ? item : isRecord(item) ? item[unique.key] : undefined;
      const first = seen.get(key);
      if (first === undefined || key === undefined) seen.set(key, index);
      else {
        const at = unique === 'set' ? [...path, index] : [...path, index, unique.key];
        this.#add(
          at,
          `${quote(key)} stands twice in this list (first as entry ${first + 1})`,
          'remove one of the two',
        );
      }
    });
  }

  #string(node: StringNode, value: unknown, path: FieldPath): unknown {
    if (typeof value !== 'string') {
      const fix = isScalar(value) ? `write it in quotes: ${quote(String(value))}` : undefined;
      return this.#wrongType('a text', value, path, fix);
    }
    if (node.values !== undefined && !node.values.includes(value)) {
      const near = didYouMean(value, node.values);
      const fix = near === undefined ? `write one of ${node.values.join(', ')}` : `did you mean ${near}?`;
      this.#add(path, `${quote(value)} is none of ${node.values.join(', ')}`, fix);
      return value;
    }
    this.#length(node, value, path);
    if (value.length > (node.maxLength ?? Infinity)) return value;
    if (node.instant === true && !isDateTime(value)) {
      this.#add(path, `${quote(value)} is no date and time`, node.form);
    } else if (node.pattern !== undefined && !new RegExp(node.pattern, 'u').test(value)) {
      this.#add(path, `${quote(value)} is not right here`, node.form);
    }
    return value;
  }

  #length(node: StringNode, value: string, path: FieldPath): void {
    // The API server counts code points.
    const length = Array.from(value).length;
    if (length < (node.minLength ?? 0)) {
      this.#add(
        path,
        value === '' ? 'is empty' : `has ${length} characters; at least ${node.minLength ?? 0} are needed`,
      );
    }
    if (node.maxLength !== undefined && length > node.maxLength) {
      this.#add(path, `has ${length} characters; at most ${node.maxLength} are allowed`);
    }
  }

  #integer(node: IntegerNode, value: unknown, path: FieldPath): unknown {
    if (typeof value !== 'number' || !Number.isInteger(value)) {
      const fix =
        typeof value === 'string' && /^-?[0-9]+$/.test(value) ? `write ${value} without quotes` : undefined;
      return this.#wrongType('a whole number', value, path, fix);
    }
    if (value < node.minimum || value > node.maximum) {
      this.#add(path, `${value} is out of range`, `write a number from ${node.minimum} to ${node.maximum}`);
    }
    return value;
  }

  #boolean(onlyTrue: boolean, value: unknown, path: FieldPath): unknown {
    if (typeof value !== 'boolean') {
      const meant = typeof value === 'string' ? BOOLEAN_WORDS.get(value.toLowerCase()) : undefined;
      return this.#wrongType(
        'true or false',
        value,
        path,
        meant === undefined ? undefined : `write ${meant}`,
      );
    }
    if (onlyTrue && !value) this.#add(path, 'can only be true', 'remove the line to say no');
    return value;
  }

  #rules(rules: readonly CelRule[], value: unknown, path: FieldPath): void {
    for (const rule of rules) {
      if (isTransitionRule(rule)) continue;
      const verdict = checkRule(rule, value);
      if (verdict === 'broken') this.#add(path, rule.message, rule.fix);
      // As in the API server: what cannot be judged is not let through.
      else if (verdict !== 'holds') this.#add(path, `${rule.message} (${verdict.failed})`, rule.fix);
    }
  }

  #wrongType(wanted: string, value: unknown, path: FieldPath, fix?: string): unknown {
    this.#add(path, `must be ${wanted}, not ${kindOf(value)}`, fix);
    return value;
  }

  #add(path: FieldPath, message: string, fix?: string): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(error(path, message, fix));
  }
}

const BOOLEAN_WORDS: ReadonlyMap<string, string> = new Map([
  ['true', 'true'],
  ['yes', 'true'],
  ['on', 'true'],
  ['false', 'false'],
  ['no', 'false'],
  ['off', 'false'],
]);

const DATE_TIME =
  /^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$/;

/** RFC 3339, of a day that there is. */
export function isDateTime(text: string): boolean {
  const match = DATE_TIME.exec(text);
  if (match === null) return false;
  // Date.parse takes the 31st of February for the 3rd of March.
  const day = new Date(`${text.slice(0, 10)}T00:00:00Z`);
  return day.getUTCDate() === Number(match[2]);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isScalar(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'boolean';
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object with fields';
  return quote(value);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '');
}
