/** A cluster with a node, the images that tests run, Signet installed by its chart, and what tests do with pods. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../../support/until.js';
import { IMAGES, writeEnvoyImage, writeSignetImage, writeSpiffeClientImage } from '../../rig/images.js';
import { startCluster, type Cluster, type ClusterOptions, type ProgramRun } from '../../rig/node.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

export const TRUST_DOMAIN = 'example.org';
export const SERVER_NAMESPACE = 'signet-system';
export const AGENT_NAMESPACE = 'signet-agents';
/** How long a pod may take to be what a test waits for, in ms. It takes 1 to 2 s when nothing else runs. */
const POD_LIMIT = 60_000;

/** Any object of Kubernetes. */
export type Manifest = Readonly<Record<string, unknown>>;

export interface PodWanted {
  readonly name: string;
  /** `default` unless said. */
  readonly namespace?: string;
  readonly serviceAccount?: string;
  /** The image of its container `main`: busybox, which sleeps, unless said. */
  readonly image?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  /** The attributes of a Signet volume at /run/spiffe; none unless said. */
  readonly volume?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Fields of the spec that win. */
  readonly spec?: Manifest;
}

/** What a test reads of a pod. */
export interface PodObject {
  readonly metadata: { readonly uid: string; readonly name: string };
  readonly status: {
    readonly phase?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number; readonly ready: boolean }[];
  };
}

export interface WorldOptions extends ClusterOptions {
  /** Further images: go-spiffe's client and Signet are always there. */
  readonly envoy?: boolean;
  /** Installs Signet with these values of its chart; `false` leaves it out. */
  readonly install?: Manifest | false;
}

export interface NodeWorld {
  readonly cluster: Cluster;
  /** Runs kubectl; throws with what it said when it fails. Its output. */
  kubectl(...args: string[]): Promise<string>;
  apply(...objects: Manifest[]): Promise<void>;
  /** `helm install --wait`, with values for a test machine that the given ones win over. */
  installSignet(values?: Manifest): Promise<void>;
  helm(...args: string[]): Promise<string>;
  applyPod(pod: PodWanted): Promise<void>;
  pod(name: string, namespace?: string): Promise<PodObject>;
  /** Waits until the pod is in a phase, or has a condition (`Ready`); the failure says what the cluster says of it. */
  podIs(wanted: string, name: string, namespace?: string): Promise<PodObject>;
  deletePod(name: string, namespace?: string): Promise<void>;
  podLogs(name: string, namespace?: string): Promise<string>;
  exec(name: string, command: readonly string[], namespace?: string): Promise<ProgramRun>;
  /** The messages of a pod's events, each with its reason: `FailedMount: …`. */
  eventsOf(name: string, namespace?: string): Promise<readonly string[]>;
  /** Pods, events and the last that Signet's own pods said: for the message of a failure. */
  report(): Promise<string>;
  close(): Promise<void>;
}

/** Starts one, about 15 s with Signet. Needs a `dist/` of the present `src/`. */
export async function startNodeWorld(options: WorldOptions = {}): Promise<NodeWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'world-'));
  try {
    const images = [join(folder, 'signet.tar'), join(folder, 'client.tar'), ...(options.images ?? [])];
    await writeSignetImage(join(folder, 'signet.tar'));
    await writeSpiffeClientImage(join(folder, 'client.tar'));
    if (options.envoy === true) {
      await writeEnvoyImage(join(folder, 'envoy.tar'));
      images.push(join(folder, 'envoy.tar'));
    }
    const cluster = await startCluster({ dns: true, ...options, images });
    const world = worldOf(cluster);
    try {
      if (options.install !== false) await world.installSignet(options.install);
      return world;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  } finally {
    // The node has its own copies.
    await rm(folder, { recursive: true, force: true });
  }
}

