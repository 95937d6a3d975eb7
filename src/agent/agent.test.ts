import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { type RecordingSink, startCall, testContext, until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { parseCertificate } from '../identity/pki/certificate.js';
import { silentLogger } from '../lib/logger.js';
import { JWTBundlesResponse, X509BundlesResponse, X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { type Agent, createAgent, workloadApiHandlers } from './agent.js';
import type { AgentLimits } from './limits.js';
import type { WorkloadApiHandlers } from './workload-api.js';

const HOUR = 3_600_000;

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let handlers: WorkloadApiHandlers;
let stop: AbortController;
let running: Promise<void> | undefined;

function start(limits: Partial<AgentLimits> = {}): void {
  agent = createAgent({
    api,
    nodeName: 'node-1',
    clock,
    random: seededRandom(),
    logger: silentLogger,
    limits,
  });
  handlers = workloadApiHandlers(agent);
  running = agent.run(stop.signal);
}

async function startReady(limits: Partial<AgentLimits> = {}): Promise<void> {
  start(limits);
  await until(() => agent.ready.value && agent.stats().svids === api.registrations.size);
}

/** Time passes, once what has begun has come to wait for it. */
async function pass(ms: number): Promise<void> {
  await settle();
  await clock.advance(ms);
}

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  stop = new AbortController();
  running = undefined;
});

afterEach(async () => {
  stop.abort();
  await running;
});

/** An open FetchX509SVID of a pod. */
function watchSvids(uid: string): RecordingSink<X509SVIDResponse> {
  return startCall(
    X509SVIDResponse,
    (context, sink) => handlers.fetchX509Svid({}, context, sink),
    testContext({ listener: `pod/${uid}` }),
  );
}

function serials(response: X509SVIDResponse): string[] {
  return response.svids.map(({ x509Svid }) => parseCertificate(x509Svid).serial);
}

function ids(response: X509SVIDResponse): string[] {
  return response.svids.map((svid) => svid.spiffeId);
}

/** Authorities in a concatenation. */
function countAuthorities(bundle: Buffer | undefined, authorities: readonly Uint8Array[]): number {
  return authorities.filter((der) => bundle?.includes(Buffer.from(der)) === true).length;
}

describe('FetchX509SVID', () => {
  it('gives a connected pod its SVID: key, chain and bundle that fit', async () => {
    api.upsert(podRegistration('order', { hint: 'main', dnsNames: ['order.shop.svc'] }));
    start();
    const stream = watchSvids('order');
    const [svid] = (await stream.next()).svids;
    expect(svid?.spiffeId).toBe('spiffe://example.org/ns/shop/sa/order');
    expect(svid?.hint).toBe('main');
    const leaf = parseCertificate(svid?.x509Svid ?? new Uint8Array());
    expect(leaf.uris).toEqual(['spiffe://example.org/ns/shop/sa/order']);
    expect(leaf.dnsNames).toEqual(['order.shop.svc']);
    const key = createPrivateKey({ key: svid?.x509SvidKey ?? Buffer.alloc(0), format: 'der', type: 'pkcs8' });
    expect(createPublicKey(key).equals(leaf.publicKey)).toBe(true);
    const authority = parseCertificate(svid?.bundle ?? new Uint8Array());
    expect(leaf.isSignedBy(authority.publicKey)).toBe(true);
  });

  it('serves from the cache what was signed before the workload asked', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const batches = api.x509Batches.length;
    expect((await watchSvids('order').next()).svids).toHaveLength(1);
    expect(api.x509Batches).toHaveLength(batches);
  });

  it('puts the default identity first: hint "default", then namespaced, then by name', async () => {
    const cluster = { kind: 'ClusterWorkloadIdentity', namespace: '', name: 'a' } as const;
    const identity = (name: string) => ({ kind: 'WorkloadIdentity', namespace: 'shop', name }) as const;
    api.upsert(
      podRegistration('p', { id: '1', path: '/cluster', identity: cluster }),
      podRegistration('p', { id: '2', path: '/z', identity: identity('z'), hint: 'z' }),
      podRegistration('p', { id: '3', path: '/b', identity: identity('b'), hint: 'b' }),
      podRegistration('p', { id: '4', path: '/chosen', identity: identity('zz'), hint: 'default' }),
    );
    await startReady();
    expect(ids(await watchSvids('p').next())).toEqual(
      ['/chosen', '/b', '/z', '/cluster'].map((path) => `spiffe://example.org${path}`),
    );
  });

  it('gives one pod nothing of another', async () => {
    api.upsert(podRegistration('order'), podRegistration('payment'));
    await startReady();
    expect(ids(await watchSvids('payment').next())).toEqual(['spiffe://example.org/ns/shop/sa/payment']);
  });

  it('encodes once for all streams of a subject', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const written: unknown[] = [];
    const open = (): void => {
      startCall(
        X509SVIDResponse,
        (context, sink) =>
          handlers.fetchX509Svid({}, context, {
            write: (message) => {
              written.push(message);
              return sink.write(message);
            },
          }),
        testContext({ listener: 'pod/order' }),
      );
    };
    open();
    open();
    await until(() => written.length === 2);
    expect(written[0]).toBeInstanceOf(Uint8Array);
    expect(written[0]).toBe(written[1]);
  });

  it('refuses a call without the security header', async () => {
    await startReady();
    for (const metadata of [{}, { 'workload.spiffe.io': 'True' }]) {
      const stream = startCall(
        X509SVIDResponse,
        (context, sink) => handlers.fetchX509Svid({}, context, sink),
        testContext({ listener: 'pod/order', metadata }),
      );
      expect(await stream.outcome()).toMatchObject({ status: 'InvalidArgument' });
    }
  });

  it('refuses a listener that is nobody’s', async () => {
    await startReady();
    for (const listener of ['admin', 'pod/', 'pod/../x', 'shared']) {
      const stream = startCall(
        X509SVIDResponse,
        (context, sink) => handlers.fetchX509Svid({}, context, sink),
        testContext({ listener }),
      );
      expect(await stream.outcome()).toMatchObject({ status: 'PermissionDenied' });
    }
  });
});

