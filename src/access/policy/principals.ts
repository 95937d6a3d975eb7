import { checkSpiffePath, parseSpiffeId, parseTrustDomain } from '../../identity/spiffe/id.js';
import { parseIpBlock } from '../../lib/ip-address.js';
import type { LabelRequirement, Principal, Source, SourceMatch } from './model.js';
import { readList, readObject, readTexts, readWord, type ProblemReport } from './read.js';
import { readSelector } from './selector.js';

/** What compiling asks its caller, who knows the cluster. */
export interface PrincipalResolver {
  /** The own trust domain. */
  readonly trustDomain: string;
  /** The SPIFFE IDs that an identity resource gives out; undefined when there is no such resource. */
  identity?(ref: IdentityName): readonly string[] | undefined;
  /** The namespaces of this cluster whose labels meet the requirements. */
  namespaces?(requirements: readonly LabelRequirement[]): readonly string[];
}

export interface IdentityName {
  readonly kind: 'WorkloadIdentity' | 'ClusterWorkloadIdentity';
  /** Empty for ClusterWorkloadIdentity. */
  readonly namespace: string;
  readonly name: string;
}

/** Where a principal stands, for defaults and for what an unknown identity means there. */
export interface PrincipalPlace {
  /** The policy's namespace; undefined for cluster-wide policies. */
  readonly namespace: string | undefined;
  /** True where a principal that matches too little would open something: in a Deny rule, and in `except`. */
  readonly mustResolve: boolean;
}

const NAMES = ['spiffeIDs', 'identities', 'serviceAccounts', 'namespaces', 'namespaceSelector'] as const;
const FLAGS = ['anyAuthenticated', 'anyone'] as const;
const SIMPLE = [...NAMES, ...FLAGS, 'trustDomains', 'ipBlocks'];

/** One entry of `from`. */
export function readSource(
  value: unknown,
  field: string,
  place: PrincipalPlace,
  resolver: PrincipalResolver,
  report: ProblemReport,
): Source | undefined {
  const record = readObject(value, field, [...SIMPLE, 'except'], report);
  if (record === undefined) return undefined;
  const match = readMatch(record, field, place, resolver, report);
  const except: SourceMatch[] = [];
  for (const [index, entry] of (readList(record['except'], `${field}.except`, report) ?? []).entries()) {
    const at = `${field}.except[${index}]`;
    const inner = readObject(entry, at, SIMPLE, report);
    // What a Deny rule excepts is let through, so there a principal may match too little, and in an Allow rule not.
    const innerPlace = { namespace: place.namespace, mustResolve: !place.mustResolve };
    if (inner !== undefined) except.push(readMatch(inner, at, innerPlace, resolver, report));
  }
  return { ...match, except };
}

/** Who, and where from. Blocks alone are about anyone there. */
function readMatch(
  record: Fields,
  field: string,
  place: PrincipalPlace,
  resolver: PrincipalResolver,
  report: ProblemReport,
): SourceMatch {
  const ipBlocks = readTexts(record['ipBlocks'], `${field}.ipBlocks`, report, (text, at) => {
    const parsed = parseIpBlock(text);
    if (parsed.ok) return parsed.block;
    report.add(at, `${parsed.message}; ${parsed.fix}`);
    return undefined;
  });
  const any = readPrincipals(record, field, place, resolver, report);
  return { any, ...(ipBlocks === undefined ? {} : { ipBlocks }) };
}

type Fields = Readonly<Record<string, unknown>>;

function readPrincipals(
  record: Fields,
  field: string,
  place: PrincipalPlace,
  resolver: PrincipalResolver,
  report: ProblemReport,
): readonly Principal[] {
  const trustDomains = readTexts(record['trustDomains'], `${field}.trustDomains`, report, (text, at) =>
    checked(() => parseTrustDomain(text), at, report),
  );
  const named = [...NAMES, ...FLAGS].filter((name) => record[name] !== undefined);
  for (const flag of FLAGS) {
    if (record[flag] !== undefined && record[flag] !== true) {
      report.add(`${field}.${flag}`, 'may only be true; leave the field out otherwise');
    }
  }
  if (named.length > 1) {
    report.add(field, `says ${named.join(' and ')}; write one entry for each`);
    return [];
  }
  const [name] = named;
  if (name === undefined) {
    if (trustDomains === undefined && record['ipBlocks'] !== undefined) return [{ kind: 'anyone' }];
    if (trustDomains === undefined)
      report.add(field, 'names nobody; write "anyone: true" for everybody, or say who');
    return trustDomainPrincipals(trustDomains ?? []);
  }
  const context: Context = { record, field, place, resolver, report, trustDomains };
  return readNamed(name, context);
}

interface Context {
  readonly record: Fields;
  readonly field: string;
  readonly place: PrincipalPlace;
  readonly resolver: PrincipalResolver;
  readonly report: ProblemReport;
  readonly trustDomains: readonly string[] | undefined;
}

