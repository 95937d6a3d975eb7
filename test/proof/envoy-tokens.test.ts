/** What Envoy takes for a valid token, beside what our own validator does. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { HTTP_CONNECTION_MANAGER } from '../../src/access/mesh/envoy/connection-manager.js';
import { USUAL_ALGORITHMS } from '../../src/access/mesh/envoy/issuers.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import { findToken } from '../../src/agent/authorization/token.js';
import { DEFAULT_ALGORITHMS } from '../../src/identity/tokens/algorithms.js';
import { readTokenIssuers } from '../../src/identity/tokens/issuer-config.js';
import { createTokenValidator, type TokenValidator } from '../../src/identity/tokens/validator.js';
import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { newCredentialSource } from '../rig/credentials.js';
import { answerHello, bootstrap, httpManager, listener } from '../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { makeTokenKey, signToken, type TokenKey } from '../support/oidc-provider.js';
import { proofRuns, proofSeed, WORLD } from '../support/policies.js';
import { FilterServer } from './envoy-served.js';
import { contextOf, policy, TARGET } from './envoy-target.js';

jest.setTimeout(120_000);

const ISSUER = 'https://id.example/';
const OTHER = 'https://other.example';
const keys = {
  es256: makeTokenKey('es256'),
  rs256: makeTokenKey('rs256', 'RS256'),
  eddsa: makeTokenKey('eddsa', 'EdDSA'),
  /** Without "alg", so for whatever RSA can do. */
  rsa: makeTokenKey('rsa', 'PS256'),
  /** Its algorithm is not one that the issuer may use. */
  es384: makeTokenKey('es384', 'ES384'),
  /** Of the other issuer, under the ID of one of the first. */
  twin: makeTokenKey('es256'),
  /** Of nobody. */
  forged: makeTokenKey('es256'),
};
delete keys.rsa.jwk['alg'];
const jwks = { keys: [keys.es256, keys.rs256, keys.eddsa, keys.rsa, keys.es384].map(({ jwk }) => jwk) };
const ISSUERS = [
  { issuer: ISSUER, audiences: ['pay', 'https://shop.example'], jwks },
  { issuer: OTHER, audiences: ['pay'], jwks: { keys: [keys.twin.jwk] } },
];

const anyone = [{ anyone: true }] as const;
const at = (path: string) => [{ http: { paths: [{ exact: path }] } }] as const;
const CONTEXT = contextOf(
  [
    policy('p', [
      { from: anyone, to: at('/open') },
      { from: anyone, to: at('/token'), when: { token: { issuers: [ISSUER, OTHER] } } },
      { from: anyone, to: at('/other'), when: { token: { issuers: [OTHER] } } },
      { effect: 'Deny', from: anyone, when: { token: { subjects: ['mallory'] } } },
    ]),
  ],
  [{ issuer: ISSUER, jwks: JSON.stringify(jwks) }],
);
const PATHS = ['/open', '/token', '/other'] as const;

type Claims = Readonly<Record<string, unknown>>;
const now = Math.floor(Date.now() / 1000);
const CLAIMS: Claims = { iss: ISSUER, sub: 'ann', aud: 'pay', iat: now - 60, exp: now + 3600 };

interface Attempt {
  readonly key: TokenKey;
  readonly claims: Claims;
  readonly header: Readonly<Record<string, unknown>>;
  readonly authorization: (token: string) => string;
}
const bearer = (token: string): string => `Bearer ${token}`;
const usual: Attempt = { key: keys.es256, claims: CLAIMS, header: {}, authorization: bearer };
const headerOf = ({ key, claims, header, authorization }: Attempt): string =>
  authorization(signToken(key, claims, header));

