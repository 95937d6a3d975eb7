import { readStrictJson, type JsonObject } from '../../lib/strict-json.js';
import { refuse } from './refusal.js';

export { isObject, type JsonObject } from '../../lib/strict-json.js';

/** The deepest nesting of claims. */
export const MAX_DEPTH = 16;
/** The most values (members and list items, at all depths) in one part of a token. */
export const MAX_VALUES = 4096;

/**
 * Reads one part of a token: one JSON object, each member once (RFC 7519 §4: two readers must not see two tokens), bounded
 * in depth and number. Deep-frozen, because cached claims are shared by all requests.
 *
 * @throws TokenRefusal `TokenMalformed`
 */
export function readJsonPart(bytes: Buffer, what: string): JsonObject {
  const reading = readStrictJson(bytes, { maxDepth: MAX_DEPTH, maxValues: MAX_VALUES });
  if ('problem' in reading) refuse('TokenMalformed', `the ${what} ${reading.problem}`);
  return reading.object;
}