function readNamed(
  name: (typeof NAMES)[number] | (typeof FLAGS)[number],
  context: Context,
): readonly Principal[] {
  const { record, field, report, trustDomains, resolver } = context;
  const domains = trustDomains ?? [resolver.trustDomain];
  switch (name) {
    case 'anyone':
      // With trust domains, only who proves to be of one of them.
      return trustDomains === undefined ? [{ kind: 'anyone' }] : trustDomainPrincipals(trustDomains);
    case 'anyAuthenticated':
      return trustDomains === undefined ? [{ kind: 'authenticated' }] : trustDomainPrincipals(trustDomains);
    case 'spiffeIDs':
      return readSpiffeIds(context);
    case 'namespaces': {
      const names = readTexts(record[name], `${field}.namespaces`, report, (text, at) =>
        segment(text, at, report),
      );
      return domains.flatMap((trustDomain) =>
        (names ?? []).map((namespace): Principal => ({ kind: 'namespace', trustDomain, namespace })),
      );
    }
    case 'namespaceSelector':
      return readNamespaceSelector(context);
    case 'serviceAccounts':
      return readServiceAccounts(context, domains);
    case 'identities':
      return readIdentities(context);
  }
}

function trustDomainPrincipals(trustDomains: readonly string[]): Principal[] {
  return trustDomains.map((trustDomain) => ({ kind: 'trustDomain', trustDomain }));
}

function readSpiffeIds({ record, field, report, trustDomains }: Context): readonly Principal[] {
  const ids = readTexts(record['spiffeIDs'], `${field}.spiffeIDs`, report, (text, at) =>
    checked(() => parseSpiffeId(text), at, report),
  );
  return (ids ?? [])
    .filter((id) => trustDomains === undefined || trustDomains.includes(id.trustDomain))
    .map((id) => ({ kind: 'spiffeId', uri: id.uri }));
}

function readNamespaceSelector({ record, field, report, resolver }: Context): readonly Principal[] {
  const at = `${field}.namespaceSelector`;
  const requirements = readSelector(record['namespaceSelector'], at, report);
  if (resolver.namespaces === undefined) {
    report.add(at, 'cannot be resolved here, where the namespaces of the cluster are not known');
    return [];
  }
  // Labels are facts of this cluster, so the namespaces are those of the own trust domain.
  if (record['trustDomains'] !== undefined) {
    report.add(at, 'selects namespaces of this cluster; leave trustDomains out');
  }
  const { trustDomain } = resolver;
  return resolver
    .namespaces(requirements)
    .map((namespace) => ({ kind: 'namespace', trustDomain, namespace }));
}

function readServiceAccounts(
  { record, field, report, place }: Context,
  domains: readonly string[],
): Principal[] {
  const principals: Principal[] = [];
  const list = readList(record['serviceAccounts'], `${field}.serviceAccounts`, report) ?? [];
  for (const [index, entry] of list.entries()) {
    const at = `${field}.serviceAccounts[${index}]`;
    const ref = readObject(entry, at, ['namespace', 'name'], report);
    if (ref === undefined) continue;
    const namespace = segment(ref['namespace'] ?? place.namespace, `${at}.namespace`, report);
    const serviceAccount = segment(ref['name'], `${at}.name`, report);
    if (namespace === undefined || serviceAccount === undefined) continue;
    for (const trustDomain of domains) {
      principals.push({ kind: 'serviceAccount', trustDomain, namespace, serviceAccount });
    }
  }
  return principals;
}

function readIdentities({ record, field, report, place, resolver, trustDomains }: Context): Principal[] {
  const principals: Principal[] = [];
  const list = readList(record['identities'], `${field}.identities`, report) ?? [];
  for (const [index, entry] of list.entries()) {
    const at = `${field}.identities[${index}]`;
    const ref = readIdentityName(entry, at, place, report);
    if (ref === undefined) continue;
    const resolved = resolver.identity?.(ref);
    if (resolved === undefined && (place.mustResolve || resolver.identity === undefined)) {
      const label = ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
      report.add(at, `${ref.kind} ${label} is not known, so nobody can say whom this is about`);
    }
    const uris = (resolved ?? []).filter(
      (uri) => trustDomains === undefined || trustDomains.includes(parseSpiffeId(uri).trustDomain),
    );
    principals.push({ kind: 'identity', namespace: ref.namespace, name: ref.name, uris });
  }
  return principals;
}

function readIdentityName(
  value: unknown,
  field: string,
  place: PrincipalPlace,
  report: ProblemReport,
): IdentityName | undefined {
  const ref = readObject(value, field, ['kind', 'namespace', 'name'], report);
  if (ref === undefined) return undefined;
  const kinds = ['WorkloadIdentity', 'ClusterWorkloadIdentity'] as const;
  const kind = readWord(ref['kind'], `${field}.kind`, kinds, 'WorkloadIdentity', report);
  const name = segment(ref['name'], `${field}.name`, report);
  const namespace =
    kind === 'ClusterWorkloadIdentity'
      ? ''
      : segment(ref['namespace'] ?? place.namespace, `${field}.namespace`, report);
  if (kind === undefined || name === undefined || namespace === undefined) return undefined;
  return { kind, namespace, name };
}

/** A namespace or service account name, which becomes one segment of a SPIFFE ID's path. */
function segment(value: unknown, field: string, report: ProblemReport): string | undefined {
  if (typeof value !== 'string' || value === '' || value.includes('/')) {
    report.add(field, 'must be a name');
    return undefined;
  }
  return checked(
    () => {
      checkSpiffePath(`/${value}`);
      return value;
    },
    field,
    report,
  );
}

function checked<T>(parse: () => T, field: string, report: ProblemReport): T | undefined {
  try {
    return parse();
  } catch (error) {
    report.add(field, error instanceof Error ? error.message : 'is not valid');
    return undefined;
  }
}
