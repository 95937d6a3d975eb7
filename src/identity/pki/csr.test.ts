import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import * as peculiar from '@peculiar/x509';
import fc from 'fast-check';
import { openssl } from '../../../test/support/certificates.js';
import { createCsr, parseCsr } from './csr.js';
import { PkiError } from './errors.js';
import type { KeyType } from './keys.js';
import { exportSpki, generateKeyPair } from './keys.js';
import { decodePem, encodePem } from './pem.js';

const pem = (csr: Uint8Array): Record<string, string> => ({ 'a.pem': encodePem('CERTIFICATE REQUEST', csr) });

/** A CSR made by the openssl command. */
function opensslCsr(keyOptions: readonly string[], more: readonly string[] = []): Uint8Array {
  const key = openssl(['genpkey', ...keyOptions]);
  const text = openssl(['req', '-new', '-key', 'key.pem', '-subj', '/CN=any', ...more], { 'key.pem': key });
  const [der] = decodePem(text, 'CERTIFICATE REQUEST');
  if (der === undefined) throw new Error('openssl made no CSR');
  return der;
}

/** How SubjectPublicKeyInfo begins for P-256. */
const FIXED_SPKI_HEADER = Buffer.from('3059301306072a8648ce3d0201', 'hex');

describe('createCsr', () => {
  const types: KeyType[] = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'];
  it.each(types)('makes a CSR of type %s that openssl and our parser verify', async (type) => {
    const pair = await generateKeyPair(type);
    const csr = createCsr(pair, { uris: ['spiffe://example.org/a'], dnsNames: ['a.example.org'] });
    const shown = openssl(['req', '-in', 'a.pem', '-verify', '-noout', '-text'], pem(csr));
    expect(shown).toContain('URI:spiffe://example.org/a, DNS:a.example.org');
    const read = parseCsr(csr);
    expect([read.keyType, read.uris, read.dnsNames]).toEqual([
      type,
      ['spiffe://example.org/a'],
      ['a.example.org'],
    ]);
    expect(Buffer.from(read.spki)).toEqual(Buffer.from(exportSpki(pair.publicKey)));
    expect(read.publicKey.equals(pair.publicKey)).toBe(true);
  });

  it('makes one without any name that @peculiar/x509 verifies', async () => {
    const csr = createCsr(await generateKeyPair('ec-p256'));
    expect(await new peculiar.Pkcs10CertificateRequest(csr).verify(webcrypto as never)).toBe(true);
    expect(parseCsr(csr)).toMatchObject({ uris: [], dnsNames: [] });
  });

  it('refuses names that are none', async () => {
    const pair = await generateKeyPair('ec-p256');
    expect(() => createCsr(pair, { uris: ['https://example.org'] })).toThrow('no SPIFFE ID');
    expect(() => createCsr(pair, { dnsNames: ['a b'] })).toThrow('DNS name');
  });
});

describe('parseCsr', () => {
  it.each([
    ['EC P-256', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'ec-p256'],
    ['EC P-384', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384'], 'ec-p384'],
    ['Ed25519', ['-algorithm', 'ED25519'], 'ed25519'],
    ['RSA', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], 'rsa-2048'],
  ])('reads what openssl made with %s', (_, options, type) => {
    const csr = parseCsr(opensslCsr(options, ['-addext', 'subjectAltName=URI:spiffe://example.org/x,DNS:a']));
    expect([csr.keyType, csr.uris, csr.dnsNames]).toEqual([type, ['spiffe://example.org/x'], ['a']]);
  });

  it.each([
    ['EC P-521', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-521']],
    [
      'EC with explicit parameters',
      ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-pkeyopt', 'ec_param_enc:explicit'],
    ],
    ['RSA of 1024 bits', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024']],
    ['RSA of 3072 bits', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:3072']],
  ])('refuses a key of %s', (_, options) => {
    const csr = opensslCsr(options);
    expect(() => parseCsr(csr)).toThrow(expect.objectContaining({ code: 'KeyUnsupported' }));
  });

  it('refuses SHA-1 and RSA-PSS signatures', () => {
    const ec = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    const rsa = ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'];
    for (const csr of [opensslCsr(ec, ['-sha1']), opensslCsr(rsa, ['-sigopt', 'rsa_padding_mode:pss'])]) {
      expect(() => parseCsr(csr)).toThrow(expect.objectContaining({ code: 'SignatureInvalid' }));
    }
  });

  it('refuses a CSR that somebody else signed: no proof of possession', async () => {
    const [mine, theirs] = [await generateKeyPair('ec-p256'), await generateKeyPair('ec-p256')];
    const forged = Buffer.from(createCsr(theirs));
    exportSpki(mine.publicKey).forEach((byte, index) => {
      forged[forged.indexOf(FIXED_SPKI_HEADER) + index] = byte;
    });
    expect(() => parseCsr(forged)).toThrow('not signed by the key it holds');
  });

  it('refuses every CSR of which a byte was changed', async () => {
    const csr = createCsr(await generateKeyPair('ec-p256'), { uris: ['spiffe://example.org/a'] });
    fc.assert(
      fc.property(fc.nat(csr.length - 1), fc.integer({ min: 1, max: 255 }), (index, flip) => {
        const changed = Uint8Array.from(csr);
        changed[index] = (changed[index] ?? 0) ^ flip;
        expect(() => parseCsr(changed)).toThrow(PkiError);
      }),
      { numRuns: 500 },
    );
  });

  it('bounds the size before it reads anything', () => {
    expect(() => parseCsr(new Uint8Array(8 * 1024 + 1))).toThrow('8192 are allowed');
  });
});
