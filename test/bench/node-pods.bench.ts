import { setTimeout as pause } from 'node:timers/promises';
import { agentUsage, linesOf, prepareKeepers, startKeepers, stopKeepers } from '../node/support/keepers.js';
import { startNodeWorld, type NodeWorld } from '../node/support/world.js';
import { isSkipped } from '../rig/rig.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';

const TOGETHER = 30;
const ALONE = 10;
/** With the server, the agent and the DNS a few less than the 110 that a node takes. */
const MANY = Number(process.env['SIGNET_BENCH_PODS'] ?? 105);

/**
 * Pods of a real cluster of one node: from the moment at which the program in a pod can first look at a clock until go-spiffe's
 * X509Source has its SVID. Then what the agent needs for a node full of pods with open streams.
 */
export async function run(): Promise<readonly BenchRow[]> {
  if (isSkipped('node')) return [];
  const world = await startNodeWorld();
  try {
    await prepareKeepers(world);
    const alone: Firsts[] = [];
    for (let round = 0; round < ALONE; round++) alone.push(await firstsOf(world, 1));
    const together = await firstsOf(world, TOGETHER);
    const full = await fullNode(world);
    return [
      ...firstRows('1 pod', joined(alone)),
      ...firstRows(`${TOGETHER} pods at once`, together),
      ...full,
    ];
  } finally {
    await world.close();
  }
}

/** Of each pod's first SVID. */
interface Firsts {
  readonly sinceBegan: readonly number[];
  readonly sinceMade: readonly number[];
  readonly retries: number;
}

async function firstsOf(world: NodeWorld, pods: number): Promise<Firsts> {
  await startKeepers(world, { pods, everyMs: 1000, calls: false });
  const lines = (await linesOf(world)).filter((line) => line.first !== undefined);
  await stopKeepers(world);
  return {
    sinceBegan: lines.map((line) => line.sinceBegan ?? NaN),
    sinceMade: lines.map((line) => line.sinceMade ?? NaN),
    retries: lines.reduce((sum, line) => sum + (line.watchErrors ?? 0), 0),
  };
}

function joined(all: readonly Firsts[]): Firsts {
  return {
    sinceBegan: all.flatMap((one) => one.sinceBegan),
    sinceMade: all.flatMap((one) => one.sinceMade),
    retries: all.reduce((sum, one) => sum + one.retries, 0),
  };
}

function firstRows(what: string, { sinceBegan, sinceMade, retries }: Firsts): readonly BenchRow[] {
  const ms = 'ms';
  return [
    { name: `${what}: program → X.509-SVID, p50`, value: quantile(sinceBegan, 0.5), unit: ms },
    bounded(`${what}: program → X.509-SVID, p95`, quantile(sinceBegan, 0.95), ms, 50),
    { name: `${what}: process made → X.509-SVID, p50`, value: quantile(sinceMade, 0.5), unit: ms },
    { name: `${what}: process made → X.509-SVID, p95`, value: quantile(sinceMade, 0.95), unit: ms },
    bounded(`${what}: retries of go-spiffe`, retries, '', 1),
  ];
}

async function fullNode(world: NodeWorld): Promise<readonly BenchRow[]> {
  await startKeepers(world, { pods: MANY, everyMs: 1000, calls: false });
  const firsts = (await linesOf(world)).filter((line) => line.first !== undefined);
  // What starting the pods left behind is done by then.
  await pause(20_000);
  const before = await agentUsage(world);
  await pause(30_000);
  const after = await agentUsage(world);
  const cpu = ((after.cpuMs - before.cpuMs) / 30_000) * 100;
  return [
    ...firstRows(`${MANY} pods at once`, {
      sinceBegan: firsts.map((line) => line.sinceBegan ?? NaN),
      sinceMade: firsts.map((line) => line.sinceMade ?? NaN),
      retries: firsts.reduce((sum, line) => sum + (line.watchErrors ?? 0), 0),
    }),
    bounded(`agent with ${MANY} pods and streams: RSS`, after.rssMb, 'MB', 120),
    bounded(`agent with ${MANY} pods and streams: idle CPU`, cpu, '% of a core', 1),
  ];
}
