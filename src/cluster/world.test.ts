import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { StoreChange, StoredObject } from '../store/store.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import { readRegistrations } from './registrations.js';
import { trustDomainSettings } from './trust-domain.js';
import { World, type RegistrationSource } from './world.js';

const settings = trustDomainSettings({ flag: 'td.test' });
const NAMESPACES = ['red', 'blue'];
const APPS = ['web', 'db'];
const CLUSTER_WIDE = ['everywhere', 'teams', 'process'];

const oneOf = <T>(...items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);

function object(kind: string, name: string, namespace: string | undefined, more: object): StoredObject {
  const uid = `${kind}.${namespace ?? ''}.${name}`;
  const metadata = { name, uid, generation: 1, ...(namespace === undefined ? {} : { namespace }) };
  return { apiVersion: kind.endsWith('Identity') ? 'signet.dev/v1alpha1' : 'v1', kind, metadata, ...more };
}

const labelled = (one: StoredObject, labels: Readonly<Record<string, string>>, more = {}): StoredObject => ({
  ...one,
  metadata: { ...one.metadata, labels, ...more },
});

/** Pods of few workloads, so that there are several of each; some have ended, some differ in their probes alone. */
const pods = fc
  .record({
    name: oneOf('a', 'b', 'c', 'd'),
    ...{ namespace: oneOf(...NAMESPACES), app: oneOf(...APPS), phase: oneOf('Running', 'Running', 'Failed') },
    ...{ path: oneOf('/', '/ready'), reborn: fc.boolean() },
  })
  .map(({ name, namespace, app, phase, path, reborn }) => {
    const pod = object('Pod', name, namespace, {
      spec: {
        nodeName: 'node',
        containers: [
          { name: 'c', ports: [{ containerPort: 80 }], livenessProbe: { httpGet: { port: 80, path } } },
        ],
      },
      status: { phase },
    });
    const ownerReferences = [{ kind: 'StatefulSet', name: app, controller: true }];
    return labelled(pod, { app }, { ownerReferences, uid: `${namespace}.${name}.${String(reborn)}` });
  });

const identities = fc
  .record({
    namespace: oneOf(...NAMESPACES),
    app: oneOf(...APPS),
    path: oneOf('one', 'two'),
    ofContainer: fc.boolean(),
  })
  .map(({ namespace, app, path, ofContainer }) =>
    object('WorkloadIdentity', app, namespace, {
      spec: {
        podSelector: { matchLabels: { app } },
        spiffeIDTemplate: `/ns/{{ .Namespace }}/${path}/${app}`,
        ...(ofContainer ? { containerSelector: { names: ['c'] } } : {}),
      },
    }),
  );

const clusterIdentities = fc
  .record({ name: oneOf(...CLUSTER_WIDE), path: oneOf('one', 'two') })
  .map(({ name, path }) =>
    object('ClusterWorkloadIdentity', name, undefined, {
      spec: {
        spiffeIDTemplate: name === 'process' ? `/${path}` : `/${path}/{{ .Namespace }}`,
        ...(name === 'teams' ? { namespaceSelector: { matchLabels: { team: 'gold' } } } : {}),
        ...(name === 'process' ? { processSelector: { uid: 1000 } } : {}),
      },
    }),
  );

const namespaces = fc
  .record({ name: oneOf(...NAMESPACES), team: oneOf('gold', 'iron') })
  .map(({ name, team }) => labelled(object('Namespace', name, undefined, {}), { team }));

const services = fc
  .record({ namespace: oneOf(...NAMESPACES, 'green'), port: oneOf(80, 443) })
  .map(({ namespace, port }) =>
    object('Service', 'web', namespace, { spec: { selector: { app: 'web' }, ports: [{ port }] } }),
  );

/** Everything that may be asked. */
function told(world: World): string {
  const refs = [
    ...NAMESPACES.flatMap((namespace) =>
      APPS.map((name) => ({ kind: 'WorkloadIdentity' as const, namespace, name })),
    ),
    ...CLUSTER_WIDE.map((name) => ({ kind: 'ClusterWorkloadIdentity' as const, namespace: '', name })),
  ];
  const { inventory, resolver } = world;
  return JSON.stringify([inventory, refs.map((ref) => resolver.identity?.(ref)), resolver.namespaces?.([])]);
}