(rig.isSkipped('envoy') ? describe.skip : describe)('tokens in Envoy with served filters', () => {
  const server = new FilterServer();
  let validator: TokenValidator;
  let envoy: EnvoyProxy;
  let client: MeshClient;

  beforeAll(async () => {
    await Promise.all([rig.envoy(), server.open()]);
    validator = createTokenValidator({
      issuers: readTokenIssuers(ISSUERS),
      clock: systemClock,
      fetch: () => Promise.reject(new Error('nothing is fetched here')),
      logger: silentLogger,
    });
    const { set, inventory } = CONTEXT;
    const sources = { set, inventory, target: TARGET, issuers: validator.published() };
    const { http } = server.chains('in', { sources, plaintext: true });
    const chains = { whole: http, bare: http.slice(1) };
    const listeners = Object.entries(chains).map(([name, filters]) =>
      listener(httpManager(answerHello, filters, { ...HTTP_CONNECTION_MANAGER }), { name }),
    );
    envoy = await startEnvoyProxy(bootstrap(listeners, [server.cluster]));
    client = newMeshClient(await newCredentialSource([]));
  }, rig.rigTimeout);
  afterAll(async () => {
    client.close();
    await envoy.stop();
    await server.close();
  });

  const ask = async (path: string, authorization?: string, name = 'whole'): Promise<number> => {
    const { status } = await client.request({
      port: envoy.port(name),
      plaintext: true,
      path,
      headers: authorization === undefined ? [] : [['authorization', authorization]],
    });
    return status;
  };
  /** What the policies say, with the token as our own authorization service finds it. */
  const allowed = async (path: string, authorization?: string): Promise<boolean> => {
    const { token } = await findToken(authorization, validator);
    return evaluate(CONTEXT.set, {
      source: undefined,
      target: TARGET,
      port: 8080,
      http: { method: 'GET', path, host: 'a' },
      token,
      time: WORLD.now,
    }).allowed;
  };
  /** Never wider on any path; how many were allowed. */
  async function compare(authorization: string | undefined, name?: string): Promise<number> {
    let passed = 0;
    for (const path of PATHS) {
      const passes = (await ask(path, authorization, name)) === 200;
      if (passes) passed++;
      const wider = passes && !(await allowed(path, authorization));
      expect(wider ? { path, authorization } : undefined).toBeUndefined();
    }
    return passed;
  }

  const with_ = (change: Partial<Attempt>): string => headerOf({ ...usual, ...change });
  const claiming = (claims: Claims): string => with_({ claims: { ...CLAIMS, ...claims } });

  it('trusts the algorithms that our validator does, unless a TrustDomain says otherwise', () => {
    expect(USUAL_ALGORITHMS).toEqual(DEFAULT_ALGORITHMS);
  });

  it.each<readonly [string, () => string | undefined, readonly string[]]>([
    ['no token', () => undefined, ['/open']],
    ['another scheme', () => 'Basic YmVhcmVyOnNlY3JldA==', ['/open']],
    ['ES256', () => with_({}), ['/open', '/token']],
    ['RS256', () => with_({ key: keys.rs256 }), ['/open', '/token']],
    ['EdDSA', () => with_({ key: keys.eddsa }), ['/open', '/token']],
    ['PS256 by a key for all of RSA', () => with_({ key: keys.rsa }), ['/open', '/token']],
    ['RS256 by the same key', () => with_({ key: { ...keys.rsa, algorithm: 'RS256' } }), ['/open', '/token']],
    ['the other issuer', () => with_({ key: keys.twin, claims: { ...CLAIMS, iss: OTHER } }), [...PATHS]],
    ['no typ', () => with_({ header: { typ: undefined } }), ['/open', '/token']],
    ['an access token', () => with_({ header: { typ: 'application/AT+JWT' } }), ['/open', '/token']],
    ['several audiences', () => claiming({ aud: ['x', 'pay'] }), ['/open', '/token']],
    ['the scheme in lower case', () => with_({ authorization: (t) => `bearer ${t}` }), ['/open', '/token']],
    ['expired within the skew', () => claiming({ exp: now - 5 }), ['/open', '/token']],
  ])('takes what is valid as our validator does: %s', async (_, make, open) => {
    const authorization = make();
    expect(
      await Promise.all(PATHS.map(async (path) => (await allowed(path, authorization)) && path)),
    ).toEqual(PATHS.map((path) => open.includes(path) && path));
    for (const path of PATHS)
      expect([path, await ask(path, authorization)]).toEqual([path, open.includes(path) ? 200 : 403]);
  });

  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const attacks: readonly (readonly [string, () => string])[] = [
    ['alg none', () => bearer(`${part({ alg: 'none', kid: 'es256' })}.${part(CLAIMS)}.`)],
    ['alg none with a signature', () => bearer(`${part({ alg: 'none' })}.${part(CLAIMS)}.AAAA`)],
    [
      'HS256 with the public key as the secret',
      () => {
        const input = `${part({ alg: 'HS256', kid: 'rs256' })}.${part(CLAIMS)}`;
        const secret = keys.rs256.publicKey.export({ type: 'spki', format: 'pem' });
        return bearer(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`);
      },
    ],
    ['an algorithm that the issuer may not use', () => with_({ key: keys.es384 })],
    ['an algorithm that is not the key’s own', () => with_({ key: { ...keys.rs256, algorithm: 'PS256' } })],
    ['RS512 by the key for all of RSA', () => with_({ key: { ...keys.rsa, algorithm: 'RS512' } })],
    ['a forged signature', () => with_({ key: keys.forged })],
    [
      'a key in the token',
      () => with_({ key: keys.forged, header: { jwk: keys.forged.jwk, kid: undefined } }),
    ],
    ['the key of another issuer', () => with_({ key: keys.twin })],
    ['an unknown key', () => with_({ header: { kid: 'other' } })],
    ['an unknown issuer', () => claiming({ iss: 'https://id.example' })],
    ['no issuer', () => claiming({ iss: undefined })],
    ['another audience', () => claiming({ aud: 'orders' })],
    ['no audience', () => claiming({ aud: undefined })],
    ['an audience with a scheme', () => claiming({ aud: 'https://pay' })],
    ['an audience with a final slash', () => claiming({ aud: 'pay/' })],
    ['an audience without its scheme', () => claiming({ aud: 'shop.example' })],
    ['no expiry', () => claiming({ exp: undefined })],
    ['expired', () => claiming({ exp: now - 40 })],
    ['not yet valid', () => claiming({ nbf: now + 300 })],
    ['no subject', () => claiming({ sub: undefined })],
    ['an empty subject', () => claiming({ sub: '' })],
    ['a subject that is no text', () => claiming({ sub: 7 })],
    ['another kind of token', () => with_({ header: { typ: 'logout+jwt' } })],
    ['a typ that is no text', () => with_({ header: { typ: ['JWT'] } })],
    ['critical extensions', () => with_({ header: { crit: ['exp'], exp: 1 } })],
    ['an empty list of them', () => with_({ header: { crit: [] } })],
    ['a payload that is not encoded', () => with_({ header: { b64: false } })],
    ['encryption', () => with_({ header: { enc: 'A128GCM' } })],
    ['compression', () => with_({ header: { zip: 'DEF' } })],
    ['a token inside', () => with_({ header: { cty: 'JWT' } })],
    ['two tokens', () => `${with_({})},${with_({})}`],
    ['a token behind another scheme', () => `Basic ${with_({})}`],
    ['a token and more', () => `${with_({})} x`],
    ['the scheme in capitals', () => with_({ authorization: (t) => `BEARER ${t}` })],
    ['no token at all', () => 'Bearer '],
    ['garbage', () => 'Bearer garbage'],
  ];
  it.each(attacks)('refuses everything with %s', async (_, make) => {
    const authorization = make();
    for (const path of PATHS)
      expect([path, [401, 403].includes(await ask(path, authorization))]).toEqual([path, true]);
  });

  it('lets nobody past a Deny rule by the way in which the token is written', async () => {
    const claims = { ...CLAIMS, sub: 'mallory' };
    const good = with_({});
    for (const authorization of [
      with_({ claims }),
      with_({ claims, authorization: (t) => `bearer ${t}` }),
      with_({ claims, authorization: (t) => `BEARER  ${t}` }),
      with_({ claims, authorization: (t) => `Bearer\t${t}` }),
      with_({ claims, authorization: (t) => `${good},Bearer ${t}` }),
      with_({ claims, authorization: (t) => `Basic x, Bearer ${t}` }),
    ])
      expect([401, 403]).toContain(await ask('/open', authorization));
    // Two lines of the header are one list to all who read it.
    const { status } = await client.request({
      port: envoy.port('whole'),
      plaintext: true,
      path: '/token',
      headers: [
        ['authorization', good],
        ['authorization', with_({ claims })],
      ],
    });
    expect([400, 401, 403]).toContain(status);
  });

  it('refuses tokens, and nothing else, where the filter that verifies is left out', async () => {
    expect([await ask('/open', undefined, 'bare'), await ask('/token', undefined, 'bare')]).toEqual([
      200, 403,
    ]);
    for (const authorization of [with_({}), claiming({ sub: 'mallory' }), 'Bearer x', 'bearer x'])
      for (const path of PATHS) expect([path, await ask(path, authorization, 'bare')]).toEqual([path, 403]);
  });

  it('tries all keys of the issuer for a token that names none, and does not mind one from the future', async () => {
    for (const authorization of [
      with_({ key: keys.rs256, header: { kid: undefined } }),
      claiming({ iat: now + 600 }),
    ])
      expect([await ask('/token', authorization), await allowed('/token', authorization)]).toEqual([
        200,
        false,
      ]);
    const forged = with_({ key: keys.forged, header: { kid: undefined } });
    expect(await ask('/token', forged)).toBe(401);
  });

  it('never takes more than our validator, whatever a token is like', async () => {
    const some = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
    /** Some of these, each now and then, so that tokens with one fault are common. */
    const seldom = (fields: Readonly<Record<string, readonly unknown[]>>): fc.Arbitrary<Claims> => {
      const usually = { weight: 7, arbitrary: fc.constant([]) };
      const drawn = Object.entries(fields).map(([name, values]) =>
        fc.oneof(usually, { weight: 1, arbitrary: some(...values).map((value) => [[name, value] as const]) }),
      );
      return fc.tuple(...drawn).map((pairs): Claims => Object.fromEntries(pairs.flat()));
    };
    const attempt: fc.Arbitrary<Attempt> = fc.record({
      key: some(
        ...[keys.es256, keys.es256, keys.rs256, keys.rsa, keys.eddsa, keys.es384, keys.twin, keys.forged],
        { ...keys.rsa, algorithm: 'RS256' },
        { ...keys.rsa, algorithm: 'RS384' },
      ),
      claims: seldom({
        iss: [OTHER, 'https://id.example', 7],
        sub: ['mallory', '', null],
        aud: [['pay', 'x'], [], 'https://pay', 'pay/', 'PAY', ['x'], { pay: 1 }],
        exp: [now + 60, now - 10, now - 45, now - 3600, `${now + 60}`, -1],
        nbf: [now - 5, now + 120, 0, 'soon'],
      }).map((claims) => ({ ...CLAIMS, ...claims })),
      header: seldom({
        kid: ['es256', 'rs256', 'nobody'],
        typ: ['jwt', 'at+jwt', 'dpop+jwt', undefined, 1],
        cty: ['JWT', 'json'],
        crit: [['b64'], []],
      }),
      authorization: some(
        ...[bearer, bearer, bearer, (t: string) => `bearer ${t}`, (t: string) => `Bearer  ${t} `],
        (t: string) => `${bearer(t)}, ${bearer(t)}`,
        (t: string) => `X${bearer(t)}`,
      ),
    });
    const sample = fc.sample(attempt, { numRuns: proofRuns(600), seed: proofSeed() });
    let passed = 0;
    for (const one of sample) passed += await compare(headerOf(one));
    expect(passed).toBeGreaterThan(sample.length / 10);
  });
});
