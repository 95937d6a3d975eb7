import { describe, expect, it } from '@jest/globals';

import { MemoryStore } from '../../test/support/memory-store.js';
import type { TrustDomain, TrustDomainSpec } from '../resources/identity.js';
import { findTrustDomain, TrustDomainError, trustDomainSettings } from './trust-domain.js';

function aTrustDomain(spec: Partial<TrustDomainSpec> = {}, name = 'main'): TrustDomain {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'TrustDomain',
    metadata: { name, uid: name, generation: 1 },
    spec: { name: 'example.org', ...spec },
  };
}

describe('the settings of a trust domain', () => {
  it('are the defaults where nothing is said', () => {
    const defaults = {
      name: 'example.org',
      keyTypes: { x509Authority: 'ec-p256', jwtAuthority: 'ec-p256', workload: 'ec-p256' },
      ttlSeconds: { authority: 86_400, x509Svid: 3600, jwtSvid: 300 },
      defaultAction: 'Deny',
      tokenIssuers: [],
      meshOptions: {},
    };
    expect(trustDomainSettings({ flag: 'example.org' })).toEqual(defaults);
    expect(trustDomainSettings({ resource: aTrustDomain() })).toEqual(defaults);
    expect(trustDomainSettings({ resource: aTrustDomain(), flag: 'spiffe://example.org' })).toEqual(defaults);
  });

  it('are what the resource says', () => {
    const disk = { certificateFile: 'ca.pem', keyFile: 'ca.key' };
    expect(
      trustDomainSettings({
        resource: aTrustDomain({
          keyTypes: { x509Authority: 'ec-p384', workload: 'ed25519' },
          ttls: { authority: '48h', x509Svid: '30m', jwtSvid: '90s' },
          jwtIssuer: 'https://oidc.example.org',
          upstreamAuthority: { disk },
          keyEncryption: { local: { keyFile: 'kek' } },
          defaultAction: 'Allow',
          tokenIssuers: [{ issuer: 'https://login.example.org', audiences: ['shop'] }],
          meshOptions: { istio: { rootNamespace: 'mesh' } },
        }),
      }),
    ).toEqual({
      name: 'example.org',
      keyTypes: { x509Authority: 'ec-p384', jwtAuthority: 'ec-p256', workload: 'ed25519' },
      ttlSeconds: { authority: 172_800, x509Svid: 1800, jwtSvid: 90 },
      jwtIssuer: 'https://oidc.example.org',
      upstreamDisk: disk,
      keyEncryption: { keyFile: 'kek' },
      defaultAction: 'Allow',
      tokenIssuers: [{ issuer: 'https://login.example.org', audiences: ['shop'] }],
      meshOptions: { istio: { rootNamespace: 'mesh' } },
    });
  });

  it('keep unsaid SVID lifetimes within a sixth of a short-lived authority', () => {
    expect(
      trustDomainSettings({ resource: aTrustDomain({ ttls: { authority: '60s' } }) }).ttlSeconds,
    ).toEqual({
      authority: 60,
      x509Svid: 10,
      jwtSvid: 10,
    });
  });

  it.each([
    [{}, 'TrustDomainMissing', '--trust-domain'],
    [{ flag: 'Example.org' }, 'TrustDomainInvalid', '--trust-domain'],
    [{ resource: aTrustDomain({ name: 'a b' }) }, 'TrustDomainInvalid', 'spec.name'],
    [{ resource: aTrustDomain(), flag: 'other.org' }, 'TrustDomainConflict', 'other.org'],
    [{ resource: aTrustDomain({ ttls: { x509Svid: '25h' } }) }, 'TTLTooLong', 'spec.ttls.x509Svid'],
    [{ resource: aTrustDomain({ ttls: { jwtSvid: '25h' } }) }, 'TTLTooLong', 'spec.ttls.jwtSvid'],
    [{ resource: aTrustDomain({ ttls: { authority: '1s' } }) }, 'TTLInvalid', 'spec.ttls.authority'],
    [{ resource: aTrustDomain({ ttls: { authority: '200000h' } }) }, 'TTLInvalid', 'spec.ttls.authority'],
    [{ resource: aTrustDomain({ ttls: { jwtSvid: 'long' } }) }, 'TTLInvalid', 'spec.ttls.jwtSvid'],
    [
      { resource: aTrustDomain({ keyTypes: { jwtAuthority: 'ed25519' as never } }) },
      'KeyTypeInvalid',
      'jwtAuthority',
    ],
    [
      { resource: aTrustDomain({ keyTypes: { workload: 'rsa-1024' as never } }) },
      'KeyTypeInvalid',
      'workload',
    ],
    [{ resource: aTrustDomain({ jwtIssuer: 'example' }) }, 'IssuerInvalid', 'spec.jwtIssuer'],
    [{ resource: aTrustDomain({ jwtIssuer: 'https://x/?a' }) }, 'IssuerInvalid', 'query'],
    [{ resource: aTrustDomain({ jwtIssuer: '' }) }, 'IssuerInvalid', 'spec.jwtIssuer'],
    [
      { resource: aTrustDomain({ upstreamAuthority: { disk: { certificateFile: 'x', keyFile: '' } } }) },
      'UpstreamInvalid',
      'keyFile',
    ],
    [
      { resource: aTrustDomain({ keyEncryption: { local: { keyFile: '' } } }) },
      'KeyEncryptionInvalid',
      'keyFile',
    ],
    [
      { resource: aTrustDomain({ keyEncryption: { kms: { socket: 'kms.sock' } } }) },
      'KeyEncryptionInvalid',
      'absolute',
    ],
    [
      {
        resource: aTrustDomain({
          keyEncryption: { local: { keyFile: 'kek' }, kms: { socket: '/kms.sock' } },
        }),
      },
      'KeyEncryptionInvalid',
      'both',
    ],
    [
      {
        resource: aTrustDomain({
          meshOptions: { linkerd: { probeNetworks: ['10.0.0.0/8', '10.0.0.0/99'] } },
        }),
      },
      'MeshOptionsInvalid',
      'spec.meshOptions.linkerd.probeNetworks.1: ',
    ],
  ])('are refused with the field and the fix: %#', (sources, code, words) => {
    let error: unknown;
    try {
      trustDomainSettings(sources);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TrustDomainError);
    expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
  });
});

