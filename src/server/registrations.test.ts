import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { FakeClock } from '../../test/support/fake-clock.js';
import { aClusterWorkloadIdentity, aPodObject, aWorkloadIdentity } from '../../test/support/identities.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import {
  createRegistrationIndex,
  type RegistrationBounds,
} from '../identity/registration/registration-index.js';
import { type Logger, silentLogger } from '../lib/logger.js';
import { WatchedValue } from '../lib/watched.js';
import type { IdentityStatus } from '../resources/identity.js';
import {
  createRegistrationController,
  type NodeChange,
  type RegistrationController,
  type RegistrationControllerOptions,
} from './registrations.js';

let clock: FakeClock;
let store: MemoryStore;
let controller: RegistrationController;

function start(logger: Logger = silentLogger, options: Partial<RegistrationControllerOptions> = {}): void {
  controller = createRegistrationController({
    ...options,
    store,
    index: createRegistrationIndex({
      trustDomain: 'example.org',
      defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
      maxX509TtlSeconds: 86_400,
    }),
    clock,
    logger,
  });
}

beforeEach(() => {
  clock = new FakeClock();
  store = new MemoryStore();
});

afterEach(async () => {
  await controller.close();
  expect(store.subscribers).toBe(0);
});

const ids = (nodeName = 'node-1'): string[] =>
  controller.registrations.forNode(nodeName).map(({ spiffeId }) => spiffeId.path);
const status = (key = 'shop/main', kind = 'WorkloadIdentity'): IdentityStatus | undefined =>
  store.status(kind, key) as IdentityStatus | undefined;
const issued = (registrationId: string, forMs: number): void =>
  controller.svids.note({ registrationId, notBefore: clock.now(), notAfter: clock.now() + forMs });
const ready = (): object | undefined => status()?.conditions?.[0];

