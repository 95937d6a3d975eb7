import { sign, X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createCsr } from '../../src/identity/pki/csr.js';
import { generateKeyPair, type KeyType } from '../../src/identity/pki/keys.js';
import { systemClock } from '../../src/lib/clock.js';
import type { ServerOptions } from '../../src/main/server.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import type { KubeCredentials } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { create, prepareCluster, startClusterServer, type ClusterServer } from '../support/cluster-server.js';
import { until } from '../support/until.js';

const LONG = 120_000;
const SHOP = '/api/v1/namespaces/shop';
const SIGNET = '/apis/signet.dev/v1alpha1';

interface Answer {
  readonly conditions?: readonly {
    readonly type: string;
    readonly reason: string;
    readonly message: string;
  }[];
  readonly certificateChain?: string;
  readonly notBefore?: string;
  readonly beginRefreshAt?: string;
  readonly notAfter?: string;
}

/** The API server takes requests for pods that mount such a volume only. */
const podSpec = {
  ...{ serviceAccountName: 'app', nodeName: 'n1', automountServiceAccountToken: false },
  containers: [{ name: 'c', image: 'none' }],
  volumes: [
    {
      name: 'identity',
      projected: {
        sources: ['signet.dev/workload', 'example.org/other'].map((signerName, at) => ({
          podCertificate: { signerName, keyType: 'ECDSAP256', credentialBundlePath: `${at}.pem` },
        })),
      },
    },
  ],
};

