import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { systemRandom } from '../../src/lib/random.js';
import { WatchedValue } from '../../src/lib/watched.js';
import { createAccessController } from '../../src/server/controllers/access/controller.js';
import { MESH_KINDS, MESHES } from '../../src/server/controllers/access/meshes.js';
import { createAppliedSet, type AppliedSet } from '../../src/store/kubernetes/applied-set.js';
import { createDiscovery, type ServedTypes } from '../../src/store/kubernetes/discovery.js';
import { createKubernetesStore } from '../../src/store/kubernetes/kubernetes-store.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import { runReflector } from '../../src/store/kubernetes/reflector.js';
import { podTrimmer } from '../../src/store/kubernetes/trim.js';
import { NAMESPACE, POD, signetType } from '../../src/store/kubernetes/types.js';
import type { Store, StoredObject } from '../../src/store/store.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { apiClient } from '../support/api-client.js';
import { MemoryStore } from '../support/memory-store.js';
import { until } from '../support/until.js';
import { create, each } from './cluster-world.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';

/*
 * Policies kept in step with Istio: a leader's own work with 1,000 policies and 10,000 pods, and the way of an edit to the
 * object that Istio reads, on a real API server.
 */

const POLICIES = 1_000;
const PODS = 10_000;
const PODS_PER_WORKLOAD = 10;
const NAMESPACES = 100;
const EDITS = 100;
const BURST = 50;

export async function run(): Promise<readonly BenchRow[]> {
  return [...(await inMemory()), ...(await onServer())];
}

const spaceOf = (index: number): string => `ns-${index % NAMESPACES}`;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function object(kind: string, name: string, namespace: string | undefined, more: object): StoredObject {
  const where = namespace === undefined ? {} : { namespace };
  return {
    ...{ apiVersion: 'signet.dev/v1alpha1', kind },
    metadata: { name, ...where, uid: `${kind}/${namespace ?? ''}/${name}`, generation: 1 },
    ...more,
  };
}

function policy(index: number, path = '/'): StoredObject {
  return object('AccessPolicy', `policy-${index}`, spaceOf(index), {
    spec: {
      target: { podSelector: { matchLabels: { app: `app-${index}` } } },
      rules: [
        {
          name: 'callers',
          from: [{ serviceAccounts: [{ name: 'web' }, { namespace: spaceOf(index + 1), name: 'default' }] }],
          to: [{ http: { methods: ['GET', 'POST'], paths: [{ prefix: path }] } }],
        },
      ],
    },
  });
}

function pod(index: number): StoredObject {
  const workload = Math.floor(index / PODS_PER_WORKLOAD);
  const one = object('Pod', `pod-${index}`, spaceOf(workload), {
    spec: { serviceAccountName: 'default', containers: [{ name: 'c', ports: [{ containerPort: 8080 }] }] },
  });
  return { ...one, metadata: { ...one.metadata, labels: { app: `app-${workload}` } } };
}

const trustDomain = object('TrustDomain', 'bench', undefined, { spec: { name: 'bench.test' } });

