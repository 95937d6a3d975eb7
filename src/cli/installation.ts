import { ApiError } from '../store/kubernetes/api-error.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import { listAll } from '../store/kubernetes/list.js';
import { collectionPath, objectPath, type ResourceType } from '../store/kubernetes/resource-type.js';
import { POD } from '../store/kubernetes/types.js';
import type { ApiObject } from '../store/kubernetes/watch.js';

/** What Signet's own pods are. */
export type Component = 'server' | 'agent';

/** One of Signet's own pods. */
export interface SignetPod {
  readonly namespace: string;
  readonly name: string;
  readonly component: Component;
  /** Empty until it is bound. */
  readonly node: string;
  readonly ready: boolean;
  /** Why it is not ready, as far as the API server knows. */
  readonly problem?: string;
  readonly restarts: number;
  readonly image: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Where metrics are served in it. */
  readonly httpPort?: number;
}

/** A Deployment or DaemonSet of Signet's. */
export interface SignetWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly component: Component;
  readonly desired: number;
  readonly ready: number;
}

const DEPLOYMENT: ResourceType = {
  ...{ kind: 'Deployment', group: 'apps', version: 'v1', plural: 'deployments', scope: 'Namespaced' },
};
const DAEMON_SET: ResourceType = { ...DEPLOYMENT, kind: 'DaemonSet', plural: 'daemonsets' };

/** The labels that every installation puts on what it is made of. */
function labelsOf(component: Component): string {
  return `app.kubernetes.io/name=signet,app.kubernetes.io/component=${component}`;
}

/**
 * The pods of one component, by node and name.
 *
 * @throws ApiError
 */
export async function signetPods(
  api: KubernetesApi,
  component: Component,
  signal: AbortSignal,
): Promise<readonly SignetPod[]> {
  const objects = await labelled(api, POD, component, signal);
  return objects
    .map((object) => podOf(object as unknown as PodObject, component))
    .sort((a, b) => a.node.localeCompare(b.node) || a.name.localeCompare(b.name));
}

/**
 * How many of each component there should be and are.
 *
 * @throws ApiError
 */
export async function signetWorkloads(
  api: KubernetesApi,
  signal: AbortSignal,
): Promise<readonly SignetWorkload[]> {
  const [servers, agents] = await Promise.all([
    labelled(api, DEPLOYMENT, 'server', signal),
    labelled(api, DAEMON_SET, 'agent', signal),
  ]);
  return [
    ...servers.map((one) => workloadOf(one as unknown as WorkloadObject, 'server')),
    ...agents.map((one) => workloadOf(one as unknown as WorkloadObject, 'agent')),
  ];
}

/**
 * The metrics of a pod, read through the API server: each series by its name and labels, and under the name alone the sum of
 * its series. Undefined where they cannot be had (no right to `pods/proxy`, or the pod does not answer), which is no reason
 * to fail: they are an extra.
 */
