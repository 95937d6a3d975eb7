import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { CONFIG_MAP } from '../../src/store/kubernetes/types.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { startFaultProxy, type FaultProxy } from '../rig/fault-proxy.js';
import {
  startHttpFaultProxy,
  type FaultAnswer,
  type HttpFaultProxy,
  type InjectedFault,
  type Matcher,
} from '../rig/http-fault-proxy.js';
import { newKubeClient, type KubeClient } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { startStore, type StoreWorld, type StoreWorldOptions } from '../support/store-world.js';
import { until } from '../support/until.js';

const LONG = 120_000;
const NAMESPACE = 'shop';
const MAPS = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
const KINDS = [{ type: CONFIG_MAP, namespace: NAMESPACE }];
const watchesMaps: Matcher = ({ path, isWatch }) => isWatch && path === MAPS;
const readsMaps: Matcher = ({ path, method }) => path === MAPS && method === 'GET';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the store, when the API server fails', () => {
  let plane: ControlPlane;
  let writer: KubeClient;
  let wire: FaultProxy;
  let http: HttpFaultProxy;
  const worlds: StoreWorld[] = [];
  const faults: InjectedFault[] = [];

  beforeAll(async () => {
    plane = await startControlPlane();
    writer = newKubeClient(plane.server, plane.admin);
    wire = await startFaultProxy(plane.server);
    http = await startHttpFaultProxy(plane);
    await writer.request('POST', '/api/v1/namespaces', {
      ...{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    });
    await many(1200, 'old', (name) => create(name));
  }, rig.rigTimeout);
  afterEach(async () => {
    for (const fault of faults.splice(0)) fault.end();
    await Promise.all(worlds.splice(0).map((world) => world.end()));
  });
  afterAll(async () => {
    writer?.close();
    await wire?.close();
    await http?.close();
    await plane?.close();
  });

  const inject = (match: Matcher, answer: FaultAnswer, times?: number): InjectedFault => {
    const fault = http.inject(match, answer, times);
    faults.push(fault);
    return fault;
  };
  const map = (name: string, data: object): object => ({
    ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: NAMESPACE }, data },
  });
  const create = async (name: string, value = '1'): Promise<void> => {
    expect((await writer.request('POST', MAPS, map(name, { value }))).status).toBe(201);
  };
  const change = async (name: string, value: string): Promise<void> => {
    expect((await writer.request('PATCH', `${MAPS}/${name}`, { data: { value } })).status).toBe(200);
  };
  const remove = async (name: string): Promise<void> => {
    expect((await writer.request('DELETE', `${MAPS}/${name}`)).status).toBe(200);
  };
  const many = async (
    count: number,
    prefix: string,
    work: (name: string) => Promise<void>,
  ): Promise<void> => {
    for (let from = 0; from < count; from += 40)
      await Promise.all(
        Array.from({ length: Math.min(40, count - from) }, (_, at) => work(`${prefix}-${from + at}`)),
      );
  };
  let turn = 0;
  /** Makes, changes, deletes and makes anew what there is of it. */
  const stir = async (): Promise<void> => {
    const prefix = `stir-${++turn}`;
    await many(40, prefix, create);
    await many(40, prefix, (name) => change(name, '2'));
    await many(20, prefix, remove);
    await many(10, prefix, (name) => create(name, 'anew'));
  };
  const start = async (options: Partial<StoreWorldOptions> = {}): Promise<StoreWorld> => {
    const world = startStore({ plane, kinds: KINDS, ...options });
    worlds.push(world);
    await until('the store is synced', () => world.store.synced.value, 60_000);
    return world;
  };

  it('reads a streamed list, and is told of every change in order', async () => {
    const world = await start();
    expect(world.store.list('ConfigMap').length).toBeGreaterThanOrEqual(1200);
    expect(world.steps.find(({ step }) => step.step === 'listed')?.step).toMatchObject({ streamed: true });
    await stir();
    expect(await world.settled()).toEqual([]);
    expect([world.lists('ConfigMap'), world.failures(), world.log.lines]).toEqual([1, [], []]);
  });

  it('reads pages where lists are not streamed, and asks for no stream again', async () => {
    const fault = inject(({ query }) => query.has('sendInitialEvents'), {
      code: 400,
      reason: 'Invalid',
    });
    const before = http.requests().length;
    const world = await start({ server: http.url });
    const pages = http
      .requests()
      .slice(before)
      .filter(({ path, query }) => path === MAPS && query.has('limit'));
    expect(pages).toHaveLength(3);
    await stir();
    // A second list: no stream is tried.
    expect(http.breakWatches(watchesMaps, { code: 410 })).toBe(1);
    await until('it is listed again', () => world.lists('ConfigMap') === 2);
    await stir();
    expect(await world.settled()).toEqual([]);
    expect(fault.count()).toBe(1);
    expect(world.failures()).toEqual(['ApiGone']);
  });

  it('begins anew when a page is too old, and while pages fail in between', async () => {
    inject(({ query }) => query.has('sendInitialEvents'), { code: 400 });
    const old = inject(({ query }) => query.has('continue'), { code: 410 }, 2);
    const broken = inject(({ query }) => query.has('continue'), { code: 500 }, 2);
    const world = await start({ server: http.url });
    expect([old.count(), broken.count()]).toEqual([2, 2]);
    expect(world.failures()).toEqual(['ApiGone', 'ApiGone', 'ApiFailed', 'ApiFailed']);
    expect(await world.settled()).toEqual([]);
  });

  it(
    'goes on where it was when connections are cut, without a second list',
    async () => {
      const world = await start({ server: wire.url });
      for (let round = 0; round < 5; round++) {
        const stirred = stir();
        wire.cut();
        await stirred;
      }
      expect(await world.settled()).toEqual([]);
      expect(world.lists('ConfigMap')).toBe(1);
      expect(world.failures().length).toBeGreaterThan(0);
      expect(world.log.lines).toEqual([]);
      // What is cut is let go of: no connection is left behind.
      await until('one watch and what requests keep', () => wire.connections().open <= 3);
    },
    LONG,
  );

  it(
    'lists anew after 410, by status and in the stream, and tells only what has changed',
    async () => {
      const world = await start({ server: http.url });
      const told = world.changes.length;
      const fault = inject(({ query }) => query.has('resourceVersion'), { code: 410 }, 1);
      http.breakWatches(watchesMaps, { code: 500 });
      await until('listed after 410 as status', () => world.lists('ConfigMap') === 2);
      expect(fault.count()).toBe(1);
      http.breakWatches(watchesMaps, { code: 410 });
      await until('listed after 410 in the stream', () => world.lists('ConfigMap') === 3);
      expect(world.changes.length).toBe(told);
      await stir();
      expect(await world.settled()).toEqual([]);
    },
    LONG,
  );

  it(
    'tells of an object that was made anew while nothing was seen as of an end and a beginning',
    async () => {
      const world = await start({ server: http.url });
      await create('phoenix');
      const first = await until('it is seen', () => world.store.get('ConfigMap', `${NAMESPACE}/phoenix`));
      const heal = http.stallWatches(watchesMaps);
      await remove('phoenix');
      await create('phoenix', '2');
      const told = world.changes.length;
      // What is held back is lost with the watch.
      http.breakWatches(watchesMaps, { code: 410 });
      heal();
      await until('it is listed', () => world.lists('ConfigMap') === 2);
      expect(world.changes.slice(told)).toMatchObject([
        { before: { metadata: { uid: first.metadata.uid } } },
        { after: { data: { value: '2' } } },
      ]);
      expect(world.changes[told]?.after).toBeUndefined();
      expect(await world.settled()).toEqual([]);
    },
    LONG,
  );

  it.each([
    ['429 with Retry-After', { code: 429, retryAfterSeconds: 1 }, 6],
    ['500', { code: 500 }, 12],
    ['503 with Retry-After', { code: 503, retryAfterSeconds: 2 }, 4],
  ])(
    'does not add to a storm of %s',
    async (_, answer, most) => {
      const world = await start({ server: http.url });
      const fault = inject(readsMaps, answer);
      http.breakWatches(watchesMaps, answer);
      const began = performance.now();
      await until('five seconds have passed', () => performance.now() - began > 5_000);
      expect(fault.count()).toBeGreaterThan(1);
      expect(fault.count()).toBeLessThanOrEqual(most);
      fault.end();
      await stir();
      expect(await world.settled()).toEqual([]);
      // Once at most, however many failed.
      expect(world.log.lines.length).toBeLessThanOrEqual(1);
      expect(world.lists('ConfigMap')).toBe(1);
    },
    LONG,
  );

  it(
    'notices a watch that is silent though the API server lives, and lists anew',
    async () => {
      const world = await start({ server: http.url, silenceMs: 2_000 });
      const heal = http.stallWatches(watchesMaps);
      await stir();
      await until('it is noticed', () => world.failures().includes('ApiTimeout'), 10_000);
      expect(await world.settled()).toEqual([]);
      expect(world.lists('ConfigMap')).toBeGreaterThan(1);
      heal();
    },
    LONG,
  );

  it(
    'notices within 15 s that the network has stalled, and goes on when it is back',
    async () => {
      const world = await start({ server: wire.url });
      const began = performance.now();
      wire.stall();
      await stir();
      await until('it is noticed', () => world.failures().includes('ApiTimeout'), 30_000);
      expect(performance.now() - began).toBeLessThan(16_000);
      wire.heal();
      expect(await world.settled()).toEqual([]);
      expect(world.lists('ConfigMap')).toBe(1);
    },
    LONG,
  );

  it(
    'notices within 15 s that the API server has stopped in its tracks',
    async () => {
      const world = await start();
      const began = performance.now();
      plane.pause('kube-apiserver');
      await until('it is noticed', () => world.failures().includes('ApiTimeout'), 30_000);
      expect(performance.now() - began).toBeLessThan(16_000);
      plane.resume('kube-apiserver');
      await stir();
      expect(await world.settled()).toEqual([]);
    },
    LONG,
  );

  it(
    'goes on after the API server was killed, and after etcd was, with what it had meanwhile',
    async () => {
      const world = await start();
      const had = world.store.list('ConfigMap').length;
      await plane.stopApiServer('SIGKILL');
      await until('it is noticed and said', () => world.log.lines.length === 1);
      expect(world.store.list('ConfigMap')).toHaveLength(had);
      await plane.startApiServer();
      await stir();
      expect(await world.settled()).toEqual([]);
      await plane.killEtcd();
      expect(world.store.list('ConfigMap').length).toBeGreaterThanOrEqual(had);
      await plane.startEtcd();
      await stir();
      expect(await world.settled()).toEqual([]);
      // Of each failure once, and that it is over.
      expect(world.log.lines.length).toBeLessThanOrEqual(4);
      expect(world.log.all.filter((line) => line.includes('followed again')).length).toBeGreaterThan(0);
    },
    LONG,
  );
});
