/**
 * A real control plane: etcd, kube-apiserver and, if asked for, kube-controller-manager, on 127.0.0.1 and without a node.
 * node.ts adds one.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../support/until.js';
import {
  ALONE,
  apiServerArgs,
  auditArgs,
  controllerManagerArgs,
  etcdArgs,
  kubeconfigText,
  schedulerArgs,
  writePki,
  type ControlPlaneNetwork,
  type ControlPlanePki,
} from './control-plane-files.js';
import type { Subject } from './cluster-certificates.js';
import { startDaemon, type Daemon } from './daemon.js';
import { freePorts } from './free-ports.js';
import { newKubeClient, type KubeAnswer, type KubeCredentials } from './kube-client.js';
import * as rig from './rig.js';

/** The longest that a program may take to be ready, in ms. It takes 3 s when nothing else runs. */
const READY_LIMIT = 90_000;

export interface ControlPlaneOptions {
  /** Also runs kube-controller-manager: service accounts, garbage collection, namespace deletion, deployments … */
  readonly controllerManager?: boolean;
  /** Writes the log that `auditLog` reads. */
  readonly audit?: boolean;
  /** Further arguments, which win over the rig's own. */
  readonly apiServerArgs?: readonly string[];
  /** For a cluster with a node, which runs all controllers and the scheduler: where it is. */
  readonly network?: ControlPlaneNetwork;
  /** Where its folder is made; among the temporary files unless said. */
  readonly parentFolder?: string;
}

export type ControlPlaneProgram = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler';

/** A namespaced service account. */
export interface ServiceAccountName {
  readonly namespace: string;
  readonly name: string;
}

export interface TokenRequest extends ServiceAccountName {
  /** The API server's own unless said. */
  readonly audience?: string;
  /** Binds the token to this pod, which must exist and run as the service account; then it also says the pod's node. */
  readonly boundPod?: { readonly name: string; readonly uid?: string };
  /** How long it is good for; an hour unless said, 600 at least. */
  readonly seconds?: number;
}

/** What the audit log says of a request (audit.k8s.io/v1 Event, level Metadata). */
export interface AuditEntry {
  readonly auditID: string;
  /** `ResponseComplete`, or `ResponseStarted` for a watch that has begun. */
  readonly stage: string;
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username?: string };
  readonly userAgent?: string;
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly apiVersion?: string;
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code?: number };
  readonly annotations?: Readonly<Record<string, string>>;
  /** RFC 3339, microseconds. */
  readonly requestReceivedTimestamp: string;
  readonly stageTimestamp: string;
}

/** How a run of `kubectl` ended. */
export interface KubectlRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface KubectlOptions {
  readonly stdin?: string;
  /** Path of another kubeconfig than the admin's. */
  readonly kubeconfig?: string;
}

export interface ControlPlane {
  /** Where everything of it lies; removed by `close`. */
  readonly folder: string;
  /** `https://127.0.0.1:<port>`, or at the address that was asked for; stays the same when the API server is started again. */
  readonly server: string;
  /** The admin's, of group `system:masters`: PEM. */
  readonly admin: Required<Omit<KubeCredentials, 'token'>>;
  /** Path of the admin's kubeconfig. */
  readonly kubeconfig: string;
  /** What a proxy in front of the API server needs to be taken for it, and to speak for its clients. */
  readonly pki: ControlPlanePki;
  /** Runs kubectl to its end. */
  kubectl(args: readonly string[], options?: KubectlOptions): Promise<KubectlRun>;
  /** Asks the API server as the admin, or as someone else: 2 ms instead of kubectl's 100. */
  request(method: string, path: string, body?: unknown, as?: KubeCredentials): Promise<KubeAnswer>;
  /** Ends the API server: at once, or in order (`SIGTERM`: a second; it ends watches itself). */
  stopApiServer(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** Starts it again with the same data, port and certificates; back when it is ready. */
  startApiServer(): Promise<void>;
  killEtcd(): Promise<void>;
  /** Starts etcd again with its data; back when the API server can write. */
  startEtcd(): Promise<void>;
  /** Stops a program in its tracks (SIGSTOP): its connections stay open and nothing answers. */
  pause(program: ControlPlaneProgram): void;
  resume(program: ControlPlaneProgram): void;
  /** What was asked of the API server until now. A request's entry may come a moment after its answer: wait for it with `until`. */
  auditLog(): Promise<readonly AuditEntry[]>;
  /** A token of a service account, which must exist. */
  serviceAccountToken(request: TokenRequest): Promise<string>;
  /** A client certificate for a user of these groups, e.g. `system:node:n1` of `system:nodes`. */
  credentialsOf(subject: Subject): Promise<KubeCredentials>;
  /** Path of a kubeconfig for a service account (by a token of a day), or for other credentials; for another server if said, e.g. a proxy. */
  kubeconfigFor(who: ServiceAccountName | KubeCredentials, server?: string): Promise<string>;
  /** What a program has said last. */
  log(program: ControlPlaneProgram): Promise<string>;
  /** Kills everything and removes the folder. */
  close(): Promise<void>;
}

/**
 * Starts one: about 3 s. Any number runs side by side; whatever happens to this process, they end with it. Throws with what
 * was said when a program ends instead of becoming ready.
 */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  for (let attempt = 1; ; attempt++) {
    const programs = await newPrograms(await mkdtemp(join(options.parentFolder ?? tmpdir(), 'cp-')));
    try {
      return await startWith(programs, options);
    } catch (error) {
      await programs.close();
      // Somebody took a port between our look and the program's.
      if (attempt === 3 || !String(error).includes('address already in use')) throw error;
    }
  }
}