export async function podMetrics(
  api: KubernetesApi,
  pod: SignetPod,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number> | undefined> {
  if (pod.httpPort === undefined) return undefined;
  const { namespace, name } = pod;
  const path = `${objectPath(POD, { namespace, name: `${name}:${pod.httpPort}` })}/proxy/metrics`;
  const sums = new Map<string, number>();
  try {
    const lines = await api.stream({ path, accept: 'text/plain', timeoutMs: METRICS_MS, signal });
    for await (const line of lines) {
      const [, name, labels, text] = /^([a-zA-Z_:][\w:]*)(\{.*\})? ([^ ]+)/.exec(line ?? '') ?? [];
      const value = Number(text);
      if (name === undefined || Number.isNaN(value)) continue;
      sums.set(name, (sums.get(name) ?? 0) + value);
      if (labels !== undefined) sums.set(name + labels, value);
    }
    return sums;
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return undefined;
  }
}

/**
 * The lines of a pod's log, the oldest first.
 *
 * @throws ApiError
 */
export async function podLog(
  api: KubernetesApi,
  pod: SignetPod,
  options: { readonly follow: boolean; readonly sinceSeconds?: number; readonly signal: AbortSignal },
): Promise<AsyncIterable<string | undefined>> {
  const { follow, sinceSeconds, signal } = options;
  return api.stream({
    path: objectPath(POD, pod, 'log'),
    accept: '*/*',
    signal,
    query: {
      container: pod.component,
      ...(follow ? { follow: 'true' } : {}),
      ...(sinceSeconds === undefined ? {} : { sinceSeconds: String(sinceSeconds) }),
    },
  });
}

const METRICS_MS = 5_000;

async function labelled(
  api: KubernetesApi,
  type: ResourceType,
  component: Component,
  signal: AbortSignal,
): Promise<readonly ApiObject[]> {
  const selection = { query: { labelSelector: labelsOf(component) } };
  try {
    const { objects } = await listAll(api, collectionPath(type), selection, (object) => object, signal);
    return objects;
  } catch (thrown) {
    const error = ApiError.from(thrown);
    if (error.code !== 'ApiForbidden') throw thrown;
    throw new ApiError(
      'ApiForbidden',
      `you may not list ${type.plural} in all namespaces, so it cannot be seen how Signet runs: ask for a ClusterRole with the verb list on them`,
      { cause: thrown },
    );
  }
}

interface PodObject {
  readonly metadata: {
    readonly namespace?: string;
    readonly name: string;
    readonly creationTimestamp?: string;
  };
  readonly spec?: {
    readonly nodeName?: string;
    readonly containers?: readonly {
      readonly name: string;
      readonly image?: string;
      readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
    }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly message?: string;
    readonly conditions?: readonly { type: string; status: string; reason?: string; message?: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly restartCount: number;
      readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
    }[];
  };
}

function podOf({ metadata, spec, status }: PodObject, component: Component): SignetPod {
  const running = status?.containerStatuses?.find(({ name }) => name === component);
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const isReady = ready?.status === 'True';
  return {
    ...{ namespace: metadata.namespace ?? '', name: metadata.name, component },
    node: spec?.nodeName ?? '',
    ready: isReady,
    ...(isReady ? {} : { problem: problemText([running?.state?.waiting, ready, status], status?.phase) }),
    restarts: running?.restartCount ?? 0,
    createdAt: createdAt(metadata),
    ...programOf(spec, component),
  };
}

function createdAt({ creationTimestamp = '' }: PodObject['metadata']): number {
  return Date.parse(creationTimestamp);
}

function programOf(spec: PodObject['spec'], component: Component): Pick<SignetPod, 'image' | 'httpPort'> {
  const container = spec?.containers?.find(({ name }) => name === component);
  const port = container?.ports?.find(({ name }) => name === 'http')?.containerPort;
  return { image: container?.image ?? '', ...(port === undefined ? {} : { httpPort: port }) };
}

interface Said {
  readonly reason?: string;
  readonly message?: string;
}

/** The first of what is said that says anything; else the phase. */
function problemText(said: readonly (Said | undefined)[], phase = 'Unknown'): string {
  for (const { reason, message } of said.filter((one) => one !== undefined)) {
    const text = [reason ?? '', message ?? ''].filter((one) => one !== '').join(': ');
    if (text !== '') return text;
  }
  return phase;
}

interface WorkloadObject {
  readonly metadata: { readonly namespace?: string; readonly name: string };
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly readyReplicas?: number;
    readonly desiredNumberScheduled?: number;
    readonly numberReady?: number;
  };
}

function workloadOf({ metadata, spec, status }: WorkloadObject, component: Component): SignetWorkload {
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    component,
    desired: component === 'server' ? (spec?.replicas ?? 1) : (status?.desiredNumberScheduled ?? 0),
    ready: (component === 'server' ? status?.readyReplicas : status?.numberReady) ?? 0,
  };
}