/** What the controller itself needs: applying costs nothing here. */
async function inMemory(): Promise<readonly BenchRow[]> {
  const store = new MemoryStore();
  store.put(trustDomain);
  store.put(...range(NAMESPACES).map((index) => object('Namespace', spaceOf(index), undefined, {})));
  store.put(...range(PODS).map(pod), ...range(POLICIES).map((index) => policy(index)));
  let applied = 0;
  let owners = 0;
  let lastAt = 0;
  const objects = {
    apply: (_: string, desired: readonly unknown[]) => {
      owners++;
      applied += desired.length;
      lastAt = performance.now();
      return Promise.resolve({ applied: desired.length, removed: 0, unchanged: 0, failures: [] });
    },
    owners: () => [],
    onDrift: () => () => undefined,
    run: (signal: AbortSignal) =>
      new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true })),
  };
  const controller = createAccessController({
    ...{ store, objects, clock: systemClock, random: systemRandom, logger: silentLogger },
    served: new WatchedValue<ServedTypes | undefined>(served()),
    registrations: { all: () => [] },
    events: { record: () => undefined },
  });
  const stop = new AbortController();
  const began = performance.now();
  const running = controller.run(stop.signal);
  await until('all is applied', () => applied >= POLICIES);
  const firstMs = performance.now() - began;
  await until('all statuses are written', () => store.written.length === POLICIES);
  const wholeMs = performance.now() - began;

  const edits: number[] = [];
  for (let edit = 0; edit < EDITS; edit++) {
    owners = 0;
    const editedAt = performance.now();
    store.put(policy((edit * 37) % POLICIES, `/edit-${edit}`));
    await until('the edit is applied', () => owners > 0);
    edits.push(lastAt - editedAt);
  }
  owners = 0;
  const written = store.written.length;
  const cpu = process.cpuUsage();
  for (let index = 0; index < BURST; index++) {
    const one = pod(index * PODS_PER_WORKLOAD);
    store.put({ ...one, metadata: { ...one.metadata, name: `more-${index}`, uid: `more-${index}` } });
  }
  await pause(4_000);
  const { user, system } = process.cpuUsage(cpu);
  const rows = [
    bounded(`${POLICIES} policies, ${PODS} pods: compiled and rendered, first time`, firstMs, 'ms', 10_000),
    bounded('the same, with all statuses', wholeMs, 'ms', 10_000),
    bounded('an edit of one policy, until its objects are handed over: p50', quantile(edits, 0.5), 'ms', 50),
    bounded('the same: p99', quantile(edits, 0.99), 'ms', 50),
    {
      name: `${BURST} pods of as many workloads come at once: CPU of it all`,
      value: (user + system) / 1000,
      unit: 'ms',
    },
    { name: 'the same: owners whose objects are looked at', value: owners, unit: '' },
    { name: 'the same: statuses written', value: store.written.length - written, unit: '' },
  ];
  stop.abort();
  await running;
  return rows;
}

function served(): ServedTypes {
  const istio = MESHES.filter(({ name }) => name === 'istio').flatMap(({ kinds }) => kinds);
  const all = istio.map(({ group, kind, versions: [version = ''] }) => ({
    ...{ group, kind, version, plural: kind.toLowerCase() },
    scope: 'Namespaced' as const,
  }));
  return { all, find: (group, kind) => all.find((type) => type.group === group && type.kind === kind) };
}

/** The way of an edit through the API server, and what a restart writes. */
async function onServer(): Promise<readonly BenchRow[]> {
  if (rig.isSkipped('kubernetes') || rig.isSkipped('istio')) return [];
  const plane = await startControlPlane({ audit: true });
  try {
    const crds = ['-f', new URL('../../crds', import.meta.url).pathname, '-f', await rig.crds('istio')];
    await plane.kubectl(['apply', '--server-side', ...crds]);
    await plane.kubectl(['wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all']);
    for (const name of ['istio-system', ...range(NAMESPACES).map(spaceOf)])
      await create(plane, '/api/v1/namespaces', { metadata: { name } });
    await create(plane, '/apis/signet.dev/v1alpha1/trustdomains', trustDomain);
    await each(range(POLICIES), 16, (index) => create(plane, policiesPath(index), policy(index)));
    return await measured(plane);
  } finally {
    await plane.close();
  }
}

const policiesPath = (index: number): string =>
  `/apis/signet.dev/v1alpha1/namespaces/${spaceOf(index)}/accesspolicies`;

