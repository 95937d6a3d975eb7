/**
 * A real cluster of one node: a control plane, and kubelet, kube-proxy, containerd and runc in namespaces of their own, so that
 * the machine has none of their mounts, links and paths. Needs root.
 */
import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../support/until.js';
import { rigHome } from './cache.js';
import { startControlPlane, type ControlPlane, type ControlPlaneOptions } from './control-plane.js';
import { startDaemon, type Daemon } from './daemon.js';
import { writeBusyboxImage, writeProgramImage } from './images.js';
import { DNS_IMAGE, NODE_NAME, PAUSE_IMAGE, writeNodeFiles, writeRuntimeFiles } from './node-files.js';
import { helm, nodePrograms, type NodePrograms } from './node-parts.js';
import { takeNodeSlot, type NodeSlot } from './node-slot.js';
import * as rig from './rig.js';

const nodeFolder = join(dirname(fileURLToPath(import.meta.url)), 'node');

/** The longest that a step of the start may take, in ms. A whole start takes 5 s when nothing else runs. */
const READY_LIMIT = 120_000;
/** What a node has folders of its own over. */
const HIDDEN = /^\/(?:run|var\/lib|var\/log|proc|sys)(?:\/|$)/;

export interface ClusterOptions extends Pick<ControlPlaneOptions, 'audit' | 'apiServerArgs'> {
  /** Runs CoreDNS: names of services. */
  readonly dns?: boolean;
  /** Archives of images that the node has beside busybox. */
  readonly images?: readonly string[];
  /** Fields of the KubeletConfiguration that win over the rig's own. */
  readonly kubeletConfig?: Readonly<Record<string, unknown>>;
}

/** How a program ended. */
export interface ProgramRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Cluster extends ControlPlane {
  readonly nodeName: string;
  /** Where the node's files are; `kubelet` in it is the node's /var/lib/kubelet, without what is mounted there. */
  readonly nodeDirectory: string;
  readonly nodeAddress: string;
  /** The process whose namespaces are the node's. */
  readonly nodePid: number;
  /** Runs a command of the machine inside the node's namespaces, to its end. */
  enter(command: string, ...args: string[]): Promise<ProgramRun>;
  /** Gives the node the images of an archive. */
  loadImage(archive: string): Promise<void>;
  /** Kills the kubelet (SIGKILL); back when another one, which starts a second later, is healthy. */
  restartKubelet(): Promise<void>;
  /** Kills containerd (SIGKILL), which leaves containers running; back when another one answers. */
  killContainerd(): Promise<void>;
  helm(...args: string[]): Promise<ProgramRun>;
}

/**
 * Starts one: about 5 s, 2 more with DNS. Several run side by side; whatever happens to this process, they end with it, and the
 * next start removes what a dead one left in files and cgroups. Throws with what was said when something does not start.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  await checkMachine();
  const programs = await nodePrograms();
  const folder = await mkdtemp(join(tmpdir(), 'node-'));
  const ends: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    const slot = await takeNodeSlot(folder);
    ends.push(() => slot.release());
    await prepare(folder, slot, programs, options);
    const node = await startNode(folder, slot, programs);
    ends.push(() => node.stop());
    const pid = await firstProcessOf(node);
    await slot.connect(pid);
    await writeFile(join(folder, 'link'), '');
    const network = { address: slot.host, serviceRange: slot.serviceRange, apiService: slot.apiService };
    const { audit = false, apiServerArgs = [] } = options;
    const plane = await startControlPlane({ network, audit, apiServerArgs, parentFolder: folder });
    ends.push(() => plane.close());
    await writeNodeFiles(folder, slot, plane, options.kubeletConfig ?? {});
    await writeFile(join(folder, 'go'), '');
    await waitUntilReady(node, plane);
    if (options.dns === true) await startDns(plane, slot);
    return clusterOf({ folder, slot, pid, plane, programs, close });
  } catch (error) {
    await close();
    throw error;
  }
}

async function checkMachine(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('a node needs root: run the tests of test/node as root');
  for (const path of [tmpdir(), rigHome()]) {
    if (HIDDEN.test(resolve(path)))
      throw new Error(`${path} is hidden from a node, which has a folder of its own there`);
  }
  for (const [file, what] of [
    ['/etc/hosts', 'containers get a copy of it'],
    ['/proc/sys/net/bridge/bridge-nf-call-iptables', 'load the kernel module br_netfilter'],
  ] as const) {
    await readFile(file).catch(() => {
      throw new Error(`a node needs ${file}: ${what}`);
    });
  }
}

async function prepare(
  folder: string,
  slot: NodeSlot,
  programs: NodePrograms,
  { images = [], dns = false }: ClusterOptions,
): Promise<void> {
  // Not only for this user: pods of others look up paths below it.
  const archives = join(folder, 'images');
  for (const name of [archives, join(folder, 'cni'), join(folder, 'volume-plugins')]) await mkdir(name);
  await writeRuntimeFiles(folder, slot, programs);
  writeProgramImage(join(archives, 'pause.tar'), PAUSE_IMAGE, programs.pause);
  await writeBusyboxImage(join(archives, 'busybox.tar'), programs.busybox);
  if (dns) writeProgramImage(join(archives, 'coredns.tar'), DNS_IMAGE, programs.coredns);
  for (const [index, image] of images.entries()) {
    await copyFile(image, join(archives, `${index}-${basename(image)}`));
  }
}

async function startNode(folder: string, slot: NodeSlot, programs: NodePrograms): Promise<Daemon> {
  const namespaces = [
    '--mount',
    '--pid',
    '--net',
    '--uts',
    '--fork',
    '--kill-child=KILL',
    '--propagation=private',
  ];
  const [kubelet, proxy] = [await rig.kubernetes('kubelet'), await rig.kubernetes('kube-proxy')];
  const args = [folder, NODE_NAME, slot.cgroup, slot.node, programs.containerd, kubelet, proxy];
  const log = join(folder, 'node.log');
  return startDaemon('unshare', [...namespaces, 'bash', join(nodeFolder, 'init.sh'), ...args], log);
}

/** The first process inside the namespaces, once it is in them. */
async function firstProcessOf(node: Daemon): Promise<number> {
  const machine = await readlink('/proc/self/ns/net');
  return until('a process in the namespaces of a node', async () => {
    if (node.ended() !== undefined) return -1;
    const children = await readFile(`/proc/${node.pid}/task/${node.pid}/children`, 'utf8');
    const pid = Number(children.trim().split(' ')[0]);
    return pid > 0 && (await readlink(`/proc/${pid}/ns/net`)) !== machine ? pid : false;
  });
}

