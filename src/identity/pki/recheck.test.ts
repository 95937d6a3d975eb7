import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { NOON } from '../../../test/support/certificates.js';
import { PkiError } from './errors.js';
import { exportSpki, generateKeyPair } from './keys.js';
import { encodeName } from './names.js';
import { keyIdOfSpki } from './profile.js';
import { recheckSvid } from './recheck.js';
import { signatureAlgorithm } from './signature.js';
import type { SvidHoles } from './template.js';
import { DNS_TAG, draftSvid, svidTemplate, timeEncoder, URI_TAG } from './template.js';

const spki = exportSpki((await generateKeyPair('ec-p256')).publicKey);
const otherSpki = exportSpki((await generateKeyPair('ec-p256')).publicKey);
const encodeTime = timeEncoder();
const template = svidTemplate({
  algorithm: signatureAlgorithm('ec-p256'),
  issuer: encodeName([{ type: 'organization', value: 'Authority' }]),
  authorityKeyId: keyIdOfSpki(otherSpki),
  rsaSubject: false,
});
const holes: SvidHoles = {
  serial: Uint8Array.of(0x90, 2, 3, 4, 5, 6, 7, 8),
  notBefore: encodeTime(NOON),
  notAfter: encodeTime(NOON + 3_600_000),
  spki,
  subjectKeyId: keyIdOfSpki(spki),
  commonName: 'orders.a.svc',
  names: [
    { tag: URI_TAG, text: 'spiffe://example.org/workload' },
    { tag: DNS_TAG, text: 'orders.a.svc' },
  ],
};
const SIGNATURE = new Uint8Array(70).fill(7);
const der = draftSvid(template, holes, 'ec-p256').seal(SIGNATURE);

describe('recheckSvid', () => {
  it('passes what is right and finds the signature and what it covers', () => {
    const found = recheckSvid(der, template, holes);
    expect(Buffer.from(found.signature)).toEqual(Buffer.from(SIGNATURE));
    expect(found.tbs[0]).toBe(0x30);
    expect(found.tbs.length).toBe(der.length - 4 - template.algorithm.length - 3 - SIGNATURE.length);
  });

  it('refuses a change of any byte but the signature itself', () => {
    const covered = der.length - SIGNATURE.length;
    fc.assert(
      fc.property(fc.nat(covered - 1), fc.integer({ min: 1, max: 255 }), (index, flip) => {
        const changed = Uint8Array.from(der);
        changed[index] = (changed[index] ?? 0) ^ flip;
        expect(() => recheckSvid(changed, template, holes)).toThrow(PkiError);
      }),
      { numRuns: 3000 },
    );
  });

  it('refuses bytes that are missing or too many', () => {
    for (let length = 0; length < der.length; length += 7) {
      expect(() => recheckSvid(der.subarray(0, length), template, holes)).toThrow(PkiError);
    }
    expect(() => recheckSvid(Buffer.concat([der, Uint8Array.of(0)]), template, holes)).toThrow(PkiError);
  });

  const uri = { tag: URI_TAG, text: 'spiffe://example.org/workload' };
  it.each<[string, Partial<SvidHoles>]>([
    ['serial', { serial: Uint8Array.of(0x90, 2, 3, 4, 5, 6, 7, 9) }],
    ['notBefore', { notBefore: timeEncoder()(NOON + 1000) }],
    ['notAfter', { notAfter: timeEncoder()(NOON + 3_601_000) }],
    ['public key', { spki: otherSpki }],
    ['subjectKeyIdentifier', { subjectKeyId: keyIdOfSpki(otherSpki) }],
    ['subject', { commonName: undefined }],
    ['subject', { commonName: 'orders.b.svc' }],
    ['subject', { commonName: 'orders.a.svc.cluster.local' }],
    ['subjectAltName', { names: [uri] }],
    ['subjectAltName', { names: [...holes.names, { tag: DNS_TAG, text: 'more' }] }],
    [
      'subjectAltName',
      { names: [{ tag: URI_TAG, text: 'spiffe://example.org/workloae' }, ...holes.names.slice(1)] },
    ],
    ['subjectAltName', { names: [...holes.names].reverse() }],
  ])('refuses another %s than was asked for', (part, change) => {
    const made = draftSvid(template, { ...holes, ...change }, 'ec-p256').seal(SIGNATURE);
    expect(() => recheckSvid(made, template, holes)).toThrow(`wrong in its ${part}`);
  });

  it('refuses more than one URI, and a name of another kind, even if asked for', () => {
    for (const names of [[uri, uri], [{ tag: DNS_TAG, text: 'orders' }], [uri, { tag: 0x81, text: 'a@b' }]]) {
      const wanted = { ...holes, names, commonName: undefined };
      const made = draftSvid(template, wanted, 'ec-p256').seal(SIGNATURE);
      expect(() => recheckSvid(made, template, wanted)).toThrow('subjectAltName');
    }
  });

  it('refuses a common name that is none of the DNS names, even if asked for', () => {
    const commonName = 'spiffe://example.org/workload';
    for (const names of [holes.names, [uri]]) {
      const wanted = { ...holes, names, commonName };
      const made = draftSvid(template, wanted, 'ec-p256').seal(SIGNATURE);
      expect(() => recheckSvid(made, template, wanted)).toThrow('wrong in its subject');
    }
  });

  it('passes an SVID without a common name', () => {
    const wanted = { ...holes, names: [uri], commonName: undefined };
    const made = draftSvid(template, wanted, 'ec-p256').seal(SIGNATURE);
    expect(Buffer.from(recheckSvid(made, template, wanted).signature)).toEqual(Buffer.from(SIGNATURE));
    expect(() => recheckSvid(made, template, { ...wanted, commonName: 'orders.a.svc' })).toThrow('subject');
  });

  it('refuses the template of another authority', () => {
    const other = svidTemplate({
      algorithm: signatureAlgorithm('ec-p256'),
      issuer: encodeName([{ type: 'organization', value: 'Authoritz' }]),
      authorityKeyId: keyIdOfSpki(otherSpki),
      rsaSubject: false,
    });
    const made = draftSvid(other, holes, 'ec-p256').seal(SIGNATURE);
    expect(() => recheckSvid(made, template, holes)).toThrow('issuer');
  });
});
