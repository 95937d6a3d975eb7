import type { JsonWebKey } from 'node:crypto';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { SignJWT } from 'jose';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { makeTokenKey, signToken } from '../../../test/support/oidc-provider.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { silentLogger } from '../../lib/logger.js';
import type { FetchDocument } from './fetch-document.js';
import type { OidcIssuerConfig } from './issuer-config.js';
import { readTokenIssuers } from './issuer-config.js';
import type { TokenResult, TokenValidator, TokenValidatorOptions } from './validator.js';
import { createTokenValidator } from './validator.js';

const ISSUER = 'https://login.example.com/';
const NOW = Date.UTC(2026, 0, 1);
const SECONDS = NOW / 1000;
const CLAIMS = {
  iss: ISSUER,
  sub: 'alice',
  aud: ['payments'],
  iat: SECONDS - 60,
  exp: SECONDS + 300,
  realm_access: { roles: ['admin'] },
};

const keys = {
  es256: makeTokenKey('es256'),
  es384: makeTokenKey('es384', 'ES384'),
  es512: makeTokenKey('es512', 'ES512'),
  rs256: makeTokenKey('rs256', 'RS256'),
  eddsa: makeTokenKey('eddsa', 'EdDSA'),
  /** One key for all algorithms of its kind. */
  rsa: makeTokenKey('rsa', 'PS256'),
};
delete keys.rsa.jwk['alg'];
const jwks = { keys: Object.values(keys).map(({ jwk }) => jwk) };

const noFetch: FetchDocument = () => Promise.reject(new Error('this test fetches nothing'));

function validator(
  issuer: Partial<OidcIssuerConfig> = {},
  options: Partial<TokenValidatorOptions> = {},
): TokenValidator {
  return createTokenValidator({
    issuers: readTokenIssuers([{ issuer: ISSUER, audiences: ['payments'], jwks, ...issuer }]),
    clock: new FakeClock(NOW),
    fetch: noFetch,
    logger: silentLogger,
    ...options,
  });
}

const shared = validator();

/** What the validator says: `ok`, or the code. */
function answer(token: string, tokens = shared): string {
  const result = tokens.validateCached(token);
  if (result === undefined) return 'waits';
  return result.ok ? 'ok' : result.code;
}

const es256 = (claims: unknown = CLAIMS, header: Record<string, unknown> | string = {}): string =>
  signToken(keys.es256, claims, header);

describe('a valid token', () => {
  it('is taken apart, and cannot be changed', async () => {
    const result = await shared.validate(es256());
    expect(result).toEqual({
      ok: true,
      token: {
        issuer: ISSUER,
        subject: 'alice',
        audiences: ['payments'],
        claims: CLAIMS,
        expiresAt: NOW + 300_000,
        issuedAt: NOW - 60_000,
        keyId: 'es256',
      },
    });
    if (!result.ok) throw new Error('it is valid');
    expect(Object.isFrozen(result.token)).toBe(true);
    expect(Object.isFrozen((result.token.claims['realm_access'] as { roles: unknown }).roles)).toBe(true);
  });

  it.each([
    ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'].map((alg) => [alg, keys.rsa] as const),
    ...(['es256', 'es384', 'es512', 'eddsa'] as const).map(
      (name) => [keys[name].algorithm, keys[name]] as const,
    ),
    ['Ed25519', { ...keys.eddsa, algorithm: 'Ed25519' }] as const,
  ])('of %s is taken when jose made it', async (alg, key) => {
    const jwk = { ...key.jwk };
    delete jwk['alg'];
    const tokens = validator({ algorithms: [alg], jwks: { keys: [jwk] } });
    const token = await new SignJWT(CLAIMS)
      .setProtectedHeader({ alg, kid: key.jwk['kid'] as string })
      .sign(key.privateKey);
    expect(answer(token, tokens)).toBe('ok');
    expect(answer(`${token.slice(0, -8)}AAAAAAAA`, tokens)).toBe('TokenBadSignature');
  });

  it.each([
    ['aud as a text', { ...CLAIMS, aud: 'payments' }, {}],
    ['several audiences', { ...CLAIMS, aud: ['orders', 'payments'] }, {}],
    ['no iat', { ...CLAIMS, iat: undefined }, {}],
    ['fractions of seconds', { ...CLAIMS, exp: SECONDS + 300.5 }, {}],
    ['no typ', CLAIMS, { typ: undefined }],
    ['typ at+jwt', CLAIMS, { typ: 'at+jwt' }],
    ['a typ with application/', CLAIMS, { typ: 'application/AT+JWT' }],
    ['cty json', CLAIMS, { cty: 'application/json' }],
    ['headers that nobody knows', CLAIMS, { x5t: 'abc', nonce: 'n' }],
  ])('may have %s', (_, claims, header) => {
    expect(answer(es256(claims, header))).toBe('ok');
  });

  it('needs no kid where one key alone can have signed it', () => {
    const one = validator({ jwks: { keys: [keys.es256.jwk, keys.rs256.jwk] } });
    expect(answer(es256(CLAIMS, { kid: undefined }), one)).toBe('ok');
    const two = validator({ jwks: { keys: [keys.es256.jwk, makeTokenKey('other').jwk] } });
    expect(answer(es256(CLAIMS, { kid: undefined }), two)).toBe('TokenUnknownKey');
  });
});

