import { describe, expect, it } from '@jest/globals';
import { MemoryStore } from '../../test/support/memory-store.js';
import type { StoredObject } from '../store/store.js';
import { readInventory } from './inventory.js';
import { readGateways, readServices } from './services.js';

function stored(kind: string, name: string, spec: object, labels: Record<string, string> = {}): StoredObject {
  const metadata = { name, namespace: 'shop', uid: `${kind}/${name}`, generation: 1, labels };
  return { apiVersion: 'v1', kind, metadata, spec } as StoredObject;
}

function storeOf(...objects: readonly StoredObject[]): MemoryStore {
  const store = new MemoryStore();
  for (const object of objects) store.put(object);
  return store;
}

describe('Services', () => {
  it('lead from their ports to those of pods, and speak what appProtocol or else the name says', () => {
    const store = storeOf(
      stored(
        'Service',
        'web',
        {
          selector: { app: 'web' },
          ports: [
            { port: 80, targetPort: 'http', name: 'tcp-web', appProtocol: 'kubernetes.io/h2c' },
            { port: 90, targetPort: 9000, name: 'grpc-api', protocol: 'TCP' },
            { port: 70, name: 'redis' },
            { port: 53, protocol: 'UDP' },
            { port: 'eighty' },
          ],
        },
        { 'istio.io/use-waypoint': 'none' },
      ),
    );
    expect(readServices(store)).toEqual([
      {
        namespace: 'shop',
        name: 'web',
        labels: { 'istio.io/use-waypoint': 'none' },
        selector: { app: 'web' },
        ports: [
          { port: 80, targetPort: 'http', protocol: 'http2' },
          { port: 90, targetPort: 9000, protocol: 'grpc' },
          { port: 70, targetPort: 70, protocol: 'tcp' },
        ],
      },
    ]);
  });

  it('are none when they stand for a name elsewhere, and select nobody when they say no selector', () => {
    const store = storeOf(
      stored('Service', 'far', { type: 'ExternalName', externalName: 'example.org' }),
      stored('Service', 'own-endpoints', { ports: [{ port: 80 }] }),
      stored('Service', 'pods', { clusterIP: 'None', selector: { app: 'web' } }),
    );
    expect(readServices(store).map(({ name, selector, headless }) => [name, selector, headless])).toEqual([
      ['own-endpoints', {}, undefined],
      ['pods', { app: 'web' }, true],
    ]);
  });

  it('are in the inventory in order, with the Gateways; an inventory without any says nothing of them', () => {
    const options = { trustDomain: 'td', spiffeIds: () => [] };
    const store = storeOf(
      stored('Service', 'b', { selector: { app: 'b' } }),
      stored('Service', 'a', { selector: { app: 'a' } }),
      stored('Gateway', 'wp', { gatewayClassName: 'istio-waypoint' }, { 'istio.io/waypoint-for': 'all' }),
    );
    const inventory = readInventory(store, options);
    expect(inventory.services?.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(inventory.gateways).toEqual(readGateways(store));
    expect(inventory.gateways).toEqual([
      {
        namespace: 'shop',
        name: 'wp',
        labels: { 'istio.io/waypoint-for': 'all' },
        className: 'istio-waypoint',
      },
    ]);
    expect(inventory.namespaces.map(({ name }) => name)).toEqual(['shop']);
    expect(Object.keys(readInventory(storeOf(), options))).not.toContain('services');
  });
});