async function startWith(programs: Programs, options: ControlPlaneOptions): Promise<ControlPlane> {
  const { folder } = programs;
  const [etcd = 0, etcdPeer = 0, api = 0] = await freePorts(3);
  const ports = { etcd, etcdPeer, api };
  const { network = ALONE } = options;
  const server = `https://${network.address}:${api}`;
  programs.start('etcd', etcdArgs(folder, ports));
  const pki = await writePki(folder, network);
  const ca = pki.authority.cert;
  const admin = { ca, cert: pki.admin.cert, key: pki.admin.key };
  let kubeconfigs = 0;
  const writeKubeconfig = async (who: KubeCredentials, at = server): Promise<string> => {
    const path = join(folder, `kubeconfig-${++kubeconfigs}`);
    await writeFile(path, kubeconfigText(at, who), { mode: 0o600 });
    return path;
  };
  const kubeconfig = await writeKubeconfig(admin);
  const auditLogFile = join(folder, 'audit.log');
  const serverArgs = [
    ...apiServerArgs(folder, ports, network),
    ...(options.audit === true ? await auditArgs(folder, auditLogFile) : []),
    ...(options.apiServerArgs ?? []),
  ];
  const client = newKubeClient(server, admin);
  programs.onClose(() => client.close());
  const answers = async (path: string): Promise<boolean> =>
    (await client.request('GET', path)).status === 200;
  const apiReady = async (): Promise<void> => {
    await programs.ready('an API server that is ready', () => answers('/readyz'));
    await programs.ready('the namespace default', () => answers('/api/v1/namespaces/default'));
  };
  const startApiServer = (): Promise<void> => {
    programs.start('kube-apiserver', serverArgs);
    return apiReady();
  };
  await startApiServer();
  if (network !== ALONE) {
    const credentials = await pki.authority.issue({ name: 'system:kube-scheduler' });
    programs.start('kube-scheduler', schedulerArgs(await writeKubeconfig({ ca, ...credentials })));
  }
  if (options.controllerManager === true || network !== ALONE) {
    const manager = await writeKubeconfig({ ca, ...pki.manager });
    programs.start('kube-controller-manager', controllerManagerArgs(folder, manager, network));
    const account = '/api/v1/namespaces/default/serviceaccounts/default';
    await programs.ready('the default service account', () => answers(account));
  }

  const serviceAccountToken = async (wanted: TokenRequest): Promise<string> => {
    const { status, body } = await client.request('POST', tokenPath(wanted), tokenRequest(wanted));
    if (status !== 201)
      throw new Error(`no token for ${wanted.namespace}/${wanted.name}: ${messageOf(body)}`);
    return (body as { readonly status: { readonly token: string } }).status.token;
  };
  return {
    folder,
    server,
    admin,
    kubeconfig,
    pki,
    kubectl: (args, { stdin = '', kubeconfig: other = kubeconfig } = {}) =>
      runKubectl(
        withOptions(args, [`--kubeconfig=${other}`, `--cache-dir=${join(folder, 'kubectl')}`]),
        stdin,
      ),
    async request(method, path, body, as): Promise<KubeAnswer> {
      if (as === undefined) return client.request(method, path, body);
      const another = newKubeClient(server, as);
      try {
        return await another.request(method, path, body);
      } finally {
        another.close();
      }
    },
    stopApiServer: (signal) => programs.stop('kube-apiserver', signal),
    startApiServer,
    killEtcd: () => programs.stop('etcd'),
    startEtcd(): Promise<void> {
      programs.start('etcd', etcdArgs(folder, ports));
      return apiReady();
    },
    pause: (program) => programs.get(program).signal('SIGSTOP'),
    resume: (program) => programs.get(program).signal('SIGCONT'),
    auditLog: () => readAuditLog(auditLogFile),
    serviceAccountToken,
    credentialsOf: async (subject) => ({ ca, ...(await pki.authority.issue(subject)) }),
    async kubeconfigFor(who, at): Promise<string> {
      if ('ca' in who) return writeKubeconfig(who, at);
      const token = await serviceAccountToken({ ...who, seconds: 86_400 });
      return writeKubeconfig({ ca, token }, at);
    },
    log: (program) => programs.get(program).log(),
    close: () => programs.close(),
  };
}

