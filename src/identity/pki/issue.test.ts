import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { spiffeId } from '../spiffe/id.js';
import { parseCertificate } from './certificate.js';
import { createCsr, parseCsr } from './csr.js';
import { createIssuer, issueCa } from './issue.js';
import type { KeyType } from './keys.js';
import { exportSpki, generateKeyPair, signerOf } from './keys.js';

const HOUR = 3_600_000;
const START = Date.UTC(2026, 0, 1);

describe('issueSvid', () => {
  const random = seededRandom(7);
  const types: KeyType[] = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'];
  it.each(types)('signs what was asked for with a key of type %s', async (type) => {
    const authority = await generateKeyPair(type);
    const signer = signerOf(authority);
    const caDer = await issueCa({
      signer,
      subjectPublicKey: authority.publicKey,
      trustDomain: 'example.org',
      serial: random.bytes(16),
      notBefore: START,
      notAfter: START + 24 * HOUR,
    });
    const issuer = createIssuer({ signer, certificate: parseCertificate(caDer), profile: 'x509-svid' });
    const subject = await generateKeyPair(type);
    const csr = parseCsr(createCsr(subject, { uris: ['spiffe://evil.example/x'] }));
    expect(csr.keyType).toBe(type);
    const der = await issuer.issueSvid({
      publicKeySpki: csr.spki,
      spiffeId: spiffeId('example.org', '/ns/a/sa/b'),
      dnsNames: ['orders.a.svc'],
      serial: random.bytes(16),
      notBefore: START,
      notAfter: START + HOUR,
    });
    const svid = new X509Certificate(der);
    expect(svid.subjectAltName).toBe('URI:spiffe://example.org/ns/a/sa/b, DNS:orders.a.svc');
    expect(svid.verify(authority.publicKey)).toBe(true);
    expect(svid.checkIssued(new X509Certificate(caDer))).toBe(true);
    expect(exportSpki(svid.publicKey)).toEqual(exportSpki(subject.publicKey));
  });
});
