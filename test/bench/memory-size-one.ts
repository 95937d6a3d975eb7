/**
 * The server's parts over an API server in memory, in a process of their own, so that their memory is their own:
 * `node --import ../support/run-typescript.mjs memory-size-one.ts`. Prints one line of JSON.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type * as Authorities from '../../src/identity/ca/certificate-authority.js';
import type * as Journals from '../../src/identity/ca/journal.js';
import type * as KeyStores from '../../src/identity/keys/key-store.js';
import type * as Clocks from '../../src/lib/clock.js';
import type * as Loggers from '../../src/lib/logger.js';
import type * as Randoms from '../../src/lib/random.js';
import type * as Watching from '../../src/lib/watched.js';
import type * as Nodes from '../../src/main/server-node-service.js';
import type { NodeService } from '../../src/main/server-node-service.js';
import type * as Measures from '../../src/operate/metrics/metrics.js';
import type * as Settings from '../../src/cluster/trust-domain.js';
import type * as Kinds from '../../src/resources/kinds.js';
import type { SignetKind } from '../../src/resources/kinds.js';
import type * as Access from '../../src/server/controllers/access/controller.js';
import type * as Meshes from '../../src/server/controllers/access/meshes.js';
import type { ServedTypes } from '../../src/store/kubernetes/discovery.js';
import type * as Stores from '../../src/store/kubernetes/kubernetes-store.js';
import type { KubernetesStore } from '../../src/store/kubernetes/kubernetes-store.js';
import type * as Writers from '../../src/store/kubernetes/object-writer.js';
import type * as Trimming from '../../src/store/kubernetes/trim.js';
import type * as Types from '../../src/store/kubernetes/types.js';
import { memoryApi, type MemoryApi, type MemoryKind } from './memory-api.js';

/** What a change cost. */
export interface ChangeFigures {
  /** Requests that write to the API server. */
  readonly writes: number;
  /** Nodes that were told something, and how many registrations, policies, pods and the like. */
  readonly nodes: number;
  readonly items: number;
  /** Namespaces' objects of the mesh that were handed over to be applied. */
  readonly owners: number;
  /** Of all of it, what is done with no change left out; milliseconds. */
  readonly cpuMs: number;
}

export interface MemoryFigures {
  /** From the first request until all is read, and agents could connect; seconds. */
  readonly readySeconds: number;
  /** Until all policies are rendered and all statuses written, and each node has been given all that is its own. */
  readonly wholeSeconds: number;
  readonly cpuSeconds: number;
  readonly registrations: number;
  /** Megabytes. */
  readonly rss: number;
  readonly heap: number;
  /** API writes in a while in which nothing changed. */
  readonly quietWrites: number;
  readonly pod: ChangeFigures;
  readonly identity: ChangeFigures;
  readonly policy: ChangeFigures;
}

const PODS = 100_000;
const NODES = 5_000;
const NAMESPACES = 100;
const APPS = 10;
/** Longer than a new leader waits before it writes how many SVIDs there are. */
const SETTLED_MS = 24_000;
/** Longer than anything waits that a change has begun. */
const CHANGE_MS = 8_000;

const spaceOf = (index: number): string => `ns-${index % NAMESPACES}`;
const appOf = (index: number): string => `app-${Math.floor(index / NAMESPACES) % APPS}`;

/** Spread, so that the pods of an app are on many nodes. */
const nodeOf = (index: number): number => (Math.imul(index, 2_654_435_761) >>> 0) % NODES;

