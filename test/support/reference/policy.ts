/**
 * What a set of policies says, worked out slowly and as the words of src/resources/policy.ts and docs/policy/README.md say
 * it: from the texts of the resources, with no compiling, index or order of its own. Tests hold the evaluator against it.
 */
import type {
  OperationInput,
  PolicyInput,
  PrincipalInput,
  RoleGrantInput,
  RoleInput,
  RuleInput,
  SimplePrincipalInput,
} from '../../../src/access/policy/input.js';
import type { AccessRequest } from '../../../src/access/policy/model.js';
import { claimCarries, labelsMatch, whenMatches } from './conditions.js';
import { every, negated, said, some, type Truth } from './logic.js';
import { isRefused, operationMatches } from './network.js';

/** What there is in the cluster, as far as policies speak of it. */
export interface ReferenceWorld {
  readonly trustDomain: string;
  readonly defaultAction: 'Allow' | 'Deny';
  readonly roles: readonly RoleInput[];
  readonly namespaces: readonly {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
  }[];
  /** The SPIFFE IDs that a WorkloadIdentity gives out. */
  identity(namespace: string, name: string): readonly string[];
  /** Names of policies whose rules nobody can read. */
  readonly broken: ReadonlySet<string>;
}

export interface ReferenceAnswer {
  readonly allowed: boolean;
  /** What decided: the request itself, a rule (or a broken policy, which denies), a policy that closes, the default. */
  readonly by: 'request' | 'allow' | 'deny' | 'closed' | 'default';
}

/** The namespace and the path after it, of `/ns/<namespace>/<more>`. */
function isUnder(path: string, namespace: string): boolean {
  return path.startsWith(`ns/${namespace}/`);
}

function addressIn(block: string, address: string): boolean {
  const bits = (text: string): string => {
    const plain = text.replace(/^::ffff:(?=\d+\.)/, '');
    if (plain.includes('.'))
      return plain
        .split('.')
        .map((part) => Number(part).toString(2).padStart(8, '0'))
        .join('');
    const [head = '', tail = ''] = plain.split('::');
    const groups = (half: string): string[] => (half === '' ? [] : half.split(':'));
    const gap = Array.from({ length: 8 - groups(head).length - groups(tail).length }, () => '0');
    return [...groups(head), ...gap, ...groups(tail)]
      .map((group) => parseInt(group, 16).toString(2).padStart(16, '0'))
      .join('');
  };
  const [network = '', length = ''] = block.split('/');
  const wanted = bits(network);
  const asked = bits(address);
  return wanted.length === asked.length && wanted.slice(0, Number(length)) === asked.slice(0, Number(length));
}

/** Whether the caller is one of those that an entry names, wherever it calls from. */
function isNamed(entry: SimplePrincipalInput, source: string | undefined, world: ReferenceWorld): boolean {
  const { trustDomains } = entry;
  const narrowed = trustDomains !== undefined;
  if (entry.anyone === true && !narrowed) return true;
  const names = [
    'spiffeIDs',
    'identities',
    'serviceAccounts',
    'namespaces',
    'namespaceSelector',
    'anyAuthenticated',
  ];
  if (!narrowed && !names.some((name) => name in entry)) return true; // ipBlocks alone
  if (source === undefined) return false;
  return hasName(entry, source, world);
}

/** The same of a caller that has an ID. */
function hasName(entry: SimplePrincipalInput, source: string, world: ReferenceWorld): boolean {
  const { trustDomains, spiffeIDs, identities, serviceAccounts, namespaces, namespaceSelector } = entry;
  const [, , domain = '', ...rest] = source.split('/');
  const path = rest.join('/');
  const narrowed = trustDomains?.includes(domain) ?? true;
  const own = trustDomains !== undefined || domain === world.trustDomain;
  const choices = [
    spiffeIDs?.includes(source),
    identities?.some(({ namespace = '', name }) => world.identity(namespace, name).includes(source)),
    serviceAccounts?.some(({ namespace = '', name }) => own && path === `ns/${namespace}/sa/${name}`),
    namespaces?.some((name) => own && isUnder(path, name)),
    namespaceSelector === undefined
      ? undefined
      : domain === world.trustDomain &&
        world.namespaces.some(
          ({ name, labels }) => labelsMatch(namespaceSelector, labels) && isUnder(path, name),
        ),
  ];
  return narrowed && !choices.includes(false);
}

function simpleMatches(entry: SimplePrincipalInput, request: AccessRequest, world: ReferenceWorld): Truth {
  const { source, sourceIp } = request;
  return every(
    [
      isNamed(entry, source, world),
      said(entry.ipBlocks, (blocks) =>
        sourceIp === undefined ? undefined : blocks.some((block) => addressIn(block, sourceIp)),
      ),
    ],
    (truth) => truth,
  );
}

function principalMatches(entry: PrincipalInput, request: AccessRequest, world: ReferenceWorld): Truth {
  const { except = [], ...simple } = entry;
  const excepted = some(except, (one) => simpleMatches(one, request, world));
  return every([simpleMatches(simple, request, world), negated(excepted)], (truth) => truth);
}

