import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import type { KubernetesApi } from '../../src/store/kubernetes/api.js';
import { createDiscovery } from '../../src/store/kubernetes/discovery.js';
import { createEventRecorder } from '../../src/store/kubernetes/events.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { apiClient } from '../support/api-client.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

const forks = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'forks.rig.example' },
  spec: {
    ...{ group: 'rig.example', scope: 'Cluster', names: { kind: 'Fork', plural: 'forks' } },
    versions: ['v1', 'v1beta1'].map((name) => ({
      ...{ name, served: true, storage: name === 'v1' },
      schema: { openAPIV3Schema: { type: 'object' } },
    })),
  },
};

(rig.isSkipped('kubernetes') ? describe.skip : describe)('events and discovery on an API server', () => {
  let plane: ControlPlane;
  let api: KubernetesApi;

  beforeAll(async () => {
    plane = await startControlPlane();
    api = apiClient(plane.server, plane.admin);
  }, rig.rigTimeout);
  afterAll(async () => {
    api?.close();
    await plane?.close();
  });

  it('writes events that the API server takes and kubectl shows, of namespaced and of cluster-scoped objects', async () => {
    const logger = recordingLogger();
    const events = createEventRecorder({
      ...{ api, logger, clock: systemClock, random: systemRandom },
      ...{ controller: 'signet.dev/server', instance: 'signet-server-0' },
    });
    const { body } = await plane.request('GET', '/api/v1/namespaces/default');
    const { uid } = (body as { readonly metadata: { readonly uid: string } }).metadata;
    const regarding = { apiVersion: 'v1', kind: 'Namespace', name: 'default', uid };
    const told = {
      type: 'Warning',
      reason: 'NotRendered',
      action: 'Render',
      note: 'the mesh is away',
    } as const;
    events.record({ regarding, ...told });
    const pod = { apiVersion: 'v1', kind: 'Pod', namespace: 'default', name: 'web.0', uid: 'u' };
    events.record({ regarding: pod, ...told, note: 'x'.repeat(5000) });
    const shown = await until('kubectl shows them', async () => {
      const { stdout } = await plane.kubectl(['get', 'events', '-A', '-o', 'wide']);
      return stdout.includes('namespace/default') && stdout.includes('pod/web.0') && stdout;
    });
    expect(shown).toContain('the mesh is away');
    expect([logger.lines, events.lost]).toEqual([[], 0]);
    await events.close();
  });

  it('finds what is served, in the version that is preferred, and what a CRD adds and takes away', async () => {
    const discovery = createDiscovery({
      ...{ api, clock: systemClock, random: systemRandom, logger: recordingLogger(), periodMs: 3_600_000 },
    });
    const stop = new AbortController();
    const running = discovery.run(stop.signal);
    const types = await until('the first reading', () => discovery.types.value);
    expect(types.find('', 'Pod')).toMatchObject({ version: 'v1', plural: 'pods', scope: 'Namespaced' });
    expect(types.find('autoscaling', 'HorizontalPodAutoscaler')).toMatchObject({ version: 'v2' });
    expect(types.find('autoscaling', 'HorizontalPodAutoscaler', 'v1')).toMatchObject({ version: 'v1' });
    expect(types.find('certificates.k8s.io', 'ClusterTrustBundle')?.scope).toBe('Cluster');
    expect(types.find('rig.example', 'Fork')).toBeUndefined();
    // Can be made and not listed: nothing to follow.
    expect(types.find('authentication.k8s.io', 'TokenReview')).toBeUndefined();

    await plane.request('POST', CRDS, forks);
    const fork = await until('the CRD is found', () => discovery.types.value?.find('rig.example', 'Fork'));
    expect(fork).toEqual({
      ...{ group: 'rig.example', version: 'v1', kind: 'Fork', plural: 'forks', scope: 'Cluster' },
    });
    await plane.request('DELETE', `${CRDS}/forks.rig.example`);
    await until('it is gone', () => discovery.types.value?.find('rig.example', 'Fork') === undefined);
    stop.abort();
    await running;
  });

  it('keeps what it knows while the API server is away, and says so once', async () => {
    const logger = recordingLogger();
    const discovery = createDiscovery({
      ...{ api, clock: systemClock, random: systemRandom, logger, periodMs: 50, followCrds: false },
    });
    const stop = new AbortController();
    const running = discovery.run(stop.signal);
    const before = await until('the first reading', () => discovery.types.value);
    let changes = 0;
    discovery.types.watch(() => changes++);
    await plane.stopApiServer();
    await until('it is noticed', () => logger.lines.length > 0);
    await plane.startApiServer();
    expect(discovery.types.value).toBe(before);
    discovery.refresh();
    await until('it goes on', async () => (await plane.request('POST', CRDS, forks)).status === 201);
    await until('what is new is found', () => discovery.types.value?.find('rig.example', 'Fork'));
    expect(logger.lines).toHaveLength(1);
    stop.abort();
    await running;
  }, 120_000);
});