function worldOf(cluster: Cluster): NodeWorld {
  const kubectl = async (args: readonly string[], stdin = ''): Promise<string> => {
    const { code, stdout, stderr } = await cluster.kubectl(args, { stdin });
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  };
  const helm = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cluster.helm(...args);
    if (code !== 0) throw new Error(`helm ${args.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  };
  const apply = async (...items: Manifest[]): Promise<void> => {
    await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  };
  const pod = async (name: string, namespace = 'default'): Promise<PodObject> => {
    const { status, body } = await cluster.request('GET', `/api/v1/namespaces/${namespace}/pods/${name}`);
    if (status !== 200) throw new Error(`no pod ${namespace}/${name}: ${JSON.stringify(body)}`);
    return body as PodObject;
  };
  const report = (): Promise<string> => reportOf(cluster);
  return {
    cluster,
    kubectl: (...args) => kubectl(args),
    apply,
    helm,
    async installSignet(values = {}): Promise<void> {
      try {
        await installChart(kubectl, helm, values);
      } catch (error) {
        throw new Error(`Signet could not be installed: ${String(error)}\n${await report()}`, {
          cause: error,
        });
      }
    },
    applyPod: (wanted) => apply(podManifest(wanted)),
    pod,
    async podIs(wanted, name, namespace = 'default'): Promise<PodObject> {
      const is = async (): Promise<PodObject | false> => {
        const found = await pod(name, namespace);
        const has = found.status.conditions?.some((one) => one.type === wanted && one.status === 'True');
        return found.status.phase === wanted || has === true ? found : false;
      };
      try {
        return await until(`pod ${name} that is ${wanted}`, is, POD_LIMIT);
      } catch (error) {
        const own = await cluster.kubectl(['logs', name, `--namespace=${namespace}`, '--all-containers']);
        const said = `its log: ${own.stdout}${own.stderr}`;
        throw new Error(`${String(error)}\n${said}\n${await report()}`, { cause: error });
      }
    },
    async deletePod(name, namespace = 'default'): Promise<void> {
      await kubectl(['delete', 'pod', name, `--namespace=${namespace}`, '--grace-period=1']);
    },
    podLogs: (name, namespace = 'default') => kubectl(['logs', name, `--namespace=${namespace}`]),
    exec: (name, command, namespace = 'default') =>
      cluster.kubectl(['exec', name, `--namespace=${namespace}`, '--', ...command]),
    async eventsOf(name, namespace = 'default'): Promise<readonly string[]> {
      const selector = `fieldSelector=involvedObject.name%3D${name}`;
      const { body } = await cluster.request('GET', `/api/v1/namespaces/${namespace}/events?${selector}`);
      const { items } = body as { readonly items: readonly { reason: string; message: string }[] };
      return items.map(({ reason, message }) => `${reason}: ${message}`);
    },
    report,
    close: () => cluster.close(),
  };
}

/** A pod that may run anywhere: no privilege, not as root. */
function podManifest(wanted: PodWanted): Manifest {
  const { name, namespace = 'default', image = IMAGES.busybox, volume } = wanted;
  const mount = { name: 'spiffe', mountPath: '/run/spiffe', readOnly: true };
  const csi = { driver: 'csi.signet.dev', readOnly: true, volumeAttributes: volume };
  const container = {
    name: 'main',
    image,
    ...(wanted.command === undefined ? {} : { command: wanted.command }),
    ...(wanted.args === undefined ? {} : { args: wanted.args }),
    volumeMounts: volume === undefined ? [] : [mount],
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: wanted.labels ?? {}, annotations: wanted.annotations ?? {} },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      ...(wanted.serviceAccount === undefined ? {} : { serviceAccountName: wanted.serviceAccount }),
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [container],
      volumes: volume === undefined ? [] : [{ name: 'spiffe', csi }],
      ...wanted.spec,
    },
  };
}

type Kubectl = (args: readonly string[], stdin?: string) => Promise<string>;

async function installChart(
  kubectl: Kubectl,
  helm: (...args: string[]) => Promise<string>,
  values: Manifest,
): Promise<void> {
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SERVER_NAMESPACE, labels } };
  await kubectl(['apply', '-f', '-'], JSON.stringify(namespace));
  const [repository, tag] = IMAGES.signet.split(':');
  const own = {
    trustDomain: TRUST_DOMAIN,
    image: { repository, tag },
    server: { replicas: 1 },
  };
  const sets = [...setsOf(own), ...setsOf(values)].flatMap((one) => ['--set-json', one]);
  const chart = join(root, 'charts', 'signet');
  await helm(
    'install',
    'signet',
    chart,
    `--namespace=${SERVER_NAMESPACE}`,
    '--wait',
    '--timeout=120s',
    ...sets,
  );
}

/** `a.b=<JSON>` for each value, so that nested ones are merged with the chart's. */
function setsOf(values: Manifest, path = ''): readonly string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    const key = `${path}${name.replaceAll('.', '\\.')}`;
    const isNested = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isNested ? setsOf(value as Manifest, `${key}.`) : [`${key}=${JSON.stringify(value)}`];
  });
}

async function reportOf(cluster: Cluster): Promise<string> {
  const say = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await cluster.kubectl(args);
    return `$ kubectl ${args.join(' ')}\n${(stdout + stderr).slice(-6000)}`;
  };
  const selector = ['-l', 'app.kubernetes.io/name=signet', '--all-containers', '--tail=15', '--prefix'];
  const said = await Promise.all([
    say('get', 'pods', '-A', '-o', 'wide'),
    say('get', 'events', '-A', '--sort-by=.lastTimestamp'),
    say('logs', `--namespace=${SERVER_NAMESPACE}`, ...selector),
    say('logs', `--namespace=${AGENT_NAMESPACE}`, ...selector),
  ]);
  return said.join('\n');
}
