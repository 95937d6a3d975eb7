import { setTimeout as pause } from 'node:timers/promises';
import {
  agentUsage,
  linesOf,
  prepareKeepers,
  startKeepers,
  stopKeepers,
  type AgentUsage,
  type KeeperLine,
} from '../node/support/keepers.js';
import { startNodeWorld, type NodeWorld } from '../node/support/world.js';
import { isSkipped } from '../rig/rig.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';

const TOGETHER = 30;
const ALONE = 10;
/** With the server, the agent and the DNS a few less than the 110 that a node takes unless told otherwise. */
const MANY = Number(process.env['SIGNET_BENCH_PODS'] ?? 105);
/** Those of the system, and room for one agent or server more while one is replaced. */
const BESIDE = 10;
/** A node has 509 addresses for pods. */
const MOST = 480;

/**
 * Pods of a real cluster of one node: from the moment at which the program in a pod can first look at a clock until go-spiffe's
 * X509Source has its SVID, and what of that time is whose. Then what the agent needs for a node full of pods with open streams.
 */
export async function run(): Promise<readonly BenchRow[]> {
  if (isSkipped('node')) return [];
  if (MANY > MOST)
    throw new Error(`SIGNET_BENCH_PODS is more than ${MOST}, which is all that a node has room for`);
  const world = await startNodeWorld({ kubeletConfig: { maxPods: Math.max(110, MANY + BESIDE) } });
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

/** What the pods say of their first SVIDs, and what the agent did meanwhile. */
interface Firsts {
  readonly lines: readonly KeeperLine[];
  readonly agent: Pick<AgentUsage, 'ranMs' | 'waitedMs'>;
}

async function startAndLook(world: NodeWorld, pods: number): Promise<Firsts> {
  const before = await agentUsage(world);
  await startKeepers(world, { pods, everyMs: 1000, calls: false });
  const after = await agentUsage(world);
  const agent = { ranMs: after.ranMs - before.ranMs, waitedMs: after.waitedMs - before.waitedMs };
  return { lines: (await linesOf(world)).filter((line) => line.first !== undefined), agent };
}

async function firstsOf(world: NodeWorld, pods: number): Promise<Firsts> {
  const firsts = await startAndLook(world, pods);
  await stopKeepers(world);
  return firsts;
}

function joined(all: readonly Firsts[]): Firsts {
  const sum = (of: (one: Firsts) => number): number => all.reduce((total, one) => total + of(one), 0);
  return {
    lines: all.flatMap(({ lines }) => lines),
    agent: { ranMs: sum(({ agent }) => agent.ranMs), waitedMs: sum(({ agent }) => agent.waitedMs) },
  };
}

function firstRows(what: string, { lines, agent }: Firsts): readonly BenchRow[] {
  const unit = 'ms';
  const at = (share: number, of: (line: KeeperLine) => number | undefined): number =>
    quantile(
      lines.map((line) => of(line) ?? NaN),
      share,
    );
  const retries = lines.reduce((sum, line) => sum + (line.watchErrors ?? 0), 0);
  return [
    { name: `${what}: program → X.509-SVID, p50`, value: at(0.5, (line) => line.sinceBegan), unit },
    bounded(
      `${what}: program → X.509-SVID, p95`,
      at(0.95, (line) => line.sinceBegan),
      unit,
      50,
    ),
    ...STEPS.map(([step, of]) => ({ name: `${what}: ${step}, p95`, value: at(0.95, of), unit })),
    { name: `${what}: of it, the program runs, p50`, value: at(0.5, (line) => line.ran), unit },
    { name: `${what}: its threads wait for a core, p50`, value: at(0.5, (line) => line.waited), unit },
    { name: `${what}: its threads wait for a core, p95`, value: at(0.95, (line) => line.waited), unit },
    { name: `${what}: the agent's main thread runs, per pod`, value: agent.ranMs / lines.length, unit },
    { name: `${what}: it waits for a core, per pod`, value: agent.waitedMs / lines.length, unit },
    { name: `${what}: process made → X.509-SVID, p50`, value: at(0.5, (line) => line.sinceMade), unit },
    { name: `${what}: process made → X.509-SVID, p95`, value: at(0.95, (line) => line.sinceMade), unit },
    bounded(`${what}: retries of go-spiffe`, retries, '', 1),
  ];
}

/** Where the time goes: test/rig/go/phases.go. The agent has no part in the first two. */
const STEPS: readonly (readonly [string, (line: KeeperLine) => number])[] = [
  ['program → asks', ({ asked = NaN }) => asked],
  ['asks → connected', ({ asked = NaN, connected = NaN }) => connected - asked],
  ['connected → the agent has greeted', ({ connected = NaN, sent = NaN }) => sent - connected],
  ['greeted → first message', ({ sent = NaN, answered = NaN }) => answered - sent],
];

async function fullNode(world: NodeWorld): Promise<readonly BenchRow[]> {
  const firsts = await startAndLook(world, MANY);
  // What starting the pods left behind is done by then.
  await pause(20_000);
  const before = await agentUsage(world);
  await pause(30_000);
  const after = await agentUsage(world);
  const cpu = ((after.cpuMs - before.cpuMs) / 30_000) * 100;
  return [
    ...firstRows(`${MANY} pods at once`, firsts),
    bounded(`agent with ${MANY} pods and streams: RSS`, after.rssMb, 'MB', 120),
    bounded(`agent with ${MANY} pods and streams: idle CPU`, cpu, '% of a core', 1),
  ];
}
