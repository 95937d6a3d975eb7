import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { parseBundleDocument } from '../../src/identity/spiffe/bundle-document.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  conditionOf,
  create,
  prepareCluster,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';

const LONG = 120_000;
const CLUSTER_BUNDLE = '/apis/certificates.k8s.io/v1/clustertrustbundles/signet.dev:workload:bundle';
const WEBHOOKS = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Subject key IDs of what is in a PEM text, sorted. */
function fingerprints(pem: string): string[] {
  return (pem.match(CERTIFICATE) ?? []).map((one) => new X509Certificate(one).fingerprint256).sort();
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the published bundle', () => {
  let plane: ControlPlane;
  const servers: ClusterServer[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    await prepareCluster(plane, 'cluster.test');
    for (const [name, labels] of [
      ['wants', { 'signet.dev/inject-bundle': 'true' }],
      ['plain', {}],
    ] as const)
      await create(plane, '/api/v1/namespaces', { metadata: { name, labels } });
    await create(plane, WEBHOOKS, {
      metadata: { name: 'guard.example.org', annotations: { 'signet.dev/inject-ca': 'true' } },
      webhooks: [webhook('one.example.org'), webhook('two.example.org')],
    });
    await create(plane, WEBHOOKS, {
      metadata: { name: 'foreign.example.org' },
      webhooks: [webhook('foreign.example.org')],
    });
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  const start = async (identity: string): Promise<ClusterServer> => {
    const server = startClusterServer(plane, identity);
    servers.push(server);
    await server.ready;
    return server;
  };
  const path = (namespace: string): string => `/api/v1/namespaces/${namespace}/configmaps/signet-bundle`;
  const data = async (namespace: string): Promise<Readonly<Record<string, string>> | undefined> => {
    const { status, body } = await plane.request('GET', path(namespace));
    return status === 200 ? ((body as { data?: Readonly<Record<string, string>> }).data ?? {}) : undefined;
  };
  const pems = async (): Promise<readonly string[]> => {
    const trustBundle = (await plane.request('GET', CLUSTER_BUNDLE)).body as {
      readonly spec?: { readonly trustBundle?: string };
    };
    const configuration = (await plane.request('GET', `${WEBHOOKS}/guard.example.org`)).body as Webhooks;
    return [
      (await data(SYSTEM))?.['bundle.pem'] ?? '',
      (await data('wants'))?.['bundle.pem'] ?? '',
      trustBundle.spec?.trustBundle ?? '',
      ...configuration.webhooks.map(({ clientConfig }) =>
        Buffer.from(clientConfig.caBundle ?? '', 'base64').toString(),
      ),
    ];
  };
  const untilEverywhere = (count: number): Promise<readonly string[]> =>
    until(`${count} authorities stand everywhere`, async () => {
      const texts = (await pems()).map((pem) => fingerprints(pem));
      const [first = []] = texts;
      return texts.every((one) => one.length === count && one.join() === first.join()) ? first : undefined;
    });
  const ask = async (action: string, nonce: string): Promise<void> => {
    const request = JSON.stringify({ action, kind: 'x509', nonce });
    await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
      metadata: { annotations: { 'signet.dev/ca-request': request } },
    });
    await until(`${action} has succeeded`, async () => {
      const { request: done } = await trustDomainStatusOf(plane);
      return done?.nonce === nonce && done.outcome === 'Succeeded';
    });
  };
  const writes = async (): Promise<number> =>
    (await plane.auditLog()).filter(
      ({ verb, objectRef }) =>
        ['create', 'patch', 'update', 'delete'].includes(verb) &&
        ['configmaps', 'clustertrustbundles', 'validatingwebhookconfigurations'].includes(
          objectRef?.resource ?? '',
        ),
    ).length;

  it(
    'stands in each namespace that asks, in Signet’s own, in a ClusterTrustBundle, and in webhooks',
    async () => {
      await start('a');
      await untilEverywhere(1);
      await until(
        'it is told',
        async () => (await conditionOf(plane, 'BundlePublished')) === 'True Published',
      );
      expect(await data('plain')).toBeUndefined();
      const { body } = await plane.request('GET', `${WEBHOOKS}/foreign.example.org`);
      expect((body as Webhooks).webhooks[0]?.clientConfig.caBundle).toBeUndefined();
      const document = parseBundleDocument('cluster.test', (await data('wants'))?.['bundle.json'] ?? '');
      expect(document.jwtAuthorities).toHaveLength(1);
      expect(document.sequence).toBe((await trustDomainStatusOf(plane)).bundleSequence);
      // A new authority is there before it signs.
      await ask('prepare', 'prepare');
      await untilEverywhere(2);
      const { authorities = [] } = await trustDomainStatusOf(plane);
      expect(authorities.filter(({ kind }) => kind === 'X509').map(({ slot }) => slot)).toEqual([
        'Active',
        'Prepared',
      ]);
    },
    LONG,
  );

  it(
    'is not written again by a server that finds it',
    async () => {
      const first = await start('b');
      await untilEverywhere(2);
      await first.stop();
      const before = await writes();
      const second = await start('c');
      await until('it is told', () =>
        second.logger.all.some((line) => line.includes('signing the certificates')),
      );
      await until('the second has looked', async () => {
        const lease = await plane.request(
          'GET',
          `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`,
        );
        return JSON.stringify(lease.body).includes('"c');
      });
      // What comes after a look at everything: its own ConfigMap is mended last.
      await plane.request('PATCH', path('wants'), { data: { 'bundle.pem': 'x' } });
      await untilEverywhere(2);
      expect((await writes()) - before).toBeLessThanOrEqual(3);
    },
    LONG,
  );

  it(
    'is mended when somebody changes or deletes it, and goes when it is not asked for any more',
    async () => {
      await start('d');
      await untilEverywhere(2);
      await plane.request('PATCH', path('wants'), { data: { 'bundle.pem': 'of a stranger', more: 'x' } });
      await plane.request('DELETE', path(SYSTEM));
      await plane.request('PATCH', `${WEBHOOKS}/guard.example.org`, {
        webhooks: [webhook('one.example.org'), webhook('two.example.org')],
      });
      await plane.request('PATCH', CLUSTER_BUNDLE, { metadata: { labels: { x: 'y' } } });
      await untilEverywhere(2);
      expect(Object.keys((await data('wants')) ?? {}).sort()).toEqual(['bundle.json', 'bundle.pem']);
      await plane.request('PATCH', '/api/v1/namespaces/wants', {
        metadata: { labels: { 'signet.dev/inject-bundle': null } },
      });
      await until('it is gone', async () => (await data('wants')) === undefined);
      expect(await data(SYSTEM)).toBeDefined();
      await plane.request('PATCH', '/api/v1/namespaces/plain', {
        metadata: { labels: { 'signet.dev/inject-bundle': 'true' } },
      });
      await until('it comes', async () => (await data('plain')) !== undefined);
    },
    LONG,
  );

  it(
    'leaves a ConfigMap of that name which is somebody else’s, and says so',
    async () => {
      await create(plane, '/api/v1/namespaces', { metadata: { name: 'taken' } });
      await create(plane, '/api/v1/namespaces/taken/configmaps', {
        metadata: { name: 'signet-bundle' },
        data: { mine: 'yes' },
      });
      await start('e');
      await plane.request('PATCH', '/api/v1/namespaces/taken', {
        metadata: { labels: { 'signet.dev/inject-bundle': 'true' } },
      });
      await until(
        'it is said',
        async () => (await conditionOf(plane, 'BundlePublished')) === 'False NotOurs',
      );
      expect(await data('taken')).toEqual({ mine: 'yes' });
      await plane.request('DELETE', path('taken'));
      await plane.request('PATCH', '/api/v1/namespaces/taken', {
        metadata: { labels: { 'signet.dev/inject-bundle': 'no' } },
      });
      await until(
        'all is well',
        async () => (await conditionOf(plane, 'BundlePublished')) === 'True Published',
      );
    },
    LONG,
  );
});

interface Webhooks {
  readonly webhooks: readonly { readonly clientConfig: { readonly caBundle?: string } }[];
}

function webhook(name: string): object {
  return {
    name,
    admissionReviewVersions: ['v1'],
    sideEffects: 'None',
    failurePolicy: 'Ignore',
    clientConfig: { service: { namespace: 'wants', name: 'guard' } },
    rules: [
      { apiGroups: ['rig.example'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['nothing'] },
    ],
  };
}
