import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { namespaceOf, type Match } from '../policy/match.js';
import type { IpBlock, LabelRequirement, Principal, Source, SourceMatch } from '../policy/model.js';
import { labelsMatch } from '../policy/selector.js';
import type { InventoryWorkload } from './inventory.js';
import { coversBlock, disjointBlocks } from './ip-regions.js';
import type { PodClass, PodIndex, PodNamespace } from './pods.js';

/*
 * Who may call, as an engine tells callers apart that knows pods and addresses but no identities: for each kind of caller,
 * what can be said of the identity behind it. `unknown` is always an answer, and never opens anything.
 */

export interface Caller {
  principal(principal: Principal): Match;
  ip(blocks: readonly IpBlock[]): Match;
  labels(requirements: readonly LabelRequirement[]): Match;
}

export interface CallerOptions {
  /** The addresses of pods. Where it is not known whether a block of a policy holds pods, the pods are not opened by it. */
  readonly podNetworks?: readonly IpBlock[];
  /**
   * Whether callers from outside the cluster may hold identities, of the own trust domain or of others. An ID of the own that a
   * workload of the inventory holds, or that lies under `/ns/<namespace of the cluster>/`, is taken to be held by nobody
   * outside. True unless said.
   */
  readonly outsideHoldsIdentities?: boolean;
}

export const all = (matches: readonly Match[]): Match =>
  matches.includes('no') ? 'no' : matches.includes('unknown') ? 'unknown' : 'yes';
export const some = (matches: readonly Match[]): Match =>
  matches.includes('yes') ? 'yes' : matches.includes('unknown') ? 'unknown' : 'no';
export const not = (match: Match): Match => (match === 'yes' ? 'no' : match === 'no' ? 'yes' : 'unknown');

const of = (holds: boolean): Match => (holds ? 'yes' : 'no');
const perhaps = (may: boolean): Match => (may ? 'unknown' : 'no');

function matchesAny({ any, ipBlocks }: SourceMatch, caller: Caller): Match {
  const who = some(any.map((principal) => caller.principal(principal)));
  return ipBlocks === undefined || who === 'no' ? who : all([who, caller.ip(ipBlocks)]);
}

/** Whether a caller is one of a source; where an exception cannot be told, it is unknown. */
export function matchesCaller(source: Source, caller: Caller): Match {
  const match = matchesAny(source, caller);
  if (match === 'no' || source.except.length === 0) return match;
  return all([match, ...source.except.map((except) => not(matchesAny(except, caller)))]);
}

/** The callers of an inventory, as far as the engine tells them apart. */
export class Callers {
  readonly index: PodIndex;
  readonly #options: CallerOptions;
  readonly #pods = new Map<PodClass, readonly Caller[]>();
  readonly #namespaces = new Map<PodNamespace, Caller>();

  constructor(index: PodIndex, options: CallerOptions) {
    this.index = index;
    this.#options = options;
  }

  get podNetworks(): readonly IpBlock[] {
    return this.#options.podNetworks ?? [];
  }

