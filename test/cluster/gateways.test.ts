import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { servedGateways, type ServedGateways } from '../../src/main/served-gateways.js';
import { createDiscovery } from '../../src/store/kubernetes/discovery.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import type { StoreChange } from '../../src/store/store.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { apiClient } from '../support/api-client.js';
import { create } from '../support/cluster-server.js';
import { MemoryStore } from '../support/memory-store.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

/* Gateways may come to a cluster and go from it while the server runs; nothing waits for them. */

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const GATEWAYS = '/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways';
const NAME = 'gateways.gateway.networking.k8s.io';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('Gateways beside a store', () => {
  let plane: ControlPlane;
  const stop = new AbortController();
  const running: Promise<unknown>[] = [];
  const logger = recordingLogger();
  const inner = new MemoryStore();
  const changes: StoreChange[] = [];
  let gateways: ServedGateways;

  beforeAll(async () => {
    plane = await startControlPlane();
    const api = apiClient(plane.server, plane.admin);
    const parts = { api, clock: systemClock, random: systemRandom, logger };
    const discovery = createDiscovery(parts);
    const writer = createObjectWriter({ api, fieldManager: 'signet' });
    gateways = servedGateways({ ...parts, store: inner, writer, discovery });
    gateways.store.subscribe((some) => changes.push(...some));
    running.push(discovery.run(stop.signal), gateways.run(stop.signal));
    await until('discovery', () => discovery.types.value !== undefined);
  }, rig.rigTimeout);
  afterAll(async () => {
    stop.abort();
    await Promise.all(running);
    await plane?.close();
  });

  it('are none without their CRD, come with it, and go with it', async () => {
    const { store } = gateways;
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 's', uid: 's', generation: 1 } };
    inner.put(service);
    expect(store.list('Gateway')).toEqual([]);
    expect(store.list('Service')).toEqual([service]);
    expect(changes.map(({ kind }) => kind)).toEqual(['Service']);

    await create(plane, CRDS, {
      ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
      metadata: {
        name: NAME,
        annotations: { 'api-approved.kubernetes.io': 'https://github.com/kubernetes-sigs/gateway-api' },
      },
      spec: {
        ...{ group: 'gateway.networking.k8s.io', scope: 'Namespaced' },
        names: { plural: 'gateways', singular: 'gateway', kind: 'Gateway' },
        versions: [
          {
            ...{ name: 'v1', served: true, storage: true },
            schema: {
              openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
            },
          },
        ],
      },
    });
    await until('the kind is served', async () => (await plane.request('GET', GATEWAYS)).status === 200);
    await create(plane, GATEWAYS, {
      ...{ apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway' },
      metadata: { name: 'waypoint', labels: { 'istio.io/waypoint-for': 'service' } },
      spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'mesh', port: 15008 }] },
    });
    await until('the Gateway', () => store.get('Gateway', 'default/waypoint') !== undefined, 60_000);
    // No more of it than is asked for.
    expect(store.list('Gateway')).toMatchObject([
      {
        metadata: { name: 'waypoint', labels: { 'istio.io/waypoint-for': 'service' } },
        spec: { gatewayClassName: 'istio-waypoint' },
      },
    ]);
    expect(JSON.stringify(store.list('Gateway'))).not.toContain('listeners');
    expect(changes.at(-1)).toMatchObject({ kind: 'Gateway', key: 'default/waypoint' });

    await plane.request('DELETE', `${CRDS}/${NAME}`);
    await until('the Gateway gone', () => store.list('Gateway').length === 0, 60_000);
    await until('that told', () => changes.at(-1)?.after === undefined);
    expect(changes.at(-1)).toMatchObject({ kind: 'Gateway', key: 'default/waypoint' });
  }, 180_000);
});