function tokenPath({ namespace, name }: ServiceAccountName): string {
  return `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
}

function tokenRequest({ audience, boundPod, seconds = 3600 }: TokenRequest): unknown {
  return {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: {
      audiences: audience === undefined ? [] : [audience],
      expirationSeconds: seconds,
      ...(boundPod === undefined ? {} : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...boundPod } }),
    },
  };
}

function messageOf(body: unknown): string {
  return (body as { readonly message?: string } | undefined)?.message ?? JSON.stringify(body);
}

/** What stands behind `--` belongs to another program. */
function withOptions(args: readonly string[], options: readonly string[]): readonly string[] {
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  return [...args.slice(0, end), ...options, ...args.slice(end)];
}

async function runKubectl(args: readonly string[], stdin: string): Promise<KubectlRun> {
  const child = spawn(await rig.kubernetes('kubectl'), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const out = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (out.stderr += text));
  child.stdin.on('error', () => undefined); // it may end before it has read all
  child.stdin.end(stdin);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...out }));
  });
}

/** The complete lines: the last may be half written. */
async function readAuditLog(file: string): Promise<readonly AuditEntry[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as AuditEntry);
}

interface Programs {
  readonly folder: string;
  start(name: ControlPlaneProgram, args: readonly string[]): void;
  get(name: ControlPlaneProgram): Daemon;
  stop(name: ControlPlaneProgram, signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** Waits for the fact; throws as soon as a program has ended that should run. */
  ready(what: string, fact: () => Promise<boolean>): Promise<void>;
  onClose(end: () => void): void;
  close(): Promise<void>;
}

async function newPrograms(folder: string): Promise<Programs> {
  const files: Record<ControlPlaneProgram, string> = {
    etcd: await rig.etcd(),
    'kube-apiserver': await rig.kubernetes('kube-apiserver'),
    'kube-controller-manager': await rig.kubernetes('kube-controller-manager'),
    'kube-scheduler': await rig.kubernetes('kube-scheduler'),
  };
  /** Those that should run. */
  const running = new Map<ControlPlaneProgram, Daemon>();
  const ends: (() => void)[] = [];
  const get = (name: ControlPlaneProgram): Daemon => {
    const daemon = running.get(name);
    if (daemon === undefined) throw new Error(`${name} does not run`);
    return daemon;
  };
  return {
    folder,
    start(name, args): void {
      if (running.has(name)) throw new Error(`${name} runs already`);
      running.set(name, startDaemon(files[name], args, join(folder, `${name}.log`)));
    },
    get,
    async stop(name, signal): Promise<void> {
      const daemon = get(name);
      running.delete(name);
      await daemon.stop(signal);
    },
    async ready(what, fact): Promise<void> {
      let failed = '';
      await until(
        what,
        async () => {
          for (const [name, daemon] of running) {
            const how = daemon.ended();
            if (how !== undefined) failed = `${name} ended (${how}): ${await daemon.log()}`;
          }
          return failed !== '' || (await fact());
        },
        READY_LIMIT,
      );
      if (failed !== '') throw new Error(failed);
    },
    onClose: (end) => ends.push(end),
    async close(): Promise<void> {
      for (const end of ends.splice(0)) end();
      await Promise.all([...running.values()].map((daemon) => daemon.stop()));
      running.clear();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
