import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { startGo } from '../e2e/support/clients.js';
import { cpuMs, rssMiB } from '../e2e/support/process.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { until } from '../support/until.js';
import { CHART_OPTIONS, publish, startAgentWorld, unpublish, type AgentWorld } from './agent-world.js';
import { each } from './cluster-world.js';
import { bounded, type BenchRow } from './row.js';

/** As many pods as a kubelet runs unless told otherwise. */
const PODS = 110;
const IDLE_MS = 10_000;
const STREAMS = 'signet_agent_workload_streams';

/**
 * One agent process with real volumes in a mount namespace of its own, and a go-spiffe client for each pod that holds an
 * X.509 stream open: what it costs doing nothing, what a stream costs, and how long the node waits for an agent that was
 * killed. With the options of Node that the chart sets, and without.
 */
export async function run(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  try {
    const world = await startAgentWorld(scope);
    await each([...Array(PODS).keys()], 8, async (at) => {
      await world.makePod(`web-${at}`);
    });
    const plain = await measure(scope, world, '');
    const chart = await measure(scope, world, CHART_OPTIONS);
    return [
      ...rows(`agent, ${PODS} pods, as in the chart`, chart),
      ...rows('the same without options', plain),
    ];
  } finally {
    await scope.end();
  }
}

interface Measured {
  readonly emptyMiB: number;
  readonly rssMiB: number;
  readonly idlePercent: number;
  readonly cpuPerStreamMs: number;
  readonly servedMs: number;
  readonly servedCpuMs: number;
  readonly streamsBackMs: number;
  readonly restartedMiB: number;
}

function rows(what: string, measured: Measured): readonly BenchRow[] {
  return [
    { name: `${what}: RSS before any volume`, value: measured.emptyMiB, unit: 'MiB' },
    bounded(`${what}: RSS with ${PODS} volumes and open streams`, measured.rssMiB, 'MiB', 120),
    bounded(`${what}: CPU, idle`, measured.idlePercent, '%', 1),
    { name: `${what}: CPU per connection and stream opened`, value: measured.cpuPerStreamMs, unit: 'ms' },
    { name: `${what}: from start after SIGKILL to all sockets served`, value: measured.servedMs, unit: 'ms' },
    { name: `${what}: CPU of that`, value: measured.servedCpuMs, unit: 'ms' },
    { name: `${what}: until all go-spiffe streams are back`, value: measured.streamsBackMs, unit: 'ms' },
    bounded(`${what}: RSS then`, measured.restartedMiB, 'MiB', 120),
  ];
}

async function measure(parent: Scope, world: AgentWorld, nodeOptions: string): Promise<Measured> {
  const scope = newScope();
  parent.onEnd(() => scope.end());
  const { node, pods } = world;
  const first = await world.agent(nodeOptions);
  const { pid } = first.program;
  const emptyMiB = rssMiB(pid);
  const links = new Map<string, string>();
  await each([...pods], 4, async ([uid, name]) => {
    links.set(uid, await publish(scope, node, uid, name));
  });
  const before = cpuMs(pid);
  await each([...links.values()], 8, async (link) => {
    const client = await startGo(scope, ['x509', 'watch', '-socket', join(link, 'api.sock')]);
    await client.next(({ svids }) => svids !== undefined, { limitMs: 60_000 });
  });
  const cpuPerStreamMs = (cpuMs(pid) - before) / PODS;
  if ((await world.gauge(STREAMS)) !== PODS) throw new Error('not every stream is open');
  await pause(IDLE_MS);
  const idleFrom = cpuMs(pid);
  const began = performance.now();
  await pause(IDLE_MS);
  const idlePercent = ((cpuMs(pid) - idleFrom) * 100) / (performance.now() - began);
  const withStreams = rssMiB(pid);
  await first.program.kill('SIGKILL');
  const restarted = performance.now();
  const second = await world.agent(nodeOptions);
  await until('the streams are back', async () => (await world.gauge(STREAMS)) === PODS, 120_000);
  const streamsBackMs = performance.now() - restarted;
  await pause(IDLE_MS);
  const restartedMiB = rssMiB(second.program.pid);
  await scope.end();
  await each([...pods.keys()], 4, (uid) => unpublish(node, uid));
  await second.program.kill('SIGKILL');
  return {
    ...{ emptyMiB, rssMiB: withStreams, idlePercent, cpuPerStreamMs },
    ...{ servedMs: second.servedMs, servedCpuMs: second.servedCpuMs, streamsBackMs, restartedMiB },
  };
}
