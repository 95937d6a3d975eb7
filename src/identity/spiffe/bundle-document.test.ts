import type { JsonWebKey } from 'node:crypto';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import type { TrustBundle } from './bundle.js';
import {
  BundleError,
  formatBundleDocument,
  formatJwtBundle,
  parseBundleDocument,
} from './bundle-document.js';

/** Made by OpenSSL: a CA of example.org, a second one, and a certificate that is no CA; all P-256, valid for ever. */
const CA =
  'MIIBpTCCAUqgAwIBAgIUHuMCNVgEH6nfGQPjsdLk/M+PUt0wCgYIKoZIzj0EAwIwDTELMAkGA1UECgwCQ0EwIBcNMjYxMTI0MDcxMzQ4WhgPMjEyNjEwMzEwNzEzNDhaMA0xCzAJBgNVBAoMAkNBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEw8AfMLRzYj+HEDu8nmm4MajdHIzMVjd0mZe8PiVORwD6LKfrzz5tYH9WqTYKBCGhYGgwe76VrnMBQwZNy4uRhKOBhTCBgjAdBgNVHQ4EFgQUrvIUYnXXlKaaXhgpYOU5iQmv8xYwHwYDVR0jBBgwFoAUrvIUYnXXlKaaXhgpYOU5iQmv8xYwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHwYDVR0RBBgwFoYUc3BpZmZlOi8vZXhhbXBsZS5vcmcwCgYIKoZIzj0EAwIDSQAwRgIhAKoPDWh5YkVB91s2j8TZRUDoxthCqXd0Rsq0Vm96ULzcAiEAvwNf/bixDr5x4kpQjfxdQfP2XU6igaCCdZWoRMI6rDU=';
const OTHER_CA =
  'MIIBpTCCAUygAwIBAgIUdL9DJoj+z41NQgnQArZtm+KBM5EwCgYIKoZIzj0EAwIwDjEMMAoGA1UECgwDQ0EyMCAXDTI2MTEyNDA3MTM0OFoYDzIxMjYxMDMxMDcxMzQ4WjAOMQwwCgYDVQQKDANDQTIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASnW8OrxWKgQoeGKXRhHqyiXF2pI7ZIzBY46a0JHfXHMGDYqtx+ytZvSjEBE5L2kvwgfH6Lvk9viDwSLXV+ic4do4GFMIGCMB0GA1UdDgQWBBQXMq6D5ly0UpWc/va2Dov25E6fJzAfBgNVHSMEGDAWgBQXMq6D5ly0UpWc/va2Dov25E6fJzAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIBBjAfBgNVHREEGDAWhhRzcGlmZmU6Ly9leGFtcGxlLm9yZzAKBggqhkjOPQQDAgNHADBEAiA+ApgX/+LaLWXjGmA57jOKI+LT3xaf60egQS2Hlr0RjAIgZjSIBHJkKXGRb0bUtjdiFmj31R1MN7vpjJq8HpQSSk8=';
const LEAF =
  'MIIBlTCCATugAwIBAgIUFLfaCaEBge7o4VW5gnfWltuoxsMwCgYIKoZIzj0EAwIwDzENMAsGA1UECgwEbGVhZjAgFw0yNjExMjQwNzEzNDhaGA8yMTI2MTAzMTA3MTM0OFowDzENMAsGA1UECgwEbGVhZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAdnITLWv05pysObiZ706vsh5p73jD1sesAu20oQsemAMBCQigtGF1t+eC/ylrGmLuz/70G+XzM57pFvgiLDQKijczBxMB0GA1UdDgQWBBQYCXc1qiQP+eLeA4bIOVG9Z9/nTDAfBgNVHSMEGDAWgBQYCXc1qiQP+eLeA4bIOVG9Z9/nTDAMBgNVHRMBAf8EAjAAMCEGA1UdEQQaMBiGFnNwaWZmZTovL2V4YW1wbGUub3JnL2EwCgYIKoZIzj0EAwIDSAAwRQIgC1c82De5pIT0/jtF/zWzsBkESNbyx8dBbC2So6oCxzoCIQCINUkZ0/1Q06FMXcpmc50unafVb5skUajE3QUanZetyQ==';

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
const edwards = generateKeyPairSync('ed25519');
const ecJwk: JsonWebKey = ec.publicKey.export({ format: 'jwk' });
const rsaJwk: JsonWebKey = rsa.publicKey.export({ format: 'jwk' });

