import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { calculateJwkThumbprint } from 'jose';
import { makeTokenKey } from '../../../test/support/oidc-provider.js';
import { readKeySet } from './key-set.js';

const es256 = makeTokenKey('a');
const rs256 = makeTokenKey('r', 'RS256');
const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
const without = (jwk: Record<string, unknown>, ...names: string[]): Record<string, unknown> =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => !names.includes(name)));

describe('a JWK Set of an issuer', () => {
  it.each([
    ['a symmetric key', { kty: 'oct', k: 'AAAA', kid: 's' }, 'symmetric'],
    ['a private key', { ...es256.privateKey.export({ format: 'jwk' }), kid: 'p' }, 'private key'],
    ['a key for encryption', { ...es256.jwk, use: 'enc' }, '"use"'],
    ['a key for other operations', { ...es256.jwk, key_ops: ['encrypt'] }, '"key_ops"'],
    ['an unknown kind of key', { kty: 'AKP', kid: 'x' }, '"kty"'],
    ['an RSA key that is too small', { ...small, kid: 'x' }, '1024 bits'],
    ['an RSA key with exponent 1', { ...rs256.jwk, e: 'AQ' }, 'exponent'],
    ['a curve that fits no algorithm', { ...ecKey('secp256k1'), kid: 'x' }, 'none that its key can do'],
    ['a key with the algorithm of another curve', { ...es256.jwk, alg: 'ES384' }, 'none that its key can do'],
    ['an EC key that says RS256', { ...es256.jwk, alg: 'RS256' }, 'none that its key can do'],
    ['an EC key that says HS256', { ...es256.jwk, alg: 'HS256' }, '"alg" is not supported'],
    ['an RSA key for encryption', { ...rs256.jwk, alg: 'RSA-OAEP' }, '"alg" is not supported'],
    ['a point that is not on its curve', { ...es256.jwk, y: es256.jwk['x'] }, 'no valid public key'],
    ['a key without its numbers', { kty: 'EC', crv: 'P-256', kid: 'x' }, 'no valid public key'],
    ['a kid that is no text', { ...es256.jwk, kid: 7 }, '"kid"'],
    ['what is no object', 'key', 'no object'],
  ])('leaves out %s, says so, and keeps the rest', (_, jwk, reason) => {
    const set = readKeySet({ keys: [jwk, { ...rs256.jwk, kid: 'good' }] });
    expect([...set.keys].map(({ keyId }) => keyId)).toEqual(['good']);
    expect(set.skipped).toEqual([expect.stringContaining(reason)]);
    expect(set.skipped[0]).toMatch(/^keys\[0\]: /);
  });

  it.each([
    ['null', null],
    ['a list', []],
    ['no list of keys', { keys: {} }],
    ['more keys than anybody needs', { keys: Array.from({ length: 1001 }, () => ({})) }],
  ])('is refused as a whole: %s', (_, document) => {
    expect(() => readKeySet(document)).toThrow('the');
  });

  it('lets a key without "alg" do what its kind can, and one with "alg" only that', () => {
    const algorithmsOf = (jwk: unknown): unknown => [...readKeySet({ keys: [jwk] }).keys][0]?.algorithms;
    expect(algorithmsOf(without(es256.jwk, 'alg'))).toEqual(['ES256']);
    expect(algorithmsOf(without(makeTokenKey('x', 'ES512').jwk, 'alg'))).toEqual(['ES512']);
    expect(algorithmsOf(without(rs256.jwk, 'alg'))).toEqual([
      ...['RS256', 'RS384', 'RS512'],
      ...['PS256', 'PS384', 'PS512'],
    ]);
    expect(algorithmsOf(without(makeTokenKey('x', 'EdDSA').jwk, 'alg'))).toEqual(['EdDSA', 'Ed25519']);
    expect(algorithmsOf({ ...rs256.jwk, alg: 'PS384' })).toEqual(['PS384']);
  });

  it('finds a key by its ID and algorithm, and says why there is none', () => {
    const set = readKeySet({ keys: [es256.jwk, rs256.jwk] });
    expect(set.find('a', 'ES256')).toMatchObject({ keyId: 'a' });
    expect(set.find('a', 'RS256')).toBe('unfit');
    expect(set.find('b', 'ES256')).toBe('unknown');
    // No key is named: taken where only one key can have signed it.
    expect(set.find(undefined, 'RS256')).toMatchObject({ keyId: 'r' });
    const two = readKeySet({ keys: [es256.jwk, makeTokenKey('b').jwk] });
    expect(two.find(undefined, 'ES256')).toBe('ambiguous');
    const same = readKeySet({ keys: [es256.jwk, makeTokenKey('a').jwk, { ...rs256.jwk, kid: 'a' }] });
    expect(same.find('a', 'ES256')).toBe('ambiguous');
    expect(same.find('a', 'RS256')).toMatchObject({ keyId: 'a' });
  });

  it('calls a key without "kid" by its thumbprint, which no token can name', async () => {
    for (const { jwk } of [es256, rs256, makeTokenKey('x', 'EdDSA')]) {
      const set = readKeySet({ keys: [without(jwk, 'kid')] });
      const [key] = set.keys;
      expect(key?.named).toBe(false);
      expect(set.find(key?.keyId, jwk['alg'] as string)).toBe('unknown');
      // RFC 7638, by jose.
      expect(key?.keyId).toBe(await calculateJwkThumbprint(jwk));
    }
  });

  it('gives the same key object again while the key stays, and another when its ID moves to another key', () => {
    const first = readKeySet({ keys: [es256.jwk, rs256.jwk] });
    const again = readKeySet({ keys: [rs256.jwk, { ...es256.jwk, x5t: 'more' }, es256.jwk] }, first);
    expect(again.keys.symmetricDifference(first.keys).size).toBe(0);
    const moved = readKeySet({ keys: [{ ...makeTokenKey('b').jwk, kid: 'a' }] }, first);
    expect(moved.keys.isDisjointFrom(first.keys)).toBe(true);
    const narrowed = readKeySet({ keys: [{ ...rs256.jwk, alg: 'RS512' }] }, first);
    expect(narrowed.keys.isDisjointFrom(first.keys)).toBe(true);
  });
});

function ecKey(namedCurve: string): object {
  return generateKeyPairSync('ec', { namedCurve }).publicKey.export({ format: 'jwk' });
}