describe('times', () => {
  it.each([
    ['just before exp and skew are over', { exp: SECONDS - 29 }, 'ok'],
    ['when exp and skew are over', { exp: SECONDS - 30 }, 'TokenExpired'],
    ['just after nbf less skew', { nbf: SECONDS + 30 }, 'ok'],
    ['before nbf less skew', { nbf: SECONDS + 31 }, 'TokenNotYetValid'],
    ['issued in the future', { iat: SECONDS + 31, exp: SECONDS + 600 }, 'TokenNotYetValid'],
    ['expired long ago', { iat: 0, exp: 1 }, 'TokenExpired'],
  ])('%s', (_, change, expected) => {
    expect(answer(es256({ ...CLAIMS, ...change }))).toBe(expected);
  });

  it('may be strict', () => {
    const strict = validator({ clockSkewSeconds: 0 });
    expect(answer(es256({ ...CLAIMS, exp: SECONDS }), strict)).toBe('TokenExpired');
    expect(answer(es256({ ...CLAIMS, nbf: SECONDS + 1 }), strict)).toBe('TokenNotYetValid');
  });

  it('may have a maximum age, which needs iat', () => {
    const young = validator({ maxTokenAgeSeconds: 100 });
    const issued = (ago: number): string => es256({ ...CLAIMS, iat: SECONDS - ago });
    expect(answer(issued(129), young)).toBe('ok');
    expect(answer(issued(130), young)).toBe('TokenTooOld');
    expect(answer(es256({ ...CLAIMS, iat: undefined }), young)).toBe('TokenMalformed');
  });
});