describe('registrations', () => {
  it('are read when the store is synced, and not before', () => {
    store = new MemoryStore(false);
    store.put(aPodObject('pay'));
    start();
    store.put(aWorkloadIdentity('main'));
    expect(controller.registrations.ready.value).toBe(false);
    expect(ids()).toEqual([]);
    store.synced.set(true);
    expect(controller.registrations.ready.value).toBe(true);
    expect(ids()).toEqual(['/ns/shop/sa/pay']);
  });

  it('follow what the trust domain says for identities that do not say', () => {
    const day = { defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 }, maxX509TtlSeconds: 86_400 };
    const bounds = new WatchedValue<RegistrationBounds>(day);
    store.put(aPodObject('pay'), aPodObject('own'));
    store.put(aWorkloadIdentity('main', { serviceAccountNames: ['pay'] }));
    store.put(aWorkloadIdentity('own', { serviceAccountNames: ['own'], x509TTL: '2h', jwtTTL: '1m' }));
    start(silentLogger, { bounds });
    const seen: NodeChange[] = [];
    controller.registrations.watch('node-1', (change) => seen.push(change));
    const now = (): string[] =>
      controller.registrations
        .forNode('node-1')
        .map((one) => `${one.spiffeId.path} ${one.x509TtlSeconds} ${one.jwtTtlSeconds} ${one.keyType ?? ''}`)
        .sort();
    const revisions = (): string[] =>
      controller.registrations.forNode('node-1').map(({ revision }) => revision);
    const before = revisions();
    bounds.set({ ...day, defaults: { x509TtlSeconds: 1800, jwtTtlSeconds: 120 } });
    expect(now()).toEqual(['/ns/shop/sa/own 7200 60 ', '/ns/shop/sa/pay 1800 120 ']);
    // Told once, and of what is other than before alone.
    expect(seen.map(({ changed }) => changed.map(({ spiffeId }) => spiffeId.path))).toEqual([
      ['/ns/shop/sa/pay'],
    ]);
    bounds.set({ ...day, keyType: 'ec-p384' });
    expect(now()).toEqual(['/ns/shop/sa/own 7200 60 ec-p384', '/ns/shop/sa/pay 3600 300 ec-p384']);
    expect(seen).toHaveLength(2);
    bounds.set({ ...day, maxX509TtlSeconds: 3600 });
    expect(now()).toEqual(['/ns/shop/sa/pay 3600 300 ']);
    expect(seen[2]?.removed).toHaveLength(1);
    bounds.set({ ...day, keyType: 'ec-p256' });
    expect(revisions().sort()).toEqual(before.sort());
  });

  it('follow the store', () => {
    start();
    const identity = aWorkloadIdentity('main');
    store.put(identity, aPodObject('pay'));
    expect(ids()).toEqual(['/ns/shop/sa/pay']);
    store.put(aPodObject('pay', {}, { uid: 'again' }));
    expect(controller.registrations.forNode('node-1').map(({ id }) => id)).toEqual(['again/shop/main']);
    store.remove(identity);
    expect(ids()).toEqual([]);
    store.put(identity);
    store.remove(aPodObject('pay', {}, { uid: 'again' }));
    expect(ids()).toEqual([]);
  });

  it('end with the pod’s work', () => {
    start();
    store.put(aWorkloadIdentity('main'), aPodObject('pay'));
    store.put({ ...aPodObject('pay'), ...{ status: { phase: 'Succeeded' } } });
    expect(ids()).toEqual([]);
  });

  it('follow the labels of namespaces', () => {
    start();
    const namespace = (tier: string) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'shop', uid: 'ns', generation: 1, labels: { tier } },
    });
    store.put(aClusterWorkloadIdentity('gold', { namespaceSelector: { matchLabels: { tier: 'gold' } } }));
    store.put(namespace('gold'), aPodObject('pay'));
    expect(ids()).toHaveLength(1);
    store.put(namespace('iron'));
    expect(ids()).toHaveLength(0);
    store.remove(namespace('iron'));
    expect(ids()).toHaveLength(0);
  });

  it('of an object that cannot be read are taken away, and the others go on', () => {
    start();
    store.put(aWorkloadIdentity('main'), aPodObject('pay'));
    store.put({ ...aWorkloadIdentity('main'), spec: null } as never, aWorkloadIdentity('next'));
    expect(controller.registrations.forNode('node-1').map(({ identity }) => identity.name)).toEqual(['next']);
  });

  it('tell a node of its own changes, once per batch', () => {
    start();
    const seen: NodeChange[] = [];
    const other: NodeChange[] = [];
    const end = controller.registrations.watch('node-1', (change) => seen.push(change));
    controller.registrations.watch('node-2', (change) => other.push(change));
    store.put(aPodObject('a'), aPodObject('b'), aWorkloadIdentity('main'));
    expect(seen).toHaveLength(1);
    expect(seen[0]?.changed.map(({ id }) => id)).toEqual(['uid-a/shop/main', 'uid-b/shop/main']);
    store.put(aPodObject('a', { nodeName: 'node-2' }));
    expect(seen[1]).toEqual({ changed: [], removed: ['uid-a/shop/main'] });
    expect(other[0]?.changed.map(({ id }) => id)).toEqual(['uid-a/shop/main']);
    store.put(aClusterWorkloadIdentity('host', { spiffeIDTemplate: '/host', processSelector: { uid: 0 } }));
    expect(seen[2]?.changed.map(({ id }) => id)).toEqual(['process//host']);
    expect(other[1]?.changed.map(({ id }) => id)).toEqual(['process//host']);
    end();
    store.remove(aPodObject('b'));
    expect(seen).toHaveLength(3);
  });
});

