import { effectivePolicy, type EffectivePorts, type EffectiveRule } from '../../policy/effective.js';
import { policyName, type Policy } from '../../policy/model.js';
import { createPolicySet, type PolicySet } from '../../policy/policy-set.js';
import type { InventoryWorkload } from '../inventory.js';
import type { RenderContext, Verdict } from '../renderer.js';
import { CANONICAL_PATH_FILTER, HTTP_CONNECTION_MANAGER } from './connection-manager.js';
import { REFUSED_REQUEST } from './http.js';
import { any, DESTINATION_PORT, typed, type Json, type Predicate } from './predicate.js';
import { ruleEntries, type Entry, type View } from './rules.js';
import { LONG_IDENTITY, REFUSED_IDENTITY } from './sources.js';
import { refusedToken } from './token-check.js';
import { jwtFilter, keyClusters } from './token-filter.js';
import { answer, firstOf, lookup, rulesNode, type OnMatch } from './tree.js';
import { Findings } from './findings.js';

export interface EnvoyOptions {
  /** File with the authorities that sign token issuers' servers. `/etc/ssl/certs/ca-certificates.crt` unless given. */
  readonly trustedCa?: string;
}

/** What to ask for. */
export interface EnvoyFiltersOptions extends EnvoyOptions {
  /**
   * The workload's port that the listener stands for. Without it, the filters ask on which port the connection was made,
   * which is right where traffic is redirected to Envoy and its listener has the `original_dst` filter.
   */
  readonly port?: number;
  /** For a filter chain without TLS, whose callers have no identity. The filters for TLS deny everything there. */
  readonly plaintext?: boolean;
}

/** One workload's rules as Envoy's own configuration (v3 API, as JSON). */
export interface EnvoyFilters {
  /** Filters for the front of an HTTP connection manager, in order. */
  readonly http: readonly Json[];
  /** Settings that the HTTP connection manager must have. */
  readonly connectionManager: Json;
  /** Filters for the front of a filter chain without HTTP, in order. */
  readonly network: readonly Json[];
  /** The configuration of the one filter of each kind that enforces. */
  readonly enforcing: Readonly<Record<'http' | 'network', Json>>;
  /** Those of `http` that tell what audited policies would do. */
  readonly audit: readonly Json[];
  /** Rules that are enforced speak of tokens, so one that is not valid is refused. */
  readonly refusesTokens: boolean;
  /** Where the keys of token issuers are fetched. */
  readonly clusters: readonly Json[];
  readonly verdicts: readonly Verdict[];
  readonly until?: number;
}

const DEFAULT_CA = '/etc/ssl/certs/ca-certificates.crt';

/** Renders what all policies say about one workload. */
export function envoyFilters(
  workload: InventoryWorkload,
  context: RenderContext,
  options: EnvoyFiltersOptions = {},
): EnvoyFilters {
  const { set, time, zones, issuers = [] } = context;
  const effective = effectivePolicy(set, workload, time, zones);
  const audited = effective.policies
    .filter(({ mode }) => mode === 'Audit')
    .map((policy) => ({ policy, alone: effectivePolicy(soleEnforced(policy), workload, time, zones) }));
  const findings = new Findings(workload);
  const identified = options.plaintext !== true;
  const ports = declaredPorts(workload, options.port);
  const refusesTokens = effective.policies.some((policy) => policy.mode !== 'Audit' && usesTokens(policy));
  const chain = (view: View): readonly Json[] => {
    const matcherOf = (groups: readonly EffectivePorts[], tokens: boolean, refused: Refused): Json => {
      const build = (rule: EffectiveRule, group: EffectivePorts): readonly Entry[] => {
        const entries = ruleEntries(rule, view);
        if (ports.speaks(group, view.http)) findings.add(rule, entries, view.http);
        return entries.entries;
      };
      const unreadable = unreadableRequest(view, tokens);
      return matcher(groups, { port: options.port, unreadable: [unreadable, refused] }, build);
    };
    // What is audited comes first, so that it also sees what is denied. What no policy could say is not its finding.
    return [
      ...audited.map(({ policy, alone }) =>
        rbacFilter(view.http, `signet.${shadowName(policy)}`, {
          shadow_matcher: matcherOf(alone.groups, usesTokens(policy), 'ALLOW'),
        }),
      ),
      rbacFilter(view.http, 'signet', { matcher: matcherOf(effective.groups, refusesTokens, 'DENY') }),
    ];
  };
  const http = chain({ http: true, identified, issuers });
  const network = chain({ http: false, identified, issuers });
  const jwt = effective.policies.some(usesTokens)
    ? jwtFilter(issuers, { lenient: !refusesTokens })
    : undefined;
  const instants = [effective, ...audited.map(({ alone }) => alone)].flatMap(({ until }) => until ?? []);
  return {
    http: [CANONICAL_PATH_FILTER, ...(jwt === undefined ? [] : [jwt]), ...http],
    connectionManager: HTTP_CONNECTION_MANAGER,
    network,
    enforcing: { http: configOf(http), network: configOf(network) },
    audit: http.slice(0, -1),
    refusesTokens,
    clusters: jwt === undefined ? [] : keyClusters(issuers, options.trustedCa ?? DEFAULT_CA),
    verdicts: findings.verdicts(effective.policies),
    ...(instants.length === 0 ? {} : { until: Math.min(...instants) }),
  };
}

