import { describe, expect, it } from '@jest/globals';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { localKeyEncryption, openBytes, parseLocalKey, sealBytes } from './encryption.js';

const random = seededRandom(7);
const key = random.bytes(32);
const plain = Buffer.from('a private key');
const context = Buffer.from('key one');

describe('sealing', () => {
  it('opens with the same key and context', () => {
    expect(openBytes(key, sealBytes(key, plain, context, random), context)).toEqual(plain);
  });

  it('never seals twice alike', () => {
    expect(sealBytes(key, plain, context, random)).not.toEqual(sealBytes(key, plain, context, random));
  });

  it('does not open under another context, another key, or cut short', () => {
    const sealed = sealBytes(key, plain, context, random);
    expect(() => openBytes(key, sealed, Buffer.from('key two'))).toThrow();
    expect(() => openBytes(random.bytes(32), sealed, context)).toThrow();
    expect(() => openBytes(key, sealed.subarray(0, -1), context)).toThrow();
    expect(() => openBytes(key, sealed.subarray(0, 20), context)).toThrow('too short');
  });

  it('does not open when any one bit differs', () => {
    const sealed = sealBytes(key, plain, context, random);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Uint8Array.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openBytes(key, changed, context)).toThrow();
    }
  });
});

describe('a local key-encryption key', () => {
  it('seals and opens', async () => {
    const kek = localKeyEncryption(key, random);
    await expect(kek.open(await kek.seal(plain, context), context)).resolves.toEqual(plain);
    await expect(kek.open(await kek.seal(plain, context), Buffer.from('other'))).rejects.toThrow();
  });

  it('has a name that tells it from others and does not hold its bytes', () => {
    const kek = localKeyEncryption(key, random);
    expect(kek.id).toMatch(/^local:[0-9a-f]{8}$/);
    expect(localKeyEncryption(key, random).id).toBe(kek.id);
    expect(localKeyEncryption(random.bytes(32), random).id).not.toBe(kek.id);
    expect(Buffer.from(key).toString('hex')).not.toContain(kek.id.slice(6));
  });

  it('is not changed by what the caller does to its bytes later', async () => {
    const bytes = Uint8Array.from(key);
    const kek = localKeyEncryption(bytes, random);
    const sealed = await kek.seal(plain, context);
    bytes.fill(0);
    await expect(kek.open(sealed, context)).resolves.toEqual(plain);
  });

  it.each([0, 16, 31, 33])('refuses %d bytes', (size) => {
    expect(() => localKeyEncryption(random.bytes(size), random)).toThrow(
      expect.objectContaining({ code: 'KeyEncryptionInvalid' }),
    );
  });

  it('refuses a key that is no secret', () => {
    expect(() => localKeyEncryption(new Uint8Array(32), random)).toThrow('one byte repeated');
  });
});

describe('a key-encryption key file', () => {
  it('holds raw bytes or base64', () => {
    const text = Buffer.from(key).toString('base64');
    for (const file of [key, Buffer.from(text), Buffer.from(`${text}\n`)])
      expect(Buffer.from(parseLocalKey(file))).toEqual(Buffer.from(key));
  });

  it.each(['', 'secret', 'x'.repeat(44), `${'A'.repeat(42)}==`])(
    'refuses %j without repeating it',
    (text) => {
      expect(() => parseLocalKey(Buffer.from(text))).toThrow(/must hold 32 raw bytes/);
      if (text !== '') expect(() => parseLocalKey(Buffer.from(text))).not.toThrow(text);
    },
  );
});
