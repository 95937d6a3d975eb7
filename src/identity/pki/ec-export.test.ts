import { describe, expect, it } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { ecPkcs8, ecSpki } from './ec-export.js';

describe('the encoding of EC keys', () => {
  it.each(['P-256', 'P-384'])('is what OpenSSL writes: %s', (namedCurve) => {
    // Many, so that numbers with leading zeros are among them (one in 85 keys has one).
    for (let count = 0; count < 300; count++) {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
      const spki = publicKey.export({ type: 'spki', format: 'der' });
      expect(spki.equals(ecSpki(publicKey) ?? Buffer.alloc(0))).toBe(true);
      expect(spki.equals(ecSpki(privateKey) ?? Buffer.alloc(0))).toBe(true);
      const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' });
      expect(pkcs8.equals(ecPkcs8(privateKey) ?? Buffer.alloc(0))).toBe(true);
    }
  });

  it('is left to OpenSSL for every other key', () => {
    const ed25519 = generateKeyPairSync('ed25519');
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    for (const { privateKey, publicKey } of [ed25519, p521]) {
      expect(ecSpki(publicKey)).toBeUndefined();
      expect(ecPkcs8(privateKey)).toBeUndefined();
    }
  });
});