describe('the status of an identity', () => {
  it('says what became of it, a moment after the change', async () => {
    start();
    store.put(aPodObject('pay'), aPodObject('late', { nodeName: '' }), aWorkloadIdentity('main'));
    expect(store.written).toEqual([]);
    await clock.advance(100);
    expect(status()).toEqual({
      conditions: [
        {
          type: 'Ready',
          status: 'True',
          reason: 'Registered',
          message: '1 of 2 selected pods have the identity; 1 wait for a node',
          lastTransitionTime: '2026-01-01T00:00:00Z',
          observedGeneration: 1,
        },
      ],
      podsSelected: 2,
      svidsIssued: 0,
    });
  });

  it('names each pod that failed, up to 50, and counts the others', async () => {
    start();
    store.put(aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/shop/{{ .Labels.team }}' }));
    store.put(...Array.from({ length: 60 }, (_, at) => aPodObject(`pod-${at + 10}`)));
    await clock.advance(100);
    expect(status()?.failures).toHaveLength(50);
    expect(status()?.failures?.[0]).toMatchObject({ pod: 'shop/pod-10', reason: 'TemplateValueMissing' });
    expect(ready()).toMatchObject({ status: 'False', reason: 'TemplateValueMissing' });
    expect(ready()).toMatchObject({
      message: expect.stringMatching(/^60 of 60 .*; 10 of them are not listed/),
    });
  });

  it('says the identity’s own problem with its reason', async () => {
    start();
    store.put(aPodObject('pay'), aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/other/x' }));
    await clock.advance(100);
    expect(ready()).toMatchObject({ status: 'False', reason: 'NamespaceEscape' });
    expect(status()?.podsSelected).toBe(1);
  });

  it('is written only when it changed, and keeps the time of its last turn', async () => {
    start();
    store.put(aPodObject('pay'), aWorkloadIdentity('main'));
    await clock.advance(100);
    store.put(aPodObject('pay', {}, { annotations: { a: 'b' } }));
    await clock.advance(60_000);
    expect(store.written).toHaveLength(1);
    store.put(aPodObject('next'));
    await clock.advance(100);
    expect(store.written).toHaveLength(2);
    expect(ready()).toMatchObject({ lastTransitionTime: '2026-01-01T00:00:00Z' });
    store.put(aWorkloadIdentity('main', { x509TTL: '48h' }));
    await clock.advance(100);
    expect(ready()).toMatchObject({ reason: 'TTLTooLong', lastTransitionTime: '2026-01-01T00:01:00Z' });
  });

  it('counts SVIDs that are valid and says the next expiry', async () => {
    start();
    store.put(aPodObject('a'), aPodObject('b'), aWorkloadIdentity('main'));
    await clock.advance(100);
    issued('uid-a/shop/main', 3_600_000);
    issued('uid-b/shop/main', 60_000);
    issued('uid-nobody/shop/main', 1_000);
    await clock.advance(6_000);
    expect(status()).toMatchObject({ svidsIssued: 2, nextExpiry: '2026-01-01T00:01:00Z' });
    store.remove(aPodObject('b'));
    await clock.advance(100);
    expect(status()).toMatchObject({ svidsIssued: 1, nextExpiry: '2026-01-01T01:00:00Z' });
    await clock.advance(3_600_000);
    store.put(aPodObject('c'));
    await clock.advance(100);
    expect(status()?.svidsIssued).toBe(0);
    expect(status()).not.toHaveProperty('nextExpiry');
  });

  it('counts an SVID until it ends, also when nothing else happens', async () => {
    start();
    store.put(aPodObject('a'), aPodObject('b'), aWorkloadIdentity('main'));
    issued('uid-a/shop/main', 600_000);
    issued('uid-b/shop/main', 1_200_000);
    await clock.advance(590_000);
    expect(status()).toMatchObject({ svidsIssued: 2, nextExpiry: '2026-01-01T00:10:00Z' });
    await clock.advance(45_000);
    expect(status()).toMatchObject({ svidsIssued: 1, nextExpiry: '2026-01-01T00:20:00Z' });
    await clock.advance(600_000);
    expect(status()?.svidsIssued).toBe(0);
    expect(clock.timers).toBe(0);
  });

  it('counts the SVID that was signed last, in whatever order it is told', async () => {
    start();
    store.put(aPodObject('a'), aWorkloadIdentity('main'));
    const at = clock.now();
    const told = (notBefore: number, notAfter: number): void =>
      controller.svids.note({ registrationId: 'uid-a/shop/main', notBefore, notAfter });
    told(at, at + 60_000);
    told(at - 1_000, at + 3_600_000);
    await clock.advance(6_000);
    expect(status()).toMatchObject({ svidsIssued: 1, nextExpiry: '2026-01-01T00:01:00Z' });
  });

  it('is tried again until it is written', async () => {
    start();
    store.failWrites = 3;
    store.put(aPodObject('pay'), aWorkloadIdentity('main'));
    await clock.advance(500);
    expect(store.written).toEqual([]);
    await clock.advance(1_000);
    expect(store.failWrites).toBe(1);
    await clock.advance(2_000 + 4_000);
    expect(store.written).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });

  it('is told to the log when it turns, once', async () => {
    const lines: string[] = [];
    const note = (message: string, fields?: object): void => {
      lines.push(`${message} ${JSON.stringify(fields)}`);
    };
    start({ ...silentLogger, warn: note, info: note });
    lines.length = 0;
    store.put(aPodObject('pay'), aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/other/{{ .PodName }}' }));
    await clock.advance(100);
    store.put(aPodObject('next'));
    await clock.advance(100);
    store.put(aWorkloadIdentity('main'));
    await clock.advance(100);
    expect(lines).toEqual([
      expect.stringMatching(/not given as asked .*"WorkloadIdentity shop\/main","reason":"NamespaceEscape"/),
      expect.stringMatching(/given as asked again .*"reason":"Registered"/),
    ]);
    expect(lines[0]).toContain('tried with \\"shop\\" for each field');
  });

  it('is not written of an identity that is gone', async () => {
    start();
    store.put(aPodObject('pay'), aWorkloadIdentity('main'));
    issued('uid-pay/shop/main', 60_000);
    store.remove(aWorkloadIdentity('main'));
    await clock.advance(10_000);
    expect(store.written).toEqual([]);
  });
});

describe('statuses of a replica among others', () => {
  const HOUR = 3_600_000;
  let leading: WatchedValue<boolean>;
  const replica = (): void => start(silentLogger, { leading, settleMs: 20_000 });
  const svids = (): void => {
    issued('uid-a/shop/main', HOUR);
    issued('uid-b/shop/main', HOUR - 60_000);
  };

  beforeEach(() => {
    leading = new WatchedValue(false);
    store.put(aPodObject('a'), aPodObject('b'), aWorkloadIdentity('main'));
  });

  it('are not written while it does not lead, and all looked at when it begins to', async () => {
    replica();
    svids();
    await clock.advance(60_000);
    expect(store.written).toEqual([]);
    leading.set(true);
    await clock.advance(100);
    expect(store.written).toHaveLength(1);
    await clock.advance(30_000);
    expect(status()).toMatchObject({ podsSelected: 2, svidsIssued: 2 });
    leading.set(false);
    store.put(aPodObject('c'));
    await clock.advance(60_000);
    expect(status()).toMatchObject({ podsSelected: 2 });
    expect(clock.timers).toBe(0);
    leading.set(true);
    await clock.advance(100);
    expect(status()).toMatchObject({ podsSelected: 3, svidsIssued: 2 });
  });

  it('are not written again after a restart when agents hold what they held', async () => {
    leading.set(true);
    replica();
    await clock.advance(21_000);
    svids();
    await clock.advance(60_000);
    const written = store.written.length;
    const before = status();
    const held = [...controller.svids.all()];
    expect(before).toMatchObject({ svidsIssued: 2 });
    await controller.close();
    await clock.advance(120_000);
    replica();
    // Agents come back one by one.
    await clock.advance(5_000);
    controller.svids.held('node-1', held.slice(0, 1));
    await clock.advance(10_000);
    controller.svids.held('node-1', held.slice(1));
    await clock.advance(120_000);
    expect(store.written.length).toBe(written);
    expect(status()).toEqual(before);
  });

  it('wait while it is not known for a moment who leads, and are written then', async () => {
    const term = { value: true, watch: leading.watch.bind(leading) };
    start(silentLogger, { leading: term });
    await clock.advance(100);
    const written = store.written.length;
    term.value = false;
    store.put(aPodObject('c'));
    await clock.advance(3_000);
    expect(store.written).toHaveLength(written);
    term.value = true;
    await clock.advance(60_000);
    expect(status()).toMatchObject({ podsSelected: 3 });
  });

  it('say less once it is known that less is there, and never more SVIDs than registrations', async () => {
    leading.set(true);
    replica();
    await clock.advance(21_000);
    svids();
    await clock.advance(10_000);
    await controller.close();
    replica();
    await clock.advance(1_000);
    store.remove(aPodObject('a'));
    await clock.advance(100);
    expect(status()).toMatchObject({ podsSelected: 1, svidsIssued: 1 });
    await clock.advance(25_000);
    expect(status()).toMatchObject({ podsSelected: 1, svidsIssued: 0 });
  });
});
