/** Requests at a fixed rate, whether or not the answers keep up (test/bench/go/openload). */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { start } from '../e2e/support/process.js';
import type { Scope } from '../e2e/support/scope.js';
import { built } from '../rig/cache.js';
import { goBuild } from '../rig/tools.js';

/** One run. */
export interface LoadRun {
  readonly network: 'tcp' | 'unix';
  readonly address: string;
  /** PEM; mutual TLS where they are given. */
  readonly cert?: string;
  readonly key?: string;
  /** Whole requests, sent in turn. */
  readonly requests: readonly string[];
  /** What each must be answered with. */
  readonly status: number;
  readonly perSecond: number;
  /** Open from the start. */
  readonly connections: number;
  /** Requests before those that are measured. */
  readonly warm: number;
  readonly count: number;
}

/** From when a request was due to the end of its answer, in milliseconds. */
export interface LoadResult {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** How late requests were sent, connections being free or not. */
  readonly lateP99: number;
}

/** Starts the program, which the scope ends. Runs come one after the other; one that has a wrong answer fails. */
export async function startOpenLoad(scope: Scope): Promise<(run: LoadRun) => Promise<LoadResult>> {
  const source = join(dirname(fileURLToPath(import.meta.url)), 'go', 'openload');
  const folder = await built({
    name: 'openload',
    sources: [source],
    cost: 'a few seconds of CPU',
    build: (into) => goBuild(source, '.', join(into, 'openload')),
  });
  const program = start(scope, [join(folder, 'openload')]);
  return async (run) => {
    const from = program.lines.length;
    program.write(`${JSON.stringify(run)}\n`);
    const line = await program.line((text) => text, { from, limitMs: 60_000 });
    const {
      P50: p50,
      P99: p99,
      Max: max,
      LateP99: lateP99,
      Errors: errors,
      Error: error,
    } = JSON.parse(line) as {
      readonly [name in 'P50' | 'P99' | 'Max' | 'LateP99' | 'Errors']: number;
    } & { readonly Error: string };
    if (errors > 0) throw new Error(`${errors} requests failed: ${error}`);
    return { p50, p99, max, lateP99 };
  };
}
