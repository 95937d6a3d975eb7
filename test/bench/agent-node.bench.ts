import { symlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { startGo } from '../e2e/support/clients.js';
import { startCsiNode, type CsiNode } from '../e2e/support/csi-node.js';
import { cpuMs, rssMiB, start, type Program } from '../e2e/support/process.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import { agentToken, bundleOf, makePod } from '../support/cluster-agents.js';
import { until } from '../support/until.js';
import { boundPod, each, identity, namespace, prepare, startBenchServer } from './cluster-world.js';
import { bounded, type BenchRow } from './row.js';

/** As many pods as a kubelet runs unless told otherwise. */
const PODS = 110;
const NODE = 'node-1';
const IDLE_MS = 10_000;
/** As the chart sets it. */
const CHART_OPTIONS = '--max-semi-space-size=1';

/** A machine with its pods, and how its agent is started. */
interface World {
  readonly node: CsiNode;
  /** Names of its pods, by their uid. */
  readonly pods: ReadonlyMap<string, string>;
  /** Starts an agent; resolves when the workloads are served, with how long that took. */
  agent(nodeOptions: string): Promise<{ readonly program: Program; readonly servedMs: number }>;
  /** How many streams of the Workload API are open. */
  streams(): Promise<number>;
}

/**
 * One agent process with real volumes in a mount namespace of its own, and a go-spiffe client for each pod that holds an
 * X.509 stream open: what it costs doing nothing, what a stream costs, and how long the node waits for an agent that was
 * killed. With the options of Node that the chart sets, and without.
 */
export async function run(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  try {
    const world = await newWorld(scope);
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
    { name: `${what}: until all go-spiffe streams are back`, value: measured.streamsBackMs, unit: 'ms' },
    bounded(`${what}: RSS then`, measured.restartedMiB, 'MiB', 120),
  ];
}

async function measure(parent: Scope, world: World, nodeOptions: string): Promise<Measured> {
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
  if ((await world.streams()) !== PODS) throw new Error('not every stream is open');
  await pause(IDLE_MS);
  const idleFrom = cpuMs(pid);
  const began = performance.now();
  await pause(IDLE_MS);
  const idlePercent = ((cpuMs(pid) - idleFrom) * 100) / (performance.now() - began);
  const withStreams = rssMiB(pid);
  await first.program.kill('SIGKILL');
  const restarted = performance.now();
  const second = await world.agent(nodeOptions);
  await until('the streams are back', async () => (await world.streams()) === PODS, 120_000);
  const streamsBackMs = performance.now() - restarted;
  await pause(IDLE_MS);
  const restartedMiB = rssMiB(second.program.pid);
  await scope.end();
  await each([...pods.keys()], 4, (uid) => unpublish(node, uid));
  await second.program.kill('SIGKILL');
  return {
    ...{ emptyMiB, rssMiB: withStreams, idlePercent, cpuPerStreamMs },
    ...{ servedMs: second.servedMs, streamsBackMs, restartedMiB },
  };
}

async function newWorld(scope: Scope): Promise<World> {
  const plane = await startControlPlane();
  scope.onEnd(() => plane.close());
  await prepare(plane);
  await namespace(plane, 'shop');
  await identity(plane, 'shop', 'web', { app: 'web' });
  const { port } = await startBenchServer(scope, plane);
  const node = await startCsiNode();
  scope.onEnd(() => node.close());
  const folder = scope.folder();
  await writeFile(join(folder, 'token'), await agentToken(plane, NODE));
  await writeFile(join(folder, 'bundle.json'), await bundleOf(plane, 'bench.test'));
  const pods = new Map<string, string>();
  await each([...Array(PODS).keys()], 8, async (at) => {
    const name = `web-${at}`;
    pods.set(await makePod(plane, 'shop', boundPod(name, NODE, { app: 'web' })), name);
  });
  let http = 0;
  return {
    ...{ node, pods },
    async agent(nodeOptions) {
      [http = 0] = await freePorts(1);
      const namespacePath = node.inside('').replace(/root$/, 'ns/mnt');
      const began = performance.now();
      const program = start(
        scope,
        [
          ...(['nsenter', `--mount=${namespacePath}`] as const),
          ...signetCommand([
            ...['agent', '--trust-domain', 'bench.test', '--server', `127.0.0.1:${port}`],
            ...['--token-file', join(folder, 'token'), '--bundle-file', join(folder, 'bundle.json')],
            ...['--state-directory', node.state, '--kubelet-directory', node.kubelet],
            ...['--http-address', `127.0.0.1:${http}`],
          ]),
        ],
        { env: { NODE_OPTIONS: nodeOptions } },
      );
      await until(
        'the workloads are served',
        () => {
          if (program.hasExited()) throw new Error(program.stderr().slice(-3000));
          return program.stderr().includes('the workloads of this node are served');
        },
        60_000,
      );
      return { program, servedMs: performance.now() - began };
    },
    async streams() {
      const text = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
      return Number(/^signet_agent_workload_streams ([0-9]+)$/m.exec(text)?.[1]);
    },
  };
}

/** As the kubelet does it; gives a short path to the volume. */
async function publish(scope: Scope, node: CsiNode, uid: string, name: string): Promise<string> {
  const targetPath = await node.target(uid);
  await node.call((client) =>
    client.nodePublishVolume(
      {
        ...{ volumeId: `csi-${uid}`, stagingTargetPath: '', targetPath, readonly: true, secrets: {} },
        volumeCapability: {
          accessType: { $case: 'mount', value: { fsType: '', mountFlags: [], volumeMountGroup: '' } },
          accessMode: { mode: 1 },
        },
        volumeContext: {
          'csi.storage.k8s.io/ephemeral': 'true',
          'csi.storage.k8s.io/pod.uid': uid,
          'csi.storage.k8s.io/pod.name': name,
          'csi.storage.k8s.io/pod.namespace': 'shop',
          'csi.storage.k8s.io/serviceAccount.name': 'default',
        },
      },
      { deadlineMs: 30_000 },
    ),
  );
  const link = join(scope.folder(), 'v');
  symlinkSync(node.inside(targetPath), link);
  return link;
}

async function unpublish(node: CsiNode, uid: string): Promise<void> {
  const targetPath = await node.target(uid);
  await node.call((client) => client.nodeUnpublishVolume({ volumeId: `csi-${uid}`, targetPath }));
}
