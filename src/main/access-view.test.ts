import { describe, expect, it } from '@jest/globals';
import { evaluate } from '../access/policy/evaluate.js';
import type { TargetWorkload } from '../access/policy/model.js';
import { trustDomainSettings } from '../cluster/trust-domain.js';
import type { Registration } from '../identity/registration/registration.js';
import type { StoredObject } from '../store/store.js';
import { FakeClock } from '../../test/support/fake-clock.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { followAccess } from './access-view.js';

function policy(effect: 'Allow' | 'Deny'): StoredObject {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { namespace: 'shop', name: 'p', uid: 'p', generation: 1 },
    spec: { target: {}, rules: [{ name: 'r', effect, from: [{ anyone: true }] }] },
  } as StoredObject;
}
const target: TargetWorkload = {
  namespace: 'shop',
  name: 'web',
  serviceAccount: 'web',
  labels: {},
  namespaceLabels: {},
};

function follow(all: () => Iterable<Registration> = () => []) {
  const store = new MemoryStore();
  const clock = new FakeClock();
  const logger = recordingLogger();
  const settings = trustDomainSettings({ flag: 'example.org' });
  store.put(policy('Allow'));
  const live = followAccess({ store, settings, registrations: { all }, clock, logger });
  const allowed = (): boolean | undefined =>
    live.current === undefined
      ? undefined
      : evaluate(live.current.policies, { source: undefined, target, time: 0 }).allowed;
  return { store, clock, logger, live, allowed };
}

describe('the live view of access policies', () => {
  it('takes changes that come close together in one go, and tells', async () => {
    const { store, clock, live, allowed } = follow();
    let told = 0;
    live.subscribe(() => told++);
    expect(allowed()).toBe(true);
    store.put(policy('Deny'));
    store.put(policy('Allow'));
    store.put(policy('Deny'));
    await clock.advance(10);
    expect(allowed()).toBe(false);
    expect(told).toBe(1);
    live.close();
    store.put(policy('Allow'));
    await clock.advance(1000);
    expect(allowed()).toBe(false);
  });

  it('reads pods and identities again only when one of them changes, and policies only when they do', async () => {
    const settings = trustDomainSettings({ flag: 'example.org' });
    const store = new MemoryStore();
    const clock = new FakeClock();
    let reads = 0;
    const all = (): Iterable<Registration> => {
      reads++;
      return [];
    };
    const namespace: StoredObject = {
      ...{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', uid: 'n', generation: 1 } },
    };
    const pod = (name: string, app: string): StoredObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name, uid: name, generation: 1, labels: { app } },
    });
    store.put(namespace, pod('one', 'web'), policy('Deny'));
    const live = followAccess({ store, settings, registrations: { all }, clock, logger: recordingLogger() });
    const change = async (...objects: readonly StoredObject[]): Promise<NonNullable<typeof live.current>> => {
      store.put(...objects);
      await clock.advance(1000);
      if (live.current === undefined) throw new Error('there is a view');
      return live.current;
    };
    const first = await change(policy('Deny'));
    const before = reads;
    const second = await change(policy('Allow'));
    expect(reads).toBe(before);
    expect(second.inventory).toBe(first.inventory);
    expect(second.policies).not.toBe(first.policies);
    expect(second.pod('one')).toBe(first.pod('one'));
    const third = await change(pod('two', 'shop'));
    expect(reads).toBeGreaterThan(before);
    expect(third.policies).toBe(second.policies);
    expect(third.pod('two')?.labels).toEqual({ app: 'shop' });
    expect(third.inventory.workloads.map(({ name }) => name)).toEqual(['one', 'two']);
    // Nothing that a workload is made of is other.
    const fourth = await change({
      ...pod('two', 'shop'),
      metadata: { ...pod('two', 'shop').metadata, generation: 2 },
    });
    expect(fourth.inventory).toBe(third.inventory);
    // The first policy of a namespace that nobody wrote down makes it known.
    const elsewhere = policy('Allow');
    const fifth = await change({ ...elsewhere, metadata: { ...elsewhere.metadata, namespace: 'new' } });
    expect(fifth.inventory.namespaces.map(({ name }) => name)).toEqual(['new', 'shop']);
    live.close();
  });

  it('allows nothing by a view that could not be made anew, and recovers', async () => {
    let broken = false;
    const { store, clock, logger, allowed, live } = follow(() => {
      if (broken) throw new Error('the registrations cannot be read');
      return [];
    });
    broken = true;
    store.put(policy('Allow'));
    await clock.advance(10);
    expect(allowed()).toBeUndefined();
    expect(logger.lines).toEqual(['error the access policies cannot be read, so nothing is allowed']);
    broken = false;
    store.put(policy('Allow'));
    await clock.advance(10);
    expect(allowed()).toBe(true);
    live.close();
  });
});
