import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
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
import { bounded, type BenchRow } from './row.js';

const NODES = 1_000;
const PODS = 10_000;
const NAMESPACES = 100;
const IDENTITIES = 1_000;
const POLICIES = 1_000;
/** Longer than a new leader waits before it writes how many SVIDs there are. */
const SETTLED_MS = 32_000;
/** What the API server is given at one time. */
const AT_A_TIME = 24;
/** Agents that follow at the same time: each has its connection, its streams and its keys in this one process. */
const AGENTS = 200;

/**
 * A cluster of some size on a real API server: how long the server takes to be ready, what it holds, what it writes when
 * nothing has changed, and what one change costs.
 */
export async function run(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  const plane = await startControlPlane({ audit: true });
  scope.onEnd(() => plane.close());
  try {
    await prepare(plane);
    await fill(plane);
    const first = await startBenchServer(scope, plane);
    const agents = await startAgents(plane, first);
    scope.onEnd(() => stopAll(agents.agents));
    // A new leader keeps the counts of SVIDs as they are until all replicas have reported theirs.
    await pause(SETTLED_MS);
    const rss = rssOf(first.process.pid);
    const quietWrites = await writesDuring(plane, () => pause(10_000));
    const changeWrites = await writesDuring(plane, async () => {
      await create(plane, '/api/v1/namespaces/ns-0/pods', boundPod('one-more', 'node-0', labelsOf(0)));
      await pause(8_000);
    });
    let second: BenchServer | undefined;
    const restartWrites = await writesDuring(plane, async () => {
      await first.process.kill('SIGTERM');
      second = await startBenchServer(scope, plane, first.port);
      await pause(SETTLED_MS);
    });
    const size = `${PODS} pods, ${NODES} nodes, ${IDENTITIES} identities, ${POLICIES} policies`;
    return [
      bounded(`${size}: start to ready`, first.readyMs / 1000, 's', 10),
      bounded('the same, at a restart', (second?.readyMs ?? NaN) / 1000, 's', 10),
      bounded('server: RSS', rss / 1e6, 'MB', 400),
      bounded(`${AGENTS} agents start together: all SVIDs (${agents.svids})`, agents.seconds, 's', 10),
      {
        name: 'API writes in 10 s in which nothing changes, the Lease left out',
        value: quietWrites,
        unit: '',
        target: '0',
        pass: quietWrites === 0,
      },
      {
        name: 'API writes for one more pod',
        value: changeWrites,
        unit: '',
        target: '≤ 3',
        pass: changeWrites <= 3,
      },
      {
        name: 'API writes at a restart',
        value: restartWrites,
        unit: '',
        target: '0',
        pass: restartWrites === 0,
      },
    ];
  } finally {
    await scope.end();
  }
}

function labelsOf(pod: number): Readonly<Record<string, string>> {
  return { app: `app-${Math.floor((pod % PODS) / NAMESPACES) % (IDENTITIES / NAMESPACES)}`, tier: 'backend' };
}

async function fill(plane: ControlPlane): Promise<void> {
  const range = (length: number): readonly number[] => Array.from({ length }, (_, index) => index);
  await each(range(NAMESPACES), AT_A_TIME, (index) => namespace(plane, `ns-${index}`));
  await each(range(IDENTITIES), AT_A_TIME, (index) => {
    const app = `app-${Math.floor(index / NAMESPACES)}`;
    return identity(plane, `ns-${index % NAMESPACES}`, app, { app });
  });
  await each(range(POLICIES), AT_A_TIME, (index) => policy(plane, index));
  await each(range(PODS), AT_A_TIME, (index) =>
    create(
      plane,
      `/api/v1/namespaces/ns-${index % NAMESPACES}/pods`,
      boundPod(`pod-${index}`, `node-${index % NODES}`, labelsOf(index)),
    ),
  );
}

async function policy(plane: ControlPlane, index: number): Promise<void> {
  const namespaceName = `ns-${index % NAMESPACES}`;
  const app = `app-${Math.floor(index / NAMESPACES)}`;
  await create(plane, `/apis/signet.dev/v1alpha1/namespaces/${namespaceName}/accesspolicies`, {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name: `policy-${index}` },
    spec: {
      target: { podSelector: { matchLabels: { app } } },
      rules: [
        {
          name: 'read',
          effect: 'Allow',
          from: [{ spiffeIDs: [`spiffe://bench.test/ns/${namespaceName}/app-0`] }],
          to: [{ http: { methods: ['GET'], paths: [{ prefix: '/api' }] } }],
        },
      ],
    },
  });
}

/** Starts agents of the first nodes, and waits until each pod of theirs has its SVID. */
async function startAgents(
  plane: ControlPlane,
  server: BenchServer,
): Promise<{ readonly agents: BenchAgent[]; readonly seconds: number; readonly svids: number }> {
  const agents: BenchAgent[] = [];
  const began = performance.now();
  await each(
    Array.from({ length: AGENTS }, (_, index) => `node-${index}`),
    32,
    async (nodeName) => {
      agents.push(await startBenchAgent(plane, server, nodeName));
    },
  );
  const wanted = (AGENTS * PODS) / NODES;
  const svids = (): number => agents.reduce((sum, one) => sum + one.svids(), 0);
  while (svids() < wanted && performance.now() - began < 60_000) await pause(20);
  return { agents, seconds: (performance.now() - began) / 1000, svids: svids() };
}

async function stopAll(agents: readonly BenchAgent[]): Promise<void> {
  await Promise.all(agents.map((agent) => agent.stop()));
}

const WRITES: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete', 'deletecollection']);

/** Writes of the server, its Lease and its reviews of tokens left out: it comes as the admin, as this program does. */
async function writesDuring(plane: ControlPlane, act: () => Promise<void>): Promise<number> {
  const count = async (): Promise<number> =>
    (await plane.auditLog()).filter(
      ({ verb, stage, userAgent, objectRef }) =>
        stage === 'ResponseComplete' &&
        userAgent?.startsWith('signet') === true &&
        WRITES.has(verb) &&
        objectRef?.resource !== 'leases' &&
        objectRef?.resource !== 'tokenreviews',
    ).length;
  const before = await count();
  await act();
  return (await count()) - before;
}

function rssOf(pid: number): number {
  const [, kilobytes] = /VmRSS:\s+([0-9]+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
