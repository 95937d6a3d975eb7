import { serviceAccountUri } from '../../policy/spiffe-namespace.js';
import type {
  Conditions,
  Operation,
  PathPattern,
  Policy,
  Principal,
  Rule,
  Source,
  SourceMatch,
  Tier,
} from '../../policy/model.js';
import { closes } from '../../policy/target-policies.js';
import { textOf } from '../ip-regions.js';
import type { RenderContext, Verdict } from '../renderer.js';

type Json = Readonly<Record<string, unknown>>;

/** What `data.signet.policy` holds. */
export interface OpaData {
  readonly config: { readonly defaultAction: string; readonly jwtPayload: string };
  readonly policies: readonly Json[];
  readonly rules: readonly Json[];
  readonly targets: Readonly<Record<string, { readonly profile: string; readonly labels: Json }>>;
  readonly profiles: Readonly<Record<string, Json>>;
}

/** Everything that the modules decide by, and what is lost of it. */
export function opaData(
  { set, inventory }: RenderContext,
  jwtPayload: string,
): { readonly data: OpaData; readonly verdicts: readonly Verdict[] } {
  const ranks = new Map<Policy, number>();
  const rules: Json[] = [];
  const numbers = new Map<Rule, number>();
  const verdicts: Verdict[] = [];
  for (const [index, policy] of set.policies.entries()) {
    ranks.set(policy, index);
    verdicts.push(policyVerdict(policy));
    for (const rule of policy.rules) {
      const { json, verdict } = ruleOf(rule, policy, index);
      verdicts.push(verdict);
      if (json === undefined) continue;
      numbers.set(rule, rules.length);
      rules.push(json);
    }
  }
  const profiles = new Map<string, { readonly name: string; readonly profile: Json }>();
  const targets: Record<string, { readonly profile: string; readonly labels: Json }> = {};
  for (const workload of inventory.workloads) {
    const policies = set.concerning(workload);
    const key = policies.map((policy) => ranks.get(policy)).join();
    let known = profiles.get(key);
    if (known === undefined) {
      known = { name: `p${profiles.size}`, profile: profileOf(policies, ranks, numbers) };
      profiles.set(key, known);
    }
    targets[`${workload.namespace}/${workload.name}`] = { profile: known.name, labels: workload.labels };
  }
  return {
    data: {
      config: { defaultAction: set.defaultAction, jwtPayload },
      policies: set.policies.map(policyOf),
      rules,
      targets,
      profiles: Object.fromEntries([...profiles.values()].map(({ name, profile }) => [name, profile])),
    },
    verdicts,
  };
}

function policyVerdict({ ref, problems }: Policy): Verdict {
  if (problems === undefined) return { policy: ref, fidelity: 'Exact', reasons: [] };
  return {
    policy: ref,
    fidelity: 'Unsupported',
    reasons: ['the policy could not be compiled, so everything that reaches its tier is denied'],
  };
}

function policyOf({ ref, tier, target, validity }: Policy): Json {
  return { ...ref, tier, ...validity, ...(target.ports === undefined ? {} : { ports: target.ports }) };
}

/** CEL is the one thing that Rego does not say. */
function ruleOf(
  rule: Rule,
  policy: Policy,
  index: number,
): { readonly json?: Json; readonly verdict: Verdict } {
  const verdict = { policy: policy.ref, rule: rule.name };
  const { cel, ...rest } = rule.when ?? {};
  const when = conditionsOf(rest);
  const json = {
    policy: index,
    name: rule.name,
    from: rule.from.map(sourceOf),
    ...(rule.to === undefined ? {} : { to: rule.to.map(operationOf) }),
    ...(Object.keys(when).length === 0 ? {} : { when }),
  };
  if (cel === undefined)
    return { json, verdict: { ...verdict, fidelity: 'Exact', reasons: conditionsSaid(rule) } };
  if (rule.effect === 'Allow') {
    const reasons = ['when.cel: Rego cannot evaluate it, so the rule is left out'];
    return { verdict: { ...verdict, fidelity: 'Unsupported', reasons } };
  }
  const reasons = ['when.cel: Rego cannot evaluate it, so the rule denies without it'];
  return { json, verdict: { ...verdict, fidelity: 'Narrower', reasons } };
}

function conditionsSaid({ when }: Rule): readonly string[] {
  const numbers = when?.attributes !== undefined || when?.token?.claims !== undefined;
  return numbers
    ? ['numbers are compared up to 15 digits and without an exponent; others are not known']
    : [];
}

function principalOf(principal: Principal): Json {
  switch (principal.kind) {
    case 'anyone':
      return { anyone: true };
    case 'authenticated':
      return { authenticated: true };
    case 'spiffeId':
      return { ids: [principal.uri] };
    case 'identity':
      return { ids: principal.uris };
    case 'serviceAccount':
      return { ids: [serviceAccountUri(principal)] };
    case 'trustDomain':
      return { trustDomain: principal.trustDomain };
    case 'namespace':
      return { trustDomain: principal.trustDomain, namespace: principal.namespace };
  }
}

const addressesOf = ({ ipBlocks }: SourceMatch): Json =>
  ipBlocks === undefined ? {} : { ipBlocks: ipBlocks.map(textOf) };