describe('attacks', () => {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const publicPem = keys.rs256.publicKey.export({ type: 'spki', format: 'pem' });

  it.each(['none', 'None', 'NONE', 'nOnE'])('algorithm "%s" is refused, signed or not', (alg) => {
    const body = `${part({ alg, kid: 'es256' })}.${part(CLAIMS)}`;
    expect(answer(`${body}.`)).toBe('TokenMalformed');
    expect(answer(`${body}.AAAA`)).toBe('TokenAlgorithmRefused');
    expect(answer(es256(CLAIMS, { alg }))).toBe('TokenAlgorithmRefused');
  });

  it.each(['HS256', 'HS384', 'HS512'])('%s with the public key as the secret is refused', (alg) => {
    const body = `${part({ alg, kid: 'rs256' })}.${part(CLAIMS)}`;
    const mac = createHmac(`sha${alg.slice(2)}`, publicPem)
      .update(body)
      .digest('base64url');
    expect(answer(`${body}.${mac}`)).toBe('TokenAlgorithmRefused');
    expect(() => validator({ algorithms: [alg] })).toThrow('not allowed');
  });

  it('a key of one kind is not used for the algorithm of another', () => {
    expect(answer(signToken(keys.rs256, CLAIMS, { kid: 'es256' }))).toBe('TokenAlgorithmRefused');
    // The same RSA key, but its issuer says that it is for RS256.
    expect(answer(signToken({ ...keys.rs256, algorithm: 'PS256' }, CLAIMS))).toBe('TokenAlgorithmRefused');
    expect(answer(es256(CLAIMS, { alg: 'EdDSA' }))).toBe('TokenAlgorithmRefused');
  });

  it('an algorithm that is not configured is refused, though there is a key for it', () => {
    expect(answer(signToken(keys.es384, CLAIMS))).toBe('TokenAlgorithmRefused');
    expect(answer(signToken(keys.es384, CLAIMS), validator({ algorithms: ['ES384'] }))).toBe('ok');
  });

  it('a key that the token brings is not looked at (jwk, jku, x5u, x5c)', () => {
    const own = makeTokenKey('own');
    for (const header of [
      { jwk: own.jwk },
      { jku: 'https://evil.example/keys' },
      { x5u: 'https://evil.example/chain' },
      { x5c: ['AAAA'] },
    ]) {
      expect(answer(signToken(own, CLAIMS, header))).toBe('TokenUnknownKey');
      expect(answer(signToken(own, CLAIMS, { ...header, kid: 'es256' }))).toBe('TokenBadSignature');
      expect(answer(signToken(own, CLAIMS, { ...header, kid: undefined }))).toBe('TokenBadSignature');
      // Many issuers send them, so they do no harm either.
      expect(answer(es256(CLAIMS, header))).toBe('ok');
    }
  });

  it.each([
    ['critical extensions', { crit: ['exp'], exp: 1 }],
    ['an empty list of critical extensions', { crit: [] }],
    ['a payload that is not encoded', { b64: false }],
    ['encryption', { enc: 'A128GCM' }],
    ['compression', { zip: 'DEF' }],
    ['a token inside', { cty: 'JWT' }],
    ['a kid that is no text', { kid: { a: 1 } }],
    ['an empty kid', { kid: '' }],
    ['a kid without end', { kid: 'k'.repeat(1025) }],
    ['a typ that is no text', { typ: 1 }],
  ])('a header with %s is refused', (_, header) => {
    expect(answer(es256(CLAIMS, header))).toBe('TokenMalformed');
  });

  it('a signature of zeros is refused (CVE-2022-21449), and all others that no key makes', () => {
    const body = es256().replace(/[^.]*$/, '');
    const n = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';
    const one = '1'.padStart(64, '0');
    for (const hex of ['0'.repeat(128), n + n, one + '0'.repeat(64), '0'.repeat(64) + one, one + n])
      expect(answer(body + Buffer.from(hex, 'hex').toString('base64url'))).toBe('TokenBadSignature');
  });

  it('a signature in DER, too short or too long is refused', () => {
    const token = es256();
    const at = token.lastIndexOf('.') + 1;
    const raw = Buffer.from(token.slice(at), 'base64url');
    for (const bytes of [raw.subarray(0, 63), Buffer.concat([raw, Buffer.of(0)]), Buffer.of(0x30, 0)])
      expect(answer(token.slice(0, at) + bytes.toString('base64url'))).toBe('TokenBadSignature');
  });

  it('a token of another issuer that shares the key is refused', () => {
    expect(answer(es256({ ...CLAIMS, iss: 'https://login.example.com' }))).toBe('TokenUnknownIssuer');
    expect(answer(es256({ ...CLAIMS, iss: ISSUER.toUpperCase() }))).toBe('TokenUnknownIssuer');
    expect(answer(es256({ ...CLAIMS, iss: undefined }))).toBe('TokenUnknownIssuer');
    expect(answer(es256({ ...CLAIMS, iss: [ISSUER] }))).toBe('TokenMalformed');
    expect(answer(es256({ ...CLAIMS, iss: '__proto__' }))).toBe('TokenUnknownIssuer');
  });

  it('the keys of one issuer do not vouch for another', () => {
    const other = makeTokenKey('es256');
    const tokens = createTokenValidator({
      issuers: readTokenIssuers([
        { issuer: ISSUER, audiences: ['payments'], jwks },
        { issuer: 'https://other.example/', audiences: ['payments'], jwks: { keys: [other.jwk] } },
      ]),
      clock: new FakeClock(NOW),
      fetch: noFetch,
      logger: silentLogger,
    });
    expect(answer(es256(), tokens)).toBe('ok');
    expect(answer(signToken(other, { ...CLAIMS, iss: 'https://other.example/' }), tokens)).toBe('ok');
    expect(answer(signToken(other, CLAIMS), tokens)).toBe('TokenBadSignature');
  });

  it.each([
    ['for others', ['orders'], 'TokenWrongAudience'],
    ['for one of a like name', ['payments2', 'Payments', 'payments '], 'TokenWrongAudience'],
    ['without aud', undefined, 'TokenMalformed'],
    ['with an empty list', [], 'TokenMalformed'],
    ['with an empty text', '', 'TokenMalformed'],
    ['with a list in the list', [['payments']], 'TokenMalformed'],
    ['with an object', { payments: true }, 'TokenMalformed'],
    ['with too many', Array.from({ length: 101 }, () => 'payments'), 'TokenMalformed'],
  ])('an audience %s is refused', (_, aud, code) => {
    expect(answer(es256({ ...CLAIMS, aud }))).toBe(code);
  });

  it.each([
    ['no exp', { exp: undefined }],
    ['exp as a text', { exp: '9999999999' }],
    ['exp null', { exp: null }],
    ['a negative exp', { exp: -1 }],
    ['exp past all dates', { exp: 1e300 }],
    ['nbf as a text', { nbf: 'now' }],
    ['iat as a list', { iat: [1] }],
    ['no sub', { sub: undefined }],
    ['an empty sub', { sub: '' }],
    ['a sub that is no text', { sub: 1 }],
    ['a sub without end', { sub: 's'.repeat(2049) }],
  ])('claims with %s are refused', (_, change) => {
    expect(answer(es256({ ...CLAIMS, ...change }))).toBe('TokenMalformed');
  });

  it.each([
    ['nothing', ''],
    ['dots', '..'],
    ['two parts', 'a.b'],
    ['four parts', `${es256()}.x`],
    ['five parts, as encrypted tokens have', 'a.b.c.d.e'],
    ['JSON serialisation', JSON.stringify({ payload: '', signatures: [] })],
    ['a scheme before it', `Bearer ${es256()}`],
    ['a line end after it', `${es256()}\n`],
    ['padding', es256().replace('.', '=.')],
    ['base64 that is not for URLs', es256().replace(/.$/, '+')],
    ['more than 16 KiB', signToken(keys.es256, { ...CLAIMS, x: 'x'.repeat(13_000) })],
  ])('%s is no token', (_, text) => {
    expect(answer(text)).toBe('TokenMalformed');
  });

  it('another spelling of the same signature is refused', () => {
    const token = es256();
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // 64 bytes leave four bits of the last character loose.
    const last = alphabet.indexOf(token.at(-1) ?? '');
    const twin = token.slice(0, -1) + (alphabet[last ^ 1] ?? '');
    expect(Buffer.from(twin, 'base64url')).toEqual(Buffer.from(token, 'base64url'));
    expect(answer(twin)).toBe('TokenMalformed');
  });

  it('a claim or header that comes twice is refused, though it is signed', () => {
    const claims = JSON.stringify(CLAIMS);
    expect(answer(es256(claims))).toBe('ok');
    expect(answer(es256(claims.replace('{', '{"sub":"root",')))).toBe('TokenMalformed');
    expect(answer(es256(claims.replace('{', '{"s\\u0075b":"root",')))).toBe('TokenMalformed');
    expect(answer(es256(CLAIMS, '{"alg":"none","kid":"es256","alg":"ES256"}'))).toBe('TokenMalformed');
  });

  it.each(['logout+jwt', 'dpop+jwt', 'secevent+jwt', 'wit+jwt', 'JOSE'])(
    'another kind of token (%s) does not pass for an access token',
    (typ) => {
      expect(answer(es256(CLAIMS, { typ }))).toBe('TokenWrongType');
    },
  );

  it('a type that the issuer must give is asked for', () => {
    const tokens = validator({ requiredTyp: 'application/at+jwt' });
    expect(answer(es256(CLAIMS, { typ: 'at+JWT' }), tokens)).toBe('ok');
    expect(answer(es256(CLAIMS, { typ: 'JWT' }), tokens)).toBe('TokenWrongType');
    expect(answer(es256(CLAIMS, { typ: undefined }), tokens)).toBe('TokenWrongType');
  });

  it('no random change of bytes makes another token valid', () => {
    const token = es256();
    const cached = validator();
    expect(answer(token, cached)).toBe('ok');
    const change = fc.record({ at: fc.nat(token.length - 1), to: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = Buffer.from(token, 'latin1');
        for (const { at, to } of changes) bytes[at] = to;
        const changed = bytes.toString('latin1');
        fc.pre(changed !== token);
        expect(answer(changed, cached)).toMatch(/^Token/);
      }),
      { numRuns: 2000 },
    );
  });

  it('no single flipped bit, cut or inserted byte makes another token valid', () => {
    const token = es256();
    const tokens = validator();
    for (let at = 0; at < token.length; at++) {
      const bit = String.fromCharCode(token.charCodeAt(at) ^ (1 << (at % 8)));
      for (const changed of [
        token.slice(0, at) + bit + token.slice(at + 1),
        token.slice(0, at),
        token.slice(0, at) + token.slice(at + 1),
        `${token.slice(0, at)}A${token.slice(at)}`,
      ])
        expect([changed === token, answer(changed, tokens)]).toEqual([
          false,
          expect.stringMatching(/^Token/),
        ]);
    }
  });

  it('nothing of a token is in a reason or in the log', async () => {
    const logger = recordingLogger();
    const tokens = validator({ maxTokenAgeSeconds: 100 }, { logger });
    const secret = 'tUvWxYz01234';
    const marked = { [secret]: secret, sub: secret, jti: secret };
    const refused = [
      es256({ ...CLAIMS, ...marked, aud: secret }),
      es256({ ...CLAIMS, ...marked, iss: secret }),
      es256({ ...CLAIMS, ...marked, exp: secret }),
      es256({ ...CLAIMS, ...marked, exp: 1 }),
      es256({ ...CLAIMS, ...marked, iat: 1 }),
      es256({ ...CLAIMS, ...marked, nbf: 4e9 }),
      es256(`{"${secret}":"${secret}","${secret}":1}`),
      es256(`{"${secret}":${secret}`),
      es256({ ...CLAIMS, ...marked }, { alg: secret }),
      es256({ ...CLAIMS, ...marked }, { kid: secret }),
      es256({ ...CLAIMS, ...marked }, { typ: secret }),
      es256({ ...CLAIMS, ...marked }, { cty: secret }),
      signToken(makeTokenKey('es256'), { ...CLAIMS, ...marked }),
      `${secret}.${secret}.${secret}`,
      secret,
    ];
    for (const token of refused) {
      const result = await tokens.validate(token);
      if (result.ok) throw new Error('each of them is refused');
      const said = JSON.stringify([result, logger.all, tokens.status()]);
      expect(said).not.toContain(secret);
      for (const text of token.split('.')) expect(said).not.toContain(text.slice(0, 12));
    }
  });
});

