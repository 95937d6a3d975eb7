import { describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { podFacts } from '../../cluster/pod-facts.js';
import { containerIdOf } from '../../identity/registration/containers.js';
import { Interner } from './interner.js';
import { podTrimmer, trimObject } from './trim.js';
import type { ApiObject } from './watch.js';

/** A pod as the API server gives it: number so many of its Deployment. */
function pod(number: number, extra: object = {}): ApiObject {
  const container = {
    name: 'app',
    image: 'registry.example/shop/web:v1',
    env: [{ name: 'PASSWORD', value: 'hunter2' }],
    ports: [{ containerPort: 8080, name: 'http' }],
    readinessProbe: { httpGet: { path: '/ready', port: 8080 }, periodSeconds: 10 },
    securityContext: { privileged: true, runAsUser: 0 },
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...{ name: `web-${number}`, namespace: 'shop', uid: `uid-${number}`, resourceVersion: `${number}` },
      generation: 1,
      labels: { app: 'web' },
      annotations: { note: 'short', 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'o', blockOwnerDeletion: true },
      ],
      managedFields: [{ manager: 'kubectl' }],
      ...extra,
    },
    spec: {
      ...{ nodeName: 'node-1', serviceAccountName: 'web', tolerations: [{ key: 'x' }] },
      ...{ containers: [container], initContainers: [{ name: 'init', image: 'busybox:1' }] },
    },
    status: {
      ...{ phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'True' }] },
      containerStatuses: [
        { name: 'app', containerID: `containerd://${'a'.repeat(32)}${'b'.repeat(32)}`, imageID: 'sha256:1' },
        { name: 'waits', containerID: '', imageID: '', state: { waiting: { reason: 'PodInitializing' } } },
      ],
    },
  } as unknown as ApiObject;
}

