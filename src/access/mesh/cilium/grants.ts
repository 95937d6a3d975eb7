import type { EffectivePorts, EffectiveRule } from '../../policy/effective.js';
import type { Match } from '../../policy/match.js';
import type { IpBlock } from '../../policy/model.js';
import { all, not, some, type Caller, type Callers } from '../pod-callers.js';
import {
  blocksOf,
  decidesForAll,
  findPeers,
  matchesRule,
  rulesOf,
  type OpaqueMatch,
  type Peers,
} from '../pod-peers.js';
import type { PortGroups } from '../pod-ports.js';
import { unseenFields } from '../pod-verdicts.js';
import type { PodClass } from '../pods.js';
import { httpRules, type CiliumHttpRule } from './http-rules.js';

/** Requests that some callers may make, beside those who may make any. */
export interface HttpGrant {
  readonly peers: Peers;
  readonly rules: readonly CiliumHttpRule[];
}

/** What the HTTP rules of a port open, and of whom neither they nor a rule about connections say the truth. */
export interface Grants {
  readonly grants: readonly HttpGrant[];
  readonly blurred: readonly PodClass[];
  readonly blurredBlocks: readonly IpBlock[];
}

/** What rules about HTTP open on a port: each for those whom no rule lets in altogether. */
export function grantsOf(
  { port, groups }: PortGroups,
  callers: Callers,
  maxProgramSize: number,
  opaque: OpaqueMatch,
): Grants {
  const grants: HttpGrant[] = [];
  const blurred = new Set<PodClass>();
  const blurredBlocks = new Set<IpBlock>();
  const blur = (found: {
    readonly blurred: readonly PodClass[];
    readonly blurredBlocks: readonly IpBlock[];
  }): void => {
    for (const pods of found.blurred) blurred.add(pods);
    for (const block of found.blurredBlocks) blurredBlocks.add(block);
  };
  const ask = (
    judge: (caller: Caller) => Match,
    rules: readonly EffectiveRule[],
    openToAll: boolean,
  ): Peers => {
    const found = findPeers(
      {
        judge,
        sources: rules.flatMap(({ from }) => from),
        openToAll,
        blocks: groups.flatMap((group) => rulesOf(group).flatMap(blocksOf)),
        blocksReachPods: false,
        excepts: false,
      },
      callers,
    );
    blur(found);
    return found.peers;
  };
  const [first] = groups;
  if (first === undefined || groups.some(({ broken }) => broken !== undefined)) {
    return { grants, blurred: [], blurredBlocks: [] };
  }
  const rules = [...first.allow, ...(first.baseline?.allow ?? [])];
  for (const rule of port === 'others' ? [] : rules.filter(isHttpOnly)) {
    const said = httpRules(rule, maxProgramSize).rules;
    if (said.length === 0) continue;
    const judge = (caller: Caller): Match =>
      decidesForAll(groups, caller, opaque) === 'yes' ? 'no' : permits(rule, groups, caller, opaque);
    grants.push({ peers: ask(judge, [rule], false), rules: said });
  }
  // What the connection alone decides, HTTP rules taken for such as permit nothing.
  const connections: OpaqueMatch = (rule) =>
    rule.rule.effect === 'Allow' && isHttpOnly(rule) ? 'no' : opaque(rule);
  const openToAll = first.baseline !== undefined && first.fallback === 'Allow';
  ask((caller) => decidesForAll(groups, caller, connections), rules, openToAll);
  return {
    grants: grants.filter(({ peers }) => !isNobody(peers)),
    blurred: [...blurred],
    blurredBlocks: [...blurredBlocks],
  };
}

/** Whether what keeps a rule from being about connections is HTTP and nothing else. */
function isHttpOnly(rule: EffectiveRule): boolean {
  const fields = unseenFields(rule);
  return (
    fields.length > 0 && fields.every((field) => field.startsWith('to.http.') || field === 'roles.claim')
  );
}

/** Whether a rule lets in a caller for the requests that it is about. */
function permits(
  rule: EffectiveRule,
  groups: readonly EffectivePorts[],
  caller: Caller,
  opaque: OpaqueMatch,
): Match {
  const isSame = (other: EffectiveRule): boolean => other.rule === rule.rule && other.policy === rule.policy;
  const oneOf = (rules: readonly EffectiveRule[]): Match =>
    some(rules.map((one) => matchesRule(one, caller, opaque)));
  return all(
    groups.map(({ deny, allow, baseline }): Match => {
      const matches = matchesRule(rule, caller, () => 'yes');
      if (allow.some(isSame)) return all([not(oneOf(deny)), matches]);
      if (baseline?.allow.some(isSame) !== true) return 'no';
      return all([not(oneOf(deny)), not(oneOf(baseline.deny)), matches]);
    }),
  );
}

function isNobody({ everyone, world, blocks, namespaces, pods }: Peers): boolean {
  return !everyone && !world && blocks.length === 0 && namespaces.length === 0 && pods.length === 0;
}
