import type { JsonWebKey, KeyObject } from 'node:crypto';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { TrustBundle } from './bundle.js';
import { JWT_SVID_LEEWAY_MS, JwtSvidError, parseJwtSvidUnverified, verifyJwtSvid } from './jwt-svid.js';

const NOW = Date.UTC(2026, 0, 1);
const SECONDS = NOW / 1000;

const keys = {
  p256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  p384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  p521: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  other: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
};

function jwkOf(key: KeyObject): JsonWebKey {
  return key.export({ format: 'jwk' });
}

const bundle: TrustBundle = {
  trustDomain: 'example.org',
  x509Authorities: [],
  jwtAuthorities: [
    { keyId: 'p256', jwk: jwkOf(keys.p256.publicKey) },
    { keyId: 'p384', jwk: jwkOf(keys.p384.publicKey) },
    { keyId: 'p521', jwk: jwkOf(keys.p521.publicKey) },
    { keyId: 'rsa', jwk: jwkOf(keys.rsa.publicKey) },
  ],
  sequence: 1,
};

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const CLAIMS = { sub: 'spiffe://example.org/workload', aud: ['payments'], exp: SECONDS + 300, iat: SECONDS };

/** Signs by node:crypto, so that the library under test is not its own judge. */
function token(
  header: Record<string, unknown> = { alg: 'ES256', kid: 'p256', typ: 'JWT' },
  claims: unknown = CLAIMS,
  key: KeyObject = keys.p256.privateKey,
): string {
  const text = `${part(header)}.${part(claims)}`;
  const alg = typeof header['alg'] === 'string' ? header['alg'] : 'ES256';
  const digest = `sha${alg.slice(2)}`;
  const pss = alg.startsWith('PS') ? { padding: 6, saltLength: Number(alg.slice(2)) / 8 } : {};
  const signature = sign(/^(256|384|512)$/.test(alg.slice(2)) ? digest : 'sha256', Buffer.from(text), {
    key,
    dsaEncoding: 'ieee-p1363',
    ...pss,
  });
  return `${text}.${signature.toString('base64url')}`;
}

function verify(
  text: string,
  change: { audience?: string | undefined; now?: number; bundle?: TrustBundle } = {},
) {
  return verifyJwtSvid({
    token: text,
    audience: 'audience' in change ? change.audience : 'payments',
    bundles: (name) => (name === 'example.org' ? (change.bundle ?? bundle) : undefined),
    now: change.now ?? NOW,
  });
}

async function codeOf(act: Promise<unknown>): Promise<string> {
  try {
    await act;
  } catch (error) {
    if (error instanceof JwtSvidError) return error.code;
    throw error;
  }
  return 'none';
}

