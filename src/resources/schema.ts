/*
 * A schema is written against the TypeScript type that it describes: `objectSchema<Spec>` accepts nothing but a
 * description of every key of the type, optional where the type says so, with exactly the type's own type. A field
 * that is added to the type, or a value added to a union, does not compile until the schema has it too.
 */

export type JsonValue =
  string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** A rule in CEL that the API server and `signet` both check (x-kubernetes-validations). */
export interface CelRule {
  readonly rule: string;
  /** What is wrong; shown as it is. */
  readonly message: string;
  /** What to do instead, shown with the message. */
  readonly fix?: string;
}

interface NodeBase {
  readonly description: string;
  readonly default?: JsonValue;
  readonly rules?: readonly CelRule[];
}

export interface ObjectNode extends NodeBase {
  readonly type: 'object';
  readonly properties: ReadonlyMap<string, { readonly node: SchemaNode; readonly optional: boolean }>;
}

export interface MapNode extends NodeBase {
  readonly type: 'map';
  readonly maxProperties: number;
  readonly value: StringNode;
}

export interface ListNode extends NodeBase {
  readonly type: 'list';
  readonly items: SchemaNode;
  readonly minItems?: number;
  readonly maxItems: number;
  /** `set`: no two equal items. A name: no two items with the same value of this field. */
  readonly unique?: 'set' | { readonly key: string };
}

export interface StringNode extends NodeBase {
  readonly type: 'string';
  readonly values?: readonly string[];
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  /** An RFC 3339 instant of a day that there is; the JSON schema says so by pattern and rule. */
  readonly instant?: true;
  /** What the pattern asks for, in words: "write …". */
  readonly form?: string;
}

export interface IntegerNode extends NodeBase {
  readonly type: 'integer';
  readonly minimum: number;
  readonly maximum: number;
}

export interface BooleanNode extends NodeBase {
  readonly type: 'boolean';
  /** The one value that may be written. */
  readonly only?: true;
}

export type SchemaNode = ObjectNode | MapNode | ListNode | StringNode | IntegerNode | BooleanNode;

/** The description of a `T`. Invariant in `T`: a schema for part of a union does not pass for the whole. */
export interface Schema<T> {
  readonly node: SchemaNode;
  readonly describes?: (value: T) => T;
}

/** A field that may be absent. */
export interface OptionalSchema<T> {
  readonly optional: Schema<T>;
}

/** A description of every field of `T`. */
export type Fields<T> = {
  readonly [K in keyof T]-?: Partial<Pick<T, K>> extends Pick<T, K>
    ? OptionalSchema<Exclude<T[K], undefined>>
    : Schema<T[K]>;
};

interface Common {
  readonly default?: JsonValue;
  readonly rules?: readonly CelRule[];
}

export function optional<T>(schema: Schema<T>): OptionalSchema<T> {
  return { optional: schema };
}

/** An object with these fields and no others. */
export function objectSchema<T extends object>(
  description: string,
  fields: Fields<T>,
  options: Common = {},
): Schema<T> {
  const properties = new Map<string, { node: SchemaNode; optional: boolean }>();
  const entries = Object.entries(fields) as [string, Schema<unknown> | OptionalSchema<unknown>][];
  for (const [key, field] of entries) {
    const isOptional = 'optional' in field;
    properties.set(key, { node: (isOptional ? field.optional : field).node, optional: isOptional });
  }
  return { node: { type: 'object', description, properties, ...options } };
}

/** A map from texts to texts. */
export function textMap(
  description: string,
  options: Common & { readonly maxProperties: number; readonly maxLength: number },
): Schema<Readonly<Record<string, string>>> {
  const { maxLength, ...rest } = options;
  return {
    node: { type: 'map', description, value: { type: 'string', description: '', maxLength }, ...rest },
  };
}

/** A list; bounded, because the API server bounds what rules over it may cost. */
export function list<T>(
  description: string,
  items: Schema<T>,
  options: Common & Pick<ListNode, 'minItems' | 'maxItems' | 'unique'>,
): Schema<readonly T[]> {
  return { node: { type: 'list', description, items: items.node, ...options } };
}

/** A text; `maxLength` in characters. */
export function text(
  description: string,
  options: Common &
    Omit<StringNode, keyof NodeBase | 'type' | 'values' | 'maxLength'> & { readonly maxLength: number },
): Schema<string> {
  return { node: { type: 'string', description, ...options } };
}

/** One of these words: all words of the union `T`, each once. */
export function oneOf<T extends string>(
  description: string,
  values: Readonly<Record<T, true>>,
  options: Common = {},
): Schema<T> {
  return { node: { type: 'string', description, values: Object.keys(values), ...options } };
}

export function integer(
  description: string,
  options: Common & { readonly minimum: number; readonly maximum: number },
): Schema<number> {
  return { node: { type: 'integer', description, ...options } };
}

export function flag(description: string, options: Common = {}): Schema<boolean> {
  return { node: { type: 'boolean', description, ...options } };
}

/** A field that says something by being there: its one value is `true`. */
export function marker(description: string): Schema<true> {
  return { node: { type: 'boolean', description, only: true } };
}

/** "Exactly one of these fields", as a rule. */
export function exactlyOneOf(fields: readonly string[]): CelRule {
  const named = fields.map((field) => `has(self.${field})`).join(', ');
  return { rule: `[${named}].exists_one(x, x)`, message: `exactly one of ${words(fields)} must be written` };
}

/** "At most one of these fields", as a rule. */
export function atMostOneOf(fields: readonly string[]): CelRule {
  const named = fields.map((field) => `has(self.${field})`).join(', ');
  return {
    rule: `[${named}].filter(x, x).size() <= 1`,
    message: `at most one of ${words(fields)} may be written`,
  };
}

/** "At least one of these fields", as a rule. */
export function atLeastOneOf(fields: readonly string[]): CelRule {
  const named = fields.map((field) => `has(self.${field})`).join(' || ');
  return { rule: named, message: `at least one of ${words(fields)} must be written` };
}

function words(fields: readonly string[]): string {
  return fields.length < 2 ? fields.join('') : `${fields.slice(0, -1).join(', ')} and ${fields.at(-1) ?? ''}`;
}
