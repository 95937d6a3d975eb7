import { isUtf8 } from 'node:buffer';

/** A JSON object that cannot be changed, at any depth. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** How large a JSON text may be that comes from outside. */
export interface JsonBounds {
  /** The deepest nesting. */
  readonly maxDepth: number;
  /** The most values (members and list items, at all depths). */
  readonly maxValues: number;
}

/** The object, or what is wrong with the text; the problem goes on from "the …" and quotes nothing of the text. */
export type JsonReading = { readonly object: JsonObject } | { readonly problem: string };

/**
 * Reads JSON that two readers cannot take for two things (RFC 8259 §4, RFC 7519 §4): UTF-8 without a byte order mark, one
 * object, each member once, finite numbers, texts of whole characters; bounded in depth and number. Deep-frozen.
 */
export function readStrictJson(bytes: Buffer, bounds: JsonBounds): JsonReading {
  if (!isUtf8(bytes)) return { problem: 'is not UTF-8' };
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without the parser's message: it quotes the text, which may be part of a secret.
    return { problem: 'is no JSON' };
  }
  if (!isObject(value)) return { problem: 'is no JSON object' };
  const count = { values: 0, members: 0 };
  const problem = freeze(value, 1, count, bounds);
  if (problem !== undefined) return { problem };
  // Of a member that comes twice the parser keeps the last one: then the tree has fewer members than the text.
  return count.members === membersIn(text) ? { object: value } : { problem: 'has a member twice' };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

interface Count {
  values: number;
  members: number;
}

/** Freezes what is as it should be; what is not is never handed out. */
function freeze(value: unknown, depth: number, count: Count, bounds: JsonBounds): string | undefined {
  if (++count.values > bounds.maxValues) return `has more than ${bounds.maxValues} values`;
  if (typeof value === 'string') return textProblem(value);
  // 1e999 reads as Infinity, which is no JSON any more.
  if (typeof value === 'number' && !Number.isFinite(value)) return 'has a number that is too large';
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth > bounds.maxDepth) return `is nested deeper than ${bounds.maxDepth} levels`;
  for (const [name, item] of Object.entries(value)) {
    const problem =
      (Array.isArray(value) ? undefined : nameProblem(name, count)) ?? freeze(item, depth + 1, count, bounds);
    if (problem !== undefined) return problem;
  }
  Object.freeze(value);
  return undefined;
}

function nameProblem(name: string, count: Count): string | undefined {
  count.members++;
  // Nobody's name for anything, and it changes the object when a careless reader copies it.
  return name === '__proto__' ? 'has a member "__proto__"' : textProblem(name);
}

/** Half of a surrogate pair: two different ones are the same text once they are written as UTF-8. */
function textProblem(text: string): string | undefined {
  return text.isWellFormed() ? undefined : 'has a text that is no Unicode';
}

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;

/** How many members all objects of a valid JSON text have: its colons outside strings. */
function membersIn(json: string): number {
  let count = 0;
  let inString = false;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) inString = !inString;
    else if (inString) at += code === BACKSLASH ? 1 : 0;
    else if (code === COLON) count++;
  }
  return count;
}
