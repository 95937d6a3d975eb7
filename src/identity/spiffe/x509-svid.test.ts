import { describe, expect, it } from '@jest/globals';
import type { CertificateView } from './x509-svid.js';
import { checkX509SvidLeaf, checkX509SvidSigner, X509SvidError } from './x509-svid.js';

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

const leaf: CertificateView = {
  isCa: false,
  keyUsage: new Set(['digitalSignature']),
  keyUsageCritical: true,
  extendedKeyUsage: [SERVER_AUTH, CLIENT_AUTH],
  uris: ['spiffe://example.org/workload'],
};

const signer: CertificateView = {
  isCa: true,
  keyUsage: new Set(['keyCertSign', 'cRLSign']),
  keyUsageCritical: true,
  uris: ['spiffe://example.org'],
};

/** The view without one of its optional fields. */
function without(view: CertificateView, field: 'keyUsage' | 'extendedKeyUsage'): CertificateView {
  const { [field]: removed, ...rest } = view;
  expect(removed).toBeDefined();
  return rest;
}

describe('checkX509SvidLeaf (X509-SVID §2-5)', () => {
  it('gives the identity of a leaf that is right', () => {
    expect(checkX509SvidLeaf(leaf).uri).toBe('spiffe://example.org/workload');
  });

  it.each([
    [
      'keyEncipherment and keyAgreement too',
      { keyUsage: new Set(['digitalSignature', 'keyEncipherment', 'keyAgreement']) },
    ],
    ['another extended usage too', { extendedKeyUsage: [CLIENT_AUTH, SERVER_AUTH, '1.2.3.4'] }],
  ])('accepts %s', (_, change) => {
    expect(checkX509SvidLeaf({ ...leaf, ...change }).path).toBe('/workload');
  });

  it('accepts a leaf without extended key usage', () => {
    expect(checkX509SvidLeaf(without(leaf, 'extendedKeyUsage')).path).toBe('/workload');
  });

  it.each<[string, Partial<CertificateView>, string]>([
    ['no URI', { uris: [] }, 'no SPIFFE ID'],
    ['two URIs', { uris: ['spiffe://example.org/a', 'spiffe://example.org/b'] }, 'exactly one URI'],
    [
      'a second URI of another scheme',
      { uris: ['spiffe://example.org/a', 'https://example.org/'] },
      'exactly one URI',
    ],
    ['a URI of another scheme', { uris: ['https://example.org/workload'] }, 'no SPIFFE ID'],
    ['a root path', { uris: ['spiffe://example.org'] }, 'has no path'],
    ['an invalid path', { uris: ['spiffe://example.org/a/../b'] }, 'no SPIFFE ID'],
    ['cA', { isCa: true }, 'may not be a CA'],
    ['keyUsage that is not critical', { keyUsageCritical: false }, 'must be critical'],
    ['no digitalSignature', { keyUsage: new Set(['keyAgreement']) }, 'must hold digitalSignature'],
    ['keyCertSign', { keyUsage: new Set(['digitalSignature', 'keyCertSign']) }, 'may not hold keyCertSign'],
    ['cRLSign', { keyUsage: new Set(['digitalSignature', 'cRLSign']) }, 'may not hold cRLSign'],
    ['clientAuth alone', { extendedKeyUsage: [CLIENT_AUTH] }, 'serverAuth and clientAuth'],
    ['serverAuth alone', { extendedKeyUsage: [SERVER_AUTH] }, 'serverAuth and clientAuth'],
  ])('refuses %s', (_, change, reason) => {
    const act = () => checkX509SvidLeaf({ ...leaf, ...change });
    expect(act).toThrow(X509SvidError);
    expect(act).toThrow(reason);
  });

  it('refuses a leaf without key usage', () => {
    expect(() => checkX509SvidLeaf(without(leaf, 'keyUsage'))).toThrow('must have the extension keyUsage');
  });
});

describe('checkX509SvidSigner', () => {
  it('gives the trust domain of a signing certificate that is right', () => {
    expect(checkX509SvidSigner(signer)?.uri).toBe('spiffe://example.org');
  });

  it('accepts one without any SPIFFE ID', () => {
    expect(checkX509SvidSigner({ ...signer, uris: [] })).toBeUndefined();
  });

  it('accepts one without cRLSign', () => {
    expect(checkX509SvidSigner({ ...signer, keyUsage: new Set(['keyCertSign']) })?.path).toBe('');
  });

  it.each<[string, Partial<CertificateView>, string]>([
    ['no cA', { isCa: false }, 'must be a CA'],
    ['no keyCertSign', { keyUsage: new Set(['cRLSign']) }, 'must hold keyCertSign'],
    ['a path', { uris: ['spiffe://example.org/ca'] }, 'may not have a path'],
    ['two URIs', { uris: ['spiffe://example.org', 'spiffe://example.com'] }, 'exactly one URI'],
  ])('refuses %s', (_, change, reason) => {
    expect(() => checkX509SvidSigner({ ...signer, ...change })).toThrow(reason);
  });

  it('refuses one without key usage', () => {
    expect(() => checkX509SvidSigner(without(signer, 'keyUsage'))).toThrow(
      'must have the extension keyUsage',
    );
  });
});
