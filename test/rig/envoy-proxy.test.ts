import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { newCredentialSource, type CredentialSource } from './credentials.js';
import {
  answerHello,
  bootstrap,
  echo,
  envoyType,
  httpManager,
  listener,
  serverTls,
  type Json,
} from './envoy-config.js';
import { startEnvoyProxy, validateConfig, type EnvoyProxy } from './envoy-proxy.js';
import { newMeshClient, type MeshClient } from './mesh-client.js';
import * as rig from './rig.js';

const server = 'spiffe://here.test/ns/shop/sa/back';
const front = 'spiffe://here.test/ns/shop/sa/front';
const other = 'spiffe://here.test/ns/shop/sa/other';
const abroad = 'spiffe://abroad.test/ns/shop/sa/front';

/** Only `front` may come in, HTTP or not; the path is for HTTP. */
const rules = (path?: string): Json => ({
  action: 'ALLOW',
  policies: {
    front: {
      principals: [{ authenticated: { principal_name: { exact: front } } }],
      permissions: [path === undefined ? { any: true } : { url_path: { path: { exact: path } } }],
    },
  },
});
const httpRbac: Json = {
  name: 'envoy.filters.http.rbac',
  typed_config: { '@type': envoyType('extensions.filters.http.rbac.v3.RBAC'), rules: rules('/a%2Fb') },
};
const networkRbac: Json = {
  name: 'envoy.filters.network.rbac',
  typed_config: {
    '@type': envoyType('extensions.filters.network.rbac.v3.RBAC'),
    stat_prefix: 'raw',
    rules: rules(),
  },
};

(rig.isSkipped('envoy') ? describe.skip : describe)('Envoy, and clients of it', () => {
  let credentials: CredentialSource;
  let config: Json;
  let envoy: EnvoyProxy;
  let client: MeshClient;
  beforeAll(async () => {
    credentials = await newCredentialSource(['here.test', 'abroad.test']);
    const { 'here.test': trusted = '' } = credentials.trust;
    const transportSocket = serverTls(await credentials.of(server), { 'here.test': trusted });
    const hello = httpManager(answerHello, [httpRbac]);
    config = bootstrap([
      listener(hello, { name: 'http', transportSocket }),
      listener(echo, { name: 'raw', transportSocket, networkFilters: [networkRbac] }),
      listener(httpManager(answerHello), { name: 'open' }),
    ]);
    envoy = await startEnvoyProxy(config);
    client = newMeshClient(credentials);
  }, rig.rigTimeout);
  afterAll(async () => {
    client.close();
    await envoy.stop();
  });

  it('decides by who calls and by the path as it was sent', async () => {
    const port = envoy.port('http');
    const answers = await client.requestAll([
      { port, source: front, path: '/a%2Fb' },
      { port, source: front, path: '/a/b' },
      { port, source: other, path: '/a%2Fb' },
      { port, source: abroad, path: '/a%2Fb' },
      { port, path: '/a%2Fb' },
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 403, 403, 0, 0]);
    expect(answers[0]).toMatchObject({ body: 'hello', headers: { 'x-peer': front } });
    expect(answers[2]?.headers['x-details']).toBe('rbac_access_denied_matched_policy[none]');
    expect(answers[3]?.why).toMatch(/alert|ECONNRESET/i);
  });

  it('counts what it has decided', async () => {
    const before = await envoy.stats('http.in.rbac');
    await client.request({ port: envoy.port('http'), source: other });
    const after = await envoy.stats('http.in.rbac');
    expect(after['http.in.rbac.denied']).toBe((before['http.in.rbac.denied'] ?? NaN) + 1);
    expect(after['http.in.rbac.allowed']).toBe(before['http.in.rbac.allowed']);
  });

  it('lets raw connections through or closes them', async () => {
    const port = envoy.port('raw');
    expect(await client.echoes({ port, source: front })).toBe(true);
    expect(await client.echoes({ port, source: other })).toBe(false);
    expect(await client.echoes({ port, plaintext: true })).toBe(false);
  });

  it('carries methods, headers, bodies and source addresses as they are', async () => {
    const port = envoy.port('open');
    const plaintext = true;
    const answers = await client.requestAll([
      { port, plaintext, method: 'HEAD' },
      {
        port,
        plaintext,
        method: 'POST',
        body: 'x'.repeat(1000),
        headers: [
          ['X-Twice', '1'],
          ['x-twice', '2'],
        ],
      },
      { port, plaintext, method: 'get' },
      { port, plaintext, path: '/ /' },
      { port, plaintext, sourceIp: '127.9.8.7' },
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 400, 400, 200]);
    const far = await client.connect({ port, plaintext, sourceIp: '127.9.8.7' });
    expect(far.localAddress).toBe('127.9.8.7');
    far.destroy();
  });

  it('answers thousands of requests on connections that stay open', async () => {
    const port = envoy.port('http');
    const before = await envoy.stats('downstream_cx_total');
    const calls = Array.from({ length: 2000 }, (_, index) => ({
      port,
      source: index % 2 === 0 ? front : other,
      path: '/a%2Fb',
    }));
    const answers = await client.requestAll(calls);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1000);
    expect(answers.filter(({ status }) => status === 403)).toHaveLength(1000);
    const after = await envoy.stats('downstream_cx_total');
    const opened =
      (after['http.in.downstream_cx_total'] ?? NaN) - (before['http.in.downstream_cx_total'] ?? NaN);
    expect(opened).toBeLessThanOrEqual(16);
  });

  it('says what is wrong with a configuration, and does not start with it', async () => {
    expect(await validateConfig(config)).toBe('');
    const wrong = bootstrap([listener({ ...echo, typed_config: { '@type': envoyType('no.such.Filter') } })]);
    expect(await validateConfig(wrong)).toContain('no.such.Filter');
    await expect(startEnvoyProxy(wrong)).rejects.toThrow('no.such.Filter');
  });
});
