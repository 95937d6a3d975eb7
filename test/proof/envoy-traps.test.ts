import { afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { exportJWK, generateKeyPair as generateTokenKeys, SignJWT } from 'jose';
import { envoyRenderer } from '../../src/access/mesh/envoy/renderer.js';
import { render, type RenderContext, type RenderedIssuer } from '../../src/access/mesh/renderer.js';
import { exportPkcs8, generateKeyPair, type KeyPair } from '../../src/identity/pki/keys.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import type { Credentials } from '../rig/credentials.js';
import { serverTls, type Json } from '../rig/envoy-config.js';
import { startEnvoyProxy, validateConfig, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshClient } from '../rig/mesh-client.js';
import type { HttpRequest } from '../rig/http1.js';
import * as rig from '../rig/rig.js';
import { makeCertificate, type TestCertificate } from '../support/certificates.js';
import { TRICKY_PATHS } from '../support/policy-worlds.js';
import { contextOf, policy, targetConfig } from './envoy-target.js';

const ORDERS = 'spiffe://td/ns/shop/sa/orders';
const OTHERS = 'spiffe://td/ns/shop/sa/others';
let count = 0;
const anyone = [{ anyone: true }] as const;

(rig.isSkipped('envoy') ? describe.skip : describe)('traps of Envoy', () => {
  let authority: TestCertificate;
  let tls: Json;
  let envoy: EnvoyProxy;
  let client: MeshClient;
  const known = new Map<string, Credentials>();

  /** A certificate with any names; Envoy's plain validator takes all that the authority signed. */
  async function certificate(
    uris: readonly string[],
    more: { dnsNames?: string[]; subject?: string } = {},
  ): Promise<Credentials> {
    const key = JSON.stringify([uris, more]);
    const made = known.get(key) ?? pemOf(await signed({ subject: 'peer', ...more, uris }));
    known.set(key, made);
    return made;
  }
  async function signed(spec: {
    subject: string;
    uris: readonly string[];
    dnsNames?: string[];
  }): Promise<TestCertificate> {
    return makeCertificate({ ...spec, ...(await fresh()), issuer: authority });
  }

  beforeAll(async () => {
    await rig.envoy();
    authority = makeCertificate({
      subject: 'authority',
      ca: true,
      keyUsage: ['keyCertSign'],
      ...(await fresh()),
    });
    const server = pemOf(await signed({ subject: 'server', uris: ['spiffe://td/ns/shop/sa/payments'] }));
    tls = serverTls(server, { td: encodePem('CERTIFICATE', authority.der) }, { optional: true });
  }, rig.rigTimeout);
  const closers: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });

  async function start(config: Json): Promise<void> {
    client = newMeshClient({ trust: {}, of: (id) => certificate([id]) });
    closers.push(client.close);
    envoy = await startEnvoyProxy(config);
    closers.push(envoy.stop);
  }
  const serve = (context: RenderContext): Promise<void> => start(targetConfig(context, tls));
  const status = async (call: HttpRequest & { source?: string | Credentials }): Promise<number> =>
    (await client.request({ port: envoy.port('http'), ...call })).status;

  it('trap 13: refuses paths that can be read in two ways, and knows a path however it is written', async () => {
    await serve(
      contextOf([
        policy('p', [
          { from: anyone },
          { effect: 'Deny', from: anyone, to: [{ http: { paths: [{ exact: '/secret' }] } }] },
        ]),
      ]),
    );
    for (const path of [
      ...TRICKY_PATHS,
      '/a\\b',
      '/a|b',
      '/a/..',
      '/%zz',
      '/a\u00e9',
      '/%2e',
      '/%25%34%31',
      `/${'a'.repeat(8192)}`,
    ])
      expect([path, await status({ source: ORDERS, path })]).not.toEqual([path, 200]);
    for (const path of ['/secret', '/%73ecret', '/secr%65t?x=1', '/secret?'])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 403]);
    for (const path of [
      '/Secret',
      '/secret/',
      '/secrets',
      '/',
      '/a/...',
      '/.well-known',
      '/a?b=//../%2f;',
      '/%C3%A9',
      '/%c3%a9',
      '/a%20b',
    ])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 200]);
    expect(await status({ source: ORDERS, host: 'a'.repeat(254) })).toBe(403);
    expect(await status({ source: ORDERS, host: 'a'.repeat(253) })).toBe(200);
    expect(await status({ source: ORDERS, host: 'a@b' })).not.toBe(200);
  });

  it('trap 14: takes a prefix by whole segments', async () => {
    await serve(
      contextOf([policy('p', [{ from: anyone, to: [{ http: { paths: [{ prefix: '/admin' }] } }] }])]),
    );
    for (const path of ['/admin', '/admin/', '/admin/x', '/admin?x', '/%61dmin/x'])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 200]);
    for (const path of ['/administrator', '/admin%20', '/adm', '/x?/admin', '/Admin'])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 403]);
  });

  it('trap 15: takes who calls from one URI SAN alone, never from a DNS SAN, a subject or two SANs', async () => {
    await serve(contextOf([policy('p', [{ from: [{ spiffeIDs: [ORDERS] }] }])]));
    expect(await status({ source: ORDERS })).toBe(200);
    const tricks = [
      await certificate([], { dnsNames: [ORDERS] }),
      await certificate([OTHERS], { dnsNames: [ORDERS] }),
      await certificate([], { subject: ORDERS }),
      await certificate([ORDERS, OTHERS]),
      await certificate([OTHERS, ORDERS]),
      await certificate([`${ORDERS}/`]),
      await certificate(['spiffe://TD/ns/shop/sa/orders']),
    ];
    for (const source of tricks) expect(await status({ source })).toBe(403);
    expect(await status({})).toBe(403);
    for (const source of [ORDERS, OTHERS])
      expect([source, await client.echoes({ port: envoy.port('raw'), source })]).toEqual([
        source,
        source === ORDERS,
      ]);
  });

  it('trap 15: refuses an identity that is none even where anybody may come', async () => {
    await serve(contextOf([policy('p', [{ from: anyone }])]));
    expect(await status({})).toBe(200);
    for (const uris of [[ORDERS, OTHERS], ['https://td/x'], ['spiffe://td/a/../b'], ['spiffe://TD/x']])
      expect([uris, await status({ source: await certificate(uris) })]).toEqual([uris, 403]);
  });

  it('trap 15: a policy without rules denies everything', async () => {
    await serve(contextOf([policy('p', [])]));
    expect(await status({ source: ORDERS })).toBe(403);
    expect(await client.echoes({ port: envoy.port('raw'), source: ORDERS })).toBe(false);
  });

  it('trap 6: what is said of HTTP does not open a port without it, and denies there what it could be about', async () => {
    const get = { http: { methods: ['GET'] } };
    await serve(
      contextOf([
        policy('p', [
          { from: [{ spiffeIDs: [ORDERS] }], to: [get] },
          { from: [{ spiffeIDs: [OTHERS] }] },
          { effect: 'Deny', from: [{ spiffeIDs: [OTHERS] }], to: [get] },
        ]),
      ]),
    );
    const port = envoy.port('raw');
    expect(await client.echoes({ port, source: ORDERS })).toBe(false);
    expect(await client.echoes({ port, source: OTHERS })).toBe(false);
    expect(await status({ source: ORDERS })).toBe(200);
    expect(await status({ source: OTHERS, method: 'POST' })).toBe(200);
  });

  it('denies by a header that is one of several, whatever bytes stand around it', async () => {
    const header = { name: 'x-env', values: ['evil'] };
    await serve(
      contextOf([
        policy('p', [
          { from: anyone },
          { effect: 'Deny', from: anyone, to: [{ http: { headers: [header] } }] },
        ]),
      ]),
    );
    for (const value of ['evil', 'a, evil', 'evil ,b', '\u00ff\u00fe,evil', 'evil\t,'])
      expect([value, await status({ source: ORDERS, headers: [['x-env', value]] })]).toEqual([value, 403]);
    // Bytes that are no UTF-8 must not hide what stands behind them.
    const socket = await client.connect({ port: envoy.port('http'), source: ORDERS });
    const answer = once(socket, 'data');
    socket.write(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\nx-env: \xff\xfe,evil\r\n\r\n', 'latin1'));
    expect(String((await answer)[0])).toMatch(/^HTTP\/1.1 403/);
    socket.destroy();
    expect(
      await status({
        source: ORDERS,
        headers: [
          ['x-env', 'a'],
          ['X-Env', 'evil'],
        ],
      }),
    ).toBe(403);
    for (const value of ['evil2', 'xevil,y', 'evil x'])
      expect([value, await status({ source: ORDERS, headers: [['x-env', value]] })]).toEqual([value, 200]);
  });

  it('allows nothing by a query that hides a parameter in a value or in an encoding', async () => {
    const query = [{ name: 'q', values: ['one'] }];
    await serve(contextOf([policy('p', [{ from: anyone, to: [{ http: { query } }] }])]));
    for (const path of ['/?q=one', '/?a=1&q=one', '/?q=one&b=%20'])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 200]);
    for (const path of [
      '/',
      '/?a=x?q=one',
      '/?q=one&q=two',
      '/?q=two',
      '/?q=one&%71=two',
      '/?q=one&a=%ff',
      '/?Q=one',
      '/q=one',
    ])
      expect([path, await status({ source: ORDERS, path })]).toEqual([path, 403]);
  });

  it('knows plaintext callers only where it is told that there is no TLS', async () => {
    const context = contextOf([policy('p', [{ from: anyone }])]);
    await start(targetConfig(context, undefined));
    const plain = { plaintext: true } as const;
    expect((await client.request({ port: envoy.port('http'), ...plain })).status).toBe(403);
    await start(targetConfig(context, undefined, { port: 8080, plaintext: true }));
    expect((await client.request({ port: envoy.port('http'), ...plain })).status).toBe(200);
    expect(await client.echoes({ port: envoy.port('raw'), ...plain })).toBe(true);
  });

  it('counts what an audited policy would deny, and denies nothing by it', async () => {
    const get = [{ http: { methods: ['GET'] } }];
    await serve(
      contextOf([
        policy('open', [{ from: anyone }]),
        policy('plan', [{ from: [{ spiffeIDs: [ORDERS] }], to: get }], { mode: 'Audit' }),
      ]),
    );
    for (const call of [{ source: ORDERS }, { source: OTHERS }, { source: ORDERS, method: 'POST' }])
      expect(await status(call)).toBe(200);
    const stats = await envoy.stats('signet.shop_plan');
    expect(stats).toMatchObject({
      'http.in.rbac.signet.shop_plan.shadow_allowed': 1,
      'http.in.rbac.signet.shop_plan.shadow_denied': 2,
    });
  });

  it('names the rule that decided', async () => {
    await serve(
      contextOf([policy('p', [{ from: anyone }, { effect: 'Deny', from: [{ spiffeIDs: [OTHERS] }] }])]),
    );
    const answer = await client.request({ port: envoy.port('http'), source: OTHERS });
    expect(answer.headers['x-details']).toBe('rbac_access_denied_matched_policy[shop/p:r1]');
  });

  it('verifies tokens, lets those without one be judged as such, and refuses any that is not valid', async () => {
    const { privateKey, publicKey } = await generateTokenKeys('ES256');
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' };
    const secret = {
      kty: 'oct',
      k: Buffer.from('a secret of thirty-two characters').toString('base64url'),
      kid: 's',
      alg: 'HS256',
    };
    const issuer: RenderedIssuer = {
      issuer: 'https://id.example',
      audiences: ['pay'],
      jwks: JSON.stringify({ keys: [jwk, secret] }),
    };
    const realm = { claim: '/realm/roles', operator: 'ContainsAll', values: ['a', 'b'] } as const;
    await serve(
      contextOf(
        [
          policy('p', [
            { from: anyone, to: [{ http: { paths: [{ exact: '/open' }] } }] },
            {
              from: anyone,
              to: [{ http: { paths: [{ exact: '/admin' }] } }],
              when: { token: { claims: [{ claim: 'roles', values: ['admin'] }] } },
            },
            {
              from: anyone,
              to: [{ http: { paths: [{ exact: '/realm' }] } }],
              when: { token: { claims: [realm] } },
            },
            {
              from: anyone,
              to: [{ http: { paths: [{ exact: '/none' }] } }],
              when: { token: { claims: [{ claim: 'x', operator: 'DoesNotExist' }] } },
            },
          ]),
        ],
        [issuer],
      ),
    );
    const sign = (
      claims: Record<string, unknown>,
      expiry = '1h',
      alg = 'ES256',
      key: Parameters<SignJWT['sign']>[0] = privateKey,
    ): Promise<string> =>
      new SignJWT({ iss: 'https://id.example', aud: 'pay', sub: 'ann', ...claims })
        .setProtectedHeader({ alg, kid: alg === 'ES256' ? 'k' : 's' })
        .setExpirationTime(expiry)
        .sign(key);
    const ask = (path: string, token?: string): Promise<number> =>
      status({
        source: ORDERS,
        path,
        ...(token === undefined ? {} : { headers: [['authorization', `Bearer ${token}`]] }),
      });
    expect(await ask('/open')).toBe(200);
    expect(await ask('/admin')).toBe(403);
    expect(await ask('/none')).toBe(403);
    expect(await ask('/admin', await sign({ roles: ['x', 'admin'] }))).toBe(200);
    expect(await ask('/admin', await sign({ roles: 'admin' }))).toBe(200);
    expect(await ask('/admin', await sign({ roles: 'administrator' }))).toBe(403);
    expect(await ask('/admin', await sign({ x: { roles: 'admin' } }))).toBe(403);
    expect(await ask('/realm', await sign({ realm: { roles: ['b', 'c', 'a'] } }))).toBe(200);
    expect(await ask('/realm', await sign({ realm: { roles: ['b'] } }))).toBe(403);
    expect(await ask('/none', await sign({}))).toBe(200);
    expect(await ask('/none', await sign({ x: null }))).toBe(200);
    expect(await ask('/none', await sign({ x: 1 }))).toBe(403);
    const [head = '', body = ''] = (await sign({ roles: 'admin' })).split('.');
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    const shared = createHmac('sha256', 'a secret of thirty-two characters');
    const hs = `${Buffer.from('{"alg":"HS256","kid":"s"}').toString('base64url')}.${body}`;
    for (const token of [
      await sign({ roles: 'admin' }, '-1h'),
      await sign({ roles: 'admin', aud: 'other' }),
      await sign({ roles: 'admin', iss: 'https://evil.example' }),
      `${head}.${body}.AAAA`,
      `${none}.${body}.`,
      `${hs}.${shared.update(hs).digest('base64url')}`,
      'garbage',
    ])
      expect([401, 403]).toContain(await ask('/open', token));
  });

  it('fetches the keys of an issuer', async () => {
    const { privateKey, publicKey } = await generateTokenKeys('ES256');
    const keys = createServer((_, response) => {
      void exportJWK(publicKey).then((jwk) =>
        response.end(JSON.stringify({ keys: [{ ...jwk, kid: 'k', alg: 'ES256' }] })),
      );
    });
    closers.push(() => keys.close());
    await new Promise<void>((resolve) => keys.listen(0, '127.0.0.1', resolve));
    const { port } = keys.address() as AddressInfo;
    const rule = { from: anyone, when: { token: { subjects: ['ann'] } } };
    const issuer = { issuer: 'https://id.example', jwksUri: `http://127.0.0.1:${port}/keys` };
    await serve(contextOf([policy('p', [rule])], [issuer]));
    const ask = async (sub: string): Promise<number> => {
      const claims = new SignJWT({ iss: 'https://id.example', sub }).setProtectedHeader({
        alg: 'ES256',
        kid: 'k',
      });
      const token = await claims.setExpirationTime('1h').sign(privateKey);
      return status({ source: ORDERS, headers: [['authorization', `Bearer ${token}`]] });
    };
    expect([await ask('ann'), await ask('bob'), await status({ source: ORDERS })]).toEqual([200, 403, 403]);

    // Over TLS against an authority of its own, as far as Envoy tells without calling.
    const trustedCa = join(mkdtempSync(join(tmpdir(), 'ca-')), 'ca.pem');
    closers.push(() => rmSync(dirname(trustedCa), { recursive: true }));
    writeFileSync(trustedCa, encodePem('CERTIFICATE', authority.der));
    const secure = contextOf(
      [policy('p', [rule])],
      [{ issuer: 'https://id.example', jwksUri: 'https://id.example/keys' }],
    );
    expect(await validateConfig(targetConfig(secure, tls, { port: 8080, trustedCa }))).toBe('');
  });

  it('writes configuration that Envoy takes as it is, in one ConfigMap for each workload', async () => {
    const context = contextOf([policy('p', [{ from: anyone }])]);
    await serve(context);
    expect(await validateConfig(targetConfig(context, tls))).toBe('');
    // The largest of everything that is compiled to an expression: Envoy refuses what is too long.
    const long = 'a-b.c'.repeat(12);
    const templates = [1, 2, 3, 4, 5, 6].map((n) => ({
      template: '/{a}'.repeat(n).replaceAll('a', () => `a${++count}`),
    }));
    const literals = [10, 40, 60, 70, 80].map((n) => ({ template: `/${'.'.repeat(n - 1)}a/{a}` }));
    const values = [long, 'b'.repeat(400), 'c'.repeat(59)];
    const http = {
      paths: [...templates, ...literals],
      hosts: [`${'h'.repeat(60)}.${'i'.repeat(60)}.example`, `*.${'j'.repeat(60)}.${'k'.repeat(60)}.example`],
      headers: [
        { name: 'x', values },
        { name: 'y', operator: 'NotIn', values },
      ],
      query: [
        { name: 'q'.repeat(24), values: ['v'.repeat(40)] },
        { name: 'p', operator: 'NotIn', values: ['w'] },
      ],
    };
    const large = contextOf([
      policy('p', [
        { from: anyone, to: [{ http }] },
        { effect: 'Deny', from: anyone, to: [{ http }] },
      ]),
    ]);
    expect(await validateConfig(targetConfig(large, tls))).toBe('');
    const { objects, verdicts } = render(envoyRenderer(), context);
    expect(objects).toMatchObject([
      { kind: 'ConfigMap', metadata: { name: 'payments.envoy', namespace: 'shop' } },
    ]);
    expect(verdicts).toMatchObject([{ rule: 'r0', fidelity: 'Exact', targets: ['shop/payments'] }]);
  });
});

async function fresh(): Promise<{
  readonly pair: KeyPair;
  readonly notBefore: number;
  readonly notAfter: number;
}> {
  const now = Date.now();
  return { pair: await generateKeyPair('ec-p256'), notBefore: now - 60_000, notAfter: now + 3_600_000 };
}

function pemOf({ der, pair }: TestCertificate): Credentials {
  return { cert: encodePem('CERTIFICATE', der), key: encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)) };
}
