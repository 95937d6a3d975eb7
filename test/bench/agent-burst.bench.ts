import { join } from 'node:path';
import { startGo } from '../e2e/support/clients.js';
import { cpuMs } from '../e2e/support/process.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { until } from '../support/until.js';
import { CHART_OPTIONS, publish, startAgentWorld, type AgentWorld } from './agent-world.js';
import { each } from './cluster-world.js';
import { bounded, type BenchRow } from './row.js';

const PODS = 250;
/** To fill caches and open connections with. */
const FIRST = 10;
const LIMIT_MS = 60_000;
const SVIDS = 'signet_agent_svids{kind="x509"}';

/**
 * Many pods are bound to one node at once, with a real API server, server and agent process on the same cores; no kubelet and no
 * containers. First until the agent has all their SVIDs, which it does not wait to be asked for. Then the same with a volume that
 * is published for each and a stream that is opened in it, as soon as each pod is there: until all streams have theirs.
 */
export async function run(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  try {
    const world = await startAgentWorld(scope);
    const { program } = await world.agent(CHART_OPTIONS);
    const used = usageOf(world, program.pid);
    await streams(scope, world, 'first', FIRST);
    const held = await used(() => svids(world, FIRST + PODS));
    const streamed = await used(() => streams(scope, world, 'many', PODS));
    return [
      bounded(`${PODS} pods bound at once: the agent has all SVIDs`, held.value, 's', 2),
      ...costRows('that', held),
      bounded(
        `${PODS} pods bound at once, volumes published: all streams have SVIDs`,
        streamed.value,
        's',
        2,
      ),
      ...costRows('that', streamed),
    ];
  } finally {
    await scope.end();
  }
}

interface Used {
  readonly value: number;
  /** For each pod, in milliseconds of CPU time. */
  readonly server: number;
  readonly agent: number;
}

function costRows(what: string, { server, agent }: Used): readonly BenchRow[] {
  return [
    { name: `${what}: server CPU per SVID`, value: server, unit: 'ms' },
    { name: `${what}: agent CPU per pod`, value: agent, unit: 'ms' },
  ];
}

function usageOf(world: AgentWorld, agentPid: number): (act: () => Promise<number>) => Promise<Used> {
  const now = (): readonly [number, number] => [cpuMs(world.server.process.pid), cpuMs(agentPid)];
  return async (act) => {
    const before = now();
    const value = await act();
    const after = now();
    return { value, server: (after[0] - before[0]) / PODS, agent: (after[1] - before[1]) / PODS };
  };
}

/** Binds the pods; in how many seconds the agent has so many SVIDs in all. */
async function svids(world: AgentWorld, inAll: number): Promise<number> {
  const began = performance.now();
  const bound = each([...Array(PODS).keys()], PODS, async (at) => {
    await world.makePod(`web-${at}`);
  });
  await until('the SVIDs', async () => (await world.gauge(SVIDS)) === inAll, LIMIT_MS);
  const seconds = (performance.now() - began) / 1000;
  await bound;
  return seconds;
}

/** Binds pods, publishes a volume for each and opens a stream in it; in how many seconds the last stream has its SVID. */
async function streams(scope: Scope, world: AgentWorld, name: string, count: number): Promise<number> {
  const crowd = await startGo(scope, ['crowd']);
  const began = Date.now();
  await each([...Array(count).keys()], count, async (at) => {
    const uid = await world.makePod(`${name}-${at}`);
    const link = await publish(scope, world.node, uid, `${name}-${at}`);
    crowd.program.write(`${join(link, 'api.sock')}\n`);
  });
  const last = await crowd.next(() => crowd.program.lines.length >= count, {
    from: count - 1,
    limitMs: LIMIT_MS,
  });
  if (last.error !== undefined) throw new Error(last.error);
  return (last.at / 1e6 - began) / 1000;
}
