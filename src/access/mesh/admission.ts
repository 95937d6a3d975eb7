import { appendTo } from '../../lib/append-to.js';
import { parseSpiffeId, type SpiffeId } from '../../identity/spiffe/id.js';
import { namespaceOf, serviceAccountUri } from '../policy/spiffe-namespace.js';
import type { IpBlock, Principal, Source, SourceMatch } from '../policy/model.js';
import type { Inventory } from './inventory.js';
import { coversBlock, EVERYWHERE } from './ip-regions.js';

/*
 * Who is let in, for meshes that have no Deny: what is denied or excepted is taken away from what is allowed. Where a
 * mesh could not say "all but these", those that are left are named one by one, as the inventory knows them.
 */

/** A principal that stands for IDs which need not exist yet. */
export type Wildcard = Extract<Principal, { readonly kind: 'namespace' | 'trustDomain' | 'authenticated' }>;

/** Addresses: of the block, and of none of `except`, which lie inside it. */
export interface Network {
  readonly block: IpBlock;
  readonly except: readonly IpBlock[];
}

/** Some who are let in. */
export interface Grant {
  /** Absent means anyone, also without an identity. */
  readonly ids?: { readonly uris: readonly string[]; readonly wildcards: readonly Wildcard[] };
  /** Absent means from everywhere. Never empty. */
  readonly networks?: readonly Network[];
}

/** An entry of `from`, of a rule that the caller knows. */
export interface Entrant<T> {
  readonly rule: T;
  readonly source: Source;
}

/** Who is allowed, and who of them is not. Several layers let in whoever one of them lets in. */
export interface Layer<T> {
  readonly allow: readonly Entrant<T>[];
  readonly deny: readonly Source[];
}

/** What is lost of a rule. */
export interface Loss<T> {
  readonly rule: T;
  readonly reason: string;
}

export interface Admission<T> {
  readonly grants: readonly Grant[];
  readonly losses: readonly Loss<T>[];
  /** Rules of which something is among the grants. */
  readonly used: ReadonlySet<T>;
}

/** What a mesh can say of sources. */
export interface AdmissionAbility {
  /** Whether it compares the peer's address. */
  readonly networks: boolean;
  /** Whether it lets in callers without an identity. */
  readonly anyone: boolean;
  /** How much of a principal it can say as such; what it cannot is named one by one. */
  wildcard(principal: Wildcard): 'all' | 'some' | 'none';
}

/** More identities than this are not listed for one rule: the objects would outgrow what the API server takes. */
const MAX_LISTED = 500;

/** Whoever the layers let in. */
export function admit<T>(
  layers: readonly Layer<T>[],
  ability: AdmissionAbility,
  inventory: Inventory,
): Admission<T> {
  const run = new Run<T>(ability, knownIds(inventory));
  for (const { allow, deny } of layers) {
    for (const entrant of allow) run.add(entrant, deny);
  }
  return run.result();
}

/** Somebody who is taken away. */
interface Blocker extends SourceMatch {
  /** Who is let through all the same. */
  readonly unless: readonly SourceMatch[];
}

class Run<T> {
  readonly #ability: AdmissionAbility;
  readonly #known: KnownIds;
  readonly #grants = new Map<string, MutableGrant>();
  readonly #losses: Loss<T>[] = [];
  readonly #used = new Set<T>();

  constructor(ability: AdmissionAbility, known: KnownIds) {
    this.#ability = ability;
    this.#known = known;
  }

  result(): Admission<T> {
    const grants = [...this.#grants.values()].map(({ anyone, uris, wildcards, networks }): Grant => {
      const where = networks === undefined ? {} : { networks };
      if (anyone) return where;
      return { ...where, ids: { uris: [...uris].sort(), wildcards: [...wildcards.values()] } };
    });
    return { grants, losses: this.#losses, used: this.#used };
  }