describe('holding a caller', () => {
  it('answers the moment its registration comes', async () => {
    await startReady();
    const stream = watchSvids('order');
    await pass(3_000);
    expect(stream.messages).toHaveLength(0);
    expect(agent.stats().holders).toBe(1);
    api.upsert(podRegistration('order'));
    expect((await stream.next()).svids).toHaveLength(1);
    expect(agent.stats().holders).toBe(0);
  });

  it('ends with what the server knows of why there is no identity', async () => {
    api.explanation = 'WorkloadIdentity shop/order: label app is "ordr", it wants "order"';
    await startReady();
    const stream = watchSvids('order');
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringMatching(
        /the pod with UID order: WorkloadIdentity shop\/order: label app is "ordr"/,
      ),
    });
    expect(api.explained).toEqual([{ kind: 'pod', uid: 'order' }]);
    expect(agent.stats()).toMatchObject({ holders: 0, streams: 0 });
  });

  it('is refused without an explanation when the server takes too long to give one', async () => {
    api.explain = () => new Promise<string>(() => undefined);
    await startReady();
    const stream = watchSvids('order');
    await pass(5_000);
    await pass(1_000);
    expect(await stream.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });

  it('says Unavailable while the agent has never heard from its server', async () => {
    api.unreachable = new Error('connection refused');
    start();
    const stream = watchSvids('order');
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({ status: 'Unavailable', code: 'NotSynced' });
  });

  it('says Unavailable when the server is lost and nothing is known of the caller', async () => {
    await startReady();
    api.unreachable = new Error('connection refused');
    api.breakStreams();
    await until(() => !agent.stats().connected);
    const stream = watchSvids('order');
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({ status: 'Unavailable', code: 'ServerLost' });
  });

  it('says why when the server refuses to sign', async () => {
    api.refusals.set('order/id', {
      ok: false,
      code: 'DnsName',
      message: 'no such DNS name',
      retryable: false,
    });
    api.upsert(podRegistration('order'));
    start();
    await until(() => agent.stats().failing === 1);
    const stream = watchSvids('order');
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({
      status: 'PermissionDenied',
      code: 'DnsName',
      message: expect.stringContaining('no such DNS name'),
    });
  });

  it('is bounded: of one subject and in all', async () => {
    await startReady({ maxHolders: 3, maxHoldersPerSubject: 2 });
    const held = [watchSvids('a'), watchSvids('a')];
    await until(() => agent.stats().holders === 2);
    expect(await watchSvids('a').outcome()).toMatchObject({ status: 'Unavailable' });
    held.push(watchSvids('b'));
    await until(() => agent.stats().holders === 3);
    expect(await watchSvids('c').outcome()).toMatchObject({ status: 'Unavailable' });
    for (const { context } of held) context.hangUp();
    await until(() => agent.stats().holders === 0 && agent.stats().streams === 0);
  });

  it('asks the server for a waiting caller’s SVID before the others', async () => {
    let open: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    api.gate = () => gate;
    for (let index = 0; index < 50; index++) api.upsert(podRegistration(`p${index}`));
    start({ signBatch: 5, signConcurrency: 1 });
    await until(() => api.x509Batches.length === 1);
    const stream = watchSvids('p49');
    await until(() => api.x509Batches.length === 2);
    expect(api.x509Batches[1]).toEqual(['p49/id']);
    open?.();
    expect(ids(await stream.next())).toEqual(['spiffe://example.org/ns/shop/sa/p49']);
  });
});

