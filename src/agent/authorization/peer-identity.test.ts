import { describe, expect, it } from '@jest/globals';
import { generateKeyPair } from '../../identity/pki/keys.js';
import { encodePem } from '../../identity/pki/pem.js';
import { makeCertificate } from '../../../test/support/certificates.js';
import { readCaller } from './peer-identity.js';

const id = 'spiffe://shop.test/ns/shop/sa/front';
const knows = (name: string): boolean => name === 'shop.test';
const pair = await generateKeyPair('ec-p256');
const certificates = new Map<string, string>();

/** As Envoy sends it with include_peer_certificate. */
function sent(uris: readonly string[], dnsNames: readonly string[] = []): string {
  const { der } = makeCertificate({ subject: 'peer', pair, uris, dnsNames });
  return encodeURIComponent(encodePem('CERTIFICATE', der));
}

describe('the caller, as Envoy says who it is', () => {
  it('is the SPIFFE ID of a known trust domain, and nobody without a certificate', () => {
    expect(readCaller({ principal: id, certificate: '' }, knows)).toEqual({ ok: true, spiffeId: id });
    expect(readCaller({ principal: id, certificate: sent([id]) }, knows)).toEqual({ ok: true, spiffeId: id });
    expect(readCaller({ principal: '', certificate: '' }, knows)).toEqual({ ok: true, spiffeId: undefined });
  });

  it.each([
    ['a DNS name', 'front.shop.test', '', 'no SPIFFE ID'],
    ['a subject', 'CN=front,O=shop', '', 'no SPIFFE ID'],
    ['an ID that is not canonical', 'spiffe://shop.test/ns/shop/../sa/front', '', 'no SPIFFE ID'],
    ['a foreign ID without a bundle', 'spiffe://other.test/ns/shop/sa/front', '', 'there is no bundle'],
    ['a certificate with two URI SANs', id, sent([id, `${id}2`]), 'has 2 URI SANs'],
    ['an ID that is only a DNS SAN', id, sent([], [id]), 'has 0 URI SANs'],
    ['the ID of another certificate', id, sent([`${id}2`]), 'another SPIFFE ID'],
    ['a certificate without a name', '', sent([]), 'has no name'],
    ['a certificate that is none', id, 'nonsense', 'cannot be read'],
    ['a broken URL encoding', id, '%zz', 'cannot be read'],
  ])('is refused, not taken for nobody, when it is %s', (_what, principal, certificate, reason) => {
    expect(readCaller({ principal, certificate }, knows)).toEqual({
      ok: false,
      reason: expect.stringContaining(reason),
    });
  });

  it('is held against what is said each time, also when the certificate came before', () => {
    const certificate = sent([id]);
    const broken = certificate.replace('BEGIN', 'BEGUN');
    for (let round = 0; round < 2; round++) {
      expect(readCaller({ principal: id, certificate }, knows)).toEqual({ ok: true, spiffeId: id });
      expect(readCaller({ principal: `${id}2`, certificate }, knows)).toMatchObject({ ok: false });
      expect(readCaller({ principal: id, certificate: broken }, knows)).toMatchObject({ ok: false });
    }
  });

  it('is told from any number of certificates', () => {
    const ids = Array.from({ length: 600 }, (_, at) => `${id}-${at}`);
    // Twice, so that some have been forgotten.
    for (const name of [...ids, ...ids]) {
      const certificate = certificates.get(name) ?? sent([name]);
      certificates.set(name, certificate);
      expect(readCaller({ principal: name, certificate }, knows)).toEqual({ ok: true, spiffeId: name });
    }
  });
});
