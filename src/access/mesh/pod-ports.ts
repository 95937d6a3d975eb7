import type { EffectivePolicy, EffectivePorts } from '../policy/effective.js';
import { textOf } from './ip-regions.js';
import type { Peers } from './pod-peers.js';

/** One port, or all that are not named, with what the policies of each of several workloads say of it. */
export interface PortGroups {
  readonly port: number | 'others';
  readonly groups: readonly EffectivePorts[];
}

/** The ports that any of the policies, or `more`, name, each by itself, and last all others. */
export function groupPorts(
  policies: readonly EffectivePolicy[],
  more: readonly number[] = [],
): readonly PortGroups[] {
  const named = new Set(more);
  for (const { groups } of policies) {
    for (const { ports } of groups) if (ports !== 'others') for (const port of ports) named.add(port);
  }
  const byPort = policies.map(({ groups }) => {
    const table = new Map<number | 'others', EffectivePorts>();
    for (const group of groups) {
      if (group.ports === 'others') table.set('others', group);
      else for (const port of group.ports) table.set(port, group);
    }
    return table;
  });
  return [...[...named].sort((a, b) => a - b), 'others' as const].map((port) => ({
    port,
    groups: byPort.flatMap((table) => table.get(port) ?? table.get('others') ?? []),
  }));
}

export interface PortRange {
  readonly first: number;
  /** Included. */
  readonly last: number;
}

const LAST = 65_535;

/** The ports of a list, in which `others` stands for all that `named` does not hold; undefined for all there are. */
export function portRanges(
  ports: readonly (number | 'others')[],
  named: readonly number[],
): readonly PortRange[] | undefined {
  if (!ports.includes('others')) return [...(ports as readonly number[])].sort((a, b) => a - b).map(single);
  const closed = named.filter((port) => !ports.includes(port)).sort((a, b) => a - b);
  if (closed.length === 0) return undefined;
  const ranges: PortRange[] = [];
  let first = 1;
  for (const port of closed) {
    if (port > first) ranges.push({ first, last: port - 1 });
    first = port + 1;
  }
  if (first <= LAST) ranges.push({ first, last: LAST });
  return ranges;
}

const single = (port: number): PortRange => ({ first: port, last: port });

/** Who is let in on a port. */
export interface OpenPort {
  readonly port: number | 'others';
  readonly peers: Peers;
}

/** Ports with the same peers, together. `ranges` is undefined for all ports; `others` are those that are not `named`. */
export function groupByPeers(
  ports: readonly OpenPort[],
  named: readonly number[] = namedPorts(ports),
): readonly { readonly peers: Peers; readonly ranges: readonly PortRange[] | undefined }[] {
  const grouped = new Map<string, { readonly peers: Peers; readonly ports: (number | 'others')[] }>();
  for (const { port, peers } of ports) {
    const key = keyOf(peers);
    const group = grouped.get(key);
    if (group === undefined) grouped.set(key, { peers, ports: [port] });
    else group.ports.push(port);
  }
  return [...grouped.values()].map((group) => ({
    peers: group.peers,
    ranges: portRanges(group.ports, named),
  }));
}

function keyOf({ everyone, exceptNamespaces, world, blocks, namespaces, pods }: Peers): string {
  return JSON.stringify([
    everyone,
    exceptNamespaces,
    world,
    blocks.map(({ block, except }) => [textOf(block), except.map(textOf)]),
    namespaces,
    pods.map(({ namespace, serviceAccount, labels }) => [namespace, serviceAccount, labels]),
  ]);
}

export function namedPorts(ports: readonly { readonly port: number | 'others' }[]): readonly number[] {
  return ports.flatMap(({ port }) => (port === 'others' ? [] : [port]));
}