const x509Key = { use: 'x509-svid', kty: 'EC', x5c: [CA] };
const jwtKey = { use: 'jwt-svid', kid: 'a', ...ecJwk };

function parse(document: unknown): TrustBundle {
  return parseBundleDocument('example.org', JSON.stringify(document));
}

describe('parseBundleDocument (SPIFFE Trust Domain and Bundle §4)', () => {
  it('reads both kinds of authority, sequence and refresh hint', () => {
    const bundle = parse({
      keys: [x509Key, jwtKey, { use: 'jwt-svid', kid: 'b', ...rsaJwk, alg: 'RS256' }],
      spiffe_sequence: 7,
      spiffe_refresh_hint: 300,
    });
    expect(bundle).toEqual({
      trustDomain: 'example.org',
      x509Authorities: [new Uint8Array(Buffer.from(CA, 'base64'))],
      jwtAuthorities: [
        { keyId: 'a', jwk: ecJwk },
        { keyId: 'b', jwk: rsaJwk },
      ],
      sequence: 7,
      refreshHintSeconds: 300,
    });
  });

  it('reads an empty list as "all keys are revoked"', () => {
    expect(parse({ keys: [] })).toEqual({
      trustDomain: 'example.org',
      x509Authorities: [],
      jwtAuthorities: [],
      sequence: 0,
    });
  });

  it('reads bytes as well as text', () => {
    const bytes = new TextEncoder().encode(JSON.stringify({ keys: [jwtKey] }));
    expect(parseBundleDocument('example.org', bytes).jwtAuthorities).toHaveLength(1);
  });

  it.each<[string, unknown]>([
    ['no use', { kty: 'EC', ...ecJwk }],
    ['an unknown use', { ...jwtKey, use: 'sig' }],
    ['the use of WIT-SVIDs', { ...jwtKey, use: 'wit-svid' }],
    ['a use in upper case', { ...jwtKey, use: 'JWT-SVID' }],
    ['an unknown kty', { use: 'jwt-svid', kty: 'AKP', kid: 'a' }],
    ['a symmetric kty', { use: 'jwt-svid', kty: 'oct', k: 'AA', kid: 'a' }],
    [
      'an EdDSA key, which no JWT-SVID may use',
      { use: 'jwt-svid', kid: 'a', ...edwards.publicKey.export({ format: 'jwk' }) },
    ],
    ['an unknown kty for X.509', { ...x509Key, kty: 'AKP' }],
    ['an empty x5c', { ...x509Key, x5c: [] }],
    ['no x5c', { use: 'x509-svid', kty: 'EC' }],
  ])('skips a key with %s', (_, key) => {
    const bundle = parse({ keys: [key, { ...jwtKey, kid: 'kept' }] });
    expect(bundle.x509Authorities).toEqual([]);
    expect(bundle.jwtAuthorities.map(({ keyId }) => keyId)).toEqual(['kept']);
  });

  it('takes only the first certificate of x5c', () => {
    const bundle = parse({ keys: [{ ...x509Key, x5c: [CA, OTHER_CA] }] });
    expect(bundle.x509Authorities.map((der) => Buffer.from(der).toString('base64'))).toEqual([CA]);
  });

  it('takes each authority once', () => {
    const bundle = parse({ keys: [x509Key, x509Key, jwtKey, jwtKey] });
    expect([bundle.x509Authorities.length, bundle.jwtAuthorities.length]).toEqual([1, 1]);
  });

  it('ignores key IDs of X.509 authorities', () => {
    expect(parse({ keys: [{ ...x509Key, kid: 'x' }] }).x509Authorities).toHaveLength(1);
  });

  it.each<[string, unknown, string]>([
    ['null', null, 'no JSON object'],
    ['a list', [], 'no JSON object'],
    ['a text', 'keys', 'no JSON object'],
    ['no keys', {}, 'no list "keys"'],
    ['keys null', { keys: null }, 'no list "keys"'],
    ['a key that is no object', { keys: ['a'] }, 'keys[0] is no object'],
    ['too many keys', { keys: Array.from({ length: 1001 }, () => ({})) }, '1000 are allowed'],
    ['a sequence that is no integer', { keys: [], spiffe_sequence: 1.5 }, 'spiffe_sequence'],
    ['a sequence as a text', { keys: [], spiffe_sequence: '1' }, 'spiffe_sequence'],
    ['a negative sequence', { keys: [], spiffe_sequence: -1 }, 'spiffe_sequence'],
    ['a negative refresh hint', { keys: [], spiffe_refresh_hint: -5 }, 'spiffe_refresh_hint'],
    ['no kty', { keys: [{ use: 'jwt-svid', kid: 'a' }] }, 'no "kty"'],
    ['no kty for X.509', { keys: [{ use: 'x509-svid', x5c: [CA] }] }, 'no "kty"'],
    ['no kid', { keys: [{ use: 'jwt-svid', ...ecJwk }] }, 'needs a "kid"'],
    ['an empty kid', { keys: [{ ...jwtKey, kid: '' }] }, 'needs a "kid"'],
    ['a long kid', { keys: [{ ...jwtKey, kid: 'k'.repeat(1025) }] }, '1024 are allowed'],
    [
      'a private key',
      { keys: [{ ...jwtKey, ...ec.privateKey.export({ format: 'jwk' }) }] },
      'holds a private key',
    ],
    ['a point off the curve', { keys: [{ ...jwtKey, x: ecJwk.y }] }, 'no EC public key'],
    ['an unknown curve', { keys: [{ ...jwtKey, crv: 'secp256k1' }] }, 'crv must be'],
    [
      'a weak RSA key',
      { keys: [{ use: 'jwt-svid', kid: 'a', ...weak.publicKey.export({ format: 'jwk' }) }] },
      '2048 are needed',
    ],
    [
      'two keys of one ID',
      { keys: [jwtKey, { use: 'jwt-svid', kid: 'a', ...rsaJwk }] },
      'key IDs must be unique',
    ],
    ['x5c that is no list', { keys: [{ ...x509Key, x5c: CA }] }, 'not base64'],
    ['x5c that is not base64', { keys: [{ ...x509Key, x5c: ['-----BEGIN'] }] }, 'not base64'],
    ['x5c that is no certificate', { keys: [{ ...x509Key, x5c: ['AAAA'] }] }, 'no certificate'],
    [
      'x5c with more behind',
      {
        keys: [
          {
            ...x509Key,
            x5c: [Buffer.concat([Buffer.from(CA, 'base64'), Buffer.from([0])]).toString('base64')],
          },
        ],
      },
      'keys[0].x5c[0]',
    ],
    ['x5c that is no CA', { keys: [{ ...x509Key, x5c: [LEAF] }] }, 'no CA certificate'],
  ])('refuses %s', (_, document, reason) => {
    const act = () => parse(document);
    expect(act).toThrow(BundleError);
    expect(act).toThrow(reason);
  });

  it('refuses what is no JSON, no UTF-8 or too large', () => {
    expect(() => parseBundleDocument('example.org', '{')).toThrow('no JSON');
    expect(() => parseBundleDocument('example.org', Uint8Array.of(0xff))).toThrow('no JSON');
    expect(() => parseBundleDocument('example.org', ' '.repeat(4 * 1024 * 1024 + 1))).toThrow('are allowed');
  });

  it('refuses a name that is no trust domain', () => {
    expect(() => parseBundleDocument('Example.org', '{"keys":[]}')).toThrow('write "example.org"');
  });
});