describe('what is kept of a pod', () => {
  it('is what identities and policies are decided by, and nothing else', () => {
    const kept = podTrimmer()(pod(1));
    expect(kept).toEqual({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...{ name: 'web-1', namespace: 'shop', uid: 'uid-1', resourceVersion: '1', generation: 1 },
        labels: { app: 'web' },
        annotations: { note: 'short' },
        ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'o' }],
      },
      spec: {
        ...{ nodeName: 'node-1', serviceAccountName: 'web' },
        containers: [
          {
            ...{ name: 'app', image: 'registry.example/shop/web:v1' },
            ports: [{ containerPort: 8080, name: 'http' }],
            readinessProbe: { httpGet: { path: '/ready', port: 8080 } },
            securityContext: { privileged: true },
          },
        ],
        initContainers: [{ name: 'init', image: 'busybox:1' }],
      },
      status: {
        ...{ phase: 'Running', podIP: '10.0.0.1' },
        containerStatuses: [{ name: 'app', containerID: 'a'.repeat(32), imageID: 'sha256:1' }],
      },
    });
    const { containers, ...whole } = podFacts(pod(1)) ?? {};
    expect(podFacts(kept)).toMatchObject({ ...whole, annotations: { note: 'short' } });
    expect(podFacts(kept)?.containers?.map(containerIdOf)).toEqual(containers?.map(containerIdOf));
    expect(JSON.stringify(kept)).not.toContain('hunter2');
  });

  it('is shared by pods that are alike', () => {
    const trim = podTrimmer();
    const [one, two] = [trim(pod(1)), trim(pod(2))];
    expect(one.metadata.labels).toBe(two.metadata.labels);
    const containersOf = (of: ApiObject): unknown =>
      (of as unknown as { spec: { containers: unknown } }).spec.containers;
    expect(containersOf(one)).toBe(containersOf(two));
  });

  it('does not grow with annotations, one that is long or many that are short', () => {
    const long = podTrimmer()(pod(1, { annotations: { long: 'x'.repeat(250_000), short: 'y' } }));
    expect(long.metadata.annotations).toEqual({ short: 'y' });
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`a${at}`, 'x'.repeat(100)]));
    const kept = podTrimmer()(pod(1, { annotations: many })).metadata.annotations ?? {};
    expect(JSON.stringify(kept).length).toBeLessThan(5_000);
  });

  it('is always that a pod is the mirror of a static one, whatever else its node writes beside or into the mark', () => {
    const mark = 'kubernetes.io/config.mirror';
    const hash = 'f'.repeat(32);
    const origin = { 'kubernetes.io/config.hash': hash, 'kubernetes.io/config.source': 'file' };
    const before = Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`a${at}`, 'x'.repeat(1000)]));
    const staticUidOf = (annotations: object): string | undefined =>
      podFacts(podTrimmer()(pod(1, { annotations })))?.staticUid;
    expect(staticUidOf({ ...before })).toBeUndefined();
    expect(staticUidOf({ ...before, ...origin, [mark]: hash })).toBe(hash);
    // One that is not a kubelet's is a mirror all the same, of which the UID is not clear.
    expect(staticUidOf({ ...before, ...origin, [mark]: 'x'.repeat(2000) })).toBe('');
    expect(staticUidOf({ [mark]: '' })).toBe('');
  });

  it('costs less than 1 KB of memory, measured with 20,000 pods of 500 Deployments', async () => {
    const here = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
    const script = `
      await import(${here('../../../test/support/run-typescript.mjs')});
      const { podTrimmer } = await import(${here('./trim.ts')});
      const trim = podTrimmer();
      // What other threads of the engine hold for a moment, on a machine that is busy, is let go of in later turns.
      const heap = async () => {
        let least = Infinity;
        for (let turn = 0; turn < 5; turn++) {
          await new Promise((resolve) => setImmediate(resolve));
          gc();
          least = Math.min(least, process.memoryUsage().heapUsed);
        }
        return least;
      };
      const pod = (n) => {
        const app = 'app-' + (n % 500);
        return JSON.parse(JSON.stringify({
          apiVersion: 'v1', kind: 'Pod',
          metadata: {
            name: app + '-6d4cf56db6-' + n, namespace: 'team-' + (n % 50), resourceVersion: String(1e6 + n),
            uid: String(n).padStart(8, '0') + '-1c2d-4e5f-8a9b-0123456789ab', generation: 1,
            labels: { app, 'pod-template-hash': '6d4cf56db6', team: 'team-' + (n % 50) },
            annotations: { 'cni.example/podIP': '10.1.' + (n >> 8) + '.' + (n % 256) + '/32', 'cni.example/id': String(n).padStart(64, 'a') },
            ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: app, uid: 'owner-' + app, controller: true }],
            managedFields: [{ manager: 'kcm', fieldsV1: { text: 'x'.repeat(2000) } }],
          },
          spec: {
            serviceAccountName: app, nodeName: 'node-' + (n % 1000),
            containers: [{ name: 'app', image: 'registry.example/' + app + ':v1', ports: [{ containerPort: 8080 }], env: [{ name: 'A', value: 'b'.repeat(300) }] }, { name: 'proxy', image: 'envoy:1' }],
          },
          status: {
            phase: 'Running', podIP: '10.1.' + (n >> 8) + '.' + (n % 256), conditions: [{ type: 'Ready', status: 'True' }],
            containerStatuses: ['app', 'proxy'].map((name) => ({
              name, ready: true, restartCount: 0, image: 'registry.example/' + app + ':v1', state: { running: { startedAt: '2026-01-01T00:00:00Z' } },
              containerID: 'containerd://' + String(n).padStart(64, name === 'app' ? 'a' : 'b'), imageID: 'registry.example/' + app + '@sha256:' + name.padStart(64, 'd'),
            })),
          },
        }));
      };
      const kept = new Map();
      for (let n = 0; n < 100; n++) kept.set('warm' + n, trim(pod(n)));
      const before = await heap();
      for (let n = 100; n < 20100; n++) { const one = trim(pod(n)); kept.set(one.metadata.namespace + '/' + one.metadata.name, one); }
      console.log(Math.round((await heap() - before) / 20000), kept.size);
    `;
    const run = promisify(execFile);
    const args = [
      '--expose-gc',
      '--disable-warning=ExperimentalWarning',
      '--input-type=module',
      '--eval',
      script,
    ];
    const { stdout } = await run(process.execPath, args);
    const [bytes, size] = stdout.trim().split(' ').map(Number);
    expect(size).toBe(20_100);
    expect(bytes).toBeGreaterThan(100);
    expect(bytes).toBeLessThan(1024);
  });
});

describe('what is kept of other objects', () => {
  it('is all but who manages which field', () => {
    const kept = trimObject(pod(1));
    expect(kept.metadata).not.toHaveProperty('managedFields');
    expect({ ...kept, metadata: undefined }).toEqual({ ...pod(1), metadata: undefined });
  });
});

describe('an interner', () => {
  it('shares what is common however much comes that is not, and keeps no more than two generations', () => {
    const interner = new Interner();
    const common = interner.share({ app: 'web' });
    for (let one = 0; one < 100_000; one++) {
      interner.share({ id: one });
      if (one % 1000 === 0) expect(interner.share({ app: 'web' })).toBe(common);
    }
    expect(interner.size).toBeLessThanOrEqual(2 * 8_192);
  });
});
