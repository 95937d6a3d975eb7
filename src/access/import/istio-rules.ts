import type {
  OperationInput,
  PrincipalInput,
  RuleInput,
  SimplePrincipalInput,
  TokenInput,
} from '../policy/input.js';
import { conditionsOf, requestPrincipals, type Added } from './istio-conditions.js';
import { operationsOf } from './istio-operations.js';
import { ipBlocks, namespaces, principals, serviceAccounts, trustDomains } from './istio-principals.js';
import {
  fieldsOf,
  listOf,
  opposite,
  pieces,
  textsOf,
  type Bound,
  type Fields,
  type Reading,
} from './istio-reading.js';

const MAX_ENTRIES = 32;
const MAX_EXCEPT = 8;

type Rule = Omit<RuleInput, 'name' | 'effect'>;

/** The rules of ours that one rule of Istio becomes; none when an Allow rule cannot be said or matches nothing. */
export function rulesOf(value: unknown, namespace: string, bound: Bound, reading: Reading): readonly Rule[] {
  const { from, to, when, ...strange } = fieldsOf(value);
  for (const field of Object.keys(strange)) reading.at(`.${field}`).error('is not understood');
  if (Object.keys(strange).length > 0 && bound === 'under') return [];
  const added = conditionsOf(listOf(when), namespace, bound, reading);
  if (added === undefined) return [];
  const sources = listOf(from).map((entry) => fieldsOf(fieldsOf(entry)['source']));
  const operations = listOf(to).map((entry) => fieldsOf(fieldsOf(entry)['operation']));
  const httpOnly = bound === 'under' && speaksHttp(sources, operations, listOf(when));
  const targets = targetsOf(operations, added, bound, httpOnly, reading);
  if (targets?.length === 0) return [];
  const callers = callersOf(sources, namespace, bound, reading).flatMap((caller) =>
    withAdded(caller, added, bound, reading),
  );
  const byToken = Map.groupBy(callers, ({ token }) => JSON.stringify(token));
  return [...byToken.values()].flatMap((group) => {
    const token = mergeTokens([...(group[0]?.token ?? []), ...added.token]);
    if (token === 'contradiction') {
      reading.error('asks for more of a token than can be said');
      if (bound === 'under') return [];
    }
    return pieces(
      group.map(({ principal }) => principal),
      MAX_ENTRIES,
    ).flatMap((some) =>
      (targets === undefined ? [undefined] : pieces(targets, MAX_ENTRIES)).map((target): Rule => ({
        from: some,
        ...(target === undefined ? {} : { to: target }),
        ...(token === undefined || token === 'contradiction' ? {} : { when: { token } }),
      })),
    );
  });
}

/** On TCP ports istiod leaves out an ALLOW rule that speaks of HTTP anywhere. */
function speaksHttp(
  sources: readonly Fields[],
  operations: readonly Fields[],
  when: readonly unknown[],
): boolean {
  const some = (fields: Fields, names: readonly string[]): boolean =>
    names.some((name) => textsOf(fields[name]).length > 0);
  const http = ['hosts', 'methods', 'paths', 'notHosts', 'notMethods', 'notPaths'];
  return (
    operations.some((one) => some(one, http)) ||
    sources.some((one) => some(one, ['requestPrincipals', 'notRequestPrincipals'])) ||
    when.some((one) => String(fieldsOf(one)['key']).startsWith('request.'))
  );
}

/** undefined: everything; an empty list: nothing. */
function targetsOf(
  operations: readonly Fields[],
  { ports, headers }: Added,
  bound: Bound,
  httpOnly: boolean,
  reading: Reading,
): readonly OperationInput[] | undefined {
  const list = operations.length === 0 ? [{}] : operations;
  const targets = list.flatMap((operation, index) => {
    const more = ports.reduce<Fields | undefined>(narrowPorts, operation);
    return more === undefined
      ? []
      : operationsOf(more, bound, httpOnly, reading.at(`.to[${index}].operation`));
  });
  const withHeaders = targets.map((one): OperationInput =>
    headers.length === 0 ? one : { ...one, http: { ...one.http, headers } },
  );
  return withHeaders.some((one) => Object.keys(one).length === 0) ? undefined : withHeaders;
}

function narrowPorts(operation: Fields | undefined, ports: readonly string[]): Fields | undefined {
  if (operation === undefined) return undefined;
  const own = textsOf(operation['ports']);
  const both = own.length === 0 ? ports : own.filter((port) => ports.includes(port));
  return both.length === 0 ? undefined : { ...operation, ports: both };
}

interface Caller {
  readonly principal: PrincipalInput;
  readonly token: readonly TokenInput[];
}

function callersOf(
  sources: readonly Fields[],
  namespace: string,
  bound: Bound,
  reading: Reading,
): readonly Caller[] {
  if (sources.length === 0) return [{ principal: { anyone: true }, token: [] }];
  return sources.flatMap((source, index) =>
    callerOf(source, namespace, bound, reading.at(`.from[${index}].source`)),
  );
}

const SOURCE = [
  'principals',
  'namespaces',
  'serviceAccounts',
  'trustDomains',
  'ipBlocks',
  'requestPrincipals',
];
const UNSAYABLE = ['remoteIpBlocks', 'notRemoteIpBlocks', 'notRequestPrincipals'];
const negated = (field: string): string => `not${field.charAt(0).toUpperCase()}${field.slice(1)}`;
const KNOWN = new Set([...SOURCE, ...SOURCE.map(negated), ...UNSAYABLE]);