interface Asked {
  readonly version?: 'v1' | 'v1beta1';
  readonly spec?: object;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('certificates of pods', () => {
  let plane: ControlPlane;
  let node: KubeCredentials;
  const servers: ClusterServer[] = [];
  const uids = new Map<string, string>();
  let requests = 0;

  beforeAll(async () => {
    plane = await startControlPlane();
    node = await plane.credentialsOf({ name: 'system:node:n1', groups: ['system:nodes'] });
    await prepareCluster(plane, 'cluster.test');
    await create(plane, '/api/v1/namespaces', { metadata: { name: 'shop' } });
    await create(plane, '/api/v1/nodes', { metadata: { name: 'n1' } });
    await create(plane, `${SHOP}/serviceaccounts`, { metadata: { name: 'app' } });
    for (const [name, app] of [
      ['web', 'web'],
      ['short', 'short'],
      ['nobody', 'nobody'],
    ] as const)
      await create(plane, `${SHOP}/pods`, {
        metadata: { name, labels: { app } },
        spec: podSpec,
      });
    await identity('web', 'web', {});
    await identity('with-hint', 'web', { hint: 'second', spiffeIDTemplate: '/ns/shop/again', x509TTL: '3h' });
    await identity('short', 'short', { x509TTL: '10m' });
    for (const path of [
      '/api/v1/nodes/n1',
      `${SHOP}/serviceaccounts/app`,
      `${SHOP}/pods/web`,
      `${SHOP}/pods/short`,
      `${SHOP}/pods/nobody`,
    ])
      uids.set(path.split('/').at(-1) ?? '', uidOf((await plane.request('GET', path)).body));
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  const identity = (name: string, app: string, fields: object): Promise<void> =>
    create(plane, `${SIGNET}/namespaces/shop/workloadidentities`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity', metadata: { name } },
      spec: { podSelector: { matchLabels: { app } }, ...fields },
    });
  const start = async (
    identityOfServer: string,
    options: Partial<ServerOptions> = {},
  ): Promise<ClusterServer> => {
    const server = startClusterServer(plane, identityOfServer, options);
    servers.push(server);
    await server.ready;
    return server;
  };
  /** Asks as the node's kubelet does; resolves with the path of the request, and its public key. */
  const ask = async (
    pod: string,
    keyType: KeyType = 'ec-p256',
    { version = 'v1', spec = {} }: Asked = {},
  ): Promise<{ readonly path: string; readonly spki: Buffer }> => {
    const pair = await generateKeyPair(keyType);
    const name = `request-${++requests}`;
    const folder = `/apis/certificates.k8s.io/${version}/namespaces/shop/podcertificaterequests`;
    const body = {
      apiVersion: `certificates.k8s.io/${version}`,
      kind: 'PodCertificateRequest',
      metadata: { name },
      spec: {
        ...{ signerName: 'signet.dev/workload', podName: pod, podUID: uids.get(pod) },
        ...{ serviceAccountName: 'app', serviceAccountUID: uids.get('app') },
        ...{ nodeName: 'n1', nodeUID: uids.get('n1') },
        stubPKCS10Request: Buffer.from(createCsr(pair)).toString('base64'),
        ...spec,
      },
    };
    const { status, body: answer } = await plane.request('POST', folder, body, node);
    if (status !== 201) throw new Error(JSON.stringify(answer));
    return { path: `${folder}/${name}`, spki: pair.publicKey.export({ type: 'spki', format: 'der' }) };
  };
  const statusOf = async (path: string): Promise<Answer> =>
    ((await plane.request('GET', path)).body as { readonly status?: Answer }).status ?? {};
  const answerOf = (path: string): Promise<Answer> =>
    until(`${path} is answered`, async () => {
      const status = await statusOf(path);
      return status.conditions === undefined ? undefined : status;
    });
  const verdict = ({ conditions = [] }: Answer): string =>
    conditions.map(({ type, reason }) => `${type} ${reason}`).join();

  it(
    'are signed with the identity of the pod, for the key of its request',
    async () => {
      await start('a');
      for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-4096'] as const) {
        const { path, spki } = await ask('web', keyType);
        const answer = await answerOf(path);
        expect(verdict(answer)).toBe('Issued Signed');
        const leaf = new X509Certificate(answer.certificateChain ?? '');
        expect(leaf.subjectAltName).toBe('URI:spiffe://cluster.test/ns/shop/sa/app');
        expect(leaf.publicKey.export({ type: 'spki', format: 'der' }).equals(spki)).toBe(true);
        const [begin, refresh, end] = [answer.notBefore, answer.beginRefreshAt, answer.notAfter].map((time) =>
          Date.parse(time ?? ''),
        );
        expect([begin, end]).toEqual([leaf.validFromDate.getTime(), leaf.validToDate.getTime()]);
        expect(((end ?? 0) - (begin ?? 0)) / 1000).toBe(3610);
        expect(refresh).toBe(((begin ?? 0) + (end ?? 0)) / 2);
      }
    },
    LONG,
  );

  it(
    'live no longer than the pod asks, the time before now counted, and never under an hour',
    async () => {
      await start('b');
      const asks = [3600, 5000, 86400].map(async (maxExpirationSeconds) => {
        const spec = {
          maxExpirationSeconds,
          unverifiedUserAnnotations: { 'signet.dev/hint': 'second' },
        };
        const { notBefore, notAfter, ...answer } = await answerOf(
          (await ask('web', 'ec-p256', { spec })).path,
        );
        expect(verdict(answer)).toBe('Issued Signed');
        return (Date.parse(notAfter ?? '') - Date.parse(notBefore ?? '')) / 1000;
      });
      expect(await Promise.all(asks)).toEqual([3600, 5000, 3 * 3600 + 10]);
    },
    LONG,
  );

  it(
    'are denied with the reason',
    async () => {
      // Whose clock says that nothing more is on its way.
      await start('c', { clock: { ...systemClock, now: () => systemClock.now() + 40_000 } });
      const annotations = (value: Readonly<Record<string, string>>): Asked => ({
        spec: { unverifiedUserAnnotations: value },
      });
      const denied = await Promise.all([
        ask('web', 'ec-p256', annotations({ 'example.org/x': 'y' })),
        ask('short'),
        ask('nobody'),
        ask('web', 'ec-p256', annotations({ 'signet.dev/hint': 'third' })),
      ]);
      const answers = await Promise.all(denied.map(({ path }) => answerOf(path)));
      expect(answers.map(verdict)).toEqual([
        'Denied InvalidUnverifiedUserAnnotations',
        'Denied LifetimeTooShort',
        'Denied NoIdentity',
        'Denied InvalidUnverifiedUserAnnotations',
      ]);
      expect(answers[2]?.conditions?.[0]?.message).toMatch(/no identity selects pod shop\/nobody/);
    },
    LONG,
  );

  it(
    'wait for an identity that comes a moment later',
    async () => {
      await start('d');
      await create(plane, `${SHOP}/pods`, {
        metadata: { name: 'early', labels: { app: 'early' } },
        spec: podSpec,
      });
      uids.set('early', uidOf((await plane.request('GET', `${SHOP}/pods/early`)).body));
      const { path } = await ask('early');
      expect(await statusOf(path)).toEqual({});
      await identity('early', 'early', {});
      expect(verdict(await answerOf(path))).toBe('Issued Signed');
    },
    LONG,
  );

  it(
    'are signed in v1beta1 too, also without a CSR, and once only by two servers',
    async () => {
      const { path } = await ask('web', 'ec-p256', { version: 'v1beta1' });
      const pair = await generateKeyPair('ec-p256');
      const older = await ask('web', 'ec-p256', {
        version: 'v1beta1',
        spec: {
          stubPKCS10Request: undefined,
          pkixPublicKey: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
          proofOfPossession: sign('sha256', Buffer.from(uids.get('web') ?? ''), pair.privateKey).toString(
            'base64',
          ),
        },
      });
      const foreign = await ask('web', 'ec-p256', { spec: { signerName: 'example.org/other' } });
      await Promise.all([start('e'), start('f')]);
      const answer = await answerOf(path);
      expect(verdict(answer)).toBe('Issued Signed');
      const { certificateChain = '', ...rest } = await answerOf(older.path);
      expect(verdict(rest)).toBe('Issued Signed');
      expect(new X509Certificate(certificateChain).checkPrivateKey(pair.privateKey)).toBe(true);
      await servers[0]?.stop();
      await until('the other signs', async () => {
        const next = await ask('web');
        return verdict(await answerOf(next.path)) === 'Issued Signed';
      });
      expect(await statusOf(path)).toEqual(answer);
      expect(await statusOf(foreign.path)).toEqual({});
    },
    LONG,
  );
});

function uidOf(body: unknown): string {
  return (body as { readonly metadata: { readonly uid: string } }).metadata.uid;
}
