import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { aPodObject, aWorkloadIdentity } from '../../test/support/identities.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import { createRegistrationIndex } from '../identity/registration/registration-index.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { silentLogger } from '../lib/logger.js';
import { WatchedValue } from '../lib/watched.js';
import { MAX_SIGN_BATCH, type NodeApi, type SignedX509, type SyncUpdate } from '../rpc/node-api.js';
import { createNodeApi, type NodeApiOptions, type NodeSigning } from './node-api.js';
import { createRegistrationController, type RegistrationController } from './registrations.js';

const bundleOf = (trustDomain: string, sequence = 1): TrustBundle => ({
  trustDomain,
  x509Authorities: [],
  jwtAuthorities: [],
  sequence,
});
const signed: SignedX509 = {
  ok: true,
  chain: [],
  notBefore: 0,
  notAfter: 1_000,
  serial: '1',
  authorityId: 'a',
};

let store: MemoryStore;
let controller: RegistrationController;
let api: NodeApi;
let options: NodeApiOptions;
let asked: string[];
let issued: [string, number][];
let stop: AbortController;
const bundle = new WatchedValue(bundleOf('example.org'));
const taints = new WatchedValue<{ x509: readonly string[]; jwt: readonly string[] }>({ x509: [], jwt: [] });
const federation = new WatchedValue<readonly TrustBundle[]>([]);

function start(synced = true): void {
  store = new MemoryStore(synced);
  controller = createRegistrationController({
    store,
    index: createRegistrationIndex({
      trustDomain: 'example.org',
      defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
    }),
    clock: new FakeClock(),
    logger: silentLogger,
  });
  const signing: NodeSigning = {
    signX509: async (requests) => {
      asked.push(...requests.map(({ registrationId }) => registrationId));
      return requests.map(() => signed);
    },
    signJwt: async (requests) =>
      requests.map(({ registrationId }) => ({
        ok: true,
        token: registrationId,
        issuedAt: 0,
        expiresAt: 1,
        keyId: 'k',
      })),
  };
  options = {
    registrations: controller.registrations,
    signing,
    ca: { bundle, taints },
    federation,
    nodeName: 'node-1',
    issued: ({ registrationId, notAfter }) => issued.push([registrationId, notAfter]),
  };
  api = createNodeApi(options);
}

beforeEach(() => {
  asked = [];
  issued = [];
  stop = new AbortController();
  start();
});
afterEach(async () => {
  stop.abort();
  await controller.close();
});

const reader = (): { next(): Promise<SyncUpdate> } => {
  const stream = api.sync(stop.signal)[Symbol.asyncIterator]();
  return {
    async next() {
      const result: IteratorResult<SyncUpdate, unknown> = await stream.next();
      if (result.done === true) throw new Error('the stream ended');
      return result.value;
    },
  };
};
const summary = ({ snapshot, upserts, removed }: SyncUpdate): object => ({
  snapshot,
  upserts: upserts.map(({ id }) => id),
  removed,
});

describe('sync', () => {
  it('begins with a snapshot of the node and goes on with changes', async () => {
    store.put(aWorkloadIdentity('main'), aPodObject('a'), aPodObject('b', { nodeName: 'node-2' }));
    const stream = reader();
    expect(summary(await stream.next())).toEqual({
      snapshot: true,
      upserts: ['uid-a/shop/main'],
      removed: [],
    });
    const next = stream.next();
    store.put(aPodObject('c'));
    expect(summary(await next)).toEqual({ snapshot: false, upserts: ['uid-c/shop/main'], removed: [] });
    const gone = stream.next();
    store.remove(aPodObject('a'));
    expect(summary(await gone)).toEqual({ snapshot: false, upserts: [], removed: ['uid-a/shop/main'] });
  });

  it('gives no snapshot before the store is read: that would take away what agents hold', async () => {
    start(false);
    store.put(aWorkloadIdentity('main'), aPodObject('a'));
    let arrived = false;
    const next = reader()
      .next()
      .then((update) => {
        arrived = true;
        return update;
      });
    await settle();
    expect(arrived).toBe(false);
    store.synced.set(true);
    expect(summary(await next)).toEqual({ snapshot: true, upserts: ['uid-a/shop/main'], removed: [] });
  });

  it('merges what a slow reader misses', async () => {
    store.put(aWorkloadIdentity('main'));
    const stream = reader();
    await stream.next();
    store.put(aPodObject('a'), aPodObject('b'));
    store.put(aWorkloadIdentity('main', { hint: 'new' }));
    store.remove(aPodObject('b'));
    const update = await stream.next();
    expect(summary(update)).toEqual({
      snapshot: false,
      upserts: ['uid-a/shop/main'],
      removed: ['uid-b/shop/main'],
    });
    expect(update.upserts[0]?.hint).toBe('new');
  });

  it('starts over for a reader that missed more than it is worth remembering', async () => {
    store.put(aWorkloadIdentity('main'));
    const stream = reader();
    await stream.next();
    for (let at = 0; at < 1_100; at++) {
      store.put(aPodObject(`pod-${at}`));
      store.remove(aPodObject(`pod-${at}`));
    }
    store.put(aPodObject('last'));
    expect(summary(await stream.next())).toEqual({
      snapshot: true,
      upserts: ['uid-last/shop/main'],
      removed: [],
    });
    const next = stream.next();
    store.put(aPodObject('more'));
    expect(summary(await next)).toMatchObject({ snapshot: false, upserts: ['uid-more/shop/main'] });
  });

  it('ends without an error when it is aborted', async () => {
    const stream = api.sync(stop.signal)[Symbol.asyncIterator]();
    await stream.next();
    const next = stream.next();
    stop.abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });
});