describe('what policies are about', () => {
  it('is after every change what it would be if all were read anew', () => {
    const step = fc.record({
      remove: fc.nat(2).map((one) => one === 0),
      several: fc.array(
        fc.oneof({ weight: 4, arbitrary: pods }, identities, clusterIdentities, namespaces, services),
        {
          minLength: 1,
          maxLength: 4,
        },
      ),
    });
    let given = 0;
    let ofProcesses = 0;
    let ofContainers = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 3, maxLength: 12 }), (steps) => {
        const store = new MemoryStore();
        const source: RegistrationSource = {
          all: () => readRegistrations(store, settings).all(),
          forPod: (uid) => readRegistrations(store, settings).forPod(uid),
        };
        const world = new World(store, settings.name, source);
        for (const { remove, several } of steps) {
          const changes: StoreChange[] = [];
          const end = store.subscribe((list) => void changes.push(...list));
          if (remove) store.remove(...several);
          else store.put(...several);
          end();
          const before = { inventory: world.inventory, text: JSON.stringify(world.inventory) };
          world.update(changes);
          const anew = new World(store, settings.name, { all: () => source.all() });
          expect(told(world)).toBe(told(anew));
          // What is the same is not told anew, and what was told stays what it was.
          const isSame = JSON.stringify(world.inventory) === before.text;
          expect(world.inventory === before.inventory).toBe(isSame);
          expect(JSON.stringify(before.inventory)).toBe(before.text);
          given += world.inventory.workloads.filter(({ spiffeIds }) => spiffeIds.length > 1).length;
          ofContainers += world.inventory.workloads.filter(({ alsoWithout }) => alsoWithout).length;
          const process = { kind: 'ClusterWorkloadIdentity' as const, namespace: '', name: 'process' };
          ofProcesses += world.resolver.identity?.(process)?.length ?? 0;
        }
      }),
      { numRuns: 150 },
    );
    expect(given).toBeGreaterThan(50);
    expect(ofProcesses).toBeGreaterThan(20);
    expect(ofContainers).toBeGreaterThan(20);
  });

  it('says of pods whose identities are for single containers that something in them may hold none', () => {
    const store = new MemoryStore();
    const identity = (name: string, more: object): StoredObject =>
      object('WorkloadIdentity', name, 'red', { spec: { ...more, spiffeIDTemplate: `/ns/red/${name}` } });
    store.put(
      object('Pod', 'a', 'red', { spec: { nodeName: 'node', containers: [{ name: 'c' }, { name: 'd' }] } }),
      identity('one', { containerSelector: { names: ['c'] } }),
    );
    const said = (): unknown =>
      new World(store, settings.name, readRegistrations(store, settings)).inventory.workloads;
    expect(said()).toMatchObject([{ spiffeIds: ['spiffe://td.test/ns/red/one'], alsoWithout: true }]);
    store.put(identity('whole', {}));
    expect(said()).toMatchObject([{ spiffeIds: [expect.anything(), expect.anything()] }]);
    expect(JSON.stringify(said())).not.toContain('alsoWithout');
  });

  it('asks for the registrations of no other pods than those that a change is about', () => {
    const store = new MemoryStore();
    const asked: string[] = [];
    const pod = (namespace: string, name: string): StoredObject =>
      object('Pod', name, namespace, { spec: {} });
    store.put(...NAMESPACES.flatMap((namespace) => ['a', 'b', 'c'].map((name) => pod(namespace, name))));
    const world = new World(store, settings.name, {
      all: () => [],
      forPod(uid) {
        asked.push(uid);
        return [];
      },
    });
    expect(asked).toHaveLength(6);
    const askedFor = (kind: string, key: string): readonly string[] => {
      asked.length = 0;
      world.update([{ kind, key }]);
      return [...asked].sort();
    };
    expect(askedFor('Pod', 'red/b')).toEqual(['Pod.red.b']);
    expect(askedFor('WorkloadIdentity', 'blue/web')).toEqual(['Pod.blue.a', 'Pod.blue.b', 'Pod.blue.c']);
    expect(askedFor('Service', 'red/web')).toEqual([]);
  });
});
