import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { systemRandom } from '../../src/lib/random.js';
import { createKubernetesStore } from '../../src/store/kubernetes/kubernetes-store.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import { podTrimmer } from '../../src/store/kubernetes/trim.js';
import { CONFIG_MAP, POD } from '../../src/store/kubernetes/types.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { newKubeClient } from '../rig/kube-client.js';
import { apiClient } from '../support/api-client.js';
import { until } from '../support/until.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';

const PODS = 10_000;
const CHANGES = 500;
const SHOP = '/api/v1/namespaces/shop';

/**
 * The store on a real API server: how long it takes to read all pods, and how soon after a write's answer the subscribers
 * know of it (negative: before it).
 */
export async function run(): Promise<readonly BenchRow[]> {
  const plane = await startControlPlane();
  try {
    await fill(plane);
    const api = apiClient(plane.server, plane.admin);
    const store = createKubernetesStore({
      ...{ api, clock: systemClock, random: systemRandom, logger: silentLogger },
      kinds: [{ type: POD, trim: podTrimmer() }, { type: CONFIG_MAP }],
      writer: createObjectWriter({ api, fieldManager: 'signet' }),
    });
    const stop = new AbortController();
    const began = performance.now();
    const running = store.run(stop.signal);
    await until('all pods are read', () => store.synced.value && store.list('Pod').length === PODS);
    const listed = performance.now() - began;

    const knownAt = new Map<string, number>();
    store.subscribe((changes) => {
      for (const { after } of changes)
        if (after !== undefined) knownAt.set(after.metadata.name, performance.now());
    });
    const lags = await change(plane, knownAt);
    stop.abort();
    await running;
    api.close();
    return [
      bounded(`${PODS} pods read by a store that starts`, listed, 'ms', 1500),
      bounded('a write is answered → subscribers know it, p50', quantile(lags, 0.5), 'ms', 2),
      bounded('the same, p99', quantile(lags, 0.99), 'ms', 10),
    ];
  } finally {
    await plane.close();
  }
}

async function fill(plane: ControlPlane): Promise<void> {
  const client = newKubeClient(plane.server, plane.admin);
  const make = async (path: string, kind: string, metadata: object, rest: object = {}): Promise<void> => {
    const { status } = await client.request('POST', path, { apiVersion: 'v1', kind, metadata, ...rest });
    if (status !== 201) throw new Error(`POST ${path}: ${status}`);
  };
  await make('/api/v1/namespaces', 'Namespace', { name: 'shop' });
  await make(`${SHOP}/serviceaccounts`, 'ServiceAccount', { name: 'default' });
  const spec = {
    ...{ serviceAccountName: 'default', automountServiceAccountToken: false },
    containers: [{ name: 'app', image: 'registry.example/app:1', ports: [{ containerPort: 8080 }] }],
  };
  for (let from = 0; from < PODS; from += 50)
    await Promise.all(
      Array.from({ length: 50 }, (_, at) =>
        make(`${SHOP}/pods`, 'Pod', { name: `pod-${from + at}`, labels: { app: 'web' } }, { spec }),
      ),
    );
  client.close();
}

/** Makes objects one after another. Milliseconds from each answer until it is known. */
async function change(plane: ControlPlane, knownAt: ReadonlyMap<string, number>): Promise<number[]> {
  const client = newKubeClient(plane.server, plane.admin);
  const lags: number[] = [];
  for (let one = 0; one < CHANGES; one++) {
    const name = `map-${one}`;
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { n: String(one) } };
    await client.request('POST', `${SHOP}/configmaps`, body);
    const answeredAt = performance.now();
    lags.push((await until('it is known', () => knownAt.get(name))) - answeredAt);
  }
  client.close();
  return lags;
}