describe('bundles', () => {
  it('are the whole state, at first and after each change', async () => {
    const stream = api.bundles(stop.signal)[Symbol.asyncIterator]();
    const take = async (): Promise<unknown> => (await stream.next()).value;
    expect(await take()).toEqual({ own: bundle.value, federated: [], taintedX509: [], taintedJwt: [] });
    federation.set([bundleOf('partner.example')]);
    bundle.set(bundleOf('example.org', 2));
    taints.set({ x509: ['ab'], jwt: ['k1'] });
    expect(await take()).toMatchObject({
      own: { sequence: 2 },
      federated: [{ trustDomain: 'partner.example' }],
      taintedX509: ['ab'],
      taintedJwt: ['k1'],
    });
    const next = stream.next();
    stop.abort();
    expect((await next).done).toBe(true);
    expect([bundle.watchers, taints.watchers, federation.watchers]).toEqual([0, 0, 0]);
  });
});

describe('revoked serial numbers', () => {
  it('are told with the bundles, at first and when they change', async () => {
    const revokedSerials = new WatchedValue<readonly string[]>(['a1']);
    const other = createNodeApi({ ...options, revokedSerials });
    const stream = other.bundles(stop.signal)[Symbol.asyncIterator]();
    expect((await stream.next()).value).toMatchObject({ revokedSerials: ['a1'] });
    const next = stream.next();
    revokedSerials.set(['a1', 'b2']);
    expect((await next).value).toMatchObject({ revokedSerials: ['a1', 'b2'] });
  });
});

describe('signing', () => {
  const csr = new Uint8Array();

  it('is for registrations of the node alone, each answer in its place', async () => {
    store.put(
      aWorkloadIdentity('main'),
      aPodObject('a'),
      aPodObject('b', { nodeName: 'node-2' }),
      aPodObject('c'),
    );
    const wanted = ['uid-b/shop/main', 'uid-a/shop/main', 'uid-x/shop/main', 'uid-c/shop/main'];
    const results = await api.signX509(wanted.map((registrationId) => ({ registrationId, csr })));
    expect(results.map(({ ok }) => ok)).toEqual([false, true, false, true]);
    expect(results[0]).toMatchObject({ code: 'RegistrationNotFound', retryable: false });
    expect(asked).toEqual(['uid-a/shop/main', 'uid-c/shop/main']);
    expect(issued).toEqual([
      ['uid-a/shop/main', 1_000],
      ['uid-c/shop/main', 1_000],
    ]);
    const tokens = await api.signJwt(wanted.map((registrationId) => ({ registrationId, audience: ['a'] })));
    expect(tokens.map((result) => (result.ok ? result.token : result.code))).toEqual([
      'RegistrationNotFound',
      'uid-a/shop/main',
      'RegistrationNotFound',
      'uid-c/shop/main',
    ]);
  });

  it('refuses a batch over the limit', async () => {
    const request = { registrationId: 'x', csr };
    await expect(
      api.signX509(Array.from({ length: MAX_SIGN_BATCH + 1 }, () => request)),
    ).rejects.toMatchObject({ status: 'InvalidArgument', code: 'BatchTooLarge' });
    expect(await api.signX509(Array.from({ length: MAX_SIGN_BATCH }, () => request))).toHaveLength(
      MAX_SIGN_BATCH,
    );
  });
});

describe('an explanation', () => {
  it('is given for pods of the node, and for processes', async () => {
    store.put(aPodObject('a'), aPodObject('b', { nodeName: 'node-2' }));
    expect(await api.explain?.({ kind: 'pod', uid: 'uid-a' })).toContain('no identity selects pod shop/a');
    expect(await api.explain?.({ kind: 'pod', uid: 'uid-b' })).toContain('not known here');
    const facts = { uid: 1, gid: 1, supplementaryGids: [] };
    expect(await api.explain?.({ kind: 'process', facts })).toContain('uid 1');
  });
});
