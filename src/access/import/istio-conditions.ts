import type { ClaimInput, SimplePrincipalInput, TokenInput, ValueInput } from '../policy/input.js';
import { ipBlocks, namespaces, principals, serviceAccounts, trustDomains } from './istio-principals.js';
import { fieldsOf, opposite, textsOf, valuePattern, type Bound, type Reading } from './istio-reading.js';

/** What the `when` of a rule adds to its sources, operations and token. Each list must hold as a whole. */
export interface Added {
  /** One of each of these must match. */
  readonly among: SimplePrincipalInput[][];
  readonly blocks: string[][];
  readonly except: SimplePrincipalInput[];
  readonly ports: string[][];
  readonly headers: ValueInput[];
  readonly token: TokenInput[];
}

const MAX_VALUES = 32;
const TOKEN_NOTE = 'needs a token: name its issuer in the TrustDomain, as the RequestAuthentication does';

/** Reads `when`; undefined when an Allow rule cannot have it. A Deny rule does without what cannot be said. */
export function conditionsOf(
  when: readonly unknown[],
  namespace: string,
  bound: Bound,
  reading: Reading,
): Added | undefined {
  const added: Added = { among: [], blocks: [], except: [], ports: [], headers: [], token: [] };
  let said = true;
  for (const [index, entry] of when.entries()) {
    const { key, values, notValues, ...strange } = fieldsOf(entry);
    const at = reading.at(`.when[${index}]`);
    const condition = {
      key: typeof key === 'string' ? key : '',
      values: textsOf(values),
      notValues: textsOf(notValues),
    };
    if (Object.keys(strange).length === 0 && readCondition(condition, added, namespace, bound, at)) continue;
    at.error(
      `"${condition.key}" cannot be said${bound === 'under' ? ', so the rule is left out' : ', so more is denied'}`,
    );
    said = false;
  }
  return said || bound === 'over' ? added : undefined;
}

interface Condition {
  readonly key: string;
  readonly values: readonly string[];
  readonly notValues: readonly string[];
}

/** Whether it could be said. */
function readCondition(
  condition: Condition,
  added: Added,
  namespace: string,
  bound: Bound,
  reading: Reading,
): boolean {
  const { key, values, notValues } = condition;
  if (key.startsWith('request.headers[')) return headerOf(condition, added, bound, reading);
  if (key.startsWith('request.auth.')) return tokenOf(condition, added, bound, reading);
  if (key === 'source.ip') return addressOf(condition, added);
  if (key === 'destination.port') {
    if (notValues.length > 0) return false;
    added.ports.push([...values]);
    return true;
  }
  const kinds: Readonly<
    Record<string, (list: readonly string[], side: Bound) => readonly SimplePrincipalInput[]>
  > = {
    'source.principal': (list, side) => principals(list, side, reading),
    'source.namespace': (list, side) => namespaces(list, side, reading),
    'source.serviceAccount': (list, side) => serviceAccounts(list, namespace, side, reading),
    'source.trustDomain': (list, side) => trustDomains(list, side, reading),
  };
  const kind = Object.hasOwn(kinds, key) ? kinds[key] : undefined;
  if (kind === undefined) return false;
  if (values.length > 0) added.among.push([...kind(values, bound)]);
  if (notValues.length > 0) added.except.push(...kind(notValues, opposite(bound)));
  return true;
}

function addressOf({ values, notValues }: Condition, added: Added): boolean {
  const blocks = ipBlocks(values);
  const except = ipBlocks(notValues);
  if (blocks === undefined || except === undefined) return false;
  if (blocks.length > 0) added.blocks.push([...blocks]);
  if (except.length > 0) added.except.push({ ipBlocks: except });
  return true;
}

/** Headers that a proxy makes, moves or takes away before rules are asked. */
const OWNED =
  /^(?::|host$|connection$|te$|upgrade$|transfer-encoding$|content-length$|x-forwarded-|x-envoy-)/i;

function headerOf(
  { key, values, notValues }: Condition,
  added: Added,
  bound: Bound,
  reading: Reading,
): boolean {
  const name = /^request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]$/.exec(key)?.[1];
  if (name === undefined || OWNED.test(name)) return false;
  const wanted = values.length === 0 ? [] : headerIn(name, values, bound, reading);
  const unwanted = notValues.length === 0 ? [] : headerNotIn(name, notValues, bound, reading);
  if (wanted === undefined || unwanted === undefined) return false;
  added.headers.push(...wanted, ...unwanted);
  return true;
}

const plainOf = (list: readonly string[]): readonly string[] =>
  list.filter((value) => valuePattern(value).kind === 'exact').slice(0, MAX_VALUES);

