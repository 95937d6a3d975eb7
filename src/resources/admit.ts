import { isSignetKind } from './kinds.js';
import { checkMetadata } from './metadata.js';
import type { Problem } from './problem.js';

/** An object's text taken for what it says, and what is wrong with it. */
export interface Admission {
  /** With defaults filled in; absent when there is an error. */
  readonly object?: Readonly<Record<string, unknown>>;
  readonly problems: readonly Problem[];
}

/**
 * Judges an object of a kind that Signet reads, as the API server would: schema, rules, and what Signet knows beyond
 * them. Total: whatever is given, problems are returned, never thrown.
 */
export function admitObject(kind: string, raw: Readonly<Record<string, unknown>>): Admission {
  const problems = checkMetadata(kind, raw['metadata']);
  if (problems.some(({ severity }) => severity === 'error')) return { problems };
  return { object: isSignetKind(kind) ? raw : raw, problems };
}