describe('a change', () => {
  it('is pushed: a rotated SVID, at half-life', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    const before = serials(await stream.next());
    await pass(HOUR * 0.44);
    expect(stream.messages).toHaveLength(1);
    await pass(HOUR * 0.12);
    const after = serials(await stream.next());
    expect(after).not.toEqual(before);
    expect(stream.messages).toHaveLength(2);
  });

  it('is pushed: a new authority, in the bundle, before anything else', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    const before = await stream.next();
    expect(countAuthorities(before.svids[0]?.bundle, api.bundle().x509Authorities)).toBe(1);
    await api.rotate();
    const after = await stream.next();
    expect(countAuthorities(after.svids[0]?.bundle, api.bundle().x509Authorities)).toBe(2);
    expect(serials(after)).toEqual(serials(before));
  });

  it('is not pushed when nothing of what is sent changed', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    await stream.next();
    api.pushBundles();
    api.upsert(podRegistration('payment'));
    await until(() => agent.stats().svids === 2);
    await pass(1_000);
    expect(stream.messages).toHaveLength(1);
  });

  it('of a tainted authority re-signs at once', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    const before = serials(await stream.next());
    const old = api.authorityId;
    await api.rotate();
    await stream.next();
    api.taint(old);
    expect(serials(await stream.next())).not.toEqual(before);
  });

  it('that leaves the names keeps the old SVID serving until the new one is there', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    const before = serials(await stream.next());
    let open: (() => void) | undefined;
    api.gate = () => new Promise<void>((resolve) => (open = resolve));
    api.upsert(podRegistration('order', { x509TtlSeconds: 600, revision: '2' }));
    await until(() => open !== undefined);
    expect(serials(await watchSvids('order').next())).toEqual(before);
    open?.();
    expect(serials(await stream.next())).not.toEqual(before);
  });

  it('of the SPIFFE ID withdraws the old SVID at once', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    await stream.next();
    let open: (() => void) | undefined;
    api.gate = () => new Promise<void>((resolve) => (open = resolve));
    api.upsert(podRegistration('order', { path: '/new', revision: '2' }));
    await until(() => open !== undefined);
    const late = watchSvids('order');
    await pass(500);
    expect(late.messages).toHaveLength(0);
    open?.();
    expect(ids(await stream.next())).toEqual(['spiffe://example.org/new']);
    expect(ids(await late.next())).toEqual(['spiffe://example.org/new']);
  });

  it('of an SVID that is being signed is not answered with the outdated one', async () => {
    let open: (() => void) | undefined;
    api.gate = () => new Promise<void>((resolve) => (open = resolve));
    api.upsert(podRegistration('order', { path: '/old' }));
    start();
    await until(() => open !== undefined);
    const stream = watchSvids('order');
    // The server signs for the registration as it was; the agent hears of the change first.
    const signing = api.registrations.get('order/id');
    api.upsert(podRegistration('order', { path: '/new', revision: '2' }));
    await pass(1);
    if (signing !== undefined) api.registrations.set('order/id', signing);
    open?.();
    api.gate = () => Promise.resolve();
    await until(() => api.x509Batches.length === 2);
    api.registrations.set('order/id', podRegistration('order', { path: '/new', revision: '2' }));
    await pass(5_000);
    expect(stream.messages.map(ids)).toEqual([['spiffe://example.org/new']]);
  });

  it('that removes one of two identities sends what is left', async () => {
    api.upsert(
      podRegistration('order', { id: 'a', path: '/a' }),
      podRegistration('order', { id: 'b', path: '/b', hint: 'b' }),
    );
    await startReady();
    const stream = watchSvids('order');
    expect((await stream.next()).svids).toHaveLength(2);
    api.remove('a');
    expect(ids(await stream.next())).toEqual(['spiffe://example.org/b']);
  });

  it('that removes the last identity ends the stream', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    await stream.next();
    api.remove('order/id');
    await pass(1_000);
    expect(await stream.outcome()).toMatchObject({ status: 'PermissionDenied' });
    expect(agent.stats().svids).toBe(0);
  });

  it('that replaces the last identity does not end the stream', async () => {
    api.upsert(podRegistration('order', { id: 'a', path: '/a' }));
    await startReady();
    const stream = watchSvids('order');
    await stream.next();
    api.remove('a');
    await pass(200);
    api.upsert(podRegistration('order', { id: 'b', path: '/b' }));
    expect(ids(await stream.next())).toEqual(['spiffe://example.org/b']);
    await pass(10_000);
    expect(stream.ended).toBe(false);
  });
});

