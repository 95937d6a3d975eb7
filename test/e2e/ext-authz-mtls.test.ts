import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { connectUnix } from '../../src/rpc/client.js';
import { AuthorityKind, AuthoritySlot } from '../../src/rpc/gen/signet/admin/v1/admin.js';
import { createRpcServer } from '../../src/rpc/server.js';
import { authorizationService } from '../../src/rpc/services.js';
import type { Credentials, CredentialSource } from '../rig/credentials.js';
import { answerHello, bootstrap, httpManager, listener, type Json } from '../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshAnswer, type MeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { recordingLogger } from '../support/recording-logger.js';
import { closed } from '../support/sockets.js';
import { AnyAuthority, TestTlsIdentity } from '../support/tls-identity.js';
import { until } from '../support/until.js';
import { runGo } from './support/clients.js';
import {
  documentedConfig,
  extAuthz,
  guardedConfig,
  http2Cluster,
  portOf,
  SIGNET,
  tcp,
  tlsTo,
} from './support/envoy-authorization.js';
import { identity, namespace, pod, trustDomain, writeResources, type Manifest } from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';

jest.setTimeout(60_000);

/** A pod of its own name, with a service account that others have, too. */
const replica = (name: string, version: string): Manifest => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', labels: { app: 'back', version } },
  spec: { serviceAccountName: 'back', containers: [{ name: 'main', image: 'registry.test/app:1' }] },
});

const policy = (name: string, labels: Manifest, rule: Manifest): Manifest => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'AccessPolicy',
  metadata: { name, namespace: 'shop' },
  spec: {
    target: { podSelector: { matchLabels: labels } },
    rules: [{ name, from: [{ serviceAccounts: [{ name: 'front' }] }], ...rule }],
  },
});

async function credentialsOf(scope: Scope, socket: string): Promise<Credentials> {
  const key = join(scope.folder(), 'key.pem');
  const { svids } = await runGo(scope, ['x509', 'fetch', '-socket', socket, '-write-key', key]);
  return { cert: svids?.[0]?.pem ?? '', key: readFileSync(key, 'utf8') };
}

const nobody: CredentialSource = {
  trust: {},
  of: () => Promise.reject(new Error('the callers bring their own')),
};