describe('verifyJwtSvid (JWT-SVID §2-4)', () => {
  it('takes a valid token apart', async () => {
    const text = token(undefined, { ...CLAIMS, extra: { a: 1 } });
    expect(await verify(text)).toEqual({
      id: { trustDomain: 'example.org', path: '/workload', uri: 'spiffe://example.org/workload' },
      audience: ['payments'],
      expiresAt: NOW + 300_000,
      issuedAt: NOW,
      claims: { ...CLAIMS, extra: { a: 1 } },
      token: text,
    });
  });

  it.each([
    ['ES256', 'p256', keys.p256.privateKey],
    ['ES384', 'p384', keys.p384.privateKey],
    ['ES512', 'p521', keys.p521.privateKey],
    ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'].map((alg): [string, string, KeyObject] => [
      alg,
      'rsa',
      keys.rsa.privateKey,
    ]),
  ])('accepts %s', async (alg, kid, key) => {
    expect((await verify(token({ alg, kid }, CLAIMS, key))).id.path).toBe('/workload');
  });

  it.each([
    ['typ JOSE', { alg: 'ES256', kid: 'p256', typ: 'JOSE' }, CLAIMS],
    ['no typ', { alg: 'ES256', kid: 'p256' }, CLAIMS],
    ['aud as a text', { alg: 'ES256', kid: 'p256' }, { ...CLAIMS, aud: 'payments' }],
    ['several audiences', { alg: 'ES256', kid: 'p256' }, { ...CLAIMS, aud: ['orders', 'payments'] }],
    ['no iat', { alg: 'ES256', kid: 'p256' }, { sub: CLAIMS.sub, aud: CLAIMS.aud, exp: CLAIMS.exp }],
  ])('accepts %s', async (_, header, claims) => {
    expect((await verify(token(header, claims))).id.path).toBe('/workload');
  });

  it.each<[string, Record<string, unknown>]>([
    ['no alg', { kid: 'p256' }],
    ['alg none', { alg: 'none', kid: 'p256' }],
    ['alg HS256', { alg: 'HS256', kid: 'p256' }],
    ['alg EdDSA', { alg: 'EdDSA', kid: 'p256' }],
    ['alg ES256K', { alg: 'ES256K', kid: 'p256' }],
    ['alg in lower case', { alg: 'es256', kid: 'p256' }],
    ['no kid', { alg: 'ES256' }],
    ['an empty kid', { alg: 'ES256', kid: '' }],
    ['a kid that is no text', { alg: 'ES256', kid: 7 }],
    ['another typ', { alg: 'ES256', kid: 'p256', typ: 'at+jwt' }],
    ['typ of a WIT-SVID', { alg: 'ES256', kid: 'p256', typ: 'wit+jwt' }],
    ['crit', { alg: 'ES256', kid: 'p256', crit: ['exp'] }],
    ['jku', { alg: 'ES256', kid: 'p256', jku: 'https://evil.example/' }],
    ['jwk', { alg: 'ES256', kid: 'p256', jwk: {} }],
    ['x5c', { alg: 'ES256', kid: 'p256', x5c: [] }],
    ['cty', { alg: 'ES256', kid: 'p256', cty: 'JWT' }],
  ])('refuses a header with %s', async (_, header) => {
    expect(await codeOf(verify(token(header)))).toBe('JwtSvidMalformed');
  });

  it.each<[string, unknown]>([
    ['no sub', { aud: CLAIMS.aud, exp: CLAIMS.exp }],
    ['an empty sub', { ...CLAIMS, sub: '' }],
    ['sub that is no SPIFFE ID', { ...CLAIMS, sub: 'system:serviceaccount:a:b' }],
    ['no aud', { sub: CLAIMS.sub, exp: CLAIMS.exp }],
    ['an empty aud', { ...CLAIMS, aud: [] }],
    ['aud with an empty text', { ...CLAIMS, aud: [''] }],
    ['aud with a number', { ...CLAIMS, aud: ['payments', 7] }],
    ['too many audiences', { ...CLAIMS, aud: Array.from({ length: 101 }, () => 'payments') }],
    ['no exp', { sub: CLAIMS.sub, aud: CLAIMS.aud }],
    ['exp as a text', { ...CLAIMS, exp: '9999999999' }],
    ['exp null', { ...CLAIMS, exp: null }],
    ['a negative exp', { ...CLAIMS, exp: -1 }],
    ['exp past all dates', { ...CLAIMS, exp: 1e300 }],
    ['nbf as a text', { ...CLAIMS, nbf: 'now' }],
    ['a list', [1]],
    ['null', null],
    ['a text', 'claims'],
  ])('refuses claims with %s', async (_, claims) => {
    expect(await codeOf(verify(token(undefined, claims)))).toBe('JwtSvidMalformed');
  });

  it.each([
    ['nothing', ''],
    ['two parts', 'a.b'],
    ['four parts', `${token()}.x`],
    ['JSON serialisation', JSON.stringify({ payload: '', signatures: [] })],
    ['five parts, as encrypted tokens have', 'a.b.c.d.e'],
    ['no signature', token().replace(/[^.]*$/, '')],
    ['base64 with padding', token().replace('.', '=.')],
    ['a header that is no JSON', `${Buffer.from('{').toString('base64url')}.${part(CLAIMS)}.AA`],
    ['a header that is no UTF-8', `_w.${part(CLAIMS)}.AA`],
    ['a signature that is no base64url', token().replace(/[^.]*$/, '+/==')],
    ['more than 16 KiB', `${'a'.repeat(16 * 1024)}.b.c`],
  ])('refuses %s', async (_, text) => {
    expect(await codeOf(verify(text))).toBe('JwtSvidMalformed');
  });

  it('refuses a token for others', async () => {
    const act = verify(token(), { audience: 'orders' });
    expect(await codeOf(act)).toBe('JwtSvidAudience');
    await expect(act).rejects.toThrow('is for "payments", not for "orders"');
  });

  it('skips the audience only when told so', async () => {
    expect((await verify(token(), { audience: undefined })).audience).toEqual(['payments']);
    expect(await codeOf(verify(token(), { audience: '' }))).toBe('JwtSvidAudience');
  });

  it('refuses an expired token, with a minute of leeway', async () => {
    const end = NOW + 300_000 + JWT_SVID_LEEWAY_MS;
    expect(await codeOf(verify(token(), { now: end - 1 }))).toBe('none');
    expect(await codeOf(verify(token(), { now: end }))).toBe('JwtSvidExpired');
  });

  it.each(['nbf', 'iat'])('refuses a token before its %s, with a minute of leeway', async (name) => {
    const claims = { ...CLAIMS, [name]: SECONDS + 120 };
    expect(await codeOf(verify(token(undefined, claims)))).toBe('JwtSvidNotYetValid');
    expect(await codeOf(verify(token(undefined, claims), { now: NOW + 60_000 }))).toBe('none');
  });

  it('refuses a token of a trust domain without bundle', async () => {
    const foreign = token(undefined, { ...CLAIMS, sub: 'spiffe://other.example/workload' });
    expect(await codeOf(verify(foreign))).toBe('JwtSvidUntrusted');
  });

  it('refuses a key ID that the bundle does not have', async () => {
    expect(await codeOf(verify(token({ alg: 'ES256', kid: 'gone' })))).toBe('JwtSvidUntrusted');
  });

  it('refuses the signature of another key', async () => {
    expect(await codeOf(verify(token(undefined, CLAIMS, keys.other.privateKey)))).toBe('JwtSvidSignature');
  });

  it('refuses an algorithm that does not fit the key', async () => {
    const header = { alg: 'ES256', kid: 'rsa' };
    expect(await codeOf(verify(token(header)))).toBe('JwtSvidSignature');
    const curve = { alg: 'ES384', kid: 'p256' };
    expect(await codeOf(verify(token(curve, CLAIMS, keys.p384.privateKey)))).toBe('JwtSvidSignature');
  });

  it('does not take a public key for a shared secret', async () => {
    const text = `${part({ alg: 'HS256', kid: 'p256' })}.${part(CLAIMS)}`;
    const secret = keys.p256.publicKey.export({ type: 'spki', format: 'pem' });
    const mac = createHmac('sha256', secret).update(text).digest('base64url');
    expect(await codeOf(verify(`${text}.${mac}`))).toBe('JwtSvidMalformed');
  });

  it('refuses a token of which one character was changed', async () => {
    const text = token();
    await fc.assert(
      fc.asyncProperty(
        fc.nat(text.length - 1),
        fc.constantFrom(...Array.from('aB3_-.')),
        async (index, char) => {
          // The last character carries unused bits; its change may mean the same signature.
          fc.pre(text[index] !== char && index < text.length - 1);
          const changed = text.slice(0, index) + char + text.slice(index + 1);
          expect(await codeOf(verify(changed))).not.toBe('none');
        },
      ),
      { numRuns: 200 },
    );
  });

  it('never puts the token into an error', async () => {
    const text = token(undefined, CLAIMS, keys.other.privateKey);
    const error = await verify(text).then(
      () => undefined,
      (thrown: unknown) => thrown as JwtSvidError,
    );
    expect(error?.code).toBe('JwtSvidSignature');
    const cause = error?.cause instanceof Error ? error.cause.message : '';
    expect(`${error?.message ?? ''} ${cause}`).not.toContain(text.slice(0, 20));
  });
});

describe('parseJwtSvidUnverified', () => {
  it('reads a token whose signature it cannot check', () => {
    const svid = parseJwtSvidUnverified(token(undefined, CLAIMS, keys.other.privateKey));
    expect(svid.id.uri).toBe('spiffe://example.org/workload');
    expect(svid.expiresAt).toBe(NOW + 300_000);
  });

  it('still refuses what is no JWT-SVID', () => {
    expect(() => parseJwtSvidUnverified('a.b.c')).toThrow(JwtSvidError);
  });
});