describe('the cache of verified tokens', () => {
  it('answers a repeat with the same object, until the token expires', async () => {
    const clock = new FakeClock(NOW);
    const tokens = validator({}, { clock });
    const token = es256({ ...CLAIMS, nbf: SECONDS });
    const first = await tokens.validate(token);
    expect(tokens.validateCached(token)).toBe(first);
    expect(tokens.status().cache).toEqual({ entries: 1, characters: token.length, hits: 1 });
    await clock.advance(299_999);
    expect(tokens.validateCached(token)).toBe(first);
    // Within the skew it is verified anew each time.
    await clock.advance(1);
    expect(answer(token, tokens)).toBe('ok');
    await clock.advance(30_000);
    expect(answer(token, tokens)).toBe('TokenExpired');
    expect(tokens.status().cache.hits).toBe(2);
  });

  it('answers as a new verification would, wherever the clock goes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -400, max: 800 }), { minLength: 1, maxLength: 12 }),
        fc.record({
          nbf: fc.option(fc.integer({ min: -100, max: 100 }), { nil: undefined }),
          iat: fc.option(fc.integer({ min: -100, max: 100 }), { nil: undefined }),
        }),
        fc.boolean(),
        (seconds, times, aged) => {
          const clock = new FakeClock(NOW);
          const issuer = aged ? { maxTokenAgeSeconds: 90 } : {};
          const cached = validator(issuer, { clock });
          const token = es256({
            ...CLAIMS,
            nbf: times.nbf === undefined ? undefined : SECONDS + times.nbf,
            iat: times.iat === undefined ? undefined : SECONDS + times.iat,
          });
          for (const at of seconds) {
            clock.jump(NOW + at * 1000 - clock.now());
            expect(answer(token, cached)).toBe(answer(token, validator(issuer, { clock })));
          }
        },
      ),
    );
  });

  it('is bounded by number and by size, and keeps what was used last', async () => {
    const tokens = validator({}, { cache: { entries: 3, weight: 4000 } });
    const [a = '', b = '', c = '', d = ''] = ['a', 'b', 'c', 'd'].map((sub) => es256({ ...CLAIMS, sub }));
    const firsts: (TokenResult | undefined)[] = [];
    for (const token of [a, b, c]) firsts.push(await tokens.validate(token));
    expect(tokens.validateCached(a)).toBe(firsts[0]);
    await tokens.validate(d);
    expect(tokens.status().cache.entries).toBe(3);
    expect(tokens.validateCached(a)).toBe(firsts[0]);
    expect(tokens.validateCached(b)).not.toBe(firsts[1]);
    for (let n = 0; n < 50; n++) await tokens.validate(es256({ ...CLAIMS, pad: 'x'.repeat(n * 40) }));
    expect(tokens.status().cache.characters).toBeLessThanOrEqual(4000);
  });

  it('never holds a token that was refused', () => {
    const tokens = validator();
    for (const token of [es256({ ...CLAIMS, exp: 1 }), signToken(makeTokenKey('es256'), CLAIMS), 'x'])
      expect(answer(token, tokens)).toMatch(/^Token/);
    expect(tokens.status().cache.entries).toBe(0);
  });
});

