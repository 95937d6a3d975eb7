import type { ClaimMatch, Effect, TokenMatch, ValueMatch } from '../../policy/model.js';
import type { RuleNotes } from './findings.js';
import type { Dialect, IstioCondition } from './language.js';

/** Conditions that must all hold; undefined when an Allow rule cannot be said. */
export type Conditions = readonly IstioCondition[] | undefined;

const present = (key: string): IstioCondition => ({ key, values: ['*'] });
const absent = (key: string): IstioCondition => ({ key, notValues: ['*'] });

/** Istio reads "*" at either end of a value as a wildcard, and refuses an empty value. */
const isPlain = (value: string): boolean => value !== '' && !value.startsWith('*') && !value.endsWith('*');

/** Headers that Envoy itself makes, moves or takes away before the rules are asked. */
const OWNED =
  /^(?::.*|host|connection|proxy-connection|keep-alive|transfer-encoding|content-length|te|upgrade|trailer|expect|x-forwarded-.*|x-envoy-.*|x-request-id|via)$/;

/** What cannot be said: an Allow rule is left out, a Deny rule does without the condition. */
function unsayable(effect: Effect, notes: RuleNotes, reason: string): Conditions {
  notes.lost(reason);
  return effect === 'Allow' ? undefined : [];
}

export function headerConditions(match: ValueMatch, effect: Effect, notes: RuleNotes): Conditions {
  const { name, operator, values } = match;
  if (OWNED.test(name))
    return unsayable(effect, notes, `Envoy changes header ${name} before Istio's rules see it`);
  const key = `request.headers[${name}]`;
  if (operator === 'Exists') return [present(key)];
  if (operator === 'DoesNotExist') return [absent(key)];
  const plain = values.filter(isPlain);
  // Of several lines with one name Istio compares the joined text only, so a value among others would escape.
  const lines = `Istio compares header ${name} as one text, not its members`;
  const wildcard = `a value of header ${name} is empty or has "*" at an end, which Istio reads as a wildcard`;
  if (operator === 'In') {
    if (effect === 'Deny') {
      notes.lost(`${lines}; the rule denies any value`);
      return [present(key)];
    }
    if (plain.length < values.length) notes.lost(wildcard);
    return plain.length === 0 ? undefined : [{ key, values: plain }];
  }
  if (effect === 'Allow') {
    notes.lost(`${lines}; the rule allows only requests without it`);
    return [absent(key)];
  }
  if (plain.length < values.length) notes.lost(wildcard);
  return plain.length === 0 ? [] : [{ key, notValues: plain }];
}

/** The conditions of the end-user token. */
export function tokenConditions(
  match: TokenMatch,
  effect: Effect,
  { issuers }: Dialect,
  notes: RuleNotes,
): Conditions {
  if (issuers.length === 0) {
    return unsayable(effect, notes, 'no token issuer is known to the mesh; name it in the TrustDomain');
  }
  const strange = (match.issuers ?? []).filter((issuer) => !issuers.includes(issuer));
  if (strange.length > 0 && effect === 'Allow') {
    notes.lost(`the mesh does not know issuer ${strange.join(', ')}; name it in the TrustDomain`);
  }
  notes.holdsIf('a request whose token no known issuer has signed is refused, whatever it asks');
  const parts: Conditions[] = [[present('request.auth.claims[iss]')]];
  const oneOf = (name: string, values: readonly string[] | undefined): void => {
    if (values !== undefined)
      parts.push(claimConditions({ path: [name], operator: 'In', values }, effect, notes));
  };
  oneOf('iss', match.issuers);
  oneOf('aud', match.audiences);
  oneOf('sub', match.subjects);
  oneOf('acr', match.acr);
  for (const method of match.amr ?? []) oneOf('amr', [method]);
  for (const claim of match.claims ?? []) parts.push(claimConditions(claim, effect, notes));
  if (match.maxAuthAge !== undefined) {
    parts.push(unsayable(effect, notes, 'Istio cannot compare when the user logged in (maxAuthAge)'));
  }
  return joined(parts);
}

/** All of several; undefined when one is. */
export function joined(parts: readonly Conditions[]): Conditions {
  return parts.some((part) => part === undefined) ? undefined : parts.flatMap((part) => part ?? []);
}

/** Whether a value is also the text of a JSON number or boolean, which Istio never compares. */
const isScalarText = (value: string): boolean => /^(?:true|false|-?\d.*)$/.test(value);

/** One claim of a token that is there. */
export function claimConditions(match: ClaimMatch, effect: Effect, notes: RuleNotes): Conditions {
  const { path, operator, values } = match;
  const name = path.join('.');
  if (path.some((step) => step === '' || /[[\]]/.test(step))) {
    return unsayable(effect, notes, `claim ${name} has a name that Istio cannot write`);
  }
  const key = `request.auth.claims${path.map((step) => `[${step}]`).join('')}`;
  if (path.length === 1 && (name === 'scope' || name === 'permission')) {
    // Envoy takes the words of these apart, so "read write" would match "read".
    return unsayable(effect, notes, `Istio splits claim ${name} at spaces, which the policy does not`);
  }
  if (operator === 'Exists') {
    const reason = `Istio sees claim ${name} only where it is text`;
    if (effect === 'Deny') return unsayable(effect, notes, reason);
    notes.lost(reason);
    return [present(key)];
  }
  if (operator === 'DoesNotExist') {
    const reason = `Istio sees claim ${name} only where it is text`;
    if (effect === 'Allow') return unsayable(effect, notes, reason);
    notes.lost(reason);
    return [absent(key)];
  }
  return comparedClaim({ key, name, operator, values }, effect, notes);
}

function comparedClaim(
  claim: {
    readonly key: string;
    readonly name: string;
    readonly operator: 'In' | 'NotIn' | 'ContainsAll';
    readonly values: readonly string[];
  },
  effect: Effect,
  notes: RuleNotes,
): Conditions {
  const { key, name, operator, values } = claim;
  const exact = values.filter((value) => isPlain(value) && !isScalarText(value));
  const inexact = `a value of claim ${name} is a number, a boolean, empty or has "*" at an end, which Istio cannot compare`;
  // Where matching less denies more, what can be compared is kept; elsewhere all must be.
  if (operator === 'In' ? effect === 'Allow' : operator === 'NotIn' && effect === 'Deny') {
    const kept = values.filter(isPlain);
    if (exact.length < values.length) notes.lost(inexact);
    if (kept.length === 0) return effect === 'Allow' ? undefined : [];
    return operator === 'In' ? [{ key, values: kept }] : [{ key, notValues: kept }];
  }
  if (operator === 'ContainsAll') {
    if (exact.length < values.length) notes.lost(inexact);
    if (effect === 'Allow' && !values.every(isPlain)) return undefined;
    const wanted = effect === 'Allow' ? values : exact;
    return wanted.map((value) => ({ key, values: [value] }));
  }
  if (exact.length < values.length) return unsayable(effect, notes, inexact);
  return [operator === 'In' ? { key, values } : { key, notValues: values }];
}
