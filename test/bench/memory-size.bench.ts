import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { serverNodeOptions } from './chart-options.js';
import type { ChangeFigures, MemoryFigures } from './memory-size-one.js';
import { bounded, type BenchRow } from './row.js';

/**
 * 100,000 pods on 5,000 nodes, 1,000 identities and 1,000 policies over an API server in memory: the store with its
 * reflectors, the registrations, what each node follows, and the policies rendered for Istio, as a leader has them. No
 * connections of agents; those are measured by `cluster-size`.
 */
export function run(): BenchRow[] {
  const { pod, identity, policy, ...figures } = measured();
  const size = '100,000 pods, 5,000 nodes, 1,000 identities, 1,000 policies';
  return [
    bounded(`${size}: start to ready`, figures.readySeconds, 's', 60),
    bounded(
      'the same, with all rendered, all statuses written and all nodes served',
      figures.wholeSeconds,
      's',
      60,
    ),
    { name: 'the same: CPU', value: figures.cpuSeconds, unit: 's' },
    bounded(
      `the same: RSS, ${figures.registrations} registrations with an SVID each`,
      figures.rss,
      'MB',
      1500,
    ),
    { name: 'the same: heap in use', value: figures.heap, unit: 'MB' },
    {
      ...{ name: 'API writes in 8 s in which nothing changes', value: figures.quietWrites, unit: '' },
      ...{ target: '0', pass: figures.quietWrites === 0 },
    },
    ...changed('one pod more', pod, 1),
    ...changed('one identity edited, of 100 pods', identity, 100),
    ...changed('one policy edited, of a namespace of 1,000 pods', policy, 1_000),
  ];
}

/** What a change costs must follow from what it is about, not from how much there is. */
function changed(what: string, figures: ChangeFigures, nodes: number): BenchRow[] {
  const { writes, cpuMs } = figures;
  return [
    { name: `${what}: API writes`, value: writes, unit: '', target: '≤ 3', pass: writes <= 3 },
    {
      ...{ name: `${what}: nodes that are told`, value: figures.nodes, unit: '' },
      ...{ target: `≤ ${nodes}`, pass: figures.nodes <= nodes },
    },
    { name: `${what}: registrations, pods and policies that they are told`, value: figures.items, unit: '' },
    { name: `${what}: namespaces whose objects of the mesh are looked at`, value: figures.owners, unit: '' },
    { name: `${what}: CPU of all that follows`, value: cpuMs, unit: 'ms' },
  ];
}

function measured(): MemoryFigures {
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  const typescript = new URL('../support/run-typescript.mjs', import.meta.url).href;
  const args = [serverNodeOptions(), '--import', typescript, path('memory-size-one.ts')];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as MemoryFigures;
}
