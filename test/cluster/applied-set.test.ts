import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { createAppliedSet, type AppliedSet } from '../../src/store/kubernetes/applied-set.js';
import type { DesiredObject } from '../../src/store/kubernetes/applied-content.js';
import { createDiscovery } from '../../src/store/kubernetes/discovery.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from '../rig/control-plane.js';
import type { KubeAnswer } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { apiClient } from '../support/api-client.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

const SPOONS = '/apis/rig.example/v1/namespaces/kitchen/spoons';
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

const crd = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'spoons.rig.example' },
  spec: {
    group: 'rig.example',
    scope: 'Namespaced',
    names: { kind: 'Spoon', plural: 'spoons', singular: 'spoon', listKind: 'SpoonList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: {
                  size: { type: 'integer', maximum: 100 },
                  material: { type: 'string', default: 'steel' },
                  engraving: { type: 'string' },
                  uses: {
                    type: 'array',
                    items: { type: 'object', properties: { food: { type: 'string' } } },
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
};

interface Spoon {
  readonly metadata: { readonly name: string; readonly uid: string; readonly resourceVersion: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

const spoon = (name: string, spec: object, namespace = 'kitchen'): DesiredObject & { spec: object } => ({
  apiVersion: 'rig.example/v1',
  kind: 'Spoon',
  metadata: { name, namespace },
  spec,
});

/** A set that runs, with an API client of its own. */
interface World {
  readonly set: AppliedSet;
  readonly drifted: string[];
  readonly logged: readonly string[];
  end(): Promise<void>;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('objects that are made for owners', () => {
  let plane: ControlPlane;
  const worlds: World[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true, controllerManager: true });
  }, rig.rigTimeout);
  afterAll(() => plane?.close());

  const post = async (path: string, body: unknown): Promise<void> => {
    const { status, body: answer } = await plane.request('POST', path, body);
    expect([status, (answer as { message?: string }).message]).toEqual([201, undefined]);
  };
  const serveSpoons = async (): Promise<void> => {
    await post(CRDS, crd);
    await until('spoons are served', async () => (await plane.request('GET', SPOONS)).status === 200);
  };
  const newNamespace = (name: string): Promise<void> =>
    post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const spoons = async (): Promise<ReadonlyMap<string, Spoon>> => {
    const { items } = (await plane.request('GET', SPOONS)).body as { readonly items: readonly Spoon[] };
    return new Map(items.map((item) => [item.metadata.name, item]));
  };
  const patch = (name: string, body: unknown): Promise<KubeAnswer> =>
    plane.request('PATCH', `${SPOONS}/${name}`, body);

  /** Starts one that can write; waits until it has read what there is. */
  const start = async (waits = true): Promise<World> => {
    const api = apiClient(plane.server, plane.admin);
    const logger = recordingLogger();
    const parts = { api, clock: systemClock, random: systemRandom, logger };
    const discovery = createDiscovery(parts);
    const fieldManager = 'signet';
    const set = createAppliedSet({
      ...{
        ...parts,
        discovery,
        fieldManager,
        set: 'test',
        writer: createObjectWriter({ api, fieldManager }),
      },
      kinds: [
        { group: 'rig.example', kind: 'Spoon', versions: ['v1'] },
        { group: '', kind: 'ConfigMap', versions: ['v1'] },
      ],
    });
    const drifted: string[] = [];
    set.onDrift((owner) => drifted.push(owner));
    const stop = new AbortController();
    const running = Promise.all([discovery.run(stop.signal), set.run(stop.signal)]);
    const world: World = {
      ...{ set, drifted, logged: logger.lines },
      async end() {
        stop.abort();
        await running;
        api.close();
      },
    };
    worlds.push(world);
    if (waits)
      await until('the set has been read', () => set.typeOf('', 'ConfigMap') && set.waitingFor.length === 0);
    return world;
  };
  const writes = async (since: number): Promise<readonly AuditEntry[]> =>
    (await plane.auditLog()).filter(
      (entry) =>
        entry.userAgent === 'signet' &&
        !['get', 'list', 'watch'].includes(entry.verb) &&
        Date.parse(entry.requestReceivedTimestamp) >= since,
    );

  beforeEach(async () => {
    if ((await plane.request('GET', '/api/v1/namespaces/kitchen')).status === 404)
      await newNamespace('kitchen');
    if ((await plane.request('GET', `${CRDS}/spoons.rig.example`)).status === 404) await serveSpoons();
  });
  afterEach(async () => {
    await Promise.all(worlds.splice(0).map((world) => world.end()));
    await plane.request('DELETE', SPOONS);
  });

  it('applies, changes, takes fields away, and prunes; writes nothing when nothing differs, after a restart neither', async () => {
    const first = await start();
    const both = [spoon('tea', { size: 1, engraving: 'T' }), spoon('soup', { size: 3 })];
    expect(await first.set.apply('me', both)).toEqual({ applied: 2, removed: 0, unchanged: 0, failures: [] });
    expect(await first.set.apply('me', both)).toEqual({ applied: 0, removed: 0, unchanged: 2, failures: [] });
    expect(await first.set.apply('other', [spoon('ladle', { size: 9 })])).toMatchObject({ applied: 1 });
    expect((await spoons()).get('tea')?.spec).toEqual({ size: 1, engraving: 'T', material: 'steel' });

    const changed = [spoon('tea', { size: 2 })];
    expect(await first.set.apply('me', changed)).toEqual({
      ...{ applied: 1, removed: 1, unchanged: 0, failures: [] },
    });
    const now = await spoons();
    expect([...now.keys()].sort()).toEqual(['ladle', 'tea']);
    expect(now.get('tea')?.spec).toEqual({ size: 2, material: 'steel' });

    await first.end();
    const restarted = Date.now();
    const second = await start();
    expect([...second.set.owners()].sort()).toEqual(['me', 'other']);
    expect(await second.set.apply('me', changed)).toMatchObject({ applied: 0, removed: 0, unchanged: 1 });
    expect(await writes(restarted)).toEqual([]);
    expect(await second.set.apply('me', [])).toMatchObject({ removed: 1 });
    expect([...(await spoons()).keys()]).toEqual(['ladle']);
  });

  it.each([
    ['a field is changed', { spec: { size: 7 } }],
    ['a field is added that we leave out', { spec: { engraving: 'stolen' } }],
    ['a list is longer', { spec: { uses: [{ food: 'soup' }, { food: 'poison' }] } }],
    ['its mark is taken away', { metadata: { labels: { 'signet.dev/owner-set': null } } }],
    ['it is said to be another’s', { metadata: { annotations: { 'signet.dev/owner': 'thief' } } }],
  ])('repairs what others do: %s', async (_, edit) => {
    const { set, drifted } = await start();
    const wanted = [spoon('tea', { size: 1, uses: [{ food: 'soup' }] })];
    await set.apply('me', wanted);
    const before = (await spoons()).get('tea');
    drifted.length = 0;
    expect((await patch('tea', edit)).status).toBe(200);
    await until('the drift is told', () => drifted.includes('me'));
    expect(await set.apply('me', wanted)).toMatchObject({ applied: 1, failures: [] });
    const after = (await spoons()).get('tea');
    expect(after?.spec).toEqual(before?.spec);
    expect(after?.metadata).toMatchObject({
      labels: { 'signet.dev/owner-set': 'test' },
      annotations: { 'signet.dev/owner': 'me' },
    });
    expect(await set.apply('me', wanted)).toMatchObject({ unchanged: 1 });
  });

  it('makes anew what others delete, and leaves alone what others have made', async () => {
    const { set, drifted } = await start();
    await set.apply('me', [spoon('tea', { size: 1 })]);
    drifted.length = 0;
    await plane.request('DELETE', `${SPOONS}/tea`);
    await until('the deletion is told', () => drifted.includes('me'));
    expect(await set.apply('me', [spoon('tea', { size: 1 })])).toMatchObject({ applied: 1 });

    await post(SPOONS, spoon('theirs', { size: 50 }));
    const report = await set.apply('me', [spoon('tea', { size: 1 }), spoon('theirs', { size: 1 })]);
    expect(report).toMatchObject({
      unchanged: 1,
      failures: [{ object: 'rig.example/v1 Spoon kitchen/theirs', code: 'NotOurs', retry: false }],
    });
    expect((await spoons()).get('theirs')?.spec).toMatchObject({ size: 50 });
    expect(await set.apply('me', [])).toMatchObject({ removed: 1 });
    expect([...(await spoons()).keys()]).toEqual(['theirs']);
  });

  it('gives an object that two owners want to the first, and to the other when the first lets go', async () => {
    const { set, drifted } = await start();
    await set.apply('one', [spoon('tea', { size: 1 })]);
    const wanted = [spoon('tea', { size: 2 })];
    expect(await set.apply('two', wanted)).toMatchObject({
      failures: [{ code: 'Claimed', message: 'it is wanted by one too' }],
    });
    drifted.length = 0;
    expect(await set.apply('one', [])).toMatchObject({ removed: 1 });
    expect(drifted).toContain('two');
    expect(await set.apply('two', wanted)).toMatchObject({ applied: 1 });
  });

  it('says what the API server refuses, and keeps the old until the new is there', async () => {
    const { set } = await start();
    await set.apply('me', [spoon('old', { size: 1 })]);
    expect(await set.apply('me', [spoon('big', { size: 1000 }), spoon('old', { size: 1 })])).toMatchObject({
      failures: [{ code: 'Refused', message: expect.stringContaining('spec.size') as unknown, retry: false }],
      unchanged: 1,
    });
  });

  it('has nothing to do in a namespace that is going or gone', async () => {
    await newNamespace('attic');
    const { set } = await start();
    const wanted = [spoon('a', { size: 1 }, 'attic')];
    await post('/api/v1/namespaces/attic/configmaps', {
      ...{ apiVersion: 'v1', kind: 'ConfigMap' },
      metadata: { name: 'holds', finalizers: ['rig.example/hold'] },
    });
    await plane.request('DELETE', '/api/v1/namespaces/attic');
    const going = await until('the namespace is going', async () => {
      const report = await set.apply('me', wanted);
      return report.failures.length > 0 && report;
    });
    expect(going.failures).toMatchObject([{ code: 'NamespaceGone', retry: false }]);
    await plane.request('PATCH', '/api/v1/namespaces/attic/configmaps/holds', {
      metadata: { finalizers: null },
    });
    await until(
      'the namespace is gone',
      async () => (await plane.request('GET', '/api/v1/namespaces/attic')).status === 404,
    );
    expect(await set.apply('me', wanted)).toMatchObject({ failures: [{ code: 'NamespaceGone' }] });
  });

  it('says which kind is not served, and comes back when its CRD does', async () => {
    const { set, drifted } = await start();
    const wanted = [spoon('tea', { size: 1 })];
    await set.apply('me', wanted);
    await plane.request('DELETE', `${CRDS}/spoons.rig.example`);
    const report = await until('the kind is gone', async () => {
      const now = await set.apply('me', wanted);
      return now.failures.some(({ message }) => message.includes('does not serve')) && now;
    });
    expect(report.failures).toMatchObject([
      {
        code: 'NotServed',
        message: 'the API server does not serve Spoon in rig.example/v1',
        retry: false,
      },
    ]);
    await until(
      'the CRD is gone',
      async () => (await plane.request('GET', `${CRDS}/spoons.rig.example`)).status === 404,
    );
    // An owner that is told of nothing would never look again.
    await set.apply('me', wanted);
    drifted.length = 0;
    await serveSpoons();
    await until('the owner is told', () => drifted.includes('me'));
    await until('it is applied', async () => (await set.apply('me', wanted)).failures.length === 0);
    expect([...(await spoons()).keys()]).toEqual(['tea']);
  });

  it('does not fight for ever with somebody who changes an object again and again', async () => {
    const { set, drifted } = await start();
    const wanted = [spoon('tea', { size: 1 })];
    await set.apply('me', wanted);
    drifted.length = 0;
    for (let round = 0; round < 20; round++) {
      await patch('tea', { spec: { size: 10 + round } });
      await until('it is seen', async () => (await set.apply('me', wanted)).applied === 1);
    }
    expect(drifted.length).toBeLessThanOrEqual(6);
  });
});