describe('formatBundleDocument', () => {
  const bundle = parse({
    keys: [x509Key, { ...x509Key, x5c: [OTHER_CA] }, jwtKey],
    spiffe_sequence: 3,
    spiffe_refresh_hint: 60,
  });

  it('gives back what was read', () => {
    expect(parseBundleDocument('example.org', formatBundleDocument(bundle))).toEqual(bundle);
  });

  it('writes X.509 authorities as the profile asks (X509-SVID §6)', () => {
    const { keys } = JSON.parse(formatBundleDocument(bundle)) as { keys: Record<string, unknown>[] };
    const first = keys[0] ?? {};
    const { x, y } = new X509Certificate(Buffer.from(CA, 'base64')).publicKey.export({ format: 'jwk' });
    expect(first).toEqual({ use: 'x509-svid', kty: 'EC', crv: 'P-256', x, y, x5c: [CA] });
    expect(keys.map(({ use }) => use)).toEqual(['x509-svid', 'x509-svid', 'jwt-svid']);
  });

  it('leaves the refresh hint out when there is none', () => {
    expect(JSON.parse(formatBundleDocument(parse({ keys: [] })))).toEqual({ keys: [], spiffe_sequence: 0 });
  });

  it('writes only JWT authorities for FetchJWTBundles (Workload API §6.2.2)', () => {
    expect(JSON.parse(formatJwtBundle(bundle))).toEqual({ keys: [jwtKey] });
  });
});