async function measured(plane: ControlPlane): Promise<readonly BenchRow[]> {
  const first = await lead(plane);
  const began = performance.now();
  await until('all are applied', () => first.applied.size >= POLICIES, 120_000);
  const firstMs = performance.now() - began;
  await until('all statuses are written', () => first.ready() === POLICIES, 120_000);
  const edits: number[] = [];
  for (let edit = 0; edit < EDITS; edit++) {
    const index = (edit * 37) % POLICIES;
    const key = `${spaceOf(index)}/access.policy-${index}.0.0.allow`;
    const before = first.applied.get(key);
    const { spec } = policy(index, `/edit-${edit}`) as StoredObject & { readonly spec: unknown };
    const editedAt = performance.now();
    await plane.request('PATCH', `${policiesPath(index)}/policy-${index}`, { spec });
    const seen = await until('the object is other than before', () => {
      const at = first.applied.get(key);
      return at !== before && at;
    });
    edits.push(seen - editedAt);
  }
  await pause(1_000);
  await first.end();
  const restarted = Date.now();
  const second = await lead(plane);
  await until('all is read again', () => second.applied.size >= POLICIES);
  await pause(5_000);
  const writes = (await plane.auditLog()).filter(
    ({ userAgent, verb, requestReceivedTimestamp }) =>
      userAgent === 'signet' &&
      ['create', 'patch', 'update', 'delete'].includes(verb) &&
      Date.parse(requestReceivedTimestamp) >= restarted,
  );
  await second.end();
  return [
    { name: `${POLICIES} policies on a real API server: all objects there`, value: firstMs, unit: 'ms' },
    bounded(
      'an edit of one policy, from the PATCH to the watch of its object: p50',
      quantile(edits, 0.5),
      'ms',
      50,
    ),
    { name: 'the same: p99', value: quantile(edits, 0.99), unit: 'ms' },
    bounded('writes to the API server after a restart', writes.length, '', 1),
  ];
}

interface Lead {
  /** When each AuthorizationPolicy was last seen to change. */
  readonly applied: ReadonlyMap<string, number>;
  /** How many policies are ready by their status. */
  ready(): number;
  end(): Promise<void>;
}

async function lead(plane: ControlPlane): Promise<Lead> {
  const api = apiClient(plane.server, plane.admin);
  const watching = apiClient(plane.server, plane.admin);
  const parts = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const fieldManager = 'signet';
  const writer = createObjectWriter({ api, fieldManager });
  const kinds = [
    { type: NAMESPACE, metadataOnly: true },
    { type: POD, trim: podTrimmer() },
    ...(['TrustDomain', 'AccessPolicy', 'ClusterAccessPolicy', 'AccessRole'] as const).map((kind) => ({
      type: signetType(kind),
    })),
  ];
  const store: Store & { run(signal: AbortSignal): Promise<void> } = createKubernetesStore({
    ...{ ...parts, api, writer, kinds },
  });
  const stop = new AbortController();
  const running: Promise<void>[] = [store.run(stop.signal)];
  await until('the store is read', () => store.synced.value);
  const discovery = createDiscovery({ ...parts, api });
  const objects: AppliedSet = createAppliedSet({
    ...{ ...parts, api, writer, fieldManager, discovery, set: 'mesh', kinds: MESH_KINDS },
  });
  const controller = createAccessController({
    ...{ ...parts, store, objects, served: discovery.types, registrations: { all: () => [] } },
    events: { record: () => undefined },
  });
  const applied = new Map<string, number>();
  const see = ({ metadata }: { metadata: { namespace?: string; name: string } }): void =>
    void applied.set(`${metadata.namespace ?? ''}/${metadata.name}`, performance.now());
  const type = {
    ...{ group: 'security.istio.io', version: 'v1', kind: 'AuthorizationPolicy' },
    ...{ plural: 'authorizationpolicies', scope: 'Namespaced' as const },
  };
  const sink = {
    replace: (all: readonly Parameters<typeof see>[0][]) => all.forEach(see),
    put: see,
    remove: () => undefined,
  };
  running.push(
    discovery.run(stop.signal),
    controller.run(stop.signal),
    runReflector({ ...parts, api: watching, type, trim: (one) => one, sink }, stop.signal),
  );
  return {
    applied,
    ready: () =>
      store.list('AccessPolicy').filter(({ metadata }) => {
        const status = store.status('AccessPolicy', `${metadata.namespace ?? ''}/${metadata.name}`);
        const { conditions } = (status ?? {}) as { conditions?: readonly { reason: string }[] };
        return conditions?.[0]?.reason === 'Compiled';
      }).length,
    async end() {
      stop.abort();
      await Promise.all(running);
      api.close();
      watching.close();
    },
  };
}

function range(length: number): readonly number[] {
  return Array.from({ length }, (_, index) => index);
}