  add(entrant: Entrant<T>, deny: readonly Source[]): void {
    const { rule, source } = entrant;
    const lose = (reason: string): void => {
      this.#losses.push({ rule, reason });
    };
    if (source.ipBlocks !== undefined && !this.#ability.networks) {
      lose('from.ipBlocks: the mesh does not compare addresses, so this source is left out');
      return;
    }
    const blockers: Blocker[] = [
      ...source.except.map((match) => ({ ...match, unless: [] })),
      ...deny.map(({ except, ...match }) => ({ ...match, unless: except })),
    ];
    const byNetwork = blockers.filter((blocker) => this.#ability.networks && isNetworkOnly(blocker));
    const byId = blockers.filter((blocker) => !byNetwork.includes(blocker));
    const networks = subtract(
      source.ipBlocks,
      byNetwork.flatMap(({ ipBlocks }) => ipBlocks ?? []),
    );
    if (networks?.length === 0) return; // nothing is left of the rule, and nothing is lost
    const key = JSON.stringify(networks?.map(({ block, except }) => [block.text, except.map(textOf)]));
    let grant = this.#grants.get(key);
    if (grant === undefined) {
      grant = { anyone: false, uris: new Set(), wildcards: new Map(), networks };
    }
    for (const principal of source.any) {
      if (this.#put(principal, byId, grant, lose)) {
        this.#grants.set(key, grant);
        this.#used.add(rule);
      }
    }
  }

  /** Whether something of the principal is let in. */
  #put(
    principal: Principal,
    blockers: readonly Blocker[],
    grant: MutableGrant,
    lose: (reason: string) => void,
  ): boolean {
    const touching = blockers.filter(({ any }) => any.some((other) => !disjoint(principal, other)));
    if (principal.kind === 'anyone' && touching.length === 0 && this.#ability.anyone) {
      grant.anyone = true;
      return true;
    }
    let said = false;
    if (isWildcard(principal) && touching.length === 0) {
      const much = this.#ability.wildcard(principal);
      said = much !== 'none';
      if (said) grant.wildcards.set(JSON.stringify(principal), principal);
      if (much === 'all') return true;
    }
    const candidates = this.#known.of(principal);
    const left = candidates.filter((id) => !touching.some((blocker) => blocks(blocker, id)));
    // An address can be told apart only together with everybody: so whoever is denied from some is denied from all.
    if (touching.some(({ any, ipBlocks, unless }) => any.length > 0 && isAboutAddresses(ipBlocks, unless))) {
      lose('from.ipBlocks: an identity that is denied or excepted from some addresses is denied from all');
    }
    if (principal.kind === 'anyone' || isWildcard(principal)) {
      if (left.length > MAX_LISTED) {
        lose(
          `from: would have to list ${left.length} identities, more than ${MAX_LISTED}; name them more closely`,
        );
        return said;
      }
      lose(listedReason(principal, touching.length > 0));
    }
    for (const { uri } of left) grant.uris.add(uri);
    return said || left.length > 0;
  }
}

interface MutableGrant {
  anyone: boolean;
  readonly uris: Set<string>;
  readonly wildcards: Map<string, Wildcard>;
  readonly networks: readonly Network[] | undefined;
}

function listedReason(principal: Principal, blocked: boolean): string {
  if (principal.kind === 'anyone') {
    return `from.anyone: ${
      blocked ? '"anyone but some" cannot be said' : 'callers without an identity cannot be let in'
    }, so the identities that the inventory knows are listed; callers without an identity are denied`;
  }
  const words = principal.kind === 'authenticated' ? 'anyAuthenticated' : `${principal.kind}s`;
  return `from.${words}: ${
    blocked ? '"all but some" cannot be said' : 'the mesh matches whole identities only'
  }, so the identities that the inventory knows are listed; others are denied until they are in it`;
}

const textOf = ({ text }: IpBlock): string => text;

function isWildcard(principal: Principal): principal is Wildcard {
  return (
    principal.kind === 'namespace' || principal.kind === 'trustDomain' || principal.kind === 'authenticated'
  );
}

/** Everybody from some addresses, which can be taken away exactly. */
function isNetworkOnly({ any, ipBlocks, unless }: Blocker): boolean {
  return ipBlocks !== undefined && unless.length === 0 && any.some(({ kind }) => kind === 'anyone');
}

function isAboutAddresses(ipBlocks: readonly IpBlock[] | undefined, unless: readonly SourceMatch[]): boolean {
  return ipBlocks !== undefined || unless.some((match) => match.ipBlocks !== undefined);
}

