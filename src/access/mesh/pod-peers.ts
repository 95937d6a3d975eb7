import type { EffectivePorts, EffectiveRule } from '../policy/effective.js';
import type { Match } from '../policy/match.js';
import type { IpBlock, Source } from '../policy/model.js';
import { coversBlock, cutRegions, flattenRegions, peersOfRegions, type IpPeer } from './ip-regions.js';
import { all, matchesCaller, not, some, type Caller, type Callers } from './pod-callers.js';
import type { PodClass } from './pods.js';

/** Who is let in, in the terms of an engine that knows pods, namespaces and addresses. */
export interface Peers {
  /** Everybody, also pods and namespaces that are not known yet, but for the pods of `exceptNamespaces`. */
  readonly everyone: boolean;
  readonly exceptNamespaces: readonly string[];
  /** All addresses outside the cluster; then `blocks` is empty. */
  readonly world: boolean;
  readonly blocks: readonly IpPeer[];
  /** All pods of these namespaces. */
  readonly namespaces: readonly string[];
  readonly pods: readonly PodClass[];
}

/** Who is let in, and of whom that could not be said faithfully. */
export interface PeersFound {
  readonly peers: Peers;
  /** Pods that are kept out although some of what they may ask is allowed. */
  readonly blurred: readonly PodClass[];
  /** Addresses outside the cluster that are kept out although callers without an identity are allowed from there. */
  readonly blurredBlocks: readonly IpBlock[];
}

/** Whom a question concerns: nobody else can be let in. */
interface Scope {
  everybody: boolean;
  readonly namespaces: Set<string>;
  readonly pods: Set<PodClass>;
}

/** What can be said of the conditions and operations of a rule, which are no affair of the caller's. */
export type OpaqueMatch = (rule: EffectiveRule) => Match;

/** Whether a rule matches a caller. */
export function matchesRule(rule: EffectiveRule, caller: Caller, opaque: OpaqueMatch): Match {
  const from = some(rule.from.map((source) => matchesCaller(source, caller)));
  if (from === 'no') return 'no';
  const labels = rule.when?.sourceLabels;
  return all([from, labels === undefined ? 'yes' : caller.labels(labels), opaque(rule)]);
}

/** Whether a caller is allowed by what holds on a port; yes and no are certain. */
export function decides(group: EffectivePorts, caller: Caller, opaque: OpaqueMatch): Match {
  if (group.broken !== undefined) return 'no';
  const oneOf = (rules: readonly EffectiveRule[]): Match =>
    rules.length === 0 ? 'no' : some(rules.map((rule) => matchesRule(rule, caller, opaque)));
  const denied = oneOf(group.deny);
  if (denied === 'yes') return 'no';
  const allowed = oneOf(group.allow);
  const { baseline, fallback } = group;
  if (allowed === 'yes' || baseline === undefined) return all([not(denied), allowed]);
  const below = all([not(oneOf(baseline.deny)), fallback === 'Allow' ? 'yes' : oneOf(baseline.allow)]);
  return all([not(denied), some([allowed, below])]);
}

/** Whether several groups answer alike; the pods that they are about cannot be told apart. */
export function decidesForAll(groups: readonly EffectivePorts[], caller: Caller, opaque: OpaqueMatch): Match {
  const answers = new Set(groups.map((group) => decides(group, caller, opaque)));
  const [answer] = answers;
  return answers.size === 1 && answer !== undefined ? answer : 'unknown';
}

/** What a question of whom to let in depends on. */
export interface PeerQuestion {
  readonly judge: (caller: Caller) => Match;
  /** Of the rules that could let in somebody. */
  readonly sources: readonly Source[];
  /** Whoever no rule is about may be let in too. */
  readonly openToAll: boolean;
  /** Every block that the answer may depend on. */
  readonly blocks: readonly IpBlock[];
  /** Whether the engine's address blocks may also match pods. */
  readonly blocksReachPods: boolean;
  /** Whether the engine can say "everyone but the pods of these namespaces". */
  readonly excepts: boolean;
}