/** Alternatives for one source. */
function callerOf(source: Fields, namespace: string, bound: Bound, reading: Reading): readonly Caller[] {
  const bad = Object.keys(source).filter(
    (field) => !KNOWN.has(field) || (UNSAYABLE.includes(field) && textsOf(source[field]).length > 0),
  );
  for (const field of bad) {
    reading
      .at(`.${field}`)
      .error(`cannot be said${bound === 'under' ? ', so the source is left out' : ', so more is denied'}`);
  }
  if (bad.length > 0 && bound === 'under') return [];
  const at = (field: string): Reading => reading.at(`.${field}`);
  const of = (side: Bound, named: (field: string) => string): readonly (readonly SimplePrincipalInput[])[] =>
    (
      [
        [named('principals'), (list, place) => principals(list, side, place)],
        [named('namespaces'), (list, place) => namespaces(list, side, place)],
        [named('serviceAccounts'), (list, place) => serviceAccounts(list, namespace, side, place)],
        [named('trustDomains'), (list, place) => trustDomains(list, side, place)],
      ] as readonly (readonly [
        string,
        (list: readonly string[], place: Reading) => readonly SimplePrincipalInput[],
      ])[]
    ).flatMap(([field, read]) => {
      const list = textsOf(source[field]);
      return list.length === 0 ? [] : [read(list, at(field))];
    });
  const added: Added = { among: [], blocks: [], except: [], ports: [], headers: [], token: [] };
  added.among.push(...of(bound, (field) => field).map((list) => [...list]));
  added.except.push(...of(opposite(bound), negated).flat());
  const blocks = ipBlocks(textsOf(source['ipBlocks']));
  const except = ipBlocks(textsOf(source['notIpBlocks']));
  if (blocks === undefined || except === undefined) {
    reading.error('has an address that cannot be read');
    if (bound === 'under') return [];
  }
  if ((blocks ?? []).length > 0) added.blocks.push([...(blocks ?? [])]);
  if ((except ?? []).length > 0) added.except.push({ ipBlocks: except ?? [] });
  const wanted = textsOf(source['requestPrincipals']);
  const tokens =
    wanted.length === 0
      ? [[]]
      : requestPrincipals(wanted, bound, at('requestPrincipals')).map((one) => [one]);
  return withAdded({ principal: { anyone: true }, token: [] }, added, bound, reading).flatMap(
    ({ principal }) => tokens.map((token) => ({ principal, token })),
  );
}

/** A caller with what must hold besides. */
function withAdded(
  caller: Caller,
  { among, blocks, except }: Added,
  bound: Bound,
  reading: Reading,
): readonly Caller[] {
  let callers: readonly PrincipalInput[] = [caller.principal];
  for (const list of among) callers = callers.flatMap((one) => narrowNames(one, list, bound, reading));
  for (const list of blocks) callers = callers.flatMap((one) => narrowBlocks(one, list, bound, reading));
  return callers.flatMap((one): readonly Caller[] => {
    const all = [...(one.except ?? []), ...mergeIds(except)];
    if (all.length === 0) return [{ ...caller, principal: one }];
    if (all.length <= MAX_EXCEPT) return [{ ...caller, principal: { ...one, except: all } }];
    reading.error('excepts more than can be said');
    // Fewer exceptions deny more.
    return bound === 'under' ? [] : [{ ...caller, principal: { ...one, except: all.slice(0, MAX_EXCEPT) } }];
  });
}

/** SPIFFE IDs that are said one by one, together. */
function mergeIds(list: readonly SimplePrincipalInput[]): readonly SimplePrincipalInput[] {
  const ids = [...new Set(list.flatMap(({ spiffeIDs = [] }) => spiffeIDs))];
  const others = list.filter(({ spiffeIDs }) => spiffeIDs === undefined);
  return [...pieces(ids, 128).map((spiffeIDs) => ({ spiffeIDs })), ...others];
}

function narrowNames(
  principal: PrincipalInput,
  names: readonly SimplePrincipalInput[],
  bound: Bound,
  reading: Reading,
): readonly PrincipalInput[] {
  const { anyone, ...rest } = principal;
  if (anyone === true) return names.map((one) => ({ ...rest, ...one }));
  reading.error(`says who calls twice${bound === 'under' ? ', so it is left out' : ''}`);
  return bound === 'under' ? [] : [principal];
}

function narrowBlocks(
  principal: PrincipalInput,
  blocks: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly PrincipalInput[] {
  const { anyone, ...rest } = principal;
  if (principal.ipBlocks === undefined && blocks.length <= 64) {
    // Addresses may stand alone; everybody is not said beside them.
    return [{ ...rest, ...(anyone === true ? { anyone } : {}), ipBlocks: blocks }];
  }
  reading.error(`says addresses twice, or too many${bound === 'under' ? ', so it is left out' : ''}`);
  return bound === 'under' ? [] : [principal];
}

/** All of several; a contradiction where two name issuers or subjects. */
function mergeTokens(tokens: readonly TokenInput[]): TokenInput | 'contradiction' | undefined {
  if (tokens.length === 0) return undefined;
  const claims = tokens.flatMap((one) => one.claims ?? []);
  const issuers = tokens.flatMap((one) => (one.issuers === undefined ? [] : [one.issuers]));
  const subjects = tokens.flatMap((one) => (one.subjects === undefined ? [] : [one.subjects]));
  if (issuers.length > 1 || subjects.length > 1 || claims.length > 16) return 'contradiction';
  return {
    ...(issuers[0] === undefined ? {} : { issuers: issuers[0] }),
    ...(subjects[0] === undefined ? {} : { subjects: subjects[0] }),
    ...(claims.length === 0 ? {} : { claims }),
  };
}