/** Much as a pod of a Deployment is listed. */
function pod(index: number): Readonly<Record<string, unknown>> {
  const [namespace, app] = [spaceOf(index), appOf(index)];
  const hash = '5f7d8c9b6d';
  const volumeMounts = [
    { name: 'kube-api-access', readOnly: true, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' },
  ];
  const at = '2026-01-01T00:00:00Z';
  return {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: {
      ...{
        name: `${app}-${hash}-${index}`,
        namespace,
        uid: `00000000-0000-4000-8000-${index}`,
        generation: 1,
      },
      labels: { app, 'app.kubernetes.io/name': app, 'pod-template-hash': hash, tier: 'backend' },
      annotations: { 'prometheus.io/scrape': 'true', 'checksum/config': `${namespace}-${app}` },
      ownerReferences: [
        ...[
          {
            apiVersion: 'apps/v1',
            kind: 'ReplicaSet',
            name: `${app}-${hash}`,
            uid: `rs-${namespace}-${app}`,
          },
        ].map((owner) => ({ ...owner, controller: true, blockOwnerDeletion: true })),
      ],
      managedFields: [
        { manager: 'kube-controller-manager', operation: 'Update', apiVersion: 'v1', time: at },
      ],
    },
    spec: {
      ...{ serviceAccountName: 'default', nodeName: `node-${nodeOf(index)}`, restartPolicy: 'Always' },
      containers: [
        {
          ...{ name: 'main', image: 'registry.example.org/shop/app:1.0.0', volumeMounts },
          ports: [{ containerPort: 8080, name: 'http', protocol: 'TCP' }],
          env: Array.from({ length: 8 }, (_, one) => ({ name: `SETTING_${one}`, value: `value ${one}` })),
          resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
          readinessProbe: { httpGet: { path: '/ready', port: 'http', scheme: 'HTTP' }, periodSeconds: 10 },
        },
      ],
      volumes: [{ name: 'kube-api-access', projected: { sources: [] } }],
    },
    status: {
      ...{ phase: 'Running', podIP: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, startTime: at },
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({
        ...{ type, status: 'True', lastProbeTime: null, lastTransitionTime: at },
      })),
    },
  };
}

const ours = (
  kind: string,
  name: string,
  namespace: string,
  spec: object,
): Readonly<Record<string, unknown>> => ({
  ...{ apiVersion: 'signet.dev/v1alpha1', kind },
  metadata: { name, namespace, uid: `${kind}-${namespace}-${name}`, generation: 1 },
  spec,
});

function identity(index: number, hint = ''): Readonly<Record<string, unknown>> {
  const app = appOf(index);
  return ours('WorkloadIdentity', app, spaceOf(index), {
    podSelector: { matchLabels: { app } },
    spiffeIDTemplate: `spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/${app}`,
    ...(hint === '' ? {} : { hint }),
  });
}

function policy(index: number, prefix = '/api'): Readonly<Record<string, unknown>> {
  return ours('AccessPolicy', `policy-${index}`, spaceOf(index), {
    target: { podSelector: { matchLabels: { app: appOf(index) } } },
    rules: [
      {
        ...{ name: 'read', effect: 'Allow' },
        from: [{ spiffeIDs: [`spiffe://bench.test/ns/${spaceOf(index)}/app-0`] }],
        to: [{ http: { methods: ['GET'], paths: [{ prefix }] } }],
      },
    ],
  });
}

const trustDomain = { ...ours('TrustDomain', 'bench', '', { name: 'bench.test' }) };

const KINDS: readonly MemoryKind[] = [
  { plural: 'pods', count: PODS, object: pod },
  {
    ...{ plural: 'namespaces', count: NAMESPACES },
    object: (index) => ({
      ...{ apiVersion: 'meta.k8s.io/v1', kind: 'PartialObjectMetadata' },
      metadata: { name: spaceOf(index), uid: spaceOf(index), generation: 1, labels: { team: 'blue' } },
    }),
  },
  { plural: 'workloadidentities', count: NAMESPACES * APPS, object: (index) => identity(index) },
  { plural: 'accesspolicies', count: NAMESPACES * APPS, object: (index) => policy(index) },
  {
    ...{ plural: 'trustdomains', count: 1 },
    object: () => ({ ...trustDomain, metadata: { name: 'bench', uid: 'bench', generation: 1 } }),
  },
];

