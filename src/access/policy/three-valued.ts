/**
 * Whether a field matches; `unknown` when the enforcement point does not see it. An Allow rule needs `yes`; a Deny
 * rule needs only that `no` cannot be said, so that what is not seen never opens anything.
 */
export type Match = 'yes' | 'no' | 'unknown';

export const of = (holds: boolean): Match => (holds ? 'yes' : 'no');

export const not = (match: Match): Match => (match === 'yes' ? 'no' : match === 'no' ? 'yes' : 'unknown');

/** Both must match. */
export function both(a: Match, b: Match): Match {
  if (a === 'no' || b === 'no') return 'no';
  return a === 'yes' && b === 'yes' ? 'yes' : 'unknown';
}

/** One must match. Looks no further than the first that does. */
export function anyOf<T>(items: readonly T[], match: (item: T) => Match): Match {
  let result: Match = 'no';
  for (const item of items) {
    const one = match(item);
    if (one === 'yes') return 'yes';
    if (one === 'unknown') result = 'unknown';
  }
  return result;
}

/** All must match. Looks no further than the first that does not. */
export function allOf<T>(items: readonly T[], match: (item: T) => Match): Match {
  let result: Match = 'yes';
  for (const item of items) {
    const one = match(item);
    if (one === 'no') return 'no';
    if (one === 'unknown') result = 'unknown';
  }
  return result;
}

/** Whether a match is enough for a rule of this effect to hold. */
export function isEnough(match: Match, effect: 'Allow' | 'Deny'): boolean {
  return match === 'yes' || (match === 'unknown' && effect === 'Deny');
}
