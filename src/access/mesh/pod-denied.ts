import type { EffectivePorts, EffectiveRule } from '../policy/effective.js';
import { some, type Caller, type Callers } from './pod-callers.js';
import {
  blocksOf,
  decidesForAll,
  findPeers,
  matchesRule,
  type OpaqueMatch,
  type Peers,
} from './pod-peers.js';

/**
 * Whom a Deny rule is certainly about and nothing lets in, and the namespaces that "everyone" of `open` leaves out: for
 * engines that can say so, that nobody else's rules let them in.
 */
export function deniedPeers(
  groups: readonly EffectivePorts[],
  open: Peers,
  callers: Callers,
  opaque: OpaqueMatch,
): Peers {
  const rules = groups.flatMap(denyRules);
  const judge = (caller: Caller): 'yes' | 'no' =>
    some(rules.map((rule) => matchesRule(rule, caller, opaque))) === 'yes' &&
    decidesForAll(groups, caller, opaque) === 'no'
      ? 'yes'
      : 'no';
  const { peers } = findPeers(
    {
      judge,
      sources: rules.flatMap(({ from }) => from),
      openToAll: false,
      blocks: rules.flatMap(blocksOf),
      blocksReachPods: false,
      excepts: false,
    },
    callers,
  );
  const namespaces = [...new Set([...peers.namespaces, ...open.exceptNamespaces])].sort();
  return {
    ...peers,
    namespaces,
    pods: peers.pods.filter(({ namespace }) => !namespaces.includes(namespace)),
  };
}

function denyRules({ broken, deny, baseline }: EffectivePorts): readonly EffectiveRule[] {
  return broken === undefined ? [...deny, ...(baseline?.deny ?? [])] : [];
}
