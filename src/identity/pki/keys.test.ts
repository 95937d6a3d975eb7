import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { openssl } from '../../../test/support/certificates.js';
import { PkiError } from './errors.js';
import type { KeyType } from './keys.js';
import {
  ecdsaSignatureToRaw,
  exportPkcs8,
  exportSpki,
  generateKeyPair,
  keyPairFromPkcs8,
  keyTypeOf,
  keyTypeOfSpki,
  publicKeyFromSpki,
  signerOf,
} from './keys.js';

const types: KeyType[] = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-4096'];

describe('keys', () => {
  it.each(types)('makes, exports and reads keys of type %s', async (type) => {
    const pair = await generateKeyPair(type);
    const pkcs8 = exportPkcs8(pair.privateKey);
    const read = keyPairFromPkcs8(pkcs8);
    expect([pair.type, read.type, keyTypeOf(pair.publicKey), keyTypeOf(pair.privateKey)]).toEqual([
      type,
      type,
      type,
      type,
    ]);
    const spki = exportSpki(pair.publicKey);
    expect(exportSpki(read.publicKey)).toEqual(spki);
    expect(exportSpki(pair.privateKey)).toEqual(spki);
    expect(keyTypeOfSpki(spki)).toBe(type);
    expect(publicKeyFromSpki(spki).equals(pair.publicKey)).toBe(true);
    const args = ['pkey', '-inform', 'DER', '-in', 'key.der', '-pubout', '-outform', 'PEM'];
    expect(createPublicKey(openssl(args, { 'key.der': pkcs8 })).equals(pair.publicKey)).toBe(true);
  });

  it.each(types)('signs as X.509 wants with type %s', async (type) => {
    const signer = signerOf(await generateKeyPair(type));
    const data = Buffer.from('data');
    const digest = type === 'ed25519' ? null : type === 'ec-p384' ? 'sha384' : 'sha256';
    expect(verify(digest, data, signer.publicKey, await signer.sign(data))).toBe(true);
  });

  it('refuses kinds of key that it does not sign with', () => {
    const others = [
      generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey,
      generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey,
      generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey,
      generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey,
      generateKeyPairSync('x25519').publicKey,
    ];
    for (const key of others) {
      expect(() => keyTypeOf(key)).toThrow(expect.objectContaining({ code: 'KeyUnsupported' }));
      const spki = exportSpki(key);
      expect(() => keyTypeOfSpki(spki)).toThrow(expect.objectContaining({ code: 'KeyUnsupported' }));
    }
  });

  it('refuses an RSA key with a small exponent', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 });
    expect(() => keyTypeOfSpki(exportSpki(publicKey))).toThrow('exponent');
  });

  it('refuses a compressed point and a point off the curve', () => {
    const args = ['ec', '-pubin', '-in', 'a.pem', '-conv_form', 'compressed', '-outform', 'PEM'];
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = openssl(args, { 'a.pem': publicKey.export({ type: 'spki', format: 'pem' }) });
    const compressed = Buffer.from(pem.replace(/-----[^-]*-----|\s/g, ''), 'base64');
    expect(() => keyTypeOfSpki(compressed)).toThrow('compressed point');
    const off = Uint8Array.from(exportSpki(publicKey));
    off[90] = (off[90] ?? 0) ^ 1;
    expect(() => publicKeyFromSpki(off)).toThrow(expect.objectContaining({ code: 'KeyInvalid' }));
  });

  it('refuses what is no PKCS#8 and tells nothing of it', () => {
    const secret = Buffer.from('a secret that must not appear');
    for (const bytes of [secret, new Uint8Array(), new Uint8Array(9000)]) {
      expect(() => keyPairFromPkcs8(bytes)).toThrow(PkiError);
      expect(() => keyPairFromPkcs8(bytes)).not.toThrow('secret that');
    }
  });

  it.each(['ec-p256', 'ec-p384'] as const)(
    'turns ECDSA signatures of type %s into the form of JWS',
    async (type) => {
      const pair = await generateKeyPair(type);
      const digest = type === 'ec-p256' ? 'sha256' : 'sha384';
      for (let i = 0; i < 50; i++) {
        const data = Buffer.from(`data ${i}`);
        const raw = ecdsaSignatureToRaw(await signerOf(pair).sign(data), type);
        const key = { key: pair.publicKey, dsaEncoding: 'ieee-p1363' as const };
        expect(verify(digest, data, key, raw)).toBe(true);
      }
    },
  );
});