/** Whether an ID may be taken away, from some address at least. */
function blocks({ any, unless }: Blocker, id: SpiffeId): boolean {
  if (!any.some((principal) => names(principal, id))) return false;
  return !unless.some(
    (match) => match.ipBlocks === undefined && match.any.some((principal) => names(principal, id)),
  );
}

/** Whether a principal stands for an ID. */
function names(principal: Principal, id: SpiffeId): boolean {
  switch (principal.kind) {
    case 'anyone':
    case 'authenticated':
      return true;
    case 'spiffeId':
      return id.uri === principal.uri;
    case 'identity':
      return principal.uris.includes(id.uri);
    case 'trustDomain':
      return id.trustDomain === principal.trustDomain;
    case 'namespace':
      return id.trustDomain === principal.trustDomain && namespaceOf(id.path) === principal.namespace;
    case 'serviceAccount':
      return id.uri === serviceAccountUri(principal);
  }
}

/** Whether it is certain that no caller is both. */
function disjoint(a: Principal, b: Principal): boolean {
  if (a.kind === 'anyone' || b.kind === 'anyone') return false;
  if (a.kind === 'authenticated' || b.kind === 'authenticated') return false;
  const ids = explicit(a);
  if (ids !== undefined) return !ids.some((id) => names(b, id));
  const others = explicit(b);
  if (others !== undefined) return !others.some((id) => names(a, id));
  if (!('trustDomain' in a) || !('trustDomain' in b)) return false;
  if (a.trustDomain !== b.trustDomain) return true;
  return a.kind === 'namespace' && b.kind === 'namespace' && a.namespace !== b.namespace;
}

/** The IDs of a principal that names them. */
function explicit(principal: Principal): readonly SpiffeId[] | undefined {
  switch (principal.kind) {
    case 'spiffeId':
      return [parseSpiffeId(principal.uri)];
    case 'identity':
      return principal.uris.map((uri) => parseSpiffeId(uri));
    case 'serviceAccount':
      return [parseSpiffeId(serviceAccountUri(principal))];
    case 'namespace':
    case 'trustDomain':
    case 'authenticated':
    case 'anyone':
      return undefined;
  }
}

/** Blocks without what lies in others; undefined stays undefined (everywhere) where there is nothing to take away. */
function subtract(
  blocks: readonly IpBlock[] | undefined,
  others: readonly IpBlock[],
): readonly Network[] | undefined {
  if (blocks === undefined && others.length === 0) return undefined;
  return (blocks ?? EVERYWHERE).flatMap((block) =>
    others.some((other) => coversBlock(other, block))
      ? []
      : [{ block, except: others.filter((other) => coversBlock(block, other)) }],
  );
}

/** The IDs of an inventory by what principals name. */
class KnownIds {
  readonly #all: readonly SpiffeId[];
  readonly #byTrustDomain = new Map<string, SpiffeId[]>();
  readonly #byNamespace = new Map<string, SpiffeId[]>();

  constructor(inventory: Inventory) {
    const uris = new Set(inventory.workloads.flatMap(({ spiffeIds }) => spiffeIds));
    this.#all = [...uris].map((uri) => parseSpiffeId(uri));
    for (const id of this.#all) {
      appendTo(this.#byTrustDomain, id.trustDomain, id);
      const namespace = namespaceOf(id.path);
      if (namespace !== undefined) appendTo(this.#byNamespace, `${id.trustDomain}/${namespace}`, id);
    }
  }

  of(principal: Principal): readonly SpiffeId[] {
    switch (principal.kind) {
      case 'anyone':
      case 'authenticated':
        return this.#all;
      case 'trustDomain':
        return this.#byTrustDomain.get(principal.trustDomain) ?? [];
      case 'namespace':
        return this.#byNamespace.get(`${principal.trustDomain}/${principal.namespace}`) ?? [];
      case 'spiffeId':
      case 'identity':
      case 'serviceAccount':
        return explicit(principal) ?? [];
    }
  }
}

const caches = new WeakMap<Inventory, KnownIds>();

function knownIds(inventory: Inventory): KnownIds {
  let known = caches.get(inventory);
  if (known === undefined) caches.set(inventory, (known = new KnownIds(inventory)));
  return known;
}
