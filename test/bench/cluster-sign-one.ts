import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { makeKey } from '../../src/agent/key-maker.js';
import type { SignX509Request } from '../../src/rpc/node-api.js';
import { newScope } from '../e2e/support/scope.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import {
  boundPod,
  create,
  each,
  identity,
  namespace,
  prepare,
  startBenchAgent,
  startBenchServer,
  type BenchAgent,
  type BenchServer,
} from './cluster-world.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';
import { compared, isSpireWanted, spireSigning, spireSigningRows } from './spire.js';

const AGENTS = 10;
const PODS_OF_AGENT = 100;
const IDENTITIES = 10;
const SVIDS_OF_AGENT = PODS_OF_AGENT * IDENTITIES;
/** SVIDs that each measurement is of. */
const MEASURED = 30_000;
const SIZES = [50, 100];
/** Batches that are timed one at a time. */
const ALONE = 300;
const TICKS_PER_SECOND = 100;

/**
 * X.509-SVIDs of P-256 from a server in a process of its own, over mutual TLS, on a real API server: first many agents that
 * start together and want everything at once, then batches, by the CPU time of the server. All that is asked for is
 * registered; each answer is a certificate that an agent would take. Beside the batches, where wanted, SPIRE's.
 */
async function measure(): Promise<readonly BenchRow[]> {
  const rows = await signetRows();
  if (!isSpireWanted()) return rows;
  const spire = spireSigningRows(await spireSigning(SIZES, MEASURED, ALONE));
  const pairs = SIZES.flatMap((size) =>
    ['server CPU per SVID', 'per core', 'p50', 'p99'].map(
      (what) => [`SignX509, batches of ${size}: ${what}`, `SPIRE, batches of ${size}: ${what}`] as const,
    ),
  );
  return compared(rows, spire, new Map(pairs));
}

async function signetRows(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  const plane = await startControlPlane();
  scope.onEnd(() => plane.close());
  try {
    const nodes = Array.from({ length: AGENTS }, (_, at) => `node-${at}`);
    await populate(plane, nodes);
    const server = await startBenchServer(scope, plane);
    const { rows: starting, agents } = await together(plane, server, nodes);
    scope.onEnd(async () => {
      await Promise.all(agents.map(({ stop }) => stop()));
    });
    const rows = [...starting];
    const requests = await requestsOf(agents);
    // Each agent is on a node of its own. Here ten share a process, and would collect one another's garbage while a batch is timed.
    await Promise.all(agents.map(({ rest }) => rest()));
    // Warm: what follows is of a server that has signed for a while.
    await signed(agents, requests, 100, 5_000);
    for (const size of SIZES) rows.push(...(await batches(server, agents, requests, size)));
    return rows;
  } finally {
    await scope.end();
  }
}

async function populate(plane: ControlPlane, nodes: readonly string[]): Promise<void> {
  await prepare(plane);
  await namespace(plane, 'shop');
  for (let at = 0; at < IDENTITIES; at++) await identity(plane, 'shop', `web-${at}`, { app: 'web' });
  const pods = nodes.flatMap((node) =>
    Array.from({ length: PODS_OF_AGENT }, (_, at) => boundPod(`web-${node}-${at}`, node, { app: 'web' })),
  );
  await each(pods, 8, (pod) => create(plane, '/api/v1/namespaces/shop/pods', pod));
}