  /** Whoever the pods of a class may speak as: each with each ID that it holds, and without any where something in it holds none. */
  of(pods: PodClass): readonly Caller[] {
    let callers = this.#pods.get(pods);
    if (callers === undefined) {
      callers = pods.workloads.flatMap((workload) =>
        [
          ...workload.spiffeIds,
          ...(workload.spiffeIds.length === 0 || workload.alsoWithout === true ? [undefined] : []),
        ].map((uri) => this.#pod(workload, uri)),
      );
      this.#pods.set(pods, callers);
    }
    return callers;
  }

  /** Any pod of a namespace, also one that is not in the inventory yet. */
  inNamespace(namespace: PodNamespace): Caller {
    let caller = this.#namespaces.get(namespace);
    if (caller === undefined) this.#namespaces.set(namespace, (caller = this.#anyPodOf(namespace)));
    return caller;
  }

  /** Whoever calls from an address outside the cluster, with an identity or without. */
  outside(block: IpBlock): Caller {
    const may = this.#options.outsideHoldsIdentities ?? true;
    return {
      principal: (principal) => (may ? this.#stranger(principal) : of(principal.kind === 'anyone')),
      ip: (blocks) => of(blocks.some((other) => coversBlock(other, block))),
      labels: unknownLabels,
    };
  }

  /** Whoever calls from an address, without an identity. */
  nobody(block: IpBlock): Caller {
    return { ...this.outside(block), principal: ({ kind }) => of(kind === 'anyone') };
  }

  /** Any pod at all that has an address. */
  podAt(block: IpBlock): Caller {
    return {
      ...this.outside(block),
      principal: ({ kind }) => (kind === 'anyone' ? 'yes' : 'unknown'),
    };
  }

  /** Pods of namespaces that are not in the inventory. */
  stranger(): Caller {
    return {
      principal: (principal) => this.#stranger(principal),
      ip: (blocks) => this.#podAddress(blocks),
      labels: unknownLabels,
    };
  }

  /** Whether somebody who is no pod of the inventory may be meant. */
  mayBeOutside(principal: Principal): boolean {
    return (
      principal.kind !== 'anyone' &&
      (this.#options.outsideHoldsIdentities ?? true) &&
      this.#stranger(principal) !== 'no'
    );
  }

  #stranger(principal: Principal): Match {
    switch (principal.kind) {
      case 'anyone':
        return 'yes';
      case 'authenticated':
      case 'trustDomain':
        return 'unknown';
      case 'namespace':
        return perhaps(!this.#isOwn(principal.trustDomain, principal.namespace));
      case 'serviceAccount':
        return perhaps(!this.#isOwn(principal.trustDomain, principal.namespace));
      case 'spiffeId':
        return perhaps(!this.#isTaken(principal.uri));
      case 'identity':
        return perhaps(principal.uris.some((uri) => !this.#isTaken(uri)));
    }
  }

  #isOwn(trustDomain: string, namespace: string | undefined): boolean {
    return (
      trustDomain === this.index.trustDomain &&
      namespace !== undefined &&
      this.index.namespace(namespace) !== undefined
    );
  }

  #isTaken(uri: string): boolean {
    const { trustDomain, path } = parseSpiffeId(uri);
    if (trustDomain !== this.index.trustDomain) return false;
    if (this.index.isHeld(uri)) return true;
    return this.#isOwn(trustDomain, namespaceOf(path));
  }

  #pod(workload: InventoryWorkload, uri: string | undefined): Caller {
    const id = uri === undefined ? undefined : parseSpiffeId(uri);
    const namespace = id === undefined ? undefined : namespaceOf(id.path);
    return {
      principal: (principal) => {
        if (principal.kind === 'anyone') return 'yes';
        if (id === undefined) return 'no';
        switch (principal.kind) {
          case 'authenticated':
            return 'yes';
          case 'spiffeId':
            return of(id.uri === principal.uri);
          case 'identity':
            return of(principal.uris.includes(id.uri));
          case 'trustDomain':
            return of(id.trustDomain === principal.trustDomain);
          case 'namespace':
            return of(id.trustDomain === principal.trustDomain && namespace === principal.namespace);
          case 'serviceAccount':
            return of(
              id.trustDomain === principal.trustDomain &&
                id.path === `/ns/${principal.namespace}/sa/${principal.serviceAccount}`,
            );
        }
      },
      ip: (blocks) => this.#podAddress(blocks),
      labels: (requirements) => of(labelsMatch(requirements, workload.labels)),
    };
  }

  #anyPodOf({ name, regular, covered }: PodNamespace): Caller {
    const { trustDomain } = this.index;
    const held: Match = covered ? 'yes' : 'unknown';
    const within = `spiffe://${trustDomain}/ns/${name}/`;
    return {
      principal: (principal) => {
        if (principal.kind === 'anyone') return 'yes';
        if (!regular) return 'unknown';
        switch (principal.kind) {
          case 'authenticated':
            return held;
          case 'trustDomain':
            return principal.trustDomain === trustDomain ? held : 'no';
          case 'namespace':
            return principal.trustDomain === trustDomain && principal.namespace === name ? held : 'no';
          case 'serviceAccount':
            return perhaps(principal.trustDomain === trustDomain && principal.namespace === name);
          case 'spiffeId':
            return perhaps(principal.uri.startsWith(within));
          case 'identity':
            return perhaps(principal.uris.some((uri) => uri.startsWith(within)));
        }
      },
      ip: (blocks) => this.#podAddress(blocks),
      labels: unknownLabels,
    };
  }

  #podAddress(blocks: readonly IpBlock[]): Match {
    const networks = this.#options.podNetworks;
    if (networks === undefined || networks.length === 0) return 'unknown';
    if (networks.every((network) => blocks.some((block) => coversBlock(block, network)))) return 'yes';
    return perhaps(networks.some((network) => blocks.some((block) => !disjointBlocks(block, network))));
  }
}

function unknownLabels(requirements: readonly LabelRequirement[]): Match {
  return requirements.length === 0 ? 'yes' : 'unknown';
}