async function waitUntilReady(node: Daemon, plane: ControlPlane): Promise<void> {
  let ended: string | undefined;
  await until(
    'a node that is ready',
    async () => {
      ended = node.ended();
      return ended !== undefined || (await isNodeReady(plane));
    },
    READY_LIMIT,
  );
  if (ended !== undefined) throw new Error(`the node ended (${ended}): ${await node.log()}`);
}

interface NodeObject {
  readonly spec: { readonly taints?: readonly unknown[] };
  readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

async function isNodeReady(plane: ControlPlane): Promise<boolean> {
  const { status, body } = await plane.request('GET', `/api/v1/nodes/${NODE_NAME}`);
  if (status !== 200) return false;
  const { spec, status: state } = body as NodeObject;
  const isReady = state.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;
  return isReady && (spec.taints ?? []).length === 0;
}

async function startDns(plane: ControlPlane, slot: NodeSlot): Promise<void> {
  const manifest = await readFile(join(nodeFolder, 'coredns.yaml'), 'utf8');
  const stdin = manifest.replaceAll('CLUSTER_DNS', slot.dnsService);
  const applied = await plane.kubectl(['apply', '-f', '-'], { stdin });
  if (applied.code !== 0) throw new Error(`CoreDNS is refused: ${applied.stderr}`);
  const wait = ['rollout', 'status', 'deployment/coredns', '--namespace=kube-system', '--timeout=120s'];
  const rolled = await plane.kubectl(wait);
  if (rolled.code !== 0) throw new Error(`CoreDNS does not start: ${rolled.stderr}`);
}

interface ClusterParts {
  readonly folder: string;
  readonly slot: NodeSlot;
  readonly pid: number;
  readonly plane: ControlPlane;
  readonly programs: NodePrograms;
  readonly close: () => Promise<void>;
}

function clusterOf({ folder, slot, pid, plane, programs, close }: ClusterParts): Cluster {
  const enter = (command: string, ...args: string[]): Promise<ProgramRun> =>
    runProgram('nsenter', ['-t', String(pid), '-m', '-p', '-n', '-u', '--', command, ...args]);
  const must = async (command: string, ...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await enter(command, ...args);
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  };
  const ctr = join(programs.containerd, 'ctr');
  /** Kills a program, which the node starts again, and waits until `isBack`. */
  const killAndWait = async (name: string, isBack: () => Promise<boolean>): Promise<void> => {
    const pidFile = join('/run', `${name}.pid`);
    const old = (await must('cat', pidFile)).trim();
    await must('kill', '-KILL', old);
    const isNew = async (): Promise<boolean> => (await must('cat', pidFile)).trim() !== old;
    await until(`another ${name}`, async () => (await isNew()) && (await isBack()), READY_LIMIT);
  };
  return {
    ...plane,
    nodeName: NODE_NAME,
    nodeDirectory: folder,
    nodeAddress: slot.node,
    nodePid: pid,
    enter,
    async loadImage(archive): Promise<void> {
      await must(ctr, '-n', 'k8s.io', 'images', 'import', resolve(archive));
    },
    restartKubelet: () =>
      killAndWait('kubelet', async () => {
        const url = 'http://127.0.0.1:10248/healthz';
        return (await enter(programs.busybox, 'wget', '-q', '-O', '-', url)).stdout === 'ok';
      }),
    killContainerd: () => killAndWait('containerd', async () => (await enter(ctr, 'version')).code === 0),
    async helm(...args): Promise<ProgramRun> {
      const home = join(folder, 'helm');
      const env = {
        KUBECONFIG: plane.kubeconfig,
        HELM_CACHE_HOME: home,
        HELM_CONFIG_HOME: home,
        HELM_DATA_HOME: home,
      };
      return runProgram(await helm(), args, env);
    },
    close,
  };
}

async function runProgram(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<ProgramRun> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const out = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (out.stderr += text));
  return new Promise((done, reject) => {
    child.on('error', reject);
    child.on('close', (code) => done({ code, ...out }));
  });
}