describe('revocation', () => {
  it('takes a token away at once, from the cache too, and gives it back', () => {
    const revoked = new Set<string>();
    const tokens = validator(
      {},
      { revoked: ({ subject }) => (revoked.has(subject) ? 'the laptop was stolen' : undefined) },
    );
    const token = es256();
    expect(answer(token, tokens)).toBe('ok');
    revoked.add('alice');
    expect(tokens.validateCached(token)).toEqual({
      ok: false,
      code: 'TokenRevoked',
      reason: 'the token is revoked: the laptop was stolen',
    });
    expect(answer(es256({ ...CLAIMS, jti: 'another' }), tokens)).toBe('TokenRevoked');
    revoked.clear();
    expect(answer(token, tokens)).toBe('ok');
  });
});

describe('status', () => {
  it('counts answers by their code', () => {
    const tokens = validator();
    for (const token of [es256(), es256(), 'x', es256({ ...CLAIMS, exp: 1 })]) answer(token, tokens);
    expect(tokens.status()).toMatchObject({
      valid: 2,
      refused: { TokenMalformed: 1, TokenExpired: 1, TokenRevoked: 0 },
      issuers: [{ issuer: ISSUER, state: 'ready', keyIds: Object.keys(keys) }],
    });
  });
});

describe('JWT-SVIDs as tokens', () => {
  const svid = (
    claims: Record<string, unknown> = {},
    header: Record<string, unknown> = {},
    key = keys.es256,
  ): string =>
    signToken(
      key,
      { sub: 'spiffe://example.org/ns/a/sa/b', aud: 'payments', exp: SECONDS + 300, ...claims },
      header,
    );
  const bundleOf = (...authorities: { jwk: Record<string, unknown> }[]) => ({
    trustDomain: 'example.org',
    x509Authorities: [],
    jwtAuthorities: authorities.map(({ jwk }) => {
      const { kty, crv, x, y, n, e } = jwk as Record<string, string>;
      return {
        keyId: jwk['kid'] as string,
        jwk: JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })) as JsonWebKey,
      };
    }),
    sequence: 1,
  });
  let bundle: ReturnType<typeof bundleOf> | undefined = bundleOf(keys.es256, keys.rs256);
  const open = (config: object = {}): TokenValidator =>
    createTokenValidator({
      issuers: readTokenIssuers([
        { kind: 'spiffe', trustDomain: 'example.org', audiences: ['payments'], ...config },
        { issuer: ISSUER, audiences: ['payments'], jwks },
      ]),
      clock: new FakeClock(NOW),
      fetch: noFetch,
      logger: silentLogger,
      bundles: (name) => (name === 'example.org' ? bundle : undefined),
    });
  const tokens = open();

  it('are taken with the keys of the trust bundle', () => {
    const result = tokens.validateCached(svid());
    expect(result).toMatchObject({
      ok: true,
      token: { issuer: 'spiffe://example.org', subject: 'spiffe://example.org/ns/a/sa/b', keyId: 'es256' },
    });
    expect(answer(svid({}, {}, keys.rs256), tokens)).toBe('ok');
    expect(answer(svid({ iss: 'https://any.example' }), tokens)).toBe('ok');
  });

  it.each([
    ['of another trust domain', { sub: 'spiffe://other.org/x' }, {}, 'TokenUnknownIssuer'],
    ['with a sub that is no SPIFFE ID', { sub: 'spiffe://example.org/a//b' }, {}, 'TokenUnknownIssuer'],
    ['for others', { aud: 'orders' }, {}, 'TokenWrongAudience'],
    ['with a header more', {}, { jku: 'https://evil.example' }, 'TokenMalformed'],
    ['without kid', {}, { kid: undefined }, 'TokenMalformed'],
    ['with another typ', {}, { typ: 'at+jwt' }, 'TokenWrongType'],
    ['with EdDSA', {}, { alg: 'EdDSA' }, 'TokenAlgorithmRefused'],
    ['with an unknown key', {}, { kid: 'other' }, 'TokenUnknownKey'],
  ])('%s are refused', (_, claims, header, code) => {
    expect(answer(svid(claims, header), tokens)).toBe(code);
  });

  it('may have to name an issuer, which vouches for its own trust domain alone', () => {
    const iss = 'https://oidc.example.org';
    const strict = open({ issuer: iss });
    expect(answer(svid({ iss }), strict)).toBe('ok');
    expect(answer(svid(), strict)).toBe('TokenUnknownIssuer');
    expect(answer(svid({ iss, sub: 'spiffe://other.org/x' }), strict)).toBe('TokenUnknownIssuer');
    expect(answer(svid({ iss, sub: 'alice' }), strict)).toBe('TokenUnknownIssuer');
  });

  it('are refused, from the cache too, once their key has left the bundle', () => {
    expect(answer(svid(), tokens)).toBe('ok');
    bundle = bundleOf(keys.rs256);
    expect(answer(svid(), tokens)).toBe('TokenUnknownKey');
    bundle = bundleOf({ jwk: { ...makeTokenKey('es256').jwk } });
    expect(answer(svid(), tokens)).toBe('TokenBadSignature');
    bundle = undefined;
    expect(answer(svid(), tokens)).toBe('TokenKeysUnavailable');
    expect(tokens.status().issuers[0]).toMatchObject({ state: 'unavailable' });
  });
});

it('an RSA key that is too small is never used', () => {
  const pair = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'small' };
  expect(() => validator({ jwks: { keys: [jwk] } })).toThrow('an RSA key of 1024 bits');
});
