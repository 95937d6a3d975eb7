import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { RenderFigures } from './render-one.js';
import { bounded, type BenchRow } from './row.js';

const MESHES = ['istio', 'envoy', 'networkpolicy', 'cilium', 'linkerd', 'kuma', 'gateway', 'opa'];

/**
 * 10,000 policies of three rules each over 10,000 workloads, as each mesh's rules: all of it, and after the edit of one
 * policy. Each mesh in a process of its own, one after the other.
 */
export function run(): BenchRow[] {
  const figures = MESHES.map((mesh) => ({ mesh, ...renderOne(mesh) }));
  const worst = (which: 'compile' | 'setP50' | 'setP99'): number =>
    Math.max(...figures.map((one) => one[which]));
  return [
    { name: '10,000 policies compiled', value: worst('compile') / 1000, unit: 's' },
    bounded('one of them edited: the set of policies, p50', worst('setP50'), 'ms', 1),
    { name: 'one of them edited: the set of policies, p99', value: worst('setP99'), unit: 'ms' },
    ...figures.flatMap(({ mesh, render, rss, objects, changeP50, changeP99 }) => [
      bounded(`${mesh}: 10,000 policies over 10,000 workloads`, render / 1000, 's', 10),
      { name: `${mesh}: objects`, value: objects, unit: '' },
      bounded(`${mesh}: RSS`, rss, 'MB', 1000),
      // A bundle of OPA's is one file, written as a whole.
      mesh === 'opa'
        ? { name: `${mesh}: one policy edited, p50`, value: changeP50, unit: 'ms' }
        : bounded(`${mesh}: one policy edited, p50`, changeP50, 'ms', 5),
      { name: `${mesh}: one policy edited, p99`, value: changeP99, unit: 'ms' },
    ]),
  ];
}

function renderOne(mesh: string): RenderFigures {
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  const typescript = new URL('../support/run-typescript.mjs', import.meta.url).href;
  const args = ['--import', typescript, path('render-one.ts'), mesh];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as RenderFigures;
}
