import { parseDuration } from '../lib/duration.js';
import { error, quote } from './names.js';
import type { FieldPath, Problem } from './problem.js';

const DAY = 86_400;

/** What a lifetime may be, in seconds, and why. */
const BOUNDS = {
  authority: {
    shortest: 10,
    longest: 20 * 366 * DAY,
    why: 'an authority must live through its own rotation',
  },
  svid: {
    shortest: 5,
    longest: 397 * DAY,
    why: 'an SVID must live long enough to be used, and not for years',
  },
  request: { shortest: 1, longest: 366 * DAY, why: 'access that is asked for ends' },
} as const;

/** What is wrong with a lifetime whose form is right; nothing for undefined. */
export function durationProblems(
  text: string | undefined,
  path: FieldPath,
  kind: keyof typeof BOUNDS,
): Problem[] {
  if (text === undefined) return [];
  const { shortest, longest, why } = BOUNDS[kind];
  let seconds: number;
  try {
    seconds = parseDuration(text);
  } catch (thrown) {
    return [error(path, thrown instanceof Error ? thrown.message : String(thrown))];
  }
  if (seconds < shortest)
    return [error(path, `${quote(text)} is too short: ${why}`, `write at least ${shortest}s`)];
  if (seconds > longest)
    return [error(path, `${quote(text)} is too long: ${why}`, `write at most ${longest / 3600}h`)];
  return [];
}