(rig.isSkipped('envoy') || rig.isSkipped('go') ? describe.skip : describe)(
  'Envoy asks over mutual TLS',
  () => {
    const scope = newScope();
    const stop = new AbortController();
    const logger = recordingLogger();
    let dev: RunningDev;
    let state: string;
    let client: MeshClient;
    let front: Credentials;
    let envoy: EnvoyProxy;
    let address: string;

    const socket = (name: string): string => dev.report.pods.find((one) => one.name === name)?.socket ?? '';
    const start = async (config: Json): Promise<EnvoyProxy> => {
      const proxy = await startEnvoyProxy(config);
      scope.onEnd(() => proxy.stop());
      return proxy;
    };
    const get = (path: string, proxy = envoy): Promise<MeshAnswer> =>
      client.request({ path, port: proxy.port('in'), source: front });

    beforeAll(async () => {
      await Promise.all([rig.envoy(), rig.spiffeClient()]);
      const resources = scope.folder();
      writeResources(resources, 'shop.yaml', [
        trustDomain('shop.test'),
        namespace('shop'),
        ...[...pod('front'), ...pod('other'), identity('front'), identity('other'), identity('back')],
        { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'back', namespace: 'shop' } },
        ...[replica('back-1', 'v1'), replica('back-1b', 'v1'), replica('back-2', 'v2')],
        policy(
          'reads',
          { app: 'back' },
          { to: [{ http: { methods: ['GET'], paths: [{ prefix: '/items' }] } }] },
        ),
        policy(
          'none-of-v2',
          { version: 'v2' },
          {
            effect: 'Deny',
            to: [{ http: { paths: [{ prefix: '/items/new' }] } }],
          },
        ),
      ]);
      state = scope.folder();
      dev = await startDev({
        ...{ resourcePath: resources, stateDirectory: state, tellReasons: true },
        authorizationAddress: { address: '127.0.0.1', port: 0 },
        ...{ clock: systemClock, random: systemRandom, logger, signal: stop.signal },
      });
      address = dev.report.authorization?.address ?? '';
      front = await credentialsOf(scope, socket('front'));
      envoy = await start(guardedConfig(socket('back-1'), address));
      client = newMeshClient(nobody);
      scope.onEnd(() => client.close());
    }, rig.rigTimeout);
    afterAll(async () => {
      stop.abort();
      await dev.stopped;
      await scope.end();
    });

    it('runs with the configuration of docs/policy/enforcement.md', async () => {
      const documented = await start(documentedConfig(socket('back-1'), address));
      expect(await get('/items/1', documented)).toMatchObject({ status: 200 });
      expect(await get('/admin', documented)).toMatchObject({ status: 403 });
    });

    it('is answered for the workload whose SVID Envoy shows', async () => {
      expect(dev.report.authorization?.spiffeID).toBe(SIGNET);
      expect(await get('/items/1')).toMatchObject({ status: 200 });
      expect(await get('/admin')).toMatchObject({ status: 403 });
      // The same caller and path, and another workload's proxy: no policy lets anybody in there.
      const other = await start(guardedConfig(socket('other'), address));
      expect(await get('/items/1', other)).toMatchObject({ status: 403 });
    });

    it('allows only what is allowed to each workload that holds the SVID', async () => {
      const answer = await get('/items/new');
      expect(answer).toMatchObject({ status: 403 });
      expect(answer.headers['x-signet-reason']).toContain('none-of-v2');
      expect(await get('/items/old')).toMatchObject({ status: 200 });
    });

    it('asks only the server that it was told of', async () => {
      const wary = await start(
        guardedConfig(socket('back-1'), address, 'spiffe://shop.test/ns/shop/sa/other'),
      );
      expect(await get('/items/1', wary)).toMatchObject({ status: 403 });
    });

    it('has nothing else to call on that port, and nobody to call without an SVID', async () => {
      const services = ['SpiffeWorkloadAPI/FetchX509SVID', 'signet.admin.v1.Admin/ListAuthorities'];
      const { connect: connectHttp2 } = await import('node:http2');
      for (const path of [...services, 'envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets']) {
        const session = connectHttp2(`https://${address}`, { ...front, rejectUnauthorized: false });
        const call = session.request({
          ...{ ':method': 'POST', ':path': `/${path}`, 'content-type': 'application/grpc', te: 'trailers' },
          'workload.spiffe.io': 'true',
        });
        const [headers] = await new Promise<[Readonly<Record<string, unknown>>]>((resolve, reject) => {
          call.once('response', (received) => resolve([received]));
          call.once('error', reject);
          call.end(Buffer.alloc(5));
        });
        expect(headers['grpc-status']).toBe('12'); // UNIMPLEMENTED
        session.destroy();
      }
      const stranger = connect({ port: portOf(address), rejectUnauthorized: false, ALPNProtocols: ['h2'] });
      stranger.on('error', () => undefined);
      await closed(stranger);
    });

    it('fails no request while the authorities and all SVIDs rotate, and goes on when the old authority is revoked', async () => {
      const admin = connectUnix(join(state, 'admin.sock'));
      scope.onEnd(() => admin.close());
      const failures: MeshAnswer[] = [];
      let answered = 0;
      let done = false;
      const load = Array.from({ length: 4 }, async () => {
        while (!done) {
          const answer = await get('/items/1');
          answered++;
          if (answer.status !== 200) failures.push(answer);
        }
      });
      const more = (): Promise<unknown> => {
        const from = answered;
        return until('more answers', () => answered > from + 200);
      };
      const x509 = { kind: AuthorityKind.AUTHORITY_KIND_X509 };
      await more();
      for (let round = 0; round < 3; round++) {
        await admin.admin().rotateAuthority(x509);
        await more();
      }
      expect(failures.slice(0, 3)).toEqual([]);
      const { authorities } = await admin.admin().listAuthorities({});
      const old = authorities.filter(
        ({ kind, slot }) => kind === x509.kind && slot === AuthoritySlot.AUTHORITY_SLOT_OLD,
      );
      done = true;
      await Promise.all(load);
      for (const { id } of old) await admin.admin().taintAuthority({ ...x509, id });
      for (const { id } of old) await admin.admin().revokeAuthority({ ...x509, id });
      // Envoy's connection rested on an authority that is gone: it comes back with the SVID of the new one.
      front = await credentialsOf(scope, socket('front'));
      await until('an answer', async () => (await get('/items/1')).status === 200);
    });

    it('denies everything once Signet is gone', async () => {
      stop.abort();
      await dev.stopped;
      expect(await get('/items/1')).toMatchObject({ status: 403 });
    });
  },
);

(rig.isSkipped('envoy') ? describe.skip : describe)('Envoy and a server that tells it to go', () => {
  const scope = newScope();
  afterAll(() => scope.end());

  it('lose no request, though the connection between them is replaced again and again', async () => {
    const authority = await AnyAuthority.create('shop.test', systemClock);
    const identityOf = async (uri: string): Promise<TestTlsIdentity> =>
      new TestTlsIdentity(systemClock, await authority.issue(uri), [authority]);
    const server = createRpcServer({ logger: recordingLogger() });
    scope.onEnd(() => server.close());
    const connections = new Set<string>();
    server.service(authorizationService, {
      check: async (_, { peer }) => {
        connections.add(peer.connectionId);
        return {
          status: { code: 0, message: '', details: [] },
          httpResponse: undefined,
          dynamicMetadata: undefined,
        };
      },
    });
    const { port } = await server.listenTls({
      ...{ address: '127.0.0.1', port: 0, name: 'authorization', identity: await identityOf(SIGNET) },
      limits: { maxAgeMs: 100 },
    });
    const { svid } = await identityOf('spiffe://shop.test/ns/shop/sa/back');
    const { cert = '', key = '' } = svid.value ?? {};
    const authorization = http2Cluster(
      'authorization',
      tcp(port),
      tlsTo({
        tls_certificates: [
          { certificate_chain: { inline_string: cert }, private_key: { inline_string: key } },
        ],
      }),
    );
    const proxy = await startEnvoyProxy(
      bootstrap([listener(httpManager(answerHello, [extAuthz]))], [authorization]),
    );
    scope.onEnd(() => proxy.stop());
    const client = newMeshClient(nobody);
    scope.onEnd(() => client.close());
    const statuses = new Map<number, number>();
    const load = Array.from({ length: 8 }, async () => {
      while (connections.size < 12) {
        const { status } = await client.request({ port: proxy.port('in'), plaintext: true });
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    });
    await Promise.all(load);
    expect([...statuses.keys()]).toEqual([200]);
  });
});
