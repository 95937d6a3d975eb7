import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import { SignetError } from '../lib/errors.js';
import { silentLogger } from '../lib/logger.js';
import type { FederatedTrustDomain, FederatedTrustDomainStatus } from '../resources/identity.js';
import { createFederation, type Federation } from './federation.js';

let clock: FakeClock;
let store: MemoryStore;
let federation: Federation;
let parses: string[];

function start(): void {
  federation = createFederation({
    store,
    trustDomain: 'example.org',
    parseBundle: (trustDomain, document) => {
      parses.push(trustDomain);
      if (document === 'broken') throw new SignetError('BundleInvalid', 'the bundle document is no JSON');
      return { trustDomain, x509Authorities: [], jwtAuthorities: [], sequence: Number(document) };
    },
    clock,
    logger: silentLogger,
  });
}

function foreign(name: string, trustDomain: string, bundle?: string): FederatedTrustDomain {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'FederatedTrustDomain',
    metadata: { name, uid: name, generation: 3 },
    spec: { trustDomain, ...(bundle === undefined ? {} : { bundle }) },
  };
}

const served = (): object[] =>
  federation.bundles.value.map(({ trustDomain, sequence }) => ({ [trustDomain]: sequence }));
const status = (name: string): FederatedTrustDomainStatus =>
  store.status('FederatedTrustDomain', name) as FederatedTrustDomainStatus;
const ready = (name: string): object | undefined => status(name).conditions?.[0];

beforeEach(() => {
  clock = new FakeClock();
  store = new MemoryStore();
  parses = [];
});
afterEach(async () => {
  await federation.close();
  expect(store.subscribers).toBe(0);
  expect(clock.timers).toBe(0);
});

describe('bundles of foreign trust domains', () => {
  it('follow the resources, sorted, and tell of it in their statuses', async () => {
    store = new MemoryStore(false);
    store.put(foreign('b', 'b.example', '7'), foreign('a', 'a.example', '1'));
    start();
    expect(served()).toEqual([]);
    store.synced.set(true);
    expect(served()).toEqual([{ 'a.example': 1 }, { 'b.example': 7 }]);
    await settle();
    expect(status('b')).toMatchObject({
      sequence: 7,
      conditions: [{ type: 'Ready', status: 'True', reason: 'BundleServed', observedGeneration: 3 }],
    });
    store.put(foreign('b', 'b.example', '8'));
    expect(served()).toEqual([{ 'a.example': 1 }, { 'b.example': 8 }]);
    store.remove(foreign('a', 'a.example'));
    expect(served()).toEqual([{ 'b.example': 8 }]);
    expect(parses).toEqual(['a.example', 'b.example', 'b.example']);
  });

  it('that cannot be read, are the own or a second one, are not served, with the reason', async () => {
    start();
    store.put(
      foreign('broken', 'c.example', 'broken'),
      foreign('own', 'example.org', '1'),
      foreign('first', 'd.example', '1'),
      foreign('second', 'd.example', '2'),
      foreign('none', 'e.example'),
      foreign('upper', 'E.example', '1'),
    );
    expect(served()).toEqual([{ 'd.example': 1 }]);
    await settle();
    expect(ready('broken')).toMatchObject({ status: 'False', reason: 'BundleInvalid' });
    expect(ready('own')).toMatchObject({ status: 'False', reason: 'OwnTrustDomain' });
    expect(ready('first')).toMatchObject({ status: 'True' });
    expect(ready('second')).toMatchObject({ status: 'False', reason: 'TrustDomainDuplicate' });
    expect(ready('none')).toMatchObject({ status: 'False', reason: 'BundleMissing' });
    expect(ready('upper')).toMatchObject({ status: 'False', reason: 'TrustDomainInvalid' });
    store.remove(foreign('first', 'd.example'));
    expect(served()).toEqual([{ 'd.example': 2 }]);
  });

  it('have their statuses written again when the store fails, and once when it does not', async () => {
    start();
    store.failWrites = 1;
    store.put(foreign('a', 'a.example', '1'));
    await settle();
    expect(store.written).toEqual([]);
    await clock.advance(5_000);
    expect(store.written).toHaveLength(1);
    store.put(foreign('a', 'a.example', '1'));
    await settle();
    expect(store.written).toHaveLength(1);
  });
});
