/** The whole chain served live: tokens, audited policies, connections without HTTP; and Envoys that get nothing. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HTTP_CONNECTION_MANAGER } from '../../src/access/mesh/envoy/connection-manager.js';
import { parse } from 'yaml';
import { runGo } from '../e2e/support/clients.js';
import { pipeCluster, serverConfig } from '../e2e/support/envoy.js';
import { identity, namespace, pod, trustDomain, writeResources } from '../e2e/support/resources.js';
import { newScope } from '../e2e/support/scope.js';
import { startSignet, type Signet } from '../e2e/support/signet.js';
import type { Credentials } from '../rig/credentials.js';
import {
  answerHello,
  bootstrap,
  echo,
  envoyType,
  httpManager,
  listener,
  type Json,
} from '../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { makeTokenKey, OidcProvider, signToken, troubles } from '../support/oidc-provider.js';
import { until } from '../support/until.js';
import { discovered } from './envoy-served.js';

jest.setTimeout(60_000);

const policyOf = (name: string, rules: readonly unknown[], spec: Json = {}): Json => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'AccessPolicy',
  metadata: { name, namespace: 'shop' },
  spec: { target: { podSelector: { matchLabels: { app: 'back' } } }, rules, ...spec },
});
const account = (name: string): readonly unknown[] => [{ serviceAccounts: [{ namespace: 'shop', name }] }];
const front = account('front');
const paths = (...exact: readonly string[]): readonly unknown[] => [
  { http: { paths: exact.map((path) => ({ exact: path })) } },
];
const open = { name: 'open', from: front, to: paths('/open') };
const byToken = {
  name: 'by-token',
  from: front,
  to: paths('/token'),
  when: { token: { subjects: ['ann'] } },
};
const notMallory = {
  name: 'not-mallory',
  effect: 'Deny',
  from: [{ anyone: true }],
  when: { token: { subjects: ['mallory'] } },
};
const raw = { name: 'raw', from: front, to: [{ ports: [7000] }] };

(rig.isSkipped('envoy') || rig.isSkipped('go') ? describe.skip : describe)(
  'Envoy with all that is served',
  () => {
    const scope = newScope();
    const key = makeTokenKey('one');
    let provider: OidcProvider;
    let resources: string;
    let server: Signet;
    let envoy: EnvoyProxy;
    let client: MeshClient;
    let own: Credentials;
    let other: Credentials;

    const writePolicies = (...policies: readonly Json[]): void =>
      writeResources(resources, 'policy.yaml', policies);
    const token = (sub: string, claims: Json = {}): string => {
      const now = Math.floor(Date.now() / 1000);
      return signToken(key, { iss: provider.issuer, sub, aud: 'back', exp: now + 600, ...claims });
    };

    beforeAll(async () => {
      await Promise.all([rig.envoy(), rig.spiffeClient()]);
      provider = await OidcProvider.start();
      scope.onEnd(() => provider.stop());
      provider.keys = [key];
      provider.keysTrouble = troubles.unavailable;
      resources = scope.folder();
      writeResources(resources, 'shop.yaml', [
        trustDomain('shop.test', { tokenIssuers: [{ issuer: provider.issuer, audiences: ['back'] }] }),
        namespace('shop'),
        ...['front', 'back', 'other'].flatMap((name) => [...pod(name), identity(name)]),
      ]);
      writePolicies(policyOf('back', [open, byToken, notMallory, raw]));
      server = await startSignet(scope, { resources, state: scope.folder() });
      // Both variants of the protocol, since every Envoy uses one of them.
      const http = [
        discovered('prepare', 'signet/prepare/8080', 'GRPC'),
        discovered('http', 'signet/http/8080', 'DELTA_GRPC'),
      ];
      // As the documentation has it.
      const page = readFileSync(new URL('../../docs/policy/envoy.md', import.meta.url), 'utf8');
      const network = parse(page.split('```yaml\n')[2]?.split('```')[0] ?? '') as Json[];
      envoy = await startEnvoyProxy(serverConfig(server.socket('back'), http, network));
      scope.onEnd(() => envoy.stop());
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
      const file = join(scope.folder(), 'key.pem');
      const args = ['x509', 'fetch', '-socket', server.socket(podName), '-write-key', file];
      const { svids } = await runGo(scope, args);
      return { cert: svids?.[0]?.pem ?? '', key: readFileSync(file, 'utf8') };
    }
    const ask = async (path: string, bearer?: string, source = own): Promise<number> => {
      const headers = bearer === undefined ? [] : [['authorization', `Bearer ${bearer}`] as const];
      return (await client.request({ port: envoy.port('in'), source, path, headers })).status;
    };
    const passes = (source: Credentials): Promise<boolean> =>
      client.echoes({ port: envoy.port('raw'), source });

    it('refuses tokens while there are no keys to verify them with, and takes the keys once they come', async () => {
      expect(await ask('/open')).toBe(200);
      expect([await ask('/open', token('ann')), await ask('/token', token('ann'))]).toEqual([403, 403]);
      provider.keysTrouble = undefined;
      await until('the keys', async () => (await ask('/token', token('ann'))) === 200);
      expect(await ask('/open', token('ann'))).toBe(200);
    });

    it('enforces rules about tokens, and answers 401 to one that is not valid', async () => {
      await until('the keys', async () => (await ask('/token', token('ann'))) === 200);
      expect([await ask('/token'), await ask('/token', token('bob'))]).toEqual([403, 403]);
      expect(await ask('/open', token('mallory'))).toBe(403);
      expect(await ask('/token', token('ann'), other)).toBe(403);
      const forged = signToken(makeTokenKey('one'), { iss: provider.issuer, sub: 'ann', aud: 'back' });
      for (const bad of [token('ann', { exp: 1 }), token('ann', { aud: 'orders' }), forged])
        expect([401, 403]).toContain(await ask('/token', bad));
      expect(await ask('/token', token('ann', { exp: 1 }))).toBe(401);
    });

    it('reads paths as the rules mean them', async () => {
      for (const path of ['/open', '/%6fpen', '/op%65n?x'])
        expect([path, await ask(path)]).toEqual([path, 200]);
      for (const path of [
        '/x/../open',
        '//open',
        '/open/..;/',
        '/open%2f',
        '/open;a',
        `/open?${'x'.repeat(9000)}`,
      ])
        expect([path, await ask(path)]).not.toEqual([path, 200]);
    });

    it('fails no request while policies about tokens come, change and go', async () => {
      await until('the keys', async () => (await ask('/token', token('ann'))) === 200);
      const good = token('ann');
      const failed: string[] = [];
      let sent = 0;
      let going = true;
      const load = async (bearer?: string): Promise<void> => {
        while (going) {
          const status = await ask('/open', bearer);
          sent++;
          if (status !== 200) failed.push(`${status} ${bearer === undefined ? 'without' : 'with'} a token`);
        }
      };
      const loads = [load(), load(good)];
      const audit = policyOf('plan', [{ name: 'none', from: account('other') }], { mode: 'Audit' });
      for (let round = 0; round < 3; round++) {
        writePolicies(policyOf('back', [open, { ...open, name: 'mark', to: paths(`/a${round}`) }]), audit);
        await until('the edit', async () => (await ask(`/a${round}`)) === 200);
        writePolicies(
          policyOf('back', [open, byToken, notMallory, { ...open, name: 'mark', to: paths(`/b${round}`) }]),
        );
        await until('the edit', async () => (await ask(`/b${round}`)) === 200);
      }
      going = false;
      await Promise.all(loads);
      expect(failed).toEqual([]);
      expect(sent).toBeGreaterThan(50);
      const stats = await envoy.stats('extension_config_discovery');
      expect(
        Object.entries(stats).filter(([name, count]) => name.endsWith('config_fail') && count > 0),
      ).toEqual([]);
    });

    it('counts what an audited policy would deny, also by tokens, and denies nothing by it', async () => {
      const audit = [{ name: 'mark', from: front, when: byToken.when }];
      writePolicies(policyOf('back', [open]), policyOf('later', audit, { mode: 'Audit' }));
      const count = async (kind: string): Promise<number> =>
        (await envoy.stats('shop_later'))[`http.in.rbac.signet.shop_later.shadow_${kind}`] ?? 0;
      await until('the audit', async () => {
        expect(await ask('/open')).toBe(200);
        return (await count('denied')) > 0;
      });
      const [denied, allowed] = [await count('denied'), await count('allowed')];
      expect([await ask('/open', token('bob')), await ask('/open', token('ann'))]).toEqual([200, 200]);
      expect([await count('denied'), await count('allowed')]).toEqual([denied + 1, allowed + 1]);
      // Not valid, so nothing that an audited policy says can refuse it either.
      expect(await ask('/open', token('ann', { exp: 1 }))).toBe(200);
    });

    it('decides connections without HTTP, and takes edits about them', async () => {
      writePolicies(policyOf('back', [open, raw]));
      await until('the edit', () => passes(own));
      expect(await passes(other)).toBe(false);
      writePolicies(policyOf('back', [open, { ...raw, from: account('other') }]));
      await until('the edit', () => passes(other));
      expect(await passes(own)).toBe(false);
    });

    it.each([
      ['Signet is not there', '/nowhere/api.sock'],
      ['Signet knows no such filter', 'socket'],
    ])('refuses everything when it gets no filters: %s', async (_, socket) => {
      const more = { source: { initial_fetch_timeout: '0.3s' } };
      const deny = { '@type': envoyType('extensions.filters.http.rbac.v3.RBAC'), rules: {} };
      const withDefault = {
        ...more,
        discovery: { default_config: deny, apply_default_config_without_warming: true },
      };
      const place = (name: string, last: Json, networkFilters: readonly Json[] = []): Json =>
        listener(last, { name, networkFilters });
      const http = (filters: readonly Json[]): Json =>
        httpManager(answerHello, filters, { ...HTTP_CONNECTION_MANAGER });
      const config = bootstrap(
        [
          place('prepared', http([discovered('prepare', 'signet/prepares', 'GRPC', more)])),
          place('late', http([discovered('http', 'signet/https', 'GRPC', more)])),
          place('delta', http([discovered('http', 'signet/https/1', 'DELTA_GRPC', more)])),
          place('default', http([discovered('http', 'signet/https/2', 'GRPC', withDefault)])),
          place('raw', echo, [discovered('network', 'signet/networks', 'GRPC', more)]),
        ],
        [pipeCluster(socket === 'socket' ? server.socket('back') : socket)],
      );
      const alone = await startEnvoyProxy(config);
      try {
        const answers = ['prepared', 'late', 'delta', 'default'].map(
          async (name) =>
            (await client.request({ port: alone.port(name), plaintext: true, path: '/' })).status,
        );
        expect(await Promise.all(answers)).toEqual([500, 500, 500, 403]);
        expect(await client.echoes({ port: alone.port('raw'), plaintext: true })).toBe(false);
      } finally {
        await alone.stop();
      }
    });
  },
);
