import { beforeEach, describe, expect, it } from '@jest/globals';
import { aPodObject, aWorkloadIdentity } from '../../../test/support/identities.js';
import { nodeWorlds, type NodeWorld, type Replica } from '../../../test/support/node-world.js';
import { until } from '../../../test/support/until.js';
import { makeKey } from '../../agent/key-maker.js';
import { connectToServer, type ServerConnection } from '../../agent/remote/server-connection.js';
import type { NodeApi, SyncUpdate } from '../node-api.js';
import { createRemoteNodeApi, type HeldSvid } from './remote-node-api.js';

const { world, closing } = nodeWorlds();

let w: NodeWorld;
let one: Replica;
let two: Replica;
let now: ServerConnection;
let later: ServerConnection;
let api: NodeApi;
let svids: Map<string, HeldSvid>;
/** Which connection is used. */
let moved: boolean;

beforeEach(async () => {
  w = await world();
  w.store.put(aWorkloadIdentity('main'));
  one = await w.replica();
  two = await w.replica();
  const token = w.agentPod('node-1');
  const connect = async (port: number): Promise<ServerConnection> => {
    const connection = await connectToServer(w.agentOptions(port, token), new AbortController().signal);
    closing(() => connection.close());
    return connection;
  };
  now = await connect(one.port);
  later = await connect(two.port);
  moved = false;
  svids = new Map();
  api = createRemoteNodeApi(
    () => (moved ? later : now).rpc,
    'example.org',
    (id) => svids.get(id),
  );
});

/** Follows the registrations. */
function following(): { readonly seen: SyncUpdate[]; readonly ids: () => string[]; stop(): Promise<void> } {
  const seen: SyncUpdate[] = [];
  const stop = new AbortController();
  const state = new Set<string>();
  const reading = (async () => {
    for await (const update of api.sync(stop.signal)) {
      if (update.snapshot) state.clear();
      for (const id of update.removed) state.delete(id);
      for (const { id } of update.upserts) state.add(id);
      seen.push(update);
    }
  })().catch(() => undefined);
  const end = async (): Promise<void> => {
    stop.abort();
    await reading;
  };
  closing(end);
  return { seen, ids: () => [...state].sort(), stop: end };
}
const pods = (count: number): void =>
  w.store.put(...Array.from({ length: count }, (_, at) => aPodObject(`pod-${at}`)));
const idOf = (at: number): string => `uid-pod-${at}/shop/main`;

describe('registrations from a server on the other side', () => {
  it('are the whole at first, then what changes', async () => {
    pods(3);
    const stream = following();
    await until('the first update', () => stream.seen.length === 1);
    expect(stream.seen[0]).toMatchObject({ snapshot: true, removed: [] });
    expect(stream.ids()).toEqual([0, 1, 2].map(idOf));
    w.store.remove(aPodObject('pod-1'));
    await until('the removal', () => stream.seen.length === 2);
    expect(stream.seen[1]).toEqual({ snapshot: false, upserts: [], removed: [idOf(1)] });
  });

  it('are asked for by what differs, also of another replica, and come out whole', async () => {
    pods(2_500);
    const first = following();
    await until('the first update', () => first.seen.length === 1);
    expect(first.ids()).toHaveLength(2_500);
    await first.stop();
    w.store.remove(aPodObject('pod-7'));
    w.store.put(aPodObject('new'));
    moved = true;
    const second = following();
    await until('the first update of the other', () => second.seen.length === 1);
    expect(second.seen[0]?.snapshot).toBe(true);
    expect(second.ids()).toHaveLength(2_500);
    expect(second.ids()).toContain('uid-new/shop/main');
    expect(second.ids()).not.toContain(idOf(7));
    // The other replica was told of all that is held, and sent two.
    expect([one.named, two.named]).toEqual([[0], [2_500]]);
    const before = first.seen[0]?.upserts.find(({ id }) => id === idOf(1));
    expect(second.seen[0]?.upserts.find(({ id }) => id === idOf(1))).toBe(before);
  });

  it('are asked for whole when they are too many to be named, and what went meanwhile is gone', async () => {
    pods(8_100);
    const first = following();
    await until('the first update', () => first.seen.length === 1);
    await first.stop();
    w.store.remove(aPodObject('pod-7'));
    const second = following();
    await until('the first update again', () => second.seen.length === 1);
    expect(one.named).toEqual([0, 0]);
    expect(second.ids()).toHaveLength(8_099);
    await second.stop();
  });

  it('tell the server which SVIDs there are: one that has started anew knows them at once', async () => {
    pods(2);
    const first = following();
    await until('the first update', () => first.seen.length === 1);
    await first.stop();
    const svid = { notBefore: w.clock.now(), notAfter: w.clock.now() + 3_600_000 };
    svids.set(idOf(0), svid);
    moved = true;
    const second = following();
    await until('the first update of the other', () => second.seen.length === 1);
    expect([...two.controller.svids.all()]).toEqual([{ registrationId: idOf(0), ...svid }]);
    expect([...one.controller.svids.all()]).toEqual([]);
  });

  it('end with an error when the replica stops, and go on at another', async () => {
    pods(1);
    const stop = new AbortController();
    const stream = api.sync(stop.signal)[Symbol.asyncIterator]();
    await stream.next();
    const next = stream.next();
    await one.drain();
    await expect(next).rejects.toMatchObject({ status: 'Unavailable' });
    moved = true;
    const again = api.sync(stop.signal)[Symbol.asyncIterator]();
    expect(await again.next()).toMatchObject({ value: { snapshot: true, upserts: [{ id: idOf(0) }] } });
    stop.abort();
    await again.next().catch(() => undefined);
  });
});

describe('the other calls', () => {
  it('give what the server gives: bundles, SVIDs in their places, explanations', async () => {
    pods(1);
    const stop = new AbortController();
    const bundles = api.bundles(stop.signal)[Symbol.asyncIterator]();
    expect((await bundles.next()).value).toMatchObject({ own: w.ca.bundle.value, federated: [] });
    const rotated = bundles.next();
    await w.ca.rotate('x509');
    expect((await rotated).value).toMatchObject({ own: { sequence: w.ca.bundle.value.sequence } });
    stop.abort();
    await bundles.next().catch(() => undefined);

    const { csr } = await makeKey('ec-p256');
    const results = await api.signX509([
      { registrationId: 'uid-nobody/shop/main', csr },
      { registrationId: idOf(0), csr },
    ]);
    expect(results.map(({ ok }) => ok)).toEqual([false, true]);
    const [jwt] = await api.signJwt([{ registrationId: idOf(0), audience: ['a'] }]);
    expect(jwt).toMatchObject({ ok: true });
    const text = await api.explain?.({ kind: 'pod', uid: 'uid-nobody' });
    expect(text).toContain('not known here');
    const facts = { uid: 4711, gid: 1, supplementaryGids: [2] };
    expect(await api.explain?.({ kind: 'process', facts })).toContain('4711');
  });

  it('fail with the server’s status, and can be given up', async () => {
    const gone = new AbortController();
    const waiting = api.signX509([], gone.signal);
    gone.abort();
    await expect(waiting).rejects.toMatchObject({ status: 'Cancelled' });
    const requests = Array.from({ length: 501 }, () => ({ registrationId: 'x', csr: new Uint8Array() }));
    await expect(api.signX509(requests)).rejects.toMatchObject({ status: 'InvalidArgument' });
  });
});
