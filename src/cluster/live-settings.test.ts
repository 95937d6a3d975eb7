import { describe, expect, it } from '@jest/globals';

import { MemoryStore } from '../../test/support/memory-store.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import type { TrustDomain, TrustDomainSpec } from '../resources/identity.js';
import { followSettings, type LiveSettings } from './live-settings.js';
import { trustDomainSettings, type TrustDomainSettings } from './trust-domain.js';

function aTrustDomain(spec: Partial<TrustDomainSpec> = {}, name = 'main'): TrustDomain {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'TrustDomain',
    metadata: { name, uid: name, generation: 1 },
    spec: { name: 'example.org', ...spec },
  };
}

function followed(spec: Partial<TrustDomainSpec> = {}): {
  readonly store: MemoryStore;
  readonly settings: LiveSettings;
  readonly seen: TrustDomainSettings[];
  readonly log: ReturnType<typeof recordingLogger>;
} {
  const store = new MemoryStore();
  const resource = aTrustDomain(spec);
  store.put(resource);
  const log = recordingLogger();
  const settings = followSettings(store, trustDomainSettings({ resource }), { logger: log });
  const seen: TrustDomainSettings[] = [];
  settings.watch((now) => seen.push(now));
  return { store, settings, seen, log };
}

describe('the settings of the trust domain, followed', () => {
  it('are what the resource says now, and tell of it once', () => {
    const { store, settings, seen } = followed();
    const spec = {
      ttls: { x509Svid: '30m' },
      defaultAction: 'Allow',
      jwtIssuer: 'https://a.example',
    } as const;
    store.put(aTrustDomain(spec));
    store.put(aTrustDomain(spec));
    expect(settings.value).toEqual(trustDomainSettings({ resource: aTrustDomain(spec) }));
    expect(seen).toEqual([settings.value]);
    store.put(aTrustDomain());
    expect(settings.value).toEqual(trustDomainSettings({ resource: aTrustDomain() }));
    settings.close();
    store.put(aTrustDomain(spec));
    expect(seen).toHaveLength(2);
  });

  it('stay as they were where the resource cannot be used, is gone, foreign, or one of two', () => {
    const { store, settings, seen, log } = followed({ ttls: { x509Svid: '30m' } });
    const before = settings.value;
    store.put(aTrustDomain({ ttls: { x509Svid: '25h' } }));
    expect(log.lines).toEqual(['error the TrustDomain cannot be used; what was in force stays']);
    store.put(aTrustDomain({ name: 'other.org', ttls: { x509Svid: '10m' } }));
    store.remove(aTrustDomain());
    store.put(aTrustDomain({ ttls: { x509Svid: '10m' } }, 'first'));
    expect(seen.map(({ ttlSeconds }) => ttlSeconds.x509Svid)).toEqual([600]);
    store.put(aTrustDomain({ ttls: { x509Svid: '20m' } }, 'second'));
    expect(settings.value.ttlSeconds.x509Svid).toBe(600);
    expect(before.ttlSeconds.x509Svid).toBe(1800);
  });

  it('follow the key that seals the authorities, too', () => {
    const { store, settings, seen } = followed({ keyEncryption: { local: { keyFile: 'kek' } } });
    const kms = { kms: { socket: '/run/kms.sock' } };
    const keyEncryption = { ...kms, previous: { local: { keyFile: 'kek' } } };
    store.put(aTrustDomain({ keyEncryption, ttls: { jwtSvid: '1m' } }));
    expect(seen).toEqual([settings.value]);
    expect(settings.value).toMatchObject({
      keyEncryption: { socket: '/run/kms.sock' },
      previousKeyEncryption: { keyFile: 'kek' },
      ttlSeconds: { jwtSvid: 60 },
    });
  });
});
