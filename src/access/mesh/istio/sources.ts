import type { IpBlock } from '../../../lib/ip-address.js';
import type { Effect, Principal, Source, SourceMatch } from '../../policy/model.js';
import type { RuleNotes } from './findings.js';
import type { Dialect, IstioSource } from './language.js';

const CLUSTER_LOCAL = 'cluster.local';

interface PrincipalText {
  readonly text: string;
  /** What Istio would let in besides, because it takes another trust domain for this one. */
  readonly besides: readonly string[];
}

/** The sources of one entry of `from`; `{}` is everybody, an empty list nobody. */
export function istioSources(
  source: Source,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly IstioSource[] {
  const seen = source.ipBlocks === undefined || seesAddresses(dialect, notes);
  if (!seen && effect === 'Allow') return [];
  const blocks = source.ipBlocks === undefined || !seen ? {} : { ipBlocks: source.ipBlocks.map(cidr) };
  let sources: readonly IstioSource[] = positive(source.any, effect, dialect, notes).map(
    (one): IstioSource => ({
      ...one,
      ...blocks,
    }),
  );
  for (const except of source.except) sources = without(sources, except, effect, dialect, notes);
  return sources;
}

/**
 * Behind a waypoint's tunnel Envoy has no address to compare ipBlocks with: a DENY by them never matches, and one by
 * notIpBlocks always. remoteIpBlocks would go by X-Forwarded-For, which the caller writes.
 */
function seesAddresses({ mode }: Dialect, notes: RuleNotes): boolean {
  if (mode !== 'waypoint') return true;
  notes.lost('a waypoint cannot compare the address of the caller (ipBlocks)');
  return false;
}

function positive(
  any: readonly Principal[],
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly IstioSource[] {
  if (any.some(({ kind }) => kind === 'anyone')) return [{}];
  const groups = new Map<string, { readonly principals: string[]; readonly besides: readonly string[] }>();
  for (const { text, besides } of any.flatMap((one) => principalTexts(one, effect, dialect, notes))) {
    const key = besides.join(' ');
    const group = groups.get(key) ?? { principals: [], besides };
    group.principals.push(text);
    groups.set(key, group);
  }
  return [...groups.values()].map(({ principals, besides }) => ({
    principals: [...new Set(principals)],
    ...(besides.length === 0 ? {} : { notPrincipals: besides }),
  }));
}

/**
 * Principals as Istio writes them: without `spiffe://`, which it adds itself; and never its `namespaces` and
 * `serviceAccounts`, which look into any trust domain and into the middle of a path.
 */
function principalTexts(
  principal: Principal,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly PrincipalText[] {
  const { trustDomains, mode } = dialect;
  if (principal.kind === 'authenticated') return [{ text: '*', besides: [] }];
  return patterns(principal).flatMap((text): readonly PrincipalText[] => {
    const domain = text.slice(0, text.indexOf('/'));
    if (mode !== 'ambient' && effect === 'Allow' && !trustDomains.includes(domain)) {
      notes.lost(
        `a ${mode} refuses callers of trust domain ${domain} in TLS, unless the mesh's trustDomainAliases name it`,
      );
    }
    if (mode !== 'sidecar' && effect === 'Allow' && !text.endsWith('*') && !isZtunnelIdentity(text)) {
      notes.lost('ztunnel knows only SPIFFE IDs of the form /ns/<namespace>/sa/<service account>');
    }
    if (!isExpanded(text, dialect)) return [{ text, besides: [] }];
    if (trustDomains.includes(domain)) {
      return [
        { text, besides: trustDomains.filter((other) => other !== domain).map((other) => `${other}/*`) },
      ];
    }
    // Istio reads cluster.local as "the own trust domain", and then it does not match cluster.local itself.
    notes.lost('Istio takes the trust domain cluster.local for its own, so an ID of it cannot be named');
    return effect === 'Allow' ? [] : [{ text: `${CLUSTER_LOCAL}/*`, besides: [] }];
  });
}

/** Every pattern ends behind a slash or is a whole ID, so that a prefix respects segments. */
function patterns(principal: Principal): readonly string[] {
  const bare = (uri: string): string => uri.slice('spiffe://'.length);
  switch (principal.kind) {
    case 'spiffeId':
      return [bare(principal.uri)];
    case 'identity':
      return principal.uris.map(bare);
    case 'serviceAccount':
      return [`${principal.trustDomain}/ns/${principal.namespace}/sa/${principal.serviceAccount}`];
    case 'namespace':
      return [`${principal.trustDomain}/ns/${principal.namespace}/*`];
    case 'trustDomain':
      return [`${principal.trustDomain}/*`];
    case 'anyone':
    case 'authenticated':
      return [];
  }
}

/** Istio reads what has five parts as `<trust domain>/ns/<namespace>/sa/<name>` and adds the aliases of the trust domain. */
function isExpanded(text: string, { mode, trustDomains }: Dialect): boolean {
  const parts = text.split('/');
  const [domain = ''] = parts;
  if (mode === 'ambient' || parts.length !== 5) return false;
  return trustDomains.includes(domain) ? trustDomains.length > 1 : domain === CLUSTER_LOCAL;
}

function isZtunnelIdentity(text: string): boolean {
  const [, ns, , sa, ...rest] = text.split('/');
  return ns === 'ns' && sa === 'sa' && rest.length === 1;
}

/** The sources, less what is excepted: not these principals, or not from these blocks. */
function without(
  sources: readonly IstioSource[],
  except: SourceMatch,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly IstioSource[] {
  const everybody = except.any.some(({ kind }) => kind === 'anyone');
  const seen = except.ipBlocks === undefined || seesAddresses(dialect, notes);
  if (!seen && effect === 'Deny') return sources;
  if (!seen && everybody) return [];
  const notBlocks = seen ? except.ipBlocks?.map(cidr) : undefined;
  const narrowed: IstioSource[] = [];
  if (!everybody) {
    const names = exceptedTexts(except.any, effect, dialect, notes);
    if (names.length === 0) return sources;
    for (const source of sources) {
      narrowed.push({ ...source, notPrincipals: [...new Set([...(source.notPrincipals ?? []), ...names])] });
    }
  }
  if (notBlocks !== undefined) {
    for (const source of sources) {
      narrowed.push({ ...source, notIpBlocks: [...new Set([...(source.notIpBlocks ?? []), ...notBlocks])] });
    }
  }
  return narrowed;
}

function exceptedTexts(
  any: readonly Principal[],
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly string[] {
  if (any.some(({ kind }) => kind === 'authenticated')) return ['*'];
  return any.flatMap(patterns).flatMap((text) => {
    if (!isExpanded(text, dialect)) return [text];
    notes.lost('Istio would except the same name in an alias of the trust domain too');
    if (effect === 'Deny') return [];
    return dialect.trustDomains.includes(text.slice(0, text.indexOf('/'))) ? [text] : [`${CLUSTER_LOCAL}/*`];
  });
}

/** A block as Go reads it. */
export function cidr({ bytes, prefix }: IpBlock): string {
  if (bytes.length === 4) return `${bytes.join('.')}/${prefix}`;
  const groups = bytes.flatMap((byte, index) =>
    index % 2 === 0 ? [((byte << 8) | (bytes[index + 1] ?? 0)).toString(16)] : [],
  );
  return `${groups.join(':')}/${prefix}`;
}
