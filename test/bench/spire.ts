import { cpuMs } from '../e2e/support/process.js';
import { progress } from '../rig/cache.js';
import { isSkipped } from '../rig/rig.js';
import { startSpire, type Spire, type SpireOptions } from '../rig/spire.js';
import { quantile } from './quantile.js';
import type { BenchRow } from './row.js';

/** SPIRE, measured in the same run as Signet; without any Kubernetes around it. */

/** Unasked, the first quarter hour on a new machine would go into building a peer. */
const WANTED = 'SIGNET_BENCH_PEERS';
const SAMPLES = 60;
/** Over several of its intervals of 5 s, which decide how long an entry waits. */
const PER_SECOND = 4;

/** Whether SPIRE is to be measured too; says why where it is not. */
export function isSpireWanted(): boolean {
  if (process.env[WANTED] !== '1') {
    progress(`SPIRE is left out: ${WANTED}=1 measures it too (its first build takes 11 minutes of CPU)`);
    return false;
  }
  if (process.getuid?.() !== 0) {
    progress('SPIRE is left out: its workloads are processes of other users, which needs root');
    return false;
  }
  return !isSkipped('spire');
}

/** From the request that creates an entry until a workload that asks for it has its SVID, in ms. */
export interface SpireWaits {
  readonly byDefault: readonly number[];
  /** With the intervals of server and agent at 100 ms; the workloads then ask every 10 ms, by default every 100. */
  readonly tuned: readonly number[];
}

export async function spireWaits(): Promise<SpireWaits> {
  const waits = (options: SpireOptions, retryMs: number): Promise<readonly number[]> =>
    withSpire(options, (spire) => spire.wait({ count: SAMPLES, perSecond: PER_SECOND, retryMs }));
  return { byDefault: await waits({}, 100), tuned: await waits({ interval: '100ms' }, 10) };
}

/** What the row is called, before `, p50` and `, p99`. */
export const SPIRE_WAIT = 'SPIRE: entry created → SVID at the workload';

export function spireWaitRows({ byDefault, tuned }: SpireWaits): readonly BenchRow[] {
  const rows = (what: string, times: readonly number[]): readonly BenchRow[] => [
    { name: `${what}, p50`, value: quantile(times, 0.5), unit: 'ms' },
    { name: `${what}, p99`, value: quantile(times, 0.99), unit: 'ms' },
  ];
  return [
    ...rows(SPIRE_WAIT, byDefault),
    ...rows('SPIRE, intervals at 100 ms: entry created → SVID at the workload', tuned),
  ];
}

/** What a batch of signatures costs SPIRE's server. */
export interface SpireSigning {
  readonly size: number;
  /** Of the server, with two batches under way. */
  readonly cpuMsPerSvid: number;
  /** How long each of a number of batches took, one at a time, in ms. */
  readonly batchMs: readonly number[];
}

/** As `cluster-sign` measures Signet: so many SVIDs with two batches under way, then batches one at a time. */
export async function spireSigning(
  sizes: readonly number[],
  svids: number,
  alone: number,
): Promise<readonly SpireSigning[]> {
  return withSpire({}, async (spire) => {
    await spire.attest(Math.max(...sizes));
    await spire.sign({ count: 5_000, size: Math.max(...sizes), atOnce: 2 });
    const measured: SpireSigning[] = [];
    for (const size of sizes) {
      const before = cpuMs(spire.serverPid);
      const batches = await spire.sign({ count: svids, size, atOnce: 2 });
      const cpuMsPerSvid = (cpuMs(spire.serverPid) - before) / (batches.length * size);
      const batchMs = await spire.sign({ count: alone * size, size, atOnce: 1 });
      measured.push({ size, cpuMsPerSvid, batchMs });
    }
    return measured;
  });
}

export function spireSigningRows(measured: readonly SpireSigning[]): readonly BenchRow[] {
  return measured.flatMap(({ size, cpuMsPerSvid, batchMs }) => {
    const what = `SPIRE, batches of ${size}`;
    return [
      { name: `${what}: server CPU per SVID`, value: cpuMsPerSvid, unit: 'ms' },
      { name: `${what}: per core`, value: 1000 / cpuMsPerSvid, unit: 'SVIDs/s' },
      { name: `${what}: p50`, value: quantile(batchMs, 0.5), unit: 'ms' },
      { name: `${what}: p99`, value: quantile(batchMs, 0.99), unit: 'ms' },
    ];
  });
}

/** The rows with what each is of a row of the peer: `pairs` says by names which is compared with which. */
export function compared(
  rows: readonly BenchRow[],
  peer: readonly BenchRow[],
  pairs: ReadonlyMap<string, string>,
): readonly BenchRow[] {
  const valueOf = new Map(peer.map(({ name, value }) => [name, value]));
  const beside = rows.map((row) => {
    const other = valueOf.get(pairs.get(row.name) ?? '');
    return other === undefined ? row : { ...row, ratio: row.value / other };
  });
  return [...beside, ...peer];
}

async function withSpire<T>(options: SpireOptions, act: (spire: Spire) => Promise<T>): Promise<T> {
  const spire = await startSpire(options);
  try {
    return await act(spire);
  } finally {
    await spire.close();
  }
}
