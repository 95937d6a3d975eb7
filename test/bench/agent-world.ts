import { symlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCsiNode, type CsiNode } from '../e2e/support/csi-node.js';
import { cpuMs, start, type Program } from '../e2e/support/process.js';
import type { Scope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import { agentToken, bundleOf, makePod } from '../support/cluster-agents.js';
import { until } from '../support/until.js';
import {
  boundPod,
  identity,
  namespace,
  prepare,
  startBenchServer,
  type BenchServer,
} from './cluster-world.js';

/** One agent process with real volumes in a mount namespace of its own, a real API server and a real server; no kubelet. */

/** As the chart sets it. */
export const CHART_OPTIONS = '--max-semi-space-size=1';
const NODE = 'node-1';

/** A machine with its pods, and how its agent is started. */
export interface AgentWorld {
  readonly node: CsiNode;
  readonly server: BenchServer;
  /** Names of its pods, by their uid. */
  readonly pods: ReadonlyMap<string, string>;
  /** Binds a pod to the machine, as an identity wants it; gives its uid. */
  makePod(name: string): Promise<string>;
  /** Starts an agent; resolves when the workloads are served. */
  agent(nodeOptions: string): Promise<StartedAgent>;
  /** A gauge of the agent that was started last, by its name in /metrics with its labels. */
  gauge(name: string): Promise<number>;
}

/** An agent that serves. */
export interface StartedAgent {
  readonly program: Program;
  /** From its start until the workloads were served, and the CPU time of that, in milliseconds. */
  readonly servedMs: number;
  readonly servedCpuMs: number;
}

export async function startAgentWorld(scope: Scope): Promise<AgentWorld> {
  const plane = await startControlPlane();
  scope.onEnd(() => plane.close());
  await prepare(plane);
  await namespace(plane, 'shop');
  await identity(plane, 'shop', 'web', { app: 'web' });
  const server = await startBenchServer(scope, plane);
  const node = await startCsiNode();
  scope.onEnd(() => node.close());
  const folder = scope.folder();
  await writeFile(join(folder, 'token'), await agentToken(plane, NODE));
  await writeFile(join(folder, 'bundle.json'), await bundleOf(plane, 'bench.test'));
  const pods = new Map<string, string>();
  let http = 0;
  return {
    ...{ node, server, pods },
    async makePod(name) {
      const uid = await makePod(plane, 'shop', boundPod(name, NODE, { app: 'web' }));
      pods.set(uid, name);
      return uid;
    },
    async agent(nodeOptions) {
      [http = 0] = await freePorts(1);
      const namespacePath = node.inside('').replace(/root$/, 'ns/mnt');
      const began = performance.now();
      const program = start(
        scope,
        [
          ...(['nsenter', `--mount=${namespacePath}`] as const),
          ...signetCommand([
            ...['agent', '--trust-domain', 'bench.test', '--server', `127.0.0.1:${server.port}`],
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
      return { program, servedMs: performance.now() - began, servedCpuMs: cpuMs(program.pid) };
    },
    async gauge(name) {
      const text = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
      const line = text.split('\n').find((one) => one.startsWith(`${name} `));
      return Number(line?.slice(name.length));
    },
  };
}

/** As the kubelet does it; gives a short path to the volume. */
export async function publish(scope: Scope, node: CsiNode, uid: string, name: string): Promise<string> {
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

export async function unpublish(node: CsiNode, uid: string): Promise<void> {
  const targetPath = await node.target(uid);
  await node.call((client) => client.nodeUnpublishVolume({ volumeId: `csi-${uid}`, targetPath }));
}
