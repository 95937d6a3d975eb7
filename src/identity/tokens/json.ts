import { isUtf8 } from 'node:buffer';
import { refuse } from './refusal.js';

/** A JSON object that cannot be changed, at any depth. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** The deepest nesting of claims. */
export const MAX_DEPTH = 16;
/** The most values (members and list items, at all depths) in one part of a token. */
export const MAX_VALUES = 4096;

/**
 * Reads one part of a token: UTF-8 without a byte order mark, one JSON object, each member once (RFC 7519 §4: two readers
 * must not see two tokens), bounded in depth and number. Deep-frozen, because cached claims are shared by all requests.
 *
 * @throws TokenRefusal `TokenMalformed`
 */
export function readJsonPart(bytes: Buffer, what: string): JsonObject {
  if (!isUtf8(bytes)) malformed(`the ${what} is not UTF-8`);
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without the cause: the parser's message quotes the text, which is part of a secret.
    malformed(`the ${what} is no JSON`);
  }
  if (!isObject(value)) malformed(`the ${what} is no JSON object`);
  const count = { values: 0, members: 0 };
  freeze(value, 1, count, what);
  // Of a member that comes twice the parser keeps the last one: then the tree has fewer members than the text.
  if (count.members !== membersIn(text)) malformed(`the ${what} has a member twice`);
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformed(reason: string): never {
  refuse('TokenMalformed', reason);
}

interface Count {
  values: number;
  members: number;
}

function freeze(value: unknown, depth: number, count: Count, what: string): void {
  if (++count.values > MAX_VALUES) malformed(`the ${what} has more than ${MAX_VALUES} values`);
  if (typeof value === 'string') checkText(value, what);
  // 1e999 reads as Infinity, which is no JSON any more.
  else if (typeof value === 'number' && !Number.isFinite(value))
    malformed(`the ${what} has a number that is too large`);
  if (typeof value !== 'object' || value === null) return;
  if (depth > MAX_DEPTH) malformed(`the ${what} is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    for (const item of value) freeze(item, depth + 1, count, what);
  } else {
    for (const [name, item] of Object.entries(value)) {
      count.members++;
      checkText(name, what);
      // A name that is no claim's, and that changes the object when a careless reader copies it.
      if (name === '__proto__') malformed(`the ${what} has a member "__proto__"`);
      freeze(item, depth + 1, count, what);
    }
  }
  Object.freeze(value);
}

/** Half of a surrogate pair: two different ones are the same text once they are written as UTF-8. */
function checkText(text: string, what: string): void {
  if (!text.isWellFormed()) malformed(`the ${what} has a text that is no Unicode`);
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