describe('a clock that jumps', () => {
  it('past the end of the SVIDs: none of them is served again, new ones come at once', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const before = watchSvids('order');
    const old = serials(await before.next());
    clock.jump(HOUR + 1);
    // No timer has fired since.
    const fresh = serials(await watchSvids('order').next());
    expect(fresh).not.toEqual(old);
    expect(serials(await before.next())).toEqual(fresh);
  });

  it('while the server is away: what has expired is not served, and the caller is told to come again', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = watchSvids('order');
    await stream.next();
    api.unreachable = new Error('connection refused');
    clock.jump(HOUR + 1);
    await pass(30_000);
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({ status: 'Unavailable' });
    expect(stream.messages).toHaveLength(1);
    expect(agent.stats().svids).toBe(0);
  });
});

describe('a client that never reads', () => {
  it('costs one message, gets the newest when it reads, and holds up nobody', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stuck = watchSvids('order').stopReading();
    await until(() => stuck.writes === 1);
    const other = watchSvids('order');
    await other.next();
    for (let round = 0; round < 5; round++) {
      await api.rotate();
      await other.next();
    }
    expect(stuck.writes).toBe(1);
    stuck.context.hangUp();
    await until(() => agent.stats().streams === 1);
  });
});

describe('the server', () => {
  it('that goes away takes nothing from the workloads, and its return brings what changed', async () => {
    api.upsert(podRegistration('order'), podRegistration('gone'));
    await startReady();
    const gone = watchSvids('gone');
    await gone.next();
    api.unreachable = new Error('connection refused');
    api.breakStreams();
    await until(() => !agent.stats().connected);
    expect((await watchSvids('order').next()).svids).toHaveLength(1);
    api.registrations.delete('gone/id');
    api.registrations.set('new/id', podRegistration('new'));
    api.unreachable = undefined;
    await pass(30_000);
    await until(() => agent.stats().connected);
    expect((await watchSvids('new').next()).svids).toHaveLength(1);
    await pass(1_000);
    expect(await gone.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });

  it('is not asked in a hot loop while it is unreachable', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    api.unreachable = new Error('connection refused');
    await pass(HOUR * 0.95);
    const batches = api.x509Batches.length;
    expect(batches).toBeLessThan(2 + (HOUR * 0.5) / 10_000);
    expect(batches).toBeGreaterThan(10);
  });

  it('that sends registrations of another node is not believed', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    api.pushSync({
      snapshot: false,
      upserts: [podRegistration('foreign', { nodeName: 'node-2' }), podRegistration('fine')],
      removed: [],
    });
    await until(() => !agent.stats().connected);
    expect(agent.stats().registrations).toBe(1);
  });

  it('leaves the agent stopped for good once its signal is aborted', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    stop.abort();
    await running;
    expect(api.streams).toBe(0);
    expect(clock.timers).toBe(0);
  });
});