/** An audited policy as if it were enforced and the only one; what it does not speak of, it allows. */
function soleEnforced(policy: Policy): PolicySet {
  return createPolicySet([{ ...policy, mode: 'Enforce' }], { defaultAction: 'Allow' });
}

/** A policy's part of a statistic's name: dots would part it. */
const shadowName = ({ ref }: Policy): string => policyName(ref).replaceAll(/[^A-Za-z0-9_-]/g, '_');

function usesTokens({ rules }: Policy): boolean {
  return rules.some(
    ({ when, to = [] }) =>
      when?.token !== undefined || to.some(({ grantedBy }) => grantedBy?.claim !== undefined),
  );
}

/** Which kind of filter the ports of a group get. */
function declaredPorts(
  { ports }: InventoryWorkload,
  only: number | undefined,
): { speaks(group: EffectivePorts, http: boolean): boolean } {
  const known = ports.filter(({ port }) => only === undefined || port === only);
  const kinds = new Map(known.map(({ port, protocol }) => [port, protocol !== 'tcp']));
  // What no port declares may be of either kind that the workload speaks.
  const either = (http: boolean): boolean => kinds.size === 0 || [...kinds.values()].includes(http);
  return {
    speaks: ({ ports: group }, http) =>
      group === 'others'
        ? either(http)
        : group.some((port) => (kinds.has(port) ? kinds.get(port) === http : either(http))),
  };
}

/** What becomes of requests that cannot be read in one way only. */
type Refused = 'ALLOW' | 'DENY';

/** What is refused whatever the policies say. */
function unreadableRequest({ http, identified, issuers }: View, tokens: boolean): Predicate {
  return any([
    ...(identified ? [REFUSED_IDENTITY] : []),
    ...(http ? [REFUSED_REQUEST] : []),
    ...(http && identified ? [LONG_IDENTITY] : []),
    ...(http && tokens ? [refusedToken(issuers)] : []),
  ]);
}

type Build = (rule: EffectiveRule, group: EffectivePorts) => readonly Entry[];

/** The whole decision as one matcher. What matches nothing is denied by Envoy. */
function matcher(
  groups: readonly EffectivePorts[],
  { port, unreadable }: { port: number | undefined; unreadable: readonly [Predicate, Refused] },
  build: Build,
): Json {
  const byPort = new Map<string, OnMatch>();
  let others: OnMatch | undefined;
  for (const group of groups) {
    if (group.ports === 'others') others = groupNode(group, build);
    else for (const named of group.ports) byPort.set(String(named), groupNode(group, build));
  }
  const decided =
    port === undefined
      ? lookup(DESTINATION_PORT, 'exact_match_map', byPort, others)
      : (byPort.get(String(port)) ?? others);
  const [unreadableIs, refused] = unreadable;
  const whole = firstOf([[unreadableIs, answer('refused', refused)]], decided);
  // Envoy wants a matcher here, also where there is nothing to ask.
  const { matcher: json } = (whole ?? {}) as { readonly matcher?: Json };
  return json ?? { on_no_match: whole };
}

/** Deny, then allow, then the baseline where it is asked, then what no rule speaks of. */
function groupNode(group: EffectivePorts, build: Build): OnMatch {
  const { broken, baseline, fallback } = group;
  if (broken !== undefined) return answer(`${policyName(broken.ref)}:broken`, 'DENY');
  const entries = (rules: readonly EffectiveRule[]): readonly Entry[] =>
    rules.flatMap((rule) => build(rule, group));
  const last = answer(fallback === 'Allow' ? 'default' : 'no-rule', fallback === 'Allow' ? 'ALLOW' : 'DENY');
  let node: OnMatch | undefined = last;
  if (baseline !== undefined) {
    node = rulesNode(entries(baseline.allow), 'ALLOW', node);
    node = rulesNode(entries(baseline.deny), 'DENY', node);
  }
  node = rulesNode(entries(group.allow), 'ALLOW', node);
  return rulesNode(entries(group.deny), 'DENY', node) ?? last;
}

/** The configuration of the filter that comes last: the one that enforces. */
const configOf = (filters: readonly Json[]): Json => filters.at(-1)?.['typed_config'] as Json;

/** An RBAC filter's configuration that lets nothing through. */
export function denyEverything(http: boolean, why: string): Json {
  return rbacFilter(http, 'signet', { matcher: { on_no_match: answer(why, 'DENY') } })[
    'typed_config'
  ] as Json;
}

function rbacFilter(http: boolean, name: string, part: Json): Json {
  const shadow = 'shadow_matcher' in part;
  const prefix = shadow ? { shadow_rules_stat_prefix: `${name}.` } : {};
  if (http) {
    return {
      name: `envoy.filters.http.rbac${shadow ? `.${name}` : ''}`,
      typed_config: typed('envoy.extensions.filters.http.rbac.v3.RBAC', {
        ...part,
        ...prefix,
        ...(shadow ? {} : { rules_stat_prefix: `${name}.` }),
      }),
    };
  }
  return {
    name: 'envoy.filters.network.rbac',
    typed_config: typed('envoy.extensions.filters.network.rbac.v3.RBAC', {
      stat_prefix: 'signet.',
      ...part,
      ...prefix,
    }),
  };
}
