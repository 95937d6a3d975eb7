import { agentUsage, prepareKeepers, stopKeepers, type KeeperLine } from '../node/support/keepers.js';
import { startNodeWorld, type NodeWorld } from '../node/support/world.js';
import { isSkipped } from '../rig/rig.js';
import { firstsOf, idleUsage, retriesOf, startAndLook, type Firsts } from './first-svids.js';
import { besideSpire } from './node-pods-spire.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';
import { isSpireWanted } from './spire.js';

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
    const usage = agentUsage;
    const alone = await firstsOf(world, { pods: 1, usage }, ALONE);
    const together = await firstsOf(world, { pods: TOGETHER, usage });
    const rows = [
      ...firstRows('1 pod', alone),
      ...firstRows(`${TOGETHER} pods at once`, together),
      ...(await fullNode(world)),
    ];
    if (!isSpireWanted()) return rows;
    await stopKeepers(world);
    return await besideSpire(world, rows, { alone: ALONE, together: TOGETHER, many: MANY });
  } finally {
    await world.close();
  }
}

function firstRows(what: string, firsts: Firsts): readonly BenchRow[] {
  const { lines, agent } = firsts;
  const unit = 'ms';
  const at = (share: number, of: (line: KeeperLine) => number | undefined): number =>
    quantile(
      lines.map((line) => of(line) ?? NaN),
      share,
    );
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
    bounded(`${what}: retries of go-spiffe`, retriesOf(firsts), '', 1),
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
  const firsts = await startAndLook(world, { pods: MANY, usage: agentUsage });
  const { rssMb, cpu } = await idleUsage(world, agentUsage);
  return [
    ...firstRows(`${MANY} pods at once`, firsts),
    bounded(`agent with ${MANY} pods and streams: RSS`, rssMb, 'MB', 120),
    bounded(`agent with ${MANY} pods and streams: idle CPU`, cpu, '% of a core', 1),
  ];
}