describe('bundles', () => {
  const foreign = (name: string) => ({
    trustDomain: name,
    x509Authorities: [Uint8Array.of(0x30, 1, name.length)],
    jwtAuthorities: [],
    sequence: 1,
  });

  function watchBundles(uid: string): RecordingSink<X509BundlesResponse> {
    return startCall(
      X509BundlesResponse,
      (context, sink) => handlers.fetchX509Bundles({}, context, sink),
      testContext({ listener: `pod/${uid}` }),
    );
  }

  it('hold the own trust domain always and those that the workload federates with', async () => {
    api.federated = [foreign('partner.example'), foreign('other.example')];
    api.upsert(podRegistration('order', { federatesWith: ['partner.example', 'missing.example'] }));
    await startReady();
    const stream = watchBundles('order');
    const { bundles } = await stream.next();
    expect(Object.keys(bundles)).toEqual(['spiffe://example.org', 'spiffe://partner.example']);
    const { federatedBundles } = await watchSvids('order').next();
    expect(Object.keys(federatedBundles)).toEqual(['spiffe://partner.example']);
    api.federated = [];
    api.pushBundles();
    expect(Object.keys((await stream.next()).bundles)).toEqual(['spiffe://example.org']);
  });

  it('are JWKS by trust domain ID for JWT', async () => {
    api.upsert(podRegistration('order'));
    await startReady();
    const stream = startCall(
      JWTBundlesResponse,
      (context, sink) => handlers.fetchJwtBundles({}, context, sink),
      testContext({ listener: 'pod/order' }),
    );
    const { bundles } = await stream.next();
    const jwks = JSON.parse(bundles['spiffe://example.org']?.toString() ?? '') as { keys: { kid: string }[] };
    expect(jwks.keys.map(({ kid }) => kid)).toEqual(['jwt-1']);
  });

  it('never let another say who the own authorities are', async () => {
    api.federated = [foreign('example.org')];
    api.upsert(podRegistration('order', { federatesWith: ['example.org'] }));
    await startReady();
    const { bundles } = await watchBundles('order').next();
    expect(Object.keys(bundles)).toEqual(['spiffe://example.org']);
    expect(countAuthorities(bundles['spiffe://example.org'], api.bundle().x509Authorities)).toBe(1);
  });

  it('are not for callers without an identity', async () => {
    await startReady();
    const stream = watchBundles('nobody');
    await pass(5_000);
    expect(await stream.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });
});

describe('fairness', () => {
  it('bounds the streams of one pod, not those of others', async () => {
    api.upsert(podRegistration('greedy'), podRegistration('modest'));
    await startReady({ maxStreamsPerPod: 3 });
    for (let index = 0; index < 3; index++) await watchSvids('greedy').next();
    expect(await watchSvids('greedy').outcome()).toMatchObject({ status: 'ResourceExhausted' });
    expect((await watchSvids('modest').next()).svids).toHaveLength(1);
  });

  it('bounds the rate of calls of one pod', async () => {
    api.upsert(podRegistration('greedy'));
    await startReady({ callsPerSecond: 1, callBurst: 2 });
    const [first] = [watchSvids('greedy'), watchSvids('greedy')];
    await first?.next();
    expect(await watchSvids('greedy').outcome()).toMatchObject({ status: 'ResourceExhausted' });
    await pass(1_000);
    expect((await watchSvids('greedy').next()).svids).toHaveLength(1);
  });
});

describe('podsWithRegistrations', () => {
  it('tells of pods that come and go', async () => {
    await startReady();
    const seen: string[][] = [];
    agent.podsWithRegistrations.watch((pods) => seen.push([...pods.keys()]));
    api.upsert(podRegistration('a'));
    api.upsert(podRegistration('a', { id: 'second', path: '/x' }), podRegistration('b'));
    api.remove('a/id');
    api.remove('second');
    await until(() => seen.length === 3);
    expect(seen).toEqual([['a'], ['a', 'b'], ['b']]);
    expect([...agent.podsWithRegistrations.value.keys()]).toEqual(['b']);
  });
});