/** The principals of the source itself are in the index. */
function sourceOf(source: Source): Json {
  return {
    ...addressesOf(source),
    except: source.except.map((match) => ({ any: match.any.map(principalOf), ...addressesOf(match) })),
  };
}

function operationOf(operation: Operation): Json {
  const { grantedBy, ...said } = operation;
  const paths = said.kind === 'network' && said.paths !== undefined ? { paths: said.paths.map(pathOf) } : {};
  return { ...said, ...paths, ...(grantedBy?.claim === undefined ? {} : { claim: grantedBy.claim }) };
}

function pathOf(pattern: PathPattern): Json {
  switch (pattern.kind) {
    case 'exact':
      return { exact: pattern.path };
    case 'prefix':
      return { prefix: pattern.path };
    case 'template': {
      const parts = pattern.segments.map((segment) => {
        if (segment.kind === 'literal') return `/${escape(segment.value)}`;
        return segment.kind === 'one' ? '/[^/]+' : '/.*';
      });
      return { regex: `^${parts.join('')}$` };
    }
  }
}

const escape = (text: string): string => text.replaceAll(/[.$()*+?^|[\]{}\\]/g, String.raw`\$&`);

function conditionsOf(when: Omit<Conditions, 'cel'>): Json {
  const { token, sourceLabels, targetLabels, ...rest } = when;
  const labels = (list: Conditions['sourceLabels']): readonly Json[] | undefined =>
    list?.map((one) => ('values' in one ? { ...one, values: [...one.values] } : one));
  return Object.fromEntries(
    Object.entries({
      ...rest,
      sourceLabels: labels(sourceLabels),
      targetLabels: labels(targetLabels),
      token: token === undefined ? undefined : tokenOf(token),
    }).filter(([, value]) => value !== undefined),
  );
}

function tokenOf({ issuers, audiences, subjects, acr, ...rest }: NonNullable<Conditions['token']>): Json {
  const oneOf = Object.entries({ iss: issuers, aud: audiences, sub: subjects, acr });
  return { ...rest, oneOf: Object.fromEntries(oneOf.filter(([, values]) => values !== undefined)) };
}

type Numbers = ReadonlyMap<Rule, number>;
type Ranks = ReadonlyMap<Policy, number>;

/** What some policies say together about the targets that they all concern. */
function profileOf(policies: readonly Policy[], ranks: Ranks, numbers: Numbers): Json {
  return {
    enforced: deciderOf(
      policies.filter(({ mode }) => mode === 'Enforce'),
      ranks,
      numbers,
    ),
    audited: policies
      .filter(({ mode }) => mode === 'Audit')
      .map((policy) => ({ policy: ranks.get(policy), decider: deciderOf([policy], ranks, numbers) })),
  };
}

function deciderOf(policies: readonly Policy[], ranks: Ranks, numbers: Numbers): Json {
  const claims = (holds: (policy: Policy) => boolean): Json => {
    const of = (tier: Tier): readonly (number | undefined)[] =>
      policies.filter((policy) => policy.tier === tier && holds(policy)).map((policy) => ranks.get(policy));
    return { Admin: of('Admin'), Namespaced: of('Namespaced'), Baseline: of('Baseline') };
  };
  const index = (effect: Rule['effect'], ...tiers: readonly Tier[]): Json =>
    indexOf(
      policies
        .filter(({ tier }) => tiers.includes(tier))
        .flatMap(({ rules }) => rules.filter((rule) => rule.effect === effect)),
      numbers,
    );
  return {
    broken: claims(({ problems }) => problems !== undefined),
    closing: claims(closes),
    adminDeny: index('Deny', 'Admin'),
    deny: index('Deny', 'Namespaced'),
    allow: index('Allow', 'Admin', 'Namespaced'),
    baselineDeny: index('Deny', 'Baseline'),
    baselineAllow: index('Allow', 'Baseline'),
  };
}

/** Rules by whom they are for, so that a request meets only those that could concern its caller. */
function indexOf(rules: readonly Rule[], numbers: Numbers): Json {
  type Entry = readonly [number, number];
  const byUri: Record<string, Entry[]> = {};
  const byTrustDomain: Record<string, Entry[]> = {};
  const byNamespace: Record<string, Entry[]> = {};
  const authenticated: Entry[] = [];
  const anyone: Entry[] = [];
  const put = (principal: Principal, entry: Entry): void => {
    const ids = principalOf(principal)['ids'] as readonly string[] | undefined;
    for (const id of ids ?? []) (byUri[id] ??= []).push(entry);
    if (principal.kind === 'anyone') anyone.push(entry);
    else if (principal.kind === 'authenticated') authenticated.push(entry);
    else if (principal.kind === 'trustDomain') (byTrustDomain[principal.trustDomain] ??= []).push(entry);
    else if (principal.kind === 'namespace') {
      (byNamespace[`${principal.trustDomain}/${principal.namespace}`] ??= []).push(entry);
    }
  };
  for (const rule of rules) {
    const number = numbers.get(rule);
    if (number === undefined) continue;
    for (const [at, source] of rule.from.entries()) {
      for (const principal of source.any) put(principal, [number, at]);
    }
  }
  return { byUri, byTrustDomain, byNamespace, authenticated, anyone };
}
