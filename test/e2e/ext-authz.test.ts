import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import type { Credentials, CredentialSource } from '../rig/credentials.js';
import {
  answerHello,
  bootstrap,
  envoyType,
  headerValue,
  httpManager,
  listener,
  type Json,
} from '../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshAnswer, type MeshClient } from '../rig/mesh-client.js';
import type { HttpRequest } from '../rig/http1.js';
import * as rig from '../rig/rig.js';
import { makeTokenKey, signToken } from '../support/oidc-provider.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';
import { runGo } from './support/clients.js';
import {
  clusterIdentity,
  identity,
  namespace,
  pod,
  trustDomain,
  writeResources,
  type Manifest,
} from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';

jest.setTimeout(60_000);

const front = 'spiffe://shop.test/ns/shop/sa/front';
const issuer = 'https://login.test/';
const tokenKey = makeTokenKey('k1');

const sds = (name: string): Json => ({
  name,
  sds_config: {
    resource_api_version: 'V3',
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'signet' } }],
    },
  },
});

/** An Envoy that ends mutual TLS with its pod's SVID and asks Signet about each request, as docs/policy/enforcement.md says. */
function guardedConfig(socket: string): Json {
  const signet = {
    name: 'signet',
    type: 'STATIC',
    connect_timeout: '1s',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': envoyType('extensions.upstreams.http.v3.HttpProtocolOptions'),
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: {
      cluster_name: 'signet',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
    },
  };
  const transportSocket = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [sds('default')],
        validation_context_sds_secret_config: sds('ALL'),
      },
    },
  };
  const extAuthz = {
    name: 'envoy.filters.http.ext_authz',
    typed_config: {
      '@type': envoyType('extensions.filters.http.ext_authz.v3.ExtAuthz'),
      transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: 'signet' }, timeout: '2s' },
      failure_mode_allow: false,
      include_peer_certificate: true,
    },
  };
  const metadata = (field: string): string => `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:${field})%`;
  const route = {
    ...answerHello,
    response_headers_to_add: [
      // What the workload would see of the request.
      headerValue('x-seen-rule', '%REQ(x-signet-rule)%'),
      headerValue('x-seen-decision', '%REQ(x-signet-decision-id)%'),
      headerValue('x-seen-reason', '%REQ(x-signet-reason)%'),
      headerValue('x-audit', metadata('audit')),
    ],
  };
  return bootstrap([listener(httpManager(route, [extAuthz]), { transportSocket })], [signet]);
}

function policy(name: string, rules: readonly Manifest[], more: Manifest = {}): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { target: { podSelector: { matchLabels: { app: 'back' } } }, rules, ...more },
  };
}

const fromFront = [{ serviceAccounts: [{ name: 'front' }] }];
const get = (path: string): Manifest => ({
  http: { methods: ['GET'], paths: [path.endsWith('/*') ? { prefix: path.slice(0, -2) } : { exact: path }] },
});

async function credentialsOf(scope: Scope, socket: string): Promise<Credentials> {
  const key = join(scope.folder(), 'key.pem');
  const { svids } = await runGo(scope, ['x509', 'fetch', '-socket', socket, '-write-key', key]);
  return { cert: svids?.[0]?.pem ?? '', key: readFileSync(key, 'utf8') };
}

