import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { parse } from 'yaml';
import { runGo } from '../e2e/support/clients.js';
import { serverConfig, startEnvoy, type Envoy } from '../e2e/support/envoy.js';
import { identity, namespace, pod, writeResources } from '../e2e/support/resources.js';
import { newScope } from '../e2e/support/scope.js';
import { startSignet, type Signet } from '../e2e/support/signet.js';
import type { Json } from '../rig/envoy-config.js';
import type { Credentials } from '../rig/credentials.js';
import type { HttpAnswer, HttpConnection } from '../rig/http1.js';
import { encodeRequest, httpConnection } from '../rig/http1.js';
import { newMeshClient, type MeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';

jest.setTimeout(60_000);

/** Filters over the pod's Workload API socket, as the certificates come. */
const served = {
  name: 'signet/http/8080',
  config_discovery: {
    config_source: {
      resource_api_version: 'V3',
      api_config_source: {
        api_type: 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'signet' } }],
      },
    },
    type_urls: ['type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC'],
  },
};

const policyOf = (rules: readonly unknown[], validity?: unknown): Json => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'AccessPolicy',
  metadata: { name: 'back', namespace: 'shop' },
  spec: {
    target: { podSelector: { matchLabels: { app: 'back' } } },
    rules,
    ...(validity === undefined ? {} : { validity }),
  },
});
const front = (paths: readonly unknown[]): Json => ({
  name: 'front',
  from: [{ serviceAccounts: [{ namespace: 'shop', name: 'front' }] }],
  to: [{ http: { methods: ['GET'], paths } }],
});

(rig.isSkipped('envoy') || rig.isSkipped('go') ? describe.skip : describe)(
  'Envoy with filters served live',
  () => {
    const scope = newScope();
    let resources: string;
    let server: Signet;
    let envoy: Envoy;
    let client: MeshClient;
    let own: Credentials;
    let other: Credentials;

    const writePolicy = (...policies: readonly Json[]): void =>
      writeResources(resources, 'policy.yaml', policies);

    beforeAll(async () => {
      await Promise.all([rig.envoy(), rig.spiffeClient()]);
      resources = scope.folder();
      const pods = ['front', 'back', 'other'].flatMap((name) => [...pod(name), identity(name)]);
      writeResources(resources, 'shop.yaml', [namespace('shop'), ...pods]);
      writePolicy(policyOf([front([{ exact: '/open' }])]));
      server = await startSignet(scope, { resources, state: scope.folder(), trustDomain: 'shop.test' });
      envoy = await startEnvoy(scope, serverConfig(server.socket('back'), [served]));
      own = await credentialsOf('front');
      other = await credentialsOf('other');
      client = newMeshClient({
        trust: {},
        of: () => Promise.reject(new Error('certificates come from Signet')),
      });
      scope.onEnd(() => client.close());
    }, rig.rigTimeout);
    afterAll(() => scope.end());

    async function credentialsOf(podName: string): Promise<Credentials> {
      const key = join(scope.folder(), 'key.pem');
      const { svids } = await runGo(scope, [
        'x509',
        'fetch',
        '-socket',
        server.socket(podName),
        '-write-key',
        key,
      ]);
      return { cert: svids?.[0]?.pem ?? '', key: readFileSync(key, 'utf8') };
    }
    const connect = async (source: Credentials): Promise<HttpConnection> =>
      httpConnection(await client.connect({ port: envoy.port, source }));
    const get = (connection: HttpConnection, path: string): Promise<HttpAnswer> =>
      connection.send(encodeRequest({ path }), false);

    it('takes each edit of a policy on connections that stay open', async () => {
      const [mine, theirs] = [await connect(own), await connect(other)];
      expect((await get(mine, '/open')).status).toBe(200);
      expect((await get(theirs, '/open')).status).toBe(403);
      for (let round = 0; round < 3; round++) {
        writePolicy(policyOf([front([{ exact: '/closed' }])]));
        await until('a refusal', async () => (await get(mine, '/open')).status === 403);
        expect((await get(mine, '/closed')).status).toBe(200);
        writePolicy(policyOf([front([{ prefix: '/' }])]));
        await until('an answer', async () => (await get(mine, '/open')).status === 200);
        expect((await get(theirs, '/open')).status).toBe(403);
      }
      expect(mine.isOpen() && theirs.isOpen()).toBe(true);
      const stats = await envoy.admin('/stats?filter=extension_config_discovery');
      expect(stats).toMatch(/signet\/http\/8080\.config_reload: [6-9]/);
      expect(stats).toMatch(/signet\/http\/8080\.config_fail: 0/);
    });

    it('takes the end of a permission when it comes, without an edit', async () => {
      const mine = await connect(own);
      const end = new Date(Date.now() + 2_000).toISOString();
      writePolicy(policyOf([front([{ exact: '/short' }])], { until: end }));
      await until('an answer', async () => (await get(mine, '/short')).status === 200);
      await until('a refusal', async () => (await get(mine, '/short')).status === 403);
      expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(end));
      expect(mine.isOpen()).toBe(true);
    });

    it('runs with the bootstrap of the documentation', async () => {
      const page = readFileSync(new URL('../../docs/policy/envoy.md', import.meta.url), 'utf8');
      const workload = createServer((_, response) => response.end('from the workload'));
      scope.onEnd(() => void workload.close());
      await new Promise<void>((resolve) => workload.listen(0, '127.0.0.1', resolve));
      const { port } = workload.address() as AddressInfo;
      const text = (/```yaml\n([^]*?)```/.exec(page)?.[1] ?? '')
        .replace('/path/to/the/pods/api.sock', server.socket('back'))
        .replace('address: 0.0.0.0, port_value: 8443', 'address: 127.0.0.1, port_value: 0')
        .replace('port_value: 8080', `port_value: ${port}`);
      writePolicy(policyOf([front([{ exact: '/open' }])]));
      const documented = await startEnvoy(scope, parse(text) as Json);
      const ask = async (source: Credentials, path: string): Promise<HttpAnswer> =>
        get(httpConnection(await client.connect({ port: documented.port, source })), path);
      await until('the policy', async () => (await ask(own, '/open')).status === 200);
      expect(await ask(own, '/open')).toMatchObject({ status: 200, body: 'from the workload' });
      expect((await ask(other, '/open')).status).toBe(403);
      for (const path of ['/x/../open', '//open', '/open/..;/', `/open?${'x'.repeat(8200)}`])
        expect((await ask(own, path)).status).toBe(403);
      expect((await ask(own, '/%6fpen')).body).toBe('from the workload');
    });

    it('goes on with the last filters while Signet is down', async () => {
      const mine = await connect(own);
      writePolicy(policyOf([front([{ exact: '/stays' }])]));
      await until('an answer', async () => (await get(mine, '/stays')).status === 200);
      await server.stop();
      expect((await get(mine, '/stays')).status).toBe(200);
      expect((await get(mine, '/open')).status).toBe(403);
    });
  },
);