function headerIn(
  name: string,
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly ValueInput[] | undefined {
  if (values.includes('*')) return [{ name, operator: 'Exists' }];
  const plain = plainOf(values);
  if (bound === 'over') reading.warn('denies also where the value is one of several');
  if (plain.length === values.length) return [{ name, operator: 'In', values: plain }];
  reading.error('has a wildcard, which cannot be said, or too many values');
  if (bound === 'over') return [{ name, operator: 'Exists' }];
  return plain.length === 0 ? undefined : [{ name, operator: 'In', values: plain }];
}

function headerNotIn(
  name: string,
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly ValueInput[] | undefined {
  if (values.includes('*')) return [{ name, operator: 'DoesNotExist' }];
  const plain = plainOf(values);
  if (bound === 'under') {
    if (plain.length < values.length) return undefined;
    reading.warn('does not allow where the value is one of several');
    return [{ name, operator: 'NotIn', values: plain }];
  }
  if (plain.length < values.length) reading.error('has a wildcard, which cannot be said; more is denied');
  return plain.length === 0 ? [] : [{ name, operator: 'NotIn', values: plain }];
}

/** Claims which a validated token has as text (RFC 7519 §4.1). */
const TEXT_CLAIMS = ['iss', 'sub'];
const isScalarText = (value: string): boolean => /^(?:true|false|-?\d.*)$/.test(value);

function tokenOf(
  { key, values, notValues }: Condition,
  added: Added,
  bound: Bound,
  reading: Reading,
): boolean {
  reading.warn(TOKEN_NOTE);
  if (key === 'request.auth.principal') {
    if (notValues.length > 0) return false;
    const tokens = requestPrincipals(values, bound, reading);
    const [only] = tokens;
    if (tokens.length !== 1 || only === undefined) return false;
    added.token.push(only);
    return true;
  }
  const claim = claimName(key);
  if (claim === undefined) return false;
  const claims: ClaimInput[] = [];
  if (values.length > 0) {
    const positive = claimIn(claim, values, bound, reading);
    if (positive === undefined) return false;
    claims.push(positive);
  }
  if (notValues.length > 0) {
    // There it holds for requests without a token too, and here it never does.
    if (bound === 'over') return false;
    const plain = notValues.every((value) => valuePattern(value).kind === 'exact');
    if (!plain || isSplit(claim) || notValues.length > MAX_VALUES) return false;
    claims.push({ claim, operator: 'NotIn', values: notValues });
    reading.error('is said for requests that have a token');
  }
  added.token.push({ claims });
  return true;
}

/** The claim that a key names, as a name or a JSON pointer. */
function claimName(key: string): string | undefined {
  if (key === 'request.auth.audiences') return 'aud';
  if (key === 'request.auth.presenter') return 'azp';
  const brackets = /^request\.auth\.claims((?:\[[^[\]]+\])+)$/.exec(key)?.[1];
  if (brackets === undefined) return undefined;
  const steps = brackets.slice(1, -1).split('][');
  const [first = ''] = steps;
  if (steps.length === 1 && !first.startsWith('/')) return first;
  return steps.map((step) => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** Envoy splits these at spaces. */
const isSplit = (claim: string): boolean => claim === 'scope' || claim === 'permission';

function claimIn(
  claim: string,
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): ClaimInput | undefined {
  const exact = values.filter((value) => valuePattern(value).kind === 'exact');
  const wild = exact.length < values.length;
  if (bound === 'over') {
    const plain = !wild && !isSplit(claim) && values.length <= MAX_VALUES;
    if (!plain && !values.includes('*'))
      reading.error('cannot be said exactly; whatever the claim holds is denied');
    return plain ? { claim, operator: 'In', values } : { claim, operator: 'Exists' };
  }
  if (values.includes('*') && TEXT_CLAIMS.includes(claim)) return { claim, operator: 'NotIn', values: [''] };
  // Numbers compare here by their text, and not at all in Istio.
  const kept = exact.filter((value) => !isScalarText(value));
  if (kept.length < values.length) reading.error('has a value that cannot be said exactly; less is allowed');
  return kept.length === 0 || kept.length > MAX_VALUES ? undefined : { claim, operator: 'In', values: kept };
}

/** `<issuer>/<subject>`, cut at the last slash; alternatives. */
export function requestPrincipals(
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly TokenInput[] {
  if (values.length > 0) reading.warn(TOKEN_NOTE);
  const text: readonly ClaimInput[] = [
    { claim: 'sub', operator: 'Exists' },
    { claim: 'sub', operator: 'NotIn', values: [''] },
  ];
  return values.flatMap((value): readonly TokenInput[] => {
    if (value === '*') return [{ claims: text }];
    const slash = value.lastIndexOf('/');
    const [issuer, subject] = [value.slice(0, slash), value.slice(slash + 1)];
    if (slash > 0 && !value.startsWith('*') && !value.endsWith('*') && subject !== '') {
      return [{ issuers: [issuer], subjects: [subject] }];
    }
    if (slash > 0 && subject === '*' && !issuer.startsWith('*')) return [{ issuers: [issuer], claims: text }];
    reading.error(`"${value}" is a pattern that cannot be said`);
    return bound === 'over' ? [{ claims: [{ claim: 'iss', operator: 'Exists' }] }] : [];
  });
}
