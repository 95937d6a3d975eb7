import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { IMAGES } from '../rig/images.js';
import type { ProgramRun } from '../rig/node.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { grpcProgram, httpsProgram } from './support/probed-programs.js';
import { startNodeWorld, type NodeWorld } from './support/world.js';

/* A program without TLS that listens on all addresses, in a pod whose ports are captured, on a real node. */

const LIMIT = 120_000;
const NODE = ['/usr/bin/node', '--input-type=module', '--eval'];
const IDLE = 'setInterval(() => undefined, 1000000)';
const SERVE = `
  import { createServer } from 'node:http';
  let health = 200;
  createServer((request, response) => {
    if (request.url === '/sick') health = 500;
    if (request.url === '/well') health = 200;
    response.statusCode = request.url === '/health' ? health : 200;
    response.end('for ' + request.url);
  }).listen(8080, '0.0.0.0');`;
/** As the user of the proxy, and in sight of its process. */
const KILL_PROXY = `
  import { readdirSync, readFileSync } from 'node:fs';
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name)))
    if (readFileSync('/proc/' + pid + '/comm', 'utf8').trim() === 'envoy') process.kill(Number(pid), 'SIGKILL');`;
const WEB = 'spiffe://example.org/ns/shop/sa/web';

(isSkipped('node') ? describe.skip : describe)('a pod whose ports are captured', () => {
  let world: NodeWorld;
  let address: string;

  const applyPod = (name: string, program: string, annotations: object, more: object): Promise<void> =>
    world.applyPod({
      ...{ name, namespace: 'shop', serviceAccount: name, labels: { app: name, team: 'shop' } },
      annotations: { 'signet.dev/inject-proxy': 'true', ...annotations },
      ...{ image: IMAGES.signet, command: [...NODE, program] },
      spec: { ...more },
    });
  const fetched = (url: string): string =>
    `const a = await fetch('${url}', { signal: AbortSignal.timeout(5000) }); console.log(a.status, await a.text())`;
  const get = (name: string, url: string): Promise<ProgramRun> =>
    world.exec(name, [...NODE, fetched(url)], 'shop');
  const isReady = async (): Promise<boolean> => {
    const { status } = await world.pod('web', 'shop');
    return status.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') === true;
  };

  beforeAll(async () => {
    world = await startNodeWorld({ envoy: true, install: { injector: { proxy: { image: IMAGES.envoy } } } });
    const metadata = { namespace: 'shop' };
    const namespaced = (name: string, enforce: string): Readonly<Record<string, unknown>> => ({
      ...{ apiVersion: 'v1', kind: 'Namespace' },
      metadata: {
        name,
        labels: { 'signet.dev/inject': 'enabled', 'pod-security.kubernetes.io/enforce': enforce },
      },
    });
    await world.apply(
      ...[namespaced('shop', 'privileged'), namespaced('strict', 'restricted')],
      ...['web', 'front', 'other'].map((name) => ({
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { ...metadata, name } },
      })),
      {
        ...{ apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, name: 'web' } },
        spec: { selector: { app: 'web' }, ports: [{ port: 8080 }] },
      },
      {
        apiVersion: 'signet.dev/v1alpha1',
        ...{ kind: 'WorkloadIdentity', metadata: { ...metadata, name: 'shop' } },
        spec: {
          podSelector: { matchLabels: { team: 'shop' } },
          spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
        },
      },
      {
        apiVersion: 'signet.dev/v1alpha1',
        ...{ kind: 'AccessPolicy', metadata: { ...metadata, name: 'web' } },
        spec: {
          target: { podSelector: { matchLabels: { app: 'web' } } },
          rules: [
            { name: 'front', from: [{ serviceAccounts: [{ name: 'front' }] }], to: [{ ports: [8080] }] },
          ],
        },
      },
    );
    const security = { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } };
    const probe = { periodSeconds: 1, failureThreshold: 1 };
    await applyPod(
      'web',
      SERVE,
      { 'signet.dev/proxy-inbound': '8080:8080', 'signet.dev/proxy-capture': 'true' },
      {
        ...{ securityContext: security, shareProcessNamespace: true },
        containers: [
          {
            ...{ name: 'main', image: IMAGES.signet, command: [...NODE, SERVE] },
            ports: [{ name: 'web', containerPort: 8080 }],
            readinessProbe: { httpGet: { path: '/health', port: 'web' }, ...probe },
            livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 2 },
          },
        ],
      },
    );
    const outbound = { 'signet.dev/proxy-outbound': `9001=web.shop.svc:8080=${WEB}` };
    await Promise.all(['front', 'other'].map((name) => applyPod(name, IDLE, outbound, {})));
    for (const name of ['web', 'front', 'other']) await world.podIs('Ready', name, 'shop');
    address = await world.kubectl(
      'get',
      'pod',
      'web',
      '--namespace=shop',
      '--output=jsonpath={.status.podIP}',
    );
  }, rigTimeout);
  afterAll(() => world?.close());

  const plainIsRefused = async (): Promise<void> => {
    const url = `http://${address}:8080/items`;
    expect(await get('front', url)).toMatchObject({ code: 1, stdout: '' });
    await expect(fromNode(url)).rejects.toThrow(/fetch failed/);
  };
  /** From the node itself, as the kubelet comes. */
  const fromNode = (url: string): Promise<string> =>
    world.cluster
      .enter(process.execPath, '--input-type=module', '--eval', fetched(url))
      .then(({ code, stdout, stderr }) => {
        if (code !== 0) throw new Error(stderr);
        return stdout;
      });

  it(
    'is reached with an SVID that the policy allows, at the port of its Service, and by no other way',
    async () => {
      expect(await get('front', 'http://127.0.0.1:9001/items')).toMatchObject({ stdout: '200 for /items\n' });
      expect(await get('other', 'http://127.0.0.1:9001/items')).toMatchObject({
        stdout: expect.stringMatching(/^403/),
      });
      await plainIsRefused();
      // The node reaches the pod, and learns there how the program does, no more.
      expect(await fromNode(`http://${address}:15621/probes/main/readinessProbe`)).toMatch(/^200/);
      expect(await fromNode(`http://${address}:15621/health`)).toMatch(/^404/);
    },
    LIMIT,
  );

  it(
    'is ready as its own probe says, which the kubelet asks of the proxy',
    async () => {
      expect(await get('web', 'http://127.0.0.1:8080/sick')).toMatchObject({ code: 0 });
      await until('a pod that is not ready', async () => !(await isReady()), LIMIT);
      expect(await get('web', 'http://127.0.0.1:8080/well')).toMatchObject({ code: 0 });
      await until('a pod that is ready', isReady, LIMIT);
    },
    LIMIT,
  );

  it(
    'stays captured while its proxy is away, and is served by the one that comes after',
    async () => {
      expect(await world.exec('web', [...NODE, KILL_PROXY], 'shop')).toMatchObject({ code: 0 });
      await plainIsRefused();
      const restarts =
        '--output=jsonpath={.status.initContainerStatuses[?(@.name=="signet-proxy")].restartCount}';
      await until(
        'a proxy that was started again',
        async () => (await world.kubectl('get', 'pod', 'web', '--namespace=shop', restarts)) === '1',
        LIMIT,
      );
      await until(
        'an answer',
        async () => (await get('front', 'http://127.0.0.1:9001/items')).stdout === '200 for /items\n',
        LIMIT,
      );
      await plainIsRefused();
    },
    LIMIT,
  );

  describe('and whose programs are probed by HTTPS and by gRPC', () => {
    beforeAll(async () => {
      const program = (name: string, script: string, readinessProbe: object): object => ({
        ...{ name, image: IMAGES.signet, command: [...NODE, script] },
        readinessProbe: { ...readinessProbe, periodSeconds: 1, failureThreshold: 1 },
      });
      const ports = {
        'signet.dev/proxy-inbound': '8443:8443,9000:9000/http2',
        'signet.dev/proxy-capture': 'true',
      };
      await applyPod('probed', IDLE, ports, {
        serviceAccountName: 'web',
        securityContext: {
          ...{ runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
        },
        containers: [
          program('tls', await httpsProgram(), { httpGet: { path: '/health', port: 8443, scheme: 'HTTPS' } }),
          program('grpc', grpcProgram, { grpc: { port: 9000, service: 'items' } }),
        ],
      });
      await world.podIs('Ready', 'probed', 'shop');
    }, LIMIT);

    const isContainerReady = async (container: string): Promise<boolean> => {
      const path = `--output=jsonpath={.status.containerStatuses[?(@.name=="${container}")].ready}`;
      return (await world.kubectl('get', 'pod', 'probed', '--namespace=shop', path)) === 'true';
    };
    /** Asks a program itself, within the pod; who probed it last. */
    const tell = async (port: number, path: string): Promise<unknown> => {
      const asked = `console.log(await (await fetch('http://127.0.0.1:${port}${path}')).text())`;
      const { code, stdout, stderr } = await world.exec('probed', [...NODE, asked], 'shop');
      if (code !== 0) throw new Error(stderr);
      return JSON.parse(stdout);
    };

    it.each([
      ['HTTPS, with a certificate of its own', 'tls', 8001, /^kube-probe/, 'grpc'],
      ['gRPC, for a service by name', 'grpc', 8002, /./, 'tls'],
    ])(
      'is ready as its program says by %s, which the proxy asks',
      async (_, container, port, agent, other) => {
        expect(await isContainerReady(container)).toBe(true);
        // Not the kubelet, which has an address of the node.
        expect(await tell(port, '/last')).toEqual({
          from: expect.stringMatching(/^(::ffff:)?127\.0\.0\.1$/),
          agent: expect.stringMatching(agent),
        });
        await tell(port, '/sick');
        await until('a container that is not ready', async () => !(await isContainerReady(container)), LIMIT);
        expect(await isContainerReady(other)).toBe(true);
        await tell(port, '/well');
        await until('a container that is ready', () => isContainerReady(container), LIMIT);
      },
      LIMIT,
    );
  });

  it(
    'is not made where the namespace gives no pod that right, and told so',
    async () => {
      const made = world.applyPod({
        ...{ name: 'web', namespace: 'strict', image: IMAGES.signet, command: [...NODE, IDLE] },
        annotations: {
          ...{ 'signet.dev/inject-proxy': 'true', 'signet.dev/proxy-inbound': '8080:8080' },
          'signet.dev/proxy-capture': 'true',
        },
      });
      await expect(made).rejects.toThrow(/violates PodSecurity.*signet-capture.*NET_ADMIN/s);
    },
    LIMIT,
  );
});
