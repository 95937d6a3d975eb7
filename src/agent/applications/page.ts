import { createHash } from 'node:crypto';
import { isRecord, shown } from '../../access/policy/read.js';
import { readStrictJson } from '../../lib/strict-json.js';
import { invalid, readObject } from './question.js';

/** Which part of a search's results is asked for (AuthZEN Authorization API 1.0 §8.2). */
export interface Page {
  readonly limit: number;
  /** Results come after this candidate; from the first one when undefined. */
  readonly after: string | undefined;
  /** Whether the request had a page, and so gets one. */
  readonly asked: boolean;
  /** Of the whole question, so that a token does not go on with another. */
  readonly digest: string;
}

/** Results of one answer, at most and unless said. */
export const MAX_RESULTS = 1000;
const MAX_TOKEN = 8192;

/** Reads a page; `question` is all else that was asked. */
export function readPage(value: unknown, question: unknown): Page {
  const page = readObject(value, 'page');
  const digest = createHash('sha256').update(canonical(question)).digest('base64url').slice(0, 22);
  const limit = page?.['limit'] ?? undefined;
  if (limit !== undefined && (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 0))
    invalid('page.limit', `must be a whole number that is not negative, and is ${shown(limit)}`);
  const token = page?.['token'] ?? undefined;
  const asked = page !== undefined;
  if (token === undefined || token === '')
    return { limit: Math.min(limit ?? MAX_RESULTS, MAX_RESULTS), after: undefined, asked, digest };
  const from = readToken(token);
  if (from.digest !== digest)
    invalid('page.token', 'is of another question: everything else must be as in the request before');
  if (limit !== undefined && Math.min(limit, MAX_RESULTS) !== from.limit)
    invalid('page.limit', `must stay as it was in the request before, ${from.limit}`);
  return { limit: from.limit, after: from.after, asked, digest };
}

/** Names the page that comes next. It says nothing that the client does not know, and opens nothing: it needs no seal. */
export function nextToken({ limit, digest }: Page, after: string): string {
  return Buffer.from(JSON.stringify({ digest, limit, after })).toString('base64url');
}

function readToken(token: unknown): {
  readonly digest: string;
  readonly limit: number;
  readonly after: string;
} {
  if (typeof token === 'string' && token.length <= MAX_TOKEN) {
    const reading = readStrictJson(Buffer.from(token, 'base64url'), { maxDepth: 1, maxValues: 4 });
    if ('object' in reading) {
      const { digest, limit, after } = reading.object;
      const whole =
        typeof limit === 'number' && Number.isInteger(limit) && limit >= 0 && limit <= MAX_RESULTS;
      if (typeof digest === 'string' && typeof after === 'string' && whole) return { digest, limit, after };
    }
  }
  return invalid('page.token', 'is none that was given out: send next_token of the answer before');
}

/** The same text for the same JSON, in whatever order its members are. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null';
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(',')}}`;
}
