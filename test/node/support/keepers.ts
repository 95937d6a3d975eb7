/** Pods that hold an X509Source of go-spiffe all the while, call one another over mTLS, and say what went wrong (test/rig/go, `keep`). */
import { setTimeout as pause } from 'node:timers/promises';
import { IMAGES } from '../../rig/images.js';
import { until } from '../../support/until.js';
import type { NodeWorld } from './world.js';

const PORT = 7443;
/** The label `app` of the pods, and the name of what is theirs. */
export const APP = 'keeper';

/** A CSI volume with the socket of a Workload API. */
export interface SocketVolume {
  readonly driver: string;
  /** The socket's name in it. */
  readonly socket: string;
}

const SIGNET_VOLUME: SocketVolume = { driver: 'csi.signet.dev', socket: 'api.sock' };

interface KeepersWanted {
  readonly pods: number;
  /** How often each pod looks at its SVID and calls another pod; it calls nobody unless `calls`. */
  readonly everyMs: number;
  readonly calls: boolean;
  /** What each asks of the node's CPU, e.g. `10m`; nothing unless said: what is left over then, in the smallest share there is. */
  readonly cpu?: string;
  /** Signet's unless said. */
  readonly volume?: SocketVolume;
}

/** One line of what a pod says. */
export interface KeeperLine {
  readonly pod: string;
  /** Unix time in nanoseconds. */
  readonly at: number;
  readonly first?: string;
  /** Of the first SVID, in ms: since the program began, and since its process was made. */
  readonly sinceBegan?: number;
  readonly sinceMade?: number;
  /** When the steps to it were over, in ms since the program began: test/rig/go/phases.go. */
  readonly asked?: number;
  readonly connected?: number;
  readonly sent?: number;
  readonly answered?: number;
  /** How long the program's threads had run by then, and had waited for a core, in ms. */
  readonly ran?: number;
  readonly waited?: number;
  readonly watchErrors?: number;
  readonly watchError?: string;
  /** For how long a pod had no stream, in ms. */
  readonly outage?: number;
  readonly failed?: string;
  readonly invalid?: string;
  readonly error?: string;
  /** Key id of the authority that its SVID comes from. */
  readonly authority?: string;
  readonly calls?: number;
  readonly updates?: number;
  /** Whether the pod has a stream. */
  readonly open?: boolean;
}

/**
 * Who the pods are, and the service that leads to them. Apply it before the pods. Each calls any other, or one and the same:
 * a kernel knows 1,024 neighbours for all its network namespaces together unless told otherwise, so that no more than 30 pods
 * can all know each other.
 */
export async function prepareKeepers(world: NodeWorld, calls: 'any' | 'one' = 'any'): Promise<void> {
  await world.apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: APP, namespace: 'default' } },
    {
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'WorkloadIdentity',
      metadata: { name: APP, namespace: 'default' },
      spec: {
        podSelector: { matchLabels: { app: APP } },
        spiffeIDTemplate:
          'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}/pod/{{ .PodName }}',
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: APP, namespace: 'default' },
      spec: {
        selector: { app: APP },
        ports: [{ port: PORT }],
        // A kubelet that restarts holds its pods for not ready for a while; they are there all the same.
        publishNotReadyAddresses: true,
        sessionAffinity: calls === 'one' ? 'ClientIP' : 'None',
      },
    },
  );
}

