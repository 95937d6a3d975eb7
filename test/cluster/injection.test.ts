import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:tls';
import type { PeerCertificate } from 'node:tls';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  create,
  prepareCluster,
  startClusterServer,
  TRUST_DOMAINS,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';
import { injectorConfigurations, type FailurePolicy } from '../support/injector.js';

/* The real API server asks the real webhook. */

const LONG = 120_000;
const HOOKS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
const CHECKS = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';

interface Pod {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly volumes?: readonly { readonly name: string }[];
    readonly initContainers?: readonly { readonly name: string }[];
    readonly containers: readonly { readonly env?: readonly { readonly name: string }[] }[];
    readonly readinessGates?: readonly { readonly conditionType: string }[];
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the webhook', () => {
  let plane: ControlPlane;
  const servers: ClusterServer[] = [];
  let pods = 0;

  beforeAll(async () => {
    plane = await startControlPlane({ controllerManager: true });
    await prepareCluster(plane, 'cluster.test');
    for (const [name, labels] of [
      ['chosen', { 'signet.dev/inject': 'enabled' }],
      ['plain', {}],
    ] as const) {
      await create(plane, '/api/v1/namespaces', { metadata: { name, labels } });
      await until(`the service account of ${name}`, async () => {
        const { status } = await plane.request('GET', `/api/v1/namespaces/${name}/serviceaccounts/default`);
        return status === 200;
      });
    }
  }, rig.rigTimeout);
  afterEach(async () => {
    await plane.request('DELETE', `${HOOKS}/signet-injector`);
    await plane.request('DELETE', `${CHECKS}/signet-volumes`);
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  /** A server whose webhook is registered and trusted. */
  const start = async (
    failurePolicy: FailurePolicy = 'Fail',
    port = 0,
  ): Promise<{ readonly server: ClusterServer; readonly port: number }> => {
    const server = startClusterServer(plane, `w${servers.length}`, {
      webhook: {
        ...{ listen: { address: '127.0.0.1', port }, dnsNames: ['localhost'] },
        proxyImage: 'registry.test/envoy:1',
        captureImage: 'registry.test/signet:1',
      },
    });
    servers.push(server);
    const { webhookAddress = '' } = await server.ready;
    const served = Number(webhookAddress.split(':').at(-1));
    await register(failurePolicy, served);
    await until('the first pod', async () => (await put('chosen', {}, {}, 'dryRun=All')).status === 201);
    return { server, port: served };
  };
  const register = async (failurePolicy: FailurePolicy, port: number): Promise<void> => {
    const { mutating, validating } = injectorConfigurations(failurePolicy, port);
    await create(plane, HOOKS, mutating);
    await create(plane, CHECKS, validating);
    for (const path of [`${HOOKS}/signet-injector`, `${CHECKS}/signet-volumes`])
      await until('the authority in the configuration', async () =>
        JSON.stringify((await plane.request('GET', path)).body).includes('caBundle'),
      );
  };
  const put = (
    namespace: string,
    metadata: object = {},
    spec: object = {},
    query = '',
  ): Promise<{ readonly status: number; readonly body: unknown }> =>
    plane.request('POST', `/api/v1/namespaces/${namespace}/pods?${query}`, {
      metadata: { name: `p${++pods}`, ...metadata },
      spec: { containers: [{ name: 'app', image: 'app:1' }], ...spec },
    });
  const isInjected = ({ spec }: Pod): boolean =>
    spec.volumes?.some(({ name }) => name === 'signet') === true &&
    spec.containers.every(({ env }) => env?.some(({ name }) => name === 'SPIFFE_ENDPOINT_SOCKET')) &&
    spec.readinessGates?.some(({ conditionType }) => conditionType === 'signet.dev/identity') === true;
  const created = async (...how: Parameters<typeof put>): Promise<Pod> => {
    const { status, body } = await put(...how);
    if (status !== 201) throw new Error(JSON.stringify(body));
    return body as Pod;
  };

  it(
    'adds to pods of namespaces and pods that ask, and to no others; what it adds is valid',
    async () => {
      await start();
      expect(isInjected(await created('chosen'))).toBe(true);
      expect(isInjected(await created('plain'))).toBe(false);
      expect(isInjected(await created('plain', { labels: { 'signet.dev/inject': 'true' } }))).toBe(true);
      expect(isInjected(await created('chosen', { labels: { 'signet.dev/inject': 'false' } }))).toBe(false);
      expect(isInjected(await created('chosen', {}, { hostNetwork: true }))).toBe(false);
      const annotations = {
        'signet.dev/inject-files': 'pem,jks',
        'signet.dev/inject-mount-path': '/var/run/id',
        'signet.dev/inject-proxy': 'true',
        'signet.dev/proxy-inbound': '8443:8080,9000:9000/tcp',
        'signet.dev/proxy-outbound': '9001=payments.shop.svc:8443=spiffe://cluster.test/ns/shop/sa/payments',
      };
      const full = await created(
        'chosen',
        { annotations },
        { initContainers: [{ name: 'i', image: 'i:1' }] },
      );
      expect(isInjected(full)).toBe(true);
      expect(full.spec.initContainers?.map(({ name }) => name)).toEqual(['signet-proxy', 'i']);
      const probed = {
        livenessProbe: { grpc: { port: 9000 }, periodSeconds: 4 },
        readinessProbe: { httpGet: { path: '/x', port: 8080 } },
        startupProbe: { tcpSocket: { port: 8443 } },
      };
      const captured = await created(
        'chosen',
        { annotations: { ...annotations, 'signet.dev/proxy-capture': 'true' } },
        { containers: [{ name: 'app', image: 'app:1', ...probed }] },
      );
      expect(isInjected(captured)).toBe(true);
      expect(captured.spec.initContainers?.map(({ name }) => name)).toEqual([
        'signet-capture',
        'signet-proxy',
      ]);
      const [app] = captured.spec.containers;
      for (const kind of ['livenessProbe', 'readinessProbe', 'startupProbe'])
        expect(app).toMatchObject({ [kind]: { httpGet: { path: `/probes/app/${kind}`, port: 15621 } } });
      expect(app).toMatchObject({ livenessProbe: { periodSeconds: 4 } });
    },
    LONG,
  );

  it(
    'refuses a pod with the field, the problem and the fix, and warns of volumes written by hand',
    async () => {
      await start();
      const annotations = { 'signet.dev/inject-files': 'pemm' };
      const { status, body } = await put('chosen', { annotations });
      expect(status).toBe(422);
      expect((body as { message: string }).message).toMatch(
        /denied the request: metadata\.annotations\["signet\.dev\/inject-files"\]: volume attribute files has "pemm".*did you mean/,
      );
      const csi = { driver: 'csi.signet.dev', readOnly: true, volumeAttributes: { soket: 'x' } };
      const manifest = {
        ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'by-hand', namespace: 'plain' } },
        spec: { containers: [{ name: 'app', image: 'app:1' }], volumes: [{ name: 'id', csi }] },
      };
      const applied = await plane.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(manifest) });
      expect(applied.code).toBe(0);
      expect(applied.stderr).toMatch(
        /Warning: spec\.volumes\[0\]\.csi\.volumeAttributes: volume attribute "soket"/,
      );
    },
    LONG,
  );

  it(
    'injects each pod while its authority is rotated and tainted, and shows another certificate then',
    async () => {
      const { port } = await start();
      const first = (await certificateOf(port)).serialNumber;
      let made = 0;
      let done = false;
      const failures: string[] = [];
      const load = (async (): Promise<void> => {
        while (!done) {
          const { status, body } = await put('chosen', {}, {}, 'dryRun=All');
          made += 1;
          if (status !== 201 || !isInjected(body as Pod)) failures.push(JSON.stringify(body));
        }
      })();
      const ask = async (nonce: string, request: object): Promise<void> => {
        await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
          metadata: {
            annotations: { 'signet.dev/ca-request': JSON.stringify({ kind: 'x509', nonce, ...request }) },
          },
        });
        await until(
          `the request ${nonce}`,
          async () => {
            const { request: handled } = await trustDomainStatusOf(plane);
            return handled?.nonce === nonce && handled.outcome === 'Succeeded';
          },
          60_000,
        );
      };
      const { authorities = [] } = await trustDomainStatusOf(plane);
      const active = authorities.find(({ kind, slot }) => kind === 'X509' && slot === 'Active')?.id;
      await ask('rotate', { action: 'rotate' });
      await ask('taint', { action: 'taint', id: active });
      await until('another certificate', async () => (await certificateOf(port)).serialNumber !== first);
      const sofar = made;
      await until('more pods', () => made > sofar + 50);
      done = true;
      await load;
      expect(failures.slice(0, 2)).toEqual([]);
    },
    LONG,
  );

  it(
    'that is down lets pods in without an identity where that is chosen, and refuses them where not',
    async () => {
      const { server } = await start('Ignore');
      expect(isInjected(await created('chosen'))).toBe(true);
      await server.stop();
      expect(isInjected(await created('chosen'))).toBe(false);
      await plane.request('DELETE', `${HOOKS}/signet-injector`);
      await create(plane, HOOKS, injectorConfigurations('Fail', 1).mutating);
      await until('a refusal', async () => (await put('chosen', {}, {}, 'dryRun=All')).status >= 500);
      // Those that did not ask are none of its business.
      expect(isInjected(await created('plain'))).toBe(false);
    },
    LONG,
  );
});

function certificateOf(port: number): Promise<PeerCertificate> {
  return new Promise((resolve, reject) => {
    // Whether it is believed is what the API server decides.
    const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    });
  });
}