/** All agents attest and want all their SVIDs at the same time; they share one core for their keys. */
async function together(
  plane: ControlPlane,
  server: BenchServer,
  nodes: readonly string[],
): Promise<{ readonly rows: readonly BenchRow[]; readonly agents: readonly BenchAgent[] }> {
  const before = cpuSeconds(server);
  const began = performance.now();
  const agents = await Promise.all(nodes.map((node) => startBenchAgent(plane, server, node)));
  const complete = (): boolean => agents.every(({ svids }) => svids() === SVIDS_OF_AGENT);
  while (!complete()) {
    if (performance.now() - began > 120_000) throw new Error('the agents did not get their SVIDs');
    await pause(5);
  }
  const seconds = (performance.now() - began) / 1000;
  const cpu = ((cpuSeconds(server) - before) * 1000) / (AGENTS * SVIDS_OF_AGENT);
  const what = `${AGENTS} agents × ${SVIDS_OF_AGENT} SVIDs together`;
  return {
    agents,
    rows: [
      bounded(`${what}: all served`, seconds, 's', 10),
      { name: `${what}: server CPU per SVID, all in all`, value: cpu, unit: 'ms' },
    ],
  };
}

/** One request for each registration of an agent, with a CSR of its own. */
async function requestsOf(agents: readonly BenchAgent[]): Promise<readonly SignX509Request[][]> {
  const keys = await Promise.all(Array.from({ length: 100 }, () => makeKey('ec-p256')));
  return agents.map(({ ids }) =>
    ids().map((registrationId, at) => ({
      registrationId,
      csr: keys[at % keys.length]?.csr ?? new Uint8Array(),
    })),
  );
}

async function batches(
  server: BenchServer,
  agents: readonly BenchAgent[],
  requests: readonly SignX509Request[][],
  size: number,
): Promise<readonly BenchRow[]> {
  const before = cpuSeconds(server);
  const count = await signed(agents, requests, size, MEASURED);
  const cpuMs = ((cpuSeconds(server) - before) * 1000) / count;
  const times: number[] = [];
  // One agent at a time now: how long one batch takes when nobody else asks.
  for (let at = 0; at < ALONE; at++) {
    const began = performance.now();
    await signOne(agents, requests, at, size);
    times.push(performance.now() - began);
  }
  const per = `batches of ${size}`;
  return [
    {
      ...{ name: `SignX509, ${per}: server CPU per SVID`, value: cpuMs, unit: 'ms' },
      ...{ target: '<= 0.2 ms', pass: cpuMs <= 0.2 },
    },
    {
      ...{ name: `SignX509, ${per}: per core`, value: 1000 / cpuMs, unit: 'SVIDs/s' },
      ...{ target: '>= 4500', pass: 1000 / cpuMs >= 4500 },
    },
    { name: `SignX509, ${per}: p50`, value: quantile(times, 0.5), unit: 'ms' },
    ...(size === 100
      ? [bounded(`SignX509, ${per}: p99`, quantile(times, 0.99), 'ms', 40)]
      : [{ name: `SignX509, ${per}: p99`, value: quantile(times, 0.99), unit: 'ms' }]),
  ];
}

/** Has so many SVIDs signed, two batches under way; gives how many it were. */
async function signed(
  agents: readonly BenchAgent[],
  requests: readonly SignX509Request[][],
  size: number,
  least: number,
): Promise<number> {
  let next = 0;
  const last = Math.ceil(least / size);
  const worker = async (): Promise<void> => {
    while (next < last) await signOne(agents, requests, next++, size);
  };
  await Promise.all([worker(), worker()]);
  return last * size;
}

async function signOne(
  agents: readonly BenchAgent[],
  requests: readonly SignX509Request[][],
  turn: number,
  size: number,
): Promise<void> {
  const at = turn % agents.length;
  const from = (Math.floor(turn / agents.length) * size) % SVIDS_OF_AGENT;
  const batch = requests[at]?.slice(from, from + size) ?? [];
  const results = (await agents[at]?.api.signX509(batch)) ?? [];
  const failed = results.find(({ ok }) => !ok);
  if (results.length !== size || failed !== undefined)
    throw new Error(`not signed: ${JSON.stringify(failed ?? results.length)}`);
}

/** User and system time of the server's process, all threads. */
function cpuSeconds({ process }: BenchServer): number {
  const stat = readFileSync(`/proc/${process.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

// The last line of the output: what the rig says of itself comes before.
console.log(JSON.stringify(await measure()));