/** Starts the pods, all together, and waits until each has said what its first SVID is. */
export async function startKeepers(world: NodeWorld, wanted: KeepersWanted): Promise<void> {
  const { driver, socket } = wanted.volume ?? SIGNET_VOLUME;
  // The kubelet says where the service is, so that no name has to be looked up for each call.
  const call = wanted.calls ? ['-call', `$(${APP.toUpperCase()}_SERVICE_HOST):${PORT}`] : [];
  const args = [
    'keep',
    '-socket',
    `/run/spiffe/${socket}`,
    '-serve',
    `:${PORT}`,
    '-every',
    `${wanted.everyMs}ms`,
  ];
  const container = {
    name: 'main',
    image: IMAGES.spiffeClient,
    args: [...args, ...call],
    volumeMounts: [{ name: 'spiffe', mountPath: '/run/spiffe', readOnly: true }],
    ...(wanted.cpu === undefined ? {} : { resources: { requests: { cpu: wanted.cpu } } }),
  };
  const spec = {
    serviceAccountName: APP,
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 1,
    securityContext: { runAsNonRoot: true, runAsUser: 1000 },
    containers: [container],
    volumes: [{ name: 'spiffe', csi: { driver, readOnly: true } }],
  };
  const labels = { app: APP };
  await world.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: APP, namespace: 'default' },
    spec: {
      replicas: wanted.pods,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec },
    },
  });
  // The logs of all pods are much to ask for: not before all of them run.
  const isUp = async (): Promise<boolean> => {
    await pause(250);
    const { body } = await world.cluster.request(
      'GET',
      `/apis/apps/v1/namespaces/default/deployments/${APP}`,
    );
    if ((body as { status: { readyReplicas?: number } }).status.readyReplicas !== wanted.pods) return false;
    const pods = (await linesOf(world)).filter((line) => line.first !== undefined).map(({ pod }) => pod);
    return new Set(pods).size === wanted.pods;
  };
  try {
    await until(`${wanted.pods} pods with SVIDs`, isUp, Math.max(180_000, wanted.pods * 2000));
  } catch (error) {
    throw new Error(`${String(error)}\n${await world.report()}`, { cause: error });
  }
}

/** Takes them away, and waits until they are gone. */
export async function stopKeepers(world: NodeWorld): Promise<void> {
  await world.kubectl('delete', 'deployment', APP, '--cascade=foreground', '--timeout=300s');
}

/** What all pods have said, or only what they said since a time (ms since the Unix epoch). */
export async function linesOf(world: NodeWorld, since = 0): Promise<readonly KeeperLine[]> {
  const pods = `/api/v1/namespaces/default/pods`;
  const { body } = await world.cluster.request('GET', `${pods}?labelSelector=app%3D${APP}`);
  const { items } = body as { readonly items: readonly { readonly metadata: { readonly name: string } }[] };
  const after = since === 0 ? '' : `&sinceTime=${new Date(since - 1000).toISOString()}`;
  const found: KeeperLine[] = [];
  const next = items.values();
  // kubectl would ask for five a second.
  const read = async (): Promise<void> => {
    for (const { metadata } of next) {
      const log = await world.cluster.request('GET', `${pods}/${metadata.name}/log?timestamps=true${after}`);
      // A pod that does not run yet, or is gone by now, has none.
      if (log.status === 200) found.push(...linesIn(metadata.name, String(log.body)));
    }
  };
  await Promise.all(Array.from({ length: 10 }, read));
  return found.filter((line) => line.at >= since * 1e6);
}

function linesIn(pod: string, log: string): readonly KeeperLine[] {
  return log
    .split('\n')
    .map((line) => /^\S+ (\{.*\})$/.exec(line)?.[1])
    .filter((json) => json !== undefined)
    .map((json) => ({ ...(JSON.parse(json) as Omit<KeeperLine, 'pod'>), pod }));
}

/** What the agent's process has used. */
export interface AgentUsage {
  readonly pid: number;
  readonly rssMb: number;
  readonly cpuMs: number;
  /** Of its main thread, where all requests are answered: how long it ran, and how long it could have run but waited for a core. */
  readonly ranMs: number;
  readonly waitedMs: number;
}

/** Of the newest agent. */
export function agentUsage(world: NodeWorld): Promise<AgentUsage> {
  return usageOf(world, '[a]gent --server=');
}

/** Of the newest process on the node whose command line matches; its process id is that on the node. */
export async function usageOf(world: NodeWorld, pattern: string): Promise<AgentUsage> {
  const script = `pid=$(pgrep -n -f '${pattern}') && echo "$pid" && cat "/proc/$pid/stat" "/proc/$pid/schedstat" && grep VmRSS "/proc/$pid/status"`;
  const { code, stdout, stderr } = await world.cluster.enter('sh', '-c', script);
  const [pid = '', stat = '', schedule = '', memory = ''] = stdout.split('\n');
  if (code !== 0) throw new Error(`no process is ${pattern}: ${stderr}`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second; the first here is the third.
  const cpuMs = (Number(fields[11]) + Number(fields[12])) * 10;
  // In nanoseconds: the kernel's sched-stats.rst.
  const [ranMs = NaN, waitedMs = NaN] = schedule.split(' ').map((field) => Number(field) / 1e6);
  return { pid: Number(pid), cpuMs, ranMs, waitedMs, rssMb: Number(/\d+/.exec(memory)?.[0]) / 1024 };
}