async function built<T>(path: string): Promise<T> {
  // What is shipped is measured; the types are those of its source.
  return (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as T;
}

const { systemClock: clock } = await built<typeof Clocks>('lib/clock.js');
const { systemRandom: random } = await built<typeof Randoms>('lib/random.js');
const { silentLogger: logger } = await built<typeof Loggers>('lib/logger.js');
const { WatchedValue } = await built<typeof Watching>('lib/watched.js');
const parts = { clock, random, logger };
const leading = new WatchedValue(true);

async function openStore(api: MemoryApi): Promise<KubernetesStore> {
  const { createKubernetesStore } = await built<typeof Stores>('store/kubernetes/kubernetes-store.js');
  const { createObjectWriter } = await built<typeof Writers>('store/kubernetes/object-writer.js');
  const { podTrimmer } = await built<typeof Trimming>('store/kubernetes/trim.js');
  const { NAMESPACE, POD, SERVICE, signetType } = await built<typeof Types>('store/kubernetes/types.js');
  const { SIGNET_KINDS } = await built<typeof Kinds>('resources/kinds.js');
  return createKubernetesStore({
    ...{ ...parts, api, writer: createObjectWriter({ api, fieldManager: 'signet' }) },
    kinds: [
      { type: NAMESPACE, metadataOnly: true },
      { type: POD, trim: podTrimmer() },
      { type: SERVICE },
      ...(Object.keys(SIGNET_KINDS) as readonly SignetKind[]).map((kind) => ({ type: signetType(kind) })),
    ],
  });
}

async function openNodeService(api: MemoryApi, store: KubernetesStore): Promise<NodeService> {
  const { openCertificateAuthority } = await built<typeof Authorities>(
    'identity/ca/certificate-authority.js',
  );
  const { memoryJournal } = await built<typeof Journals>('identity/ca/journal.js');
  const { memoryKeyStore } = await built<typeof KeyStores>('identity/keys/key-store.js');
  const { createMetrics } = await built<typeof Measures>('operate/metrics/metrics.js');
  const { findTrustDomain, trustDomainSettings } = await built<typeof Settings>('cluster/trust-domain.js');
  const { composeNodeService } = await built<typeof Nodes>('main/server-node-service.js');
  const ca = await openCertificateAuthority({
    ...{ ...parts, trustDomain: 'bench.test', keys: memoryKeyStore(), journal: memoryJournal(), config: {} },
  });
  const resource = findTrustDomain(store);
  return composeNodeService({
    ...{ ...parts, api, store, statuses: store, leading, ca, metrics: createMetrics('server', 'bench') },
    settings: new WatchedValue(trustDomainSettings(resource === undefined ? {} : { resource })),
    ...{
      audience: 'signet-server',
      agentServiceAccount: { namespace: 'signet-system', name: 'signet-agent' },
    },
  });
}

/** What has been done so far. */
interface Done {
  owners: number;
  items: number;
  nodes: Set<string>;
}

async function lead(
  store: KubernetesStore,
  node: NodeService,
  done: Done,
  signal: AbortSignal,
): Promise<void> {
  const { createAccessController } = await built<typeof Access>('server/controllers/access/controller.js');
  const { MESHES } = await built<typeof Meshes>('server/controllers/access/meshes.js');
  const istio = MESHES.filter(({ name }) => name === 'istio').flatMap(({ kinds }) => kinds);
  const all = istio.map(({ group, kind, versions: [version = ''] }) => ({
    ...{ group, kind, version, plural: kind.toLowerCase(), scope: 'Namespaced' as const },
  }));
  const served: ServedTypes = {
    all,
    find: (group, kind) => all.find((type) => type.group === group && type.kind === kind),
  };
  await createAccessController({
    ...{ ...parts, store, registrations: node.registrations, events: { record: () => undefined } },
    served: new WatchedValue<ServedTypes | undefined>(served),
    objects: {
      apply: (_, desired) => {
        done.owners += 1;
        return Promise.resolve({ applied: desired.length, removed: 0, unchanged: 0, failures: [] });
      },
      owners: () => [],
      onDrift: () => () => undefined,
      run: (stop) =>
        new Promise<void>((resolve) => stop.addEventListener('abort', () => resolve(), { once: true })),
    },
  }).run(signal);
}

/** Follows all that the agent of a node follows; it holds an SVID of each registration. */
async function follow(node: NodeService, nodeName: string, done: Done, signal: AbortSignal): Promise<void> {
  const api = node.nodeApi(nodeName);
  const took = (items: number): void => {
    done.items += items;
    done.nodes.add(nodeName);
  };
  await Promise.all([
    (async () => {
      for await (const { upserts, removed } of api.sync(signal)) {
        took(upserts.length + removed.length);
        const now = clock.now();
        for (const { id, x509TtlSeconds } of upserts)
          node.svids.note({ registrationId: id, notBefore: now, notAfter: now + x509TtlSeconds * 1000 });
      }
    })(),
    (async () => {
      for await (const { own } of api.bundles(signal)) took(own === undefined ? 0 : 1);
    })(),
    (async () => {
      for await (const { upserts, removed } of api.policies?.([], signal) ?? [])
        took(upserts.length + removed.length);
    })(),
  ]);
}

async function until(is: () => boolean, what: string): Promise<void> {
  const began = performance.now();
  while (!is()) {
    if (performance.now() - began > 600_000) throw new Error(`not after ten minutes: ${what}`);
    await pause(2);
  }
}

async function measure(): Promise<MemoryFigures> {
  const api = memoryApi(KINDS);
  const done: Done = { owners: 0, items: 0, nodes: new Set() };
  const stop = new AbortController();
  const { signal } = stop;
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  const store = await openStore(api);
  const running: Promise<unknown>[] = [store.run(signal)];
  await until(() => store.synced.value, 'the store is read');
  const node = await openNodeService(api, store);
  const readySeconds = seconds();
  running.push(lead(store, node, done, signal));
  for (let index = 0; index < NODES; index++) running.push(follow(node, `node-${index}`, done, signal));
  const statuses = (kind: string): number =>
    store
      .list(kind)
      .filter(({ metadata }) => store.status(kind, `${metadata.namespace ?? ''}/${metadata.name}`)).length;
  await until(
    () =>
      done.nodes.size === NODES &&
      statuses('AccessPolicy') === NAMESPACES * APPS &&
      statuses('WorkloadIdentity') === NAMESPACES * APPS,
    'all nodes are served, and all statuses written',
  );
  const wholeSeconds = seconds();
  const { user, system } = process.cpuUsage();
  await pause(SETTLED_MS);
  const rss = rssBytes() / 1e6;
  const heap = process.memoryUsage().heapUsed / 1e6;
  const registrations = [...node.registrations.all()].length;

  const quiet = await during(api, done, () => undefined);
  /** The one of three whose CPU is in the middle: a collection of garbage may fall into any. */
  const after = async (change: (time: number) => void): Promise<ChangeFigures> => {
    const times: ChangeFigures[] = [];
    for (let time = 1; time <= 3; time++) times.push(await during(api, done, () => change(time)));
    const figures = times.sort((one, other) => one.cpuMs - other.cpuMs)[1] ?? quiet;
    return { ...figures, cpuMs: figures.cpuMs - quiet.cpuMs };
  };
  const figures = {
    pod: await after((time) => api.put('pods', { ...pod(PODS + time), spec: pod(time)['spec'] })),
    identity: await after((time) => api.put('workloadidentities', edited(identity(7, `edit-${time}`), time))),
    policy: await after((time) => api.put('accesspolicies', edited(policy(7, `/edit-${time}`), time))),
  };
  stop.abort();
  await Promise.all(running);
  await node.close();
  return {
    ...{ readySeconds, wholeSeconds, cpuSeconds: (user + system) / 1e6, registrations, rss, heap },
    ...{ quietWrites: quiet.writes, ...figures },
  };
}

function edited(object: Readonly<Record<string, unknown>>, time: number): Readonly<Record<string, unknown>> {
  return { ...object, metadata: { ...(object['metadata'] as object), generation: 1 + time } };
}

/** What is done in a while that begins with this. */
async function during(api: MemoryApi, done: Done, act: () => void): Promise<ChangeFigures> {
  const before = { writes: api.writes, owners: done.owners, items: done.items };
  done.nodes.clear();
  const cpu = process.cpuUsage();
  act();
  await pause(CHANGE_MS);
  const { user, system } = process.cpuUsage(cpu);
  return {
    ...{ writes: api.writes - before.writes, owners: done.owners - before.owners },
    ...{ nodes: done.nodes.size, items: done.items - before.items, cpuMs: (user + system) / 1000 },
  };
}

function rssBytes(): number {
  const [, kilobytes] = /VmRSS:\s+([0-9]+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

console.log(JSON.stringify(await measure()));
