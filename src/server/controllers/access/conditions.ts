import type { Condition } from '../../../resources/meta.js';
import { rfc3339 } from '../../identity-status.js';

/** The longest message in a status, in characters. */
const MAX_MESSAGE = 1024;

/** What a Ready condition says. */
export type Verdict = Pick<Condition, 'status' | 'reason' | 'message'>;

/** The Ready condition of an object; its time moves only with its status. */
export function readyCondition(
  verdict: Verdict,
  generation: number,
  previous: readonly Condition[] | undefined,
  now: number,
): Condition {
  const old = previous?.find(({ type }) => type === 'Ready');
  return {
    type: 'Ready',
    status: verdict.status,
    reason: verdict.reason,
    message: cut(verdict.message),
    lastTransitionTime: old?.status === verdict.status ? old.lastTransitionTime : rfc3339(now),
    observedGeneration: generation,
  };
}

/** At most so many characters; what is cut off shows. */
export function cut(text: string, longest = MAX_MESSAGE): string {
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`;
}

/** The first of some texts as one, with how many more there are. */
export function some(texts: readonly string[], most: number): string {
  const more = texts.length - most;
  return texts.slice(0, most).join('; ') + (more > 0 ? `; and ${more} more` : '');
}
