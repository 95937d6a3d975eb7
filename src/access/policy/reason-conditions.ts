import type { Facts } from './facts.js';
import { CONDITIONS, matchesCondition } from './match.js';
import { windowInWords } from './explain-words.js';
import type { Conditions, TokenMatch } from './model.js';
import { matchesAttribute } from './attributes.js';
import { matchesToken } from './claims.js';

interface Missed {
  readonly field: keyof Conditions;
  /** In words. */
  readonly reason: () => string;
}

/** Which conditions of a rule a request does not meet. */
export function conditionsMissed(when: Conditions | undefined, facts: Facts): readonly Missed[] {
  if (when === undefined) return [];
  return CONDITIONS.filter(
    (name) => when[name] !== undefined && matchesCondition(name, when, facts) !== 'yes',
  ).map((field) => ({ field, reason: () => reasonOf(field, when, facts) }));
}

function reasonOf(field: keyof Conditions, when: Conditions, facts: Facts): string {
  switch (field) {
    case 'token':
      return tokenMissed(when.token ?? {}, facts);
    case 'during':
      return `it is outside ${(when.during ?? []).map(windowInWords).join(' and ')}`;
    case 'outside':
      return `it is within ${(when.outside ?? []).map(windowInWords).join(' or ')}`;
    case 'sourceLabels':
      return 'the labels of the calling pod are not as asked for';
    case 'targetLabels':
      return 'the labels of the called pod are not as asked for';
    case 'sourcePosture':
      return 'the calling pod is not as asked for';
    case 'attributes': {
      const missed = (when.attributes ?? []).find(
        (attribute) => matchesAttribute(attribute, facts.attributes) !== 'yes',
      );
      return `attribute ${(missed?.path ?? []).join('.')} is not as asked for`;
    }
    case 'cel':
      return 'its CEL expression is not true';
  }
}

/** Names what a token lacks, never what it holds. */
function tokenMissed(match: TokenMatch, { request, time }: Facts): string {
  const { token } = request;
  if (token === undefined) return 'tokens are not seen';
  if (token === null) return 'there is no valid token';
  for (const claim of match.claims ?? []) {
    if (matchesToken({ claims: [claim] }, token, time) !== 'yes') {
      return `claim ${claim.path.join('/')} of the token is not as asked for`;
    }
  }
  const parts = Object.entries(match).filter(
    ([name, value]) => matchesToken({ [name]: value as unknown }, token, time) !== 'yes',
  );
  return `${parts.map(([name]) => name).join(' and ')} of the token are not as asked for`;
}
