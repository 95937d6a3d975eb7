import { serviceAccountUri } from '../../policy/spiffe-namespace.js';
import { parseSpiffeId, type SpiffeId } from '../../../identity/spiffe/id.js';
import { namespaceOf } from '../../policy/match.js';
import type { Principal } from '../../policy/model.js';
import { fresh, type Dimension, type Leaf, type Space, type ValueClass } from '../space.js';

/** Whom a request may come from: every ID that is named, and one more of each namespace and trust domain. */
export interface SourceDimension {
  readonly dimension: Dimension;
  principal(principal: Principal): Leaf;
  /** The ID of each class of callers that has one, by index. */
  readonly uris: readonly (string | undefined)[];
  /** The class of a caller, by index. */
  classOf(uri: string | undefined): number;
}

interface Caller {
  readonly id: SpiffeId | undefined;
  /** What it stands for besides itself; it stands for itself alone where nothing is said. */
  readonly others?: { readonly trustDomain?: string; readonly namespace?: string };
  readonly words: string;
  readonly rest?: boolean;
}

/** `known` are IDs that exist: they make better witnesses than made-up ones. */
export function sourceDimension(
  space: Space,
  principals: readonly Principal[],
  known: readonly SpiffeId[],
): SourceDimension {
  const callers = callersOf(principals, known);
  const dimension = space.add(
    'source',
    'source',
    callers.map(({ id, words, rest }): ValueClass => ({
      words,
      ...(rest === true ? { rest } : {}),
      put: (draft) => void (draft.source = id?.uri),
    })),
  );
  return {
    dimension,
    uris: callers.map(({ id }) => id?.uri),
    classOf: (uri) => classOf(callers, uri),
    principal: (principal) =>
      space.known(dimension, (index) => {
        const caller = callers[index];
        return caller !== undefined && names(principal, caller.id);
      }),
  };
}

function callersOf(principals: readonly Principal[], known: readonly SpiffeId[]): readonly Caller[] {
  const named = new Set(principals.flatMap(urisOf));
  const namespaces = new Map<string, { readonly trustDomain: string; readonly namespace: string }>();
  const trustDomains = new Set<string>();
  for (const principal of principals) {
    if (principal.kind === 'trustDomain') trustDomains.add(principal.trustDomain);
    if (principal.kind !== 'namespace') continue;
    const { trustDomain, namespace } = principal;
    namespaces.set(`${trustDomain}/${namespace}`, { trustDomain, namespace });
  }
  const ids = known.filter(({ uri }) => !named.has(uri));
  const inNamespace = ({ trustDomain, path }: SpiffeId): boolean =>
    namespaces.has(`${trustDomain}/${namespaceOf(path) ?? ''}`);
  const callers = [...named].map((uri): Caller => ({ id: parseSpiffeId(uri), words: uri }));
  for (const { trustDomain, namespace } of namespaces.values()) {
    const id =
      ids.find((one) => one.trustDomain === trustDomain && namespaceOf(one.path) === namespace) ??
      made(trustDomain, `/ns/${namespace}/sa/`, named);
    callers.push({
      id,
      others: { trustDomain, namespace },
      words: `other identities of namespace ${namespace} of ${trustDomain}`,
    });
  }
  for (const trustDomain of trustDomains) {
    const id =
      ids.find((one) => one.trustDomain === trustDomain && !inNamespace(one)) ??
      made(trustDomain, '/', named);
    callers.push({ id, others: { trustDomain }, words: `other identities of trust domain ${trustDomain}` });
  }
  const foreign =
    ids.find((one) => !trustDomains.has(one.trustDomain) && !inNamespace(one)) ??
    made(fresh('other.example', trustDomains), '/', named);
  callers.push({ id: foreign, others: {}, words: 'other identities', rest: true });
  callers.push({ id: undefined, words: 'callers without identity' });
  return callers;
}

/** The narrowest class that an ID is in: they are listed from the narrowest to the widest. */
function classOf(callers: readonly Caller[], uri: string | undefined): number {
  if (uri === undefined) return callers.length - 1;
  const id = parseSpiffeId(uri);
  return callers.findIndex((caller) => {
    if (caller.others === undefined) return caller.id?.uri === id.uri;
    const { trustDomain, namespace } = caller.others;
    return (
      (trustDomain === undefined || trustDomain === id.trustDomain) &&
      (namespace === undefined || namespace === namespaceOf(id.path))
    );
  });
}

function made(trustDomain: string, path: string, taken: ReadonlySet<string>): SpiffeId {
  return parseSpiffeId(fresh(`spiffe://${trustDomain}${path}other`, taken));
}

function urisOf(principal: Principal): readonly string[] {
  switch (principal.kind) {
    case 'spiffeId':
      return [principal.uri];
    case 'identity':
      return principal.uris;
    case 'serviceAccount':
      return [serviceAccountUri(principal)];
    case 'trustDomain':
    case 'namespace':
    case 'authenticated':
    case 'anyone':
      return [];
  }
}

function names(principal: Principal, id: SpiffeId | undefined): boolean {
  if (principal.kind === 'anyone') return true;
  if (id === undefined) return false;
  switch (principal.kind) {
    case 'authenticated':
      return true;
    case 'trustDomain':
      return id.trustDomain === principal.trustDomain;
    case 'namespace':
      return id.trustDomain === principal.trustDomain && namespaceOf(id.path) === principal.namespace;
    case 'spiffeId':
    case 'identity':
    case 'serviceAccount':
      return urisOf(principal).includes(id.uri);
  }
}