/** The question of whom to let in on a port. */
export function portQuestion(
  groups: readonly EffectivePorts[],
  opaque: OpaqueMatch,
): Omit<PeerQuestion, 'blocksReachPods' | 'excepts'> {
  const [first] = groups;
  return {
    judge: (caller) => decidesForAll(groups, caller, opaque),
    // Who is let in by all groups is let in by the first.
    sources: allowing(first),
    openToAll: first?.broken === undefined && first?.baseline !== undefined && first.fallback === 'Allow',
    blocks: groups.flatMap((group) => rulesOf(group).flatMap(blocksOf)),
  };
}

export function blocksOf({ from }: EffectiveRule): readonly IpBlock[] {
  return from.flatMap(({ ipBlocks, except }) => [
    ...(ipBlocks ?? []),
    ...except.flatMap((match) => match.ipBlocks ?? []),
  ]);
}

function allowing(group: EffectivePorts | undefined): readonly Source[] {
  if (group === undefined || group.broken !== undefined) return [];
  return [...group.allow, ...(group.baseline?.allow ?? [])].flatMap(({ from }) => from);
}

export function rulesOf(group: EffectivePorts): readonly EffectiveRule[] {
  const { deny, allow, baseline } = group;
  return [...deny, ...allow, ...(baseline?.deny ?? []), ...(baseline?.allow ?? [])];
}

const NOBODY: Peers = {
  everyone: false,
  exceptNamespaces: [],
  world: false,
  blocks: [],
  namespaces: [],
  pods: [],
};

const EVERYONE: Peers = { ...NOBODY, everyone: true };

/** Whether nothing is known that could let in anybody but everybody: then nobody has to be looked at one by one. */
export function isForEveryone(groups: readonly EffectivePorts[], opaque: OpaqueMatch): boolean {
  return groups.every(({ broken, deny, allow, baseline, fallback }) => {
    if (broken !== undefined || deny.length > 0) return false;
    const plain = (rule: EffectiveRule): boolean =>
      opaque(rule) === 'yes' &&
      rule.when?.sourceLabels === undefined &&
      rule.from.some(
        ({ any, ipBlocks, except }) =>
          ipBlocks === undefined && except.length === 0 && any.some(({ kind }) => kind === 'anyone'),
      );
    if (allow.some(plain)) return true;
    return (
      baseline !== undefined &&
      baseline.deny.length === 0 &&
      (fallback === 'Allow' || baseline.allow.some(plain))
    );
  });
}

/** Everybody, for `isForEveryone`. */
export const everyoneFound: PeersFound = { peers: EVERYONE, blurred: [], blurredBlocks: [] };

/** Whom to let in. */
export function findPeers(question: PeerQuestion, callers: Callers): PeersFound {
  const scope = scopeOf(question, callers);
  const found = new Found(question, callers);
  if (scope.everybody) for (const namespace of callers.index.namespaces) found.addNamespace(namespace.name);
  else {
    for (const name of scope.namespaces) found.addNamespace(name);
    for (const pods of scope.pods) found.addPods(pods);
  }
  return found.result(scope.everybody);
}

function scopeOf({ sources, openToAll }: PeerQuestion, { index }: Callers): Scope {
  const scope: Scope = { everybody: openToAll, namespaces: new Set(), pods: new Set() };
  for (const principal of sources.flatMap(({ any }) => any)) {
    const { kind } = principal;
    if (kind === 'anyone' || kind === 'authenticated') scope.everybody = true;
    else if (kind === 'trustDomain' && principal.trustDomain === index.trustDomain) scope.everybody = true;
    else {
      if (kind === 'namespace' && principal.trustDomain === index.trustDomain) {
        scope.namespaces.add(principal.namespace);
      }
      for (const pods of index.holders(principal)) scope.pods.add(pods);
    }
  }
  return scope;
}