/** What a role permits, with the roles that it includes. */
function permissionsOf(name: string, roles: readonly RoleInput[]): readonly OperationInput[] {
  const role = roles.find(({ metadata }) => metadata.name === name);
  const { permissions = [], includes = [] } = role?.spec ?? {};
  return [...permissions, ...includes.flatMap((included) => permissionsOf(included, roles))];
}

function grantMatches(grant: RoleGrantInput, request: AccessRequest, world: ReferenceWorld): Truth {
  const { name, claim, value = name } = grant;
  return every(
    [
      said(claim, (carrier) => claimCarries(carrier, value, request)),
      some(permissionsOf(name, world.roles), (operation) => operationMatches(operation, request)),
    ],
    (truth) => truth,
  );
}

/** Who, what and when. */
export function ruleMatches(rule: RuleInput, request: AccessRequest, world: ReferenceWorld): Truth {
  const { from, to, roles, when } = rule;
  const what =
    to === undefined && roles === undefined
      ? true
      : some(
          [
            ...(to ?? []).map((operation) => operationMatches(operation, request)),
            ...(roles ?? []).map((grant) => grantMatches(grant, request, world)),
          ],
          (truth) => truth,
        );
  return every(
    [
      some(from, (entry) => principalMatches(entry, request, world)),
      what,
      said(when, (conditions) => whenMatches(conditions, request)),
    ],
    (truth) => truth,
  );
}

function isValid({ spec: { validity } }: PolicyInput, time: number): boolean {
  const { from, until } = validity ?? {};
  return (
    (from === undefined || time >= Date.parse(from)) && (until === undefined || time < Date.parse(until))
  );
}

/** Whether a policy is about the workload, on whatever port. */
function concerns(
  { kind, metadata, spec: { target } }: PolicyInput,
  { target: asked }: AccessRequest,
): boolean {
  return (
    (kind === 'ClusterAccessPolicy' || metadata.namespace === asked.namespace) &&
    (target.namespaces?.includes(asked.namespace) ?? true) &&
    labelsMatch(target.namespaceSelector ?? {}, asked.namespaceLabels) &&
    labelsMatch(target.podSelector ?? {}, asked.labels) &&
    (target.serviceAccountNames?.includes(asked.serviceAccount) ?? true)
  );
}

function onPort({ spec: { target } }: PolicyInput, { port }: AccessRequest): Truth {
  return said(target.ports, (ports) => (port === undefined ? undefined : ports.includes(port)));
}

const tierOf = ({ spec: { tier } }: PolicyInput): string => tier ?? 'Namespaced';
const effectOf = ({ effect }: RuleInput): string => effect ?? 'Allow';

/** Not known is no for an Allow rule, and yes for a Deny rule. */
function applies(
  policy: PolicyInput,
  rule: RuleInput,
  request: AccessRequest,
  world: ReferenceWorld,
): boolean {
  const truth = every([onPort(policy, request), ruleMatches(rule, request, world)], (one) => one);
  return isValid(policy, request.time) && (truth ?? effectOf(rule) === 'Deny');
}

/** What the enforced policies say. */
export function referenceAnswer(
  policies: readonly PolicyInput[],
  request: AccessRequest,
  world: ReferenceWorld,
): ReferenceAnswer {
  if (isRefused(request)) return { allowed: false, by: 'request' };
  const enforced = policies.filter((policy) => policy.spec.mode !== 'Audit' && concerns(policy, request));
  const isBroken = ({ metadata: { name } }: PolicyInput): boolean => world.broken.has(name);
  const inTiers = (tiers: readonly string[]): readonly PolicyInput[] =>
    enforced.filter((policy) => tiers.includes(tierOf(policy)));
  const someRule = (tiers: readonly string[], effect: string): boolean =>
    inTiers(tiers).some(
      (policy) =>
        !isBroken(policy) &&
        policy.spec.rules.some((rule) => effectOf(rule) === effect && applies(policy, rule, request, world)),
    );
  const denies = (tiers: readonly string[]): boolean =>
    someRule(tiers, 'Deny') ||
    inTiers(tiers).some((policy) => isBroken(policy) && onPort(policy, request) !== false);
  const closes = (tiers: readonly string[]): boolean =>
    inTiers(tiers).some(
      (policy) =>
        onPort(policy, request) !== false &&
        (isBroken(policy) ||
          policy.spec.rules.length === 0 ||
          policy.spec.rules.some((rule) => effectOf(rule) === 'Allow')),
    );
  if (denies(['Admin', 'Namespaced'])) return { allowed: false, by: 'deny' };
  if (someRule(['Admin', 'Namespaced'], 'Allow')) return { allowed: true, by: 'allow' };
  if (closes(['Namespaced'])) return { allowed: false, by: 'closed' };
  if (denies(['Baseline'])) return { allowed: false, by: 'deny' };
  if (someRule(['Baseline'], 'Allow')) return { allowed: true, by: 'allow' };
  if (closes(['Admin', 'Baseline'])) return { allowed: false, by: 'closed' };
  return { allowed: world.defaultAction === 'Allow', by: 'default' };
}
