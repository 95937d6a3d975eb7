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