class Found {
  readonly #question: PeerQuestion;
  readonly #callers: Callers;
  readonly #namespaces = new Set<string>();
  readonly #pods = new Set<PodClass>();
  readonly #blurred = new Set<PodClass>();
  /** Namespaces none of whose pods is let in. */
  readonly #shut: string[] = [];
  /** Whether some pods of a namespace are let in, and others not. */
  #mixed = false;

  constructor(question: PeerQuestion, callers: Callers) {
    this.#question = question;
    this.#callers = callers;
  }

  addNamespace(name: string): void {
    const namespace = this.#callers.index.namespace(name);
    if (namespace === undefined) return;
    if (this.#question.judge(this.#callers.inNamespace(namespace)) === 'yes') {
      this.#namespaces.add(name);
      return;
    }
    const open = namespace.classes.filter((pods) => this.addPods(pods));
    if (open.length === 0) this.#shut.push(name);
    else this.#mixed = true;
  }

  /** Whether the pods are let in. */
  addPods(pods: PodClass): boolean {
    if (this.#namespaces.has(pods.namespace)) return true;
    const answers = new Set(this.#callers.of(pods).map((caller) => this.#question.judge(caller)));
    if (answers.size === 1 && answers.has('no')) return false;
    if (answers.size === 1 && answers.has('yes') && this.#isSelectable(pods)) {
      this.#pods.add(pods);
      return true;
    }
    this.#blurred.add(pods);
    return false;
  }

  result(everybody: boolean): PeersFound {
    const blurred = [...this.#blurred];
    const pods = {
      ...NOBODY,
      namespaces: [...this.#namespaces].sort(),
      pods: [...this.#pods].filter(({ namespace }) => !this.#namespaces.has(namespace)),
    };
    if (!everybody) return { peers: pods, blurred, blurredBlocks: [] };
    const { judge, blocks, excepts } = this.#question;
    const { podNetworks } = this.#callers;
    const isPods = ({ block }: { readonly block: IpBlock }): boolean =>
      podNetworks.some((network) => coversBlock(network, block));
    const regions = cutRegions([...blocks, ...podNetworks]);
    const outside = flattenRegions(regions).filter((region) => !isPods(region));
    const isOpen = ({ block }: { readonly block: IpBlock }): boolean =>
      judge(this.#callers.outside(block)) === 'yes';
    const world = outside.every(isOpen);
    const sayable = !this.#mixed && (excepts || this.#shut.length === 0);
    if (world && sayable && judge(this.#callers.stranger()) === 'yes') {
      return {
        peers: { ...EVERYONE, exceptNamespaces: [...this.#shut].sort() },
        blurred,
        blurredBlocks: [],
      };
    }
    const isSaid = (region: { readonly block: IpBlock }): boolean =>
      !isPods(region) && isOpen(region) && this.#keepsPodsOut(region.block);
    return {
      peers: {
        ...pods,
        world: world && !this.#question.blocksReachPods,
        blocks: world && !this.#question.blocksReachPods ? [] : peersOfRegions(regions, isSaid),
      },
      blurred,
      blurredBlocks: outside
        .filter((region) => !isSaid(region) && judge(this.#callers.nobody(region.block)) !== 'no')
        .map(({ block }) => block),
    };
  }

  /** A selector without any label would select also pods that nobody knows yet. */
  #isSelectable(pods: PodClass): boolean {
    return Object.keys(pods.labels).length > 0 || pods.serviceAccount !== undefined;
  }

  /** Whether opening a block opens no pod by the way: it holds no pods, or pods may come from there as well. */
  #keepsPodsOut(block: IpBlock): boolean {
    if (!this.#question.blocksReachPods || this.#callers.podNetworks.length > 0) return true;
    return this.#question.judge(this.#callers.podAt(block)) === 'yes';
  }
}