(rig.isSkipped('envoy') || rig.isSkipped('go') ? describe.skip : describe)('Envoy asks Signet', () => {
  const scope = newScope();
  const stop = new AbortController();
  const logger = recordingLogger();
  let resources: string;
  let dev: RunningDev;
  let envoy: EnvoyProxy;
  let client: MeshClient;
  const callers = new Map<string, Credentials>();

  const socket = (name: string): string => dev.report.pods.find((one) => one.name === name)?.socket ?? '';
  const policies = (...manifests: readonly Manifest[]): void =>
    writeResources(resources, 'policies.yaml', manifests);
  const call = async (caller: string, request: HttpRequest = {}): Promise<MeshAnswer> => {
    const source = callers.get(caller);
    if (source === undefined) throw new Error(`no credentials of ${caller}`);
    return client.request({ ...request, port: envoy.port('in'), source });
  };

  beforeAll(async () => {
    await Promise.all([rig.envoy(), rig.spiffeClient()]);
    resources = scope.folder();
    const names = ['front', 'back', 'other'];
    writeResources(resources, 'shop.yaml', [
      trustDomain('shop.test', {
        tokenIssuers: [{ issuer, audiences: ['back'], jwks: JSON.stringify({ keys: [tokenKey.jwk] }) }],
      }),
      namespace('shop'),
      ...names.flatMap((name) => [...pod(name), identity(name)]),
      // Whatever this user runs on the shared socket stands for the pod `back`.
      clusterIdentity('host', {
        spiffeIDTemplate: '/ns/shop/sa/back',
        processSelector: { uid: process.getuid?.() ?? -1 },
      }),
    ]);
    policies(
      policy('reads', [
        { name: 'front-reads', from: fromFront, to: [get('/items/*')] },
        { name: 'users-only', from: fromFront, to: [get('/me')], when: { token: { issuers: [issuer] } } },
      ]),
      policy('soon', [{ name: 'items-one', from: fromFront, to: [get('/items/1')] }], { mode: 'Audit' }),
    );
    dev = await startDev({
      resourcePath: resources,
      stateDirectory: scope.folder(),
      clock: systemClock,
      random: systemRandom,
      logger,
      signal: stop.signal,
    });
    for (const name of ['front', 'other']) callers.set(name, await credentialsOf(scope, socket(name)));
    envoy = await startEnvoyProxy(guardedConfig(socket('back')));
    scope.onEnd(() => envoy.stop());
    const nobody: CredentialSource = {
      trust: {},
      of: () => Promise.reject(new Error('the callers bring their own')),
    };
    client = newMeshClient(nobody);
    scope.onEnd(() => client.close());
  }, rig.rigTimeout);
  afterAll(async () => {
    stop.abort();
    await dev.stopped;
    await scope.end();
  });

  it('lets in whom a rule allows and says which, whatever the client sends under our names', async () => {
    const headers = [
      ['x-signet-rule', 'forged'],
      ['x-signet-decision-id', 'forged'],
      ['x-signet-reason', 'forged'],
    ] as const;
    const answer = await call('front', { path: '/items/1?token=secret', headers });
    expect(answer).toMatchObject({ status: 200, headers: { 'x-seen-rule': 'shop/reads/front-reads' } });
    expect(answer.headers['x-seen-decision']).toMatch(/^[\w-]{16}$/);
    expect(answer.headers['x-seen-reason'] ?? '-').toBe('-');
  });

  it('denies another caller, another method and another path, and does not say why', async () => {
    for (const [caller, request] of [
      ['other', { path: '/items/1' }],
      ['front', { path: '/items/1', method: 'DELETE' }],
      ['front', { path: '/itemsX' }],
    ] as const) {
      const answer = await call(caller, request);
      expect(answer.status).toBe(403);
      expect(answer.headers['x-signet-reason']).toBeUndefined();
      expect(answer.body).toMatch(/^Access denied \(decision [\w-]{16}\)\.\n$/);
    }
  });

  it('takes no identity from forwarded headers', async () => {
    const headers = [
      ['x-forwarded-client-cert', `By=x;URI=${front}`],
      ['x-forwarded-for', '10.0.0.1'],
    ] as const;
    expect(await call('other', { path: '/items/1', headers })).toMatchObject({ status: 403 });
  });

  it.each(['/items/../admin', '/items//1', '/items/%2e%2e/admin', '/items/a%2fb', '/items/1;x=1'])(
    'refuses the path %s, which could be read in two ways',
    async (path) => {
      expect(await call('front', { path })).toMatchObject({ status: 403 });
    },
  );

  it('reports what a policy in Audit mode would have said, in metadata, without changing the answer', async () => {
    const answer = await call('front', { path: '/items/2' });
    expect(answer.status).toBe(200);
    expect(answer.headers['x-audit']).toContain('"would_have":"Deny"');
    expect(answer.headers['x-audit']).toContain('shop/soon');
  });

  it('asks for a token with 401 where one would open, and takes only a valid one', async () => {
    const seconds = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, sub: 'alice', aud: 'back', iat: seconds, exp: seconds + 60 };
    const bearer = (token: string): HttpRequest => ({
      path: '/me',
      headers: [['authorization', `Bearer ${token}`]],
    });
    const none = await call('front', { path: '/me' });
    expect(none).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer realm="signet"' } });
    expect(await call('front', bearer(signToken(tokenKey, claims)))).toMatchObject({ status: 200 });
    const forged = signToken(makeTokenKey('k1'), claims);
    expect(await call('front', bearer(forged))).toMatchObject({
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="signet", error="invalid_token"' },
    });
    // A good token does not open for a workload that the rule does not name.
    const good = signToken(tokenKey, claims);
    expect(await call('other', bearer(good))).toMatchObject({ status: 403 });
    const log = logger.all.join('\n');
    for (const secret of [forged, good, 'token=secret']) expect(log).not.toContain(secret);
    expect(log).toContain('access denied');
  });

  it('decides for the pod whose socket Envoy comes in by, and on the shared socket for whom the process is', async () => {
    for (const [path, status] of [
      [socket('other'), 403],
      [dev.report.sharedSocket, 200],
    ] as const) {
      const proxy = await startEnvoyProxy(guardedConfig(path));
      scope.onEnd(() => proxy.stop());
      const source = callers.get('front');
      if (source === undefined) throw new Error('no credentials of front');
      // The names in the request are those of the target that would allow it.
      const asked = { path: '/items/1', host: 'back.shop', port: proxy.port('in'), source };
      for (let round = 0; round < 2; round++) expect(await client.request(asked)).toMatchObject({ status });
    }
  });

  it('follows an edit of the policies, and denies what an uncompilable one is about', async () => {
    policies(policy('reads', [{ name: 'others', from: [{ serviceAccounts: [{ name: 'other' }] }] }]));
    await until('the new rule', async () => (await call('other')).status === 200);
    expect(await call('front', { path: '/items/1' })).toMatchObject({ status: 403 });
    policies(
      policy('reads', [{ name: 'others', from: [{ serviceAccounts: [{ name: 'other' }] }] }]),
      policy('broken', [
        { name: 'no-such-role', effect: 'Deny', from: [{ anyone: true }], roles: [{ name: 'nowhere' }] },
      ]),
    );
    await until('the broken policy', async () => (await call('other')).status === 403);
    policies(policy('reads', [{ name: 'others', from: [{ serviceAccounts: [{ name: 'other' }] }] }]));
    await until('the mended policy', async () => (await call('other')).status === 200);
  });

  it('denies everything once Signet is gone', async () => {
    expect(await call('other')).toMatchObject({ status: 200 });
    stop.abort();
    await dev.stopped;
    expect(await call('other')).toMatchObject({ status: 403 });
  });
});
