import { parseSpiffeId, parseTrustDomain } from '../../identity/spiffe/id.js';
import { formatIpAddress, parseIpAddress } from '../../lib/ip-address.js';
import type { SimplePrincipalInput } from '../policy/input.js';
import { pieces, valuePattern, type Bound, type Reading } from './istio-reading.js';

const MAX_IDS = 128;
const MAX_NAMES = 32;
const ANYBODY: SimplePrincipalInput = { anyAuthenticated: true };

function holds(check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

const isSpiffeId = (text: string): boolean => holds(() => parseSpiffeId(`spiffe://${text}`));
const isTrustDomain = (text: string): boolean => !text.includes('://') && holds(() => parseTrustDomain(text));
const isName = (text: string): boolean => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text);

/** `principals`: SPIFFE IDs without `spiffe://`. */
export function principals(
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly SimplePrincipalInput[] {
  const ids = new Set<string>();
  const others: SimplePrincipalInput[] = [];
  for (const value of values.flatMap((one) => expand(one, reading))) {
    const pattern = valuePattern(value);
    if (pattern.kind === 'present') others.push(ANYBODY);
    else if (pattern.kind === 'prefix') others.push(...prefix(pattern.text, bound, reading));
    else if (pattern.kind === 'suffix')
      others.push(...inexact(suffix(pattern.text, reading), bound, value, reading));
    else if (isSpiffeId(value)) ids.add(`spiffe://${value}`);
    else
      reading.warn(
        `"${value}" matches nobody: Istio adds spiffe:// itself, and a SPIFFE ID has no such form`,
      );
  }
  return [...pieces([...ids], MAX_IDS).map((spiffeIDs) => ({ spiffeIDs })), ...others];
}

/** istiod takes what has five parts for `<trust domain>/ns/…`, and its trust domain for each name of the own one. */
function expand(value: string, { trustDomains }: Reading): readonly string[] {
  const [domain = '', ...rest] = value.split('/');
  if (rest.length !== 4 || !(trustDomains.includes(domain) || domain === 'cluster.local')) return [value];
  return trustDomains.map((one) => [one, ...rest].join('/'));
}

/** A raw prefix; exact where it ends behind a trust domain or a namespace. */
function prefix(text: string, bound: Bound, reading: Reading): readonly SimplePrincipalInput[] {
  const known = scopesOf(text);
  if (known.border !== undefined) return [known.border];
  const message = `"${text}*" is the beginning of a text, which is no border of a name`;
  reading.error(`${message}; ${bound === 'over' ? 'more are denied' : 'fewer are allowed'}`);
  if (bound === 'over') return [known.around];
  if (known.inside !== undefined) return [known.inside];
  return isSpiffeId(text) && text.includes('/') ? [{ spiffeIDs: [`spiffe://${text}`] }] : [];
}

interface Scopes {
  /** What it says exactly. */
  readonly border?: SimplePrincipalInput;
  /** The narrowest that holds it. */
  readonly around: SimplePrincipalInput;
  /** The widest that it holds, if it is more than one ID. */
  readonly inside?: SimplePrincipalInput;
}

function scopesOf(text: string): Scopes {
  const parts = text.split('/');
  const [domain = '', ns, namespace = ''] = parts;
  if (!isTrustDomain(domain)) return { around: ANYBODY };
  const wholeDomain = { trustDomains: [domain] };
  if (parts.length === 1) return { around: ANYBODY, inside: wholeDomain };
  if (parts.length === 2 && ns === '') return { around: wholeDomain, border: wholeDomain };
  if (ns !== 'ns' || !isName(namespace)) return { around: wholeDomain };
  const wholeNamespace = { namespaces: [namespace], trustDomains: [domain] };
  if (parts.length === 3) return { around: wholeDomain, inside: wholeNamespace };
  const border = parts.length === 4 && parts[3] === '' ? { border: wholeNamespace } : {};
  return { around: wholeNamespace, ...border };
}

/** What surely ends so: the name in the own trust domains. */
function suffix(text: string, { trustDomains }: Reading): readonly SimplePrincipalInput[] {
  if (!text.startsWith('/')) return [];
  const ids = trustDomains.map((domain) => `${domain}${text}`).filter(isSpiffeId);
  return ids.length === 0 ? [] : [{ spiffeIDs: ids.map((id) => `spiffe://${id}`) }];
}

/** What Istio also matches elsewhere: `surely` is the part that can be said. */
function inexact(
  surely: readonly SimplePrincipalInput[],
  bound: Bound,
  value: string,
  reading: Reading,
): readonly SimplePrincipalInput[] {
  const what = `"${value}" matches in any trust domain, and amid a SPIFFE ID`;
  if (bound === 'over') {
    reading.error(`${what}; so everybody with an identity is denied, until you name the trust domain`);
    return [ANYBODY];
  }
  reading.error(`${what}; here it is that of the own trust domain`);
  return surely;
}

/** `namespaces`, of any trust domain. */
export function namespaces(
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly SimplePrincipalInput[] {
  return values.flatMap((value) => {
    const surely = isName(value) ? [{ namespaces: [value], trustDomains: reading.trustDomains }] : [];
    return inexact(surely, bound, value, reading);
  });
}

/** `serviceAccounts`, `<namespace>/<name>` or a name of the policy's own namespace, of any trust domain. */
export function serviceAccounts(
  values: readonly string[],
  own: string,
  bound: Bound,
  reading: Reading,
): readonly SimplePrincipalInput[] {
  return values.flatMap((value) => {
    const [namespace = '', name = ''] = value.includes('/') ? value.split('/') : [own, value];
    const ids = reading.trustDomains
      .map((domain) => `${domain}/ns/${namespace}/sa/${name}`)
      .filter(isSpiffeId);
    return inexact([{ spiffeIDs: ids.map((id) => `spiffe://${id}`) }], bound, value, reading);
  });
}

/** `trustDomains`. */
export function trustDomains(
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly SimplePrincipalInput[] {
  const exact = new Set<string>();
  const others: SimplePrincipalInput[] = [];
  for (const value of values) {
    if (value === '*') others.push(ANYBODY);
    else if (value === 'cluster.local' || reading.trustDomains.includes(value))
      reading.trustDomains.forEach((one) => exact.add(one));
    else if (isTrustDomain(value)) exact.add(value);
    else others.push(...inexact([], bound, value, reading));
  }
  return [...pieces([...exact], MAX_NAMES).map((list) => ({ trustDomains: list })), ...others];
}

/** `ipBlocks`: addresses and blocks; bits behind the prefix count for nothing there. undefined when one cannot be read. */
export function ipBlocks(values: readonly string[]): readonly string[] | undefined {
  const blocks = values.map((value) => {
    const [address = '', length] = value.split('/');
    const bytes = parseIpAddress(address);
    if (bytes === undefined || (address.includes(':') && address.includes('.'))) return undefined;
    const bits = bytes.length * 8;
    const size = length === undefined ? bits : Number(length);
    if (!Number.isInteger(size) || size < 0 || size > bits) return undefined;
    const network = bytes.map((byte, index) => byte & mask(size - index * 8));
    return `${formatIpAddress(network)}/${size}`;
  });
  return blocks.some((block) => block === undefined)
    ? undefined
    : [...new Set(blocks.map((block) => block ?? ''))];
}

const mask = (bits: number): number => (bits <= 0 ? 0 : bits >= 8 ? 255 : (255 << (8 - bits)) & 255);
