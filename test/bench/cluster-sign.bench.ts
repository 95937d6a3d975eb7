import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { BenchRow } from './row.js';

/**
 * What a server signs, measured by `cluster-sign-one` in a process of its own. Agents are on other machines: the collector of
 * this one process, which stands for ten of them, must not run on the server's core, as its helper threads would.
 */
export function run(): BenchRow[] {
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  const typescript = new URL('../support/run-typescript.mjs', import.meta.url).href;
  const args = ['--single-threaded-gc', '--import', typescript, path('cluster-sign-one.ts')];
  const output = execFileSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const rows = output.trimEnd().split('\n').at(-1) ?? '';
  return JSON.parse(rows) as BenchRow[];
}
