import { beforeAll, describe, expect, it } from '@jest/globals';
import type { CertificateSpec, TestCertificate } from '../../../test/support/certificates.js';
import { makeCertificate, NOON } from '../../../test/support/certificates.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { SignetError } from '../../lib/errors.js';
import type { KeyPair } from './keys.js';
import { generateKeyPair } from './keys.js';
import { verifyX509Svid } from './svid.js';

describe('verifyX509Svid (X509-SVID §5)', () => {
  let pairs: KeyPair[];
  let root: TestCertificate;
  let foreignRoot: TestCertificate;
  const pair = (index: number): KeyPair => {
    const found = pairs[index];
    if (found === undefined) throw new Error('no such key');
    return found;
  };

  beforeAll(async () => {
    pairs = await Promise.all(Array.from({ length: 4 }, () => generateKeyPair('ec-p256')));
    root = makeCertificate({ subject: 'root', pair: pair(0), ca: true, uris: ['spiffe://example.org'] });
    foreignRoot = makeCertificate({
      subject: 'foreign',
      pair: pair(1),
      ca: true,
      uris: ['spiffe://example.com'],
    });
  });

  const leaf = (change: Partial<CertificateSpec> = {}): TestCertificate =>
    makeCertificate({
      subject: 'leaf',
      pair: pair(2),
      issuer: root,
      uris: ['spiffe://example.org/workload'],
      ...change,
    });

  function verify(chain: readonly Uint8Array[], now = NOON): string {
    const bundle = (trustDomain: string, { der }: TestCertificate): TrustBundle => ({
      trustDomain,
      x509Authorities: [der],
      jwtAuthorities: [],
      sequence: 1,
    });
    const bundles = new Map([
      ['example.org', bundle('example.org', root)],
      ['example.com', bundle('example.com', foreignRoot)],
    ]);
    try {
      return verifyX509Svid({ chain, bundles: (name) => bundles.get(name), now }).id.uri;
    } catch (error) {
      if (error instanceof SignetError) return error.code;
      throw error;
    }
  }

  it('gives whom the leaf names', () => {
    expect(verify([leaf().der])).toBe('spiffe://example.org/workload');
  });

  it('accepts an intermediate', () => {
    const issuer = makeCertificate({ subject: 'middle', pair: pair(3), issuer: root, ca: true });
    expect(verify([leaf({ issuer }).der, issuer.der])).toBe('spiffe://example.org/workload');
  });

  it.each<[string, () => readonly Uint8Array[], string]>([
    ['an empty chain', () => [], 'ChainEmpty'],
    [
      'a trust domain without bundle',
      () => [leaf({ uris: ['spiffe://other.example/x'] }).der],
      'ChainUntrusted',
    ],
    [
      'an identity that the authority of another trust domain signed',
      () => [leaf({ issuer: foreignRoot }).der],
      'ChainUntrusted',
    ],
    [
      'an identity of a trust domain whose authority did not sign',
      () => [leaf({ uris: ['spiffe://example.com/workload'] }).der, root.der],
      'ChainUntrusted',
    ],
    [
      'two URIs',
      () => [leaf({ uris: ['spiffe://example.org/a', 'spiffe://example.org/b'] }).der],
      'X509SvidInvalid',
    ],
    ['no URI', () => [leaf({ uris: [] }).der], 'X509SvidInvalid'],
    ['the root itself', () => [root.der], 'X509SvidInvalid'],
    ['a CA with a path', () => [leaf({ ca: true }).der], 'X509SvidInvalid'],
    [
      'a leaf that may sign certificates',
      () => [leaf({ keyUsage: ['digitalSignature', 'keyCertSign'] }).der],
      'X509SvidInvalid',
    ],
    ['a leaf without digitalSignature', () => [leaf({ keyUsage: ['keyAgreement'] }).der], 'X509SvidInvalid'],
    ['a forged signature', () => [leaf({ signedBy: pair(3) }).der], 'ChainSignature'],
    ['an expired leaf', () => [leaf({ notAfter: NOON - 2000 }).der], 'ChainExpired'],
    ['bytes that are no certificate', () => [Uint8Array.of(0x30, 0)], 'CertificateInvalid'],
  ])('refuses %s', (_, chain, code) => {
    expect(verify(chain())).toBe(code);
  });
});