describe('the key that seals authority keys', () => {
  it('is named by its file, the socket of its plugin, or as the built-in one; and so is the one before it', () => {
    const local = { local: { keyFile: '/etc/kek' } };
    const kms = { kms: { socket: '/run/kms.sock' } };
    const builtIn = { builtIn: true } as const;
    const sourcesOf = (keyEncryption: TrustDomainSpec['keyEncryption']): unknown => {
      const settings = trustDomainSettings({
        resource: aTrustDomain(keyEncryption === undefined ? {} : { keyEncryption }),
      });
      return [settings.keyEncryption, settings.previousKeyEncryption];
    };
    expect(sourcesOf(undefined)).toEqual([undefined, undefined]);
    expect(sourcesOf(kms)).toEqual([{ socket: '/run/kms.sock' }, undefined]);
    expect(sourcesOf({ ...local, previous: kms })).toEqual([
      { keyFile: '/etc/kek' },
      { socket: '/run/kms.sock' },
    ]);
    expect(sourcesOf({ ...builtIn, previous: local })).toEqual([builtIn, { keyFile: '/etc/kek' }]);
    expect(() => sourcesOf({ ...kms, previous: {} })).toThrow(/spec.keyEncryption.previous names no key/);
    expect(() => sourcesOf({ ...kms, previous: { kms: { socket: 'x' } } })).toThrow(
      /previous.kms.socket must be an absolute/,
    );
  });
});

describe('the one TrustDomain', () => {
  it('is found, or there is none, and never two', () => {
    const store = new MemoryStore();
    expect(findTrustDomain(store)).toBeUndefined();
    store.put(aTrustDomain());
    expect(findTrustDomain(store)?.spec.name).toBe('example.org');
    store.put(aTrustDomain({}, 'other'));
    expect(() => findTrustDomain(store)).toThrow('2 TrustDomain resources (main, other)');
  });
});
