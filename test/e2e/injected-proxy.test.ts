import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import {
  connect,
  createServer as createTcpServer,
  type AddressInfo,
  type Server as TcpServer,
} from 'node:net';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { planInjection } from '../../src/server/injection/plan.js';
import type { Json } from '../rig/envoy-config.js';
import { startEnvoyProxy, validateConfig, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { freePorts } from '../rig/free-ports.js';
import { newMeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';
import { identity, namespace, pod, trustDomain, writeResources, type Manifest } from './support/resources.js';
import { newScope } from './support/scope.js';

/*
 * Programs that know no TLS, each beside the proxy that the webhook would give its pod: the same configuration, with a
 * loopback address for the pod's.
 */

jest.setTimeout(60_000);

const FRONT_IP = '127.0.1.6';
const BACK_IP = '127.0.1.5';
const HEALTH = 15621;

/** The bootstrap that a pod with these annotations gets, as the kubelet hands it to Envoy. */
function bootstrapOf(
  annotations: Readonly<Record<string, string>>,
  ip: string,
  socket: string,
  container: Readonly<Record<string, unknown>> = {},
): Json {
  const plan = planInjection(
    {
      metadata: { name: 'p', annotations: { 'signet.dev/inject-proxy': 'true', ...annotations } },
      spec: { containers: [{ name: 'app', ...container }] },
    },
    {
      ...{ namespace: 'shop', skippedNamespaces: new Set(), proxyImage: 'envoy', captureImage: 'signet' },
      readVolume: () => ({ socket: 'api.sock' }),
    },
  );
  if (plan.do !== 'patch') throw new Error(JSON.stringify(plan));
  const added = plan.patch.find(({ path }) => path === '/spec/initContainers')?.value;
  const proxy = (added as readonly { readonly name: string; readonly args: readonly string[] }[]).find(
    ({ name }) => name === 'signet-proxy',
  );
  const text = (proxy?.args[1] ?? '')
    .replaceAll('$(POD_IP)', ip)
    .replaceAll(/(?<!\$)\$\([A-Z_]+\)/g, 'x')
    .replaceAll('$$', '$')
    .replaceAll('/run/spiffe/api.sock', socket);
  return JSON.parse(text) as Json;
}

const allow = (name: string, ports: readonly number[], to: Manifest = {}): Manifest => ({
  ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { name, namespace: 'shop' } },
  spec: {
    target: { podSelector: { matchLabels: { app: 'back' } } },
    rules: [{ name, from: [{ serviceAccounts: [{ name: 'front' }] }], to: [{ ports, ...to }] }],
  },
});

(rig.isSkipped('envoy') ? describe.skip : describe)('programs beside injected proxies', () => {
  const scope = newScope();
  const stop = new AbortController();
  const seen: IncomingMessage[] = [];
  const probes: IncomingMessage[] = [];
  /** Of the answer to probes. */
  let status = 200;
  const client = newMeshClient({ trust: {}, of: () => Promise.reject(new Error('nobody')) });
  let dev: RunningDev;
  let program: Server;
  let echo: TcpServer;
  let ports: {
    readonly web: number;
    readonly raw: number;
    readonly in: number;
    readonly out: number;
    readonly outRaw: number;
  };

  const socket = (name: string): string => dev.report.pods.find((one) => one.name === name)?.socket ?? '';
  const start = async (config: Json): Promise<EnvoyProxy> => {
    const proxy = await startEnvoyProxy(config);
    scope.onEnd(() => proxy.stop());
    return proxy;
  };
  const get = (path: string, port: number): Promise<{ readonly status: number; readonly body: string }> =>
    client.request({ path, port, plaintext: true });
  const health = (
    path: string,
    address = BACK_IP,
  ): Promise<{ readonly status: number; readonly body: string }> =>
    client.request({ path, port: HEALTH, address, plaintext: true });

  beforeAll(async () => {
    await rig.envoy();
    program = createServer((request, response) => {
      const isProbe = request.url === '/health?deep';
      (isProbe ? probes : seen).push(request);
      response.statusCode = isProbe ? status : 200;
      response.end(`for ${request.url ?? ''}`);
    });
    await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve));
    echo = createTcpServer((connection) => connection.pipe(connection));
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const [inbound = 0, out = 0, outRaw = 0] = await freePorts(3);
    const portOf = (server: TcpServer): number => (server.address() as AddressInfo).port;
    ports = { web: portOf(program), raw: portOf(echo), in: inbound, out, outRaw };
    const resources = scope.folder();
    writeResources(resources, 'shop.yaml', [
      trustDomain('shop.test'),
      namespace('shop'),
      ...[...pod('front'), ...pod('back'), identity('front'), identity('back')],
      allow('reads', [ports.web], { http: { methods: ['GET'], paths: [{ prefix: '/items' }] } }),
      allow('raw', [ports.raw]),
    ]);
    dev = await startDev({
      ...{ resourcePath: resources, stateDirectory: scope.folder(), tellReasons: true },
      ...{ clock: systemClock, random: systemRandom, logger: recordingLogger(), signal: stop.signal },
    });
    const back = 'spiffe://shop.test/ns/shop/sa/back';
    await start(
      bootstrapOf(
        { 'signet.dev/proxy-inbound': `${ports.in}:${ports.web},${ports.raw}:${ports.raw}/tcp` },
        ...([BACK_IP, socket('back')] as const),
        {
          startupProbe: { tcpSocket: { port: ports.raw }, periodSeconds: 1 },
          readinessProbe: {
            httpGet: {
              ...{ path: '/health?deep', port: ports.web },
              httpHeaders: [{ name: 'X-Probe', value: '100% $(HOME)' }],
            },
            periodSeconds: 1,
          },
        },
      ),
    );
    await start(
      bootstrapOf(
        {
          'signet.dev/proxy-outbound': `${ports.out}=${BACK_IP}:${ports.in}=${back},${ports.outRaw}=${BACK_IP}:${ports.raw}=spiffe://shop.test`,
        },
        ...([FRONT_IP, socket('front')] as const),
      ),
    );
  }, rig.rigTimeout);
  afterAll(async () => {
    client.close();
    stop.abort();
    await dev.stopped;
    await scope.end();
    program.closeAllConnections();
    await Promise.all([program, echo].map((server) => new Promise((resolve) => server.close(resolve))));
  });

  it('are configured so that Envoy takes it, in every form', async () => {
    const forms = [
      { 'signet.dev/proxy-inbound': '8080:8080,8443:9000/http2,5432:5432/tcp' },
      { 'signet.dev/proxy-inbound': '8080:8080', 'signet.dev/proxy-authorization': 'service' },
      { 'signet.dev/proxy-inbound': '8080:8080,8443:9000/tcp', 'signet.dev/proxy-capture': 'true' },
      {
        'signet.dev/proxy-outbound':
          '9001=[2001:db8::1]:8443=spiffe://a.test,9002=x.shop.svc:1=spiffe://a.test/b',
      },
    ];
    for (const form of forms)
      expect(await validateConfig(bootstrapOf(form, '127.0.0.1', '/s.sock'))).toBe('');
    const asked = {
      livenessProbe: {
        httpGet: { path: '/a%20b$(X)', port: 8080, httpHeaders: [{ name: 'X-A', value: '100% $(Y)' }] },
      },
      readinessProbe: { httpGet: { path: '/', port: 8080, scheme: 'HTTPS' } },
      startupProbe: { grpc: { port: 8080, service: 'shop' } },
    };
    const inbound = { 'signet.dev/proxy-inbound': '8080:8080' };
    expect(await validateConfig(bootstrapOf(inbound, '127.0.0.1', '/s.sock', asked))).toBe('');
  });

  it('speak plain HTTP, and are let through as the policy says, known by their SPIFFE IDs', async () => {
    expect(await get('/items/1', ports.out)).toMatchObject({ status: 200, body: 'for /items/1' });
    expect(seen.at(-1)?.headers['x-forwarded-client-cert']).toContain(
      'URI=spiffe://shop.test/ns/shop/sa/front',
    );
    const before = seen.length;
    expect(await get('/admin', ports.out)).toMatchObject({ status: 403 });
    expect(seen).toHaveLength(before);
  });

  it('cannot say themselves who they are', async () => {
    await client.request({
      ...{ path: '/items/2', port: ports.out, plaintext: true },
      headers: [['x-forwarded-client-cert', 'URI=spiffe://shop.test/ns/shop/sa/admin']],
    });
    expect(seen.at(-1)?.headers['x-forwarded-client-cert']).not.toContain('sa/admin');
  });

  it('speak anything else, too', async () => {
    const connection = connect(ports.outRaw, '127.0.0.1');
    const answered = new Promise<string>((resolve, reject) => {
      connection.once('data', (bytes) => resolve(bytes.toString()));
      connection.once('close', () => reject(new Error('closed')));
    });
    connection.write('ping');
    expect(await answered).toBe('ping');
    connection.destroy();
  });

  it('are reached by nobody without an SVID', async () => {
    expect(
      await client.request({ path: '/items/1', port: ports.in, address: BACK_IP, plaintext: true }),
    ).toMatchObject({ status: 0 });
    expect(await client.request({ path: '/items/1', port: ports.in, address: BACK_IP })).toMatchObject({
      status: 0,
    });
  });

  it('cannot take the proxy’s port, by which they would be reached around it', async () => {
    const careless = createTcpServer();
    const listening = new Promise<void>((resolve, reject) => {
      careless.once('error', reject);
      careless.listen({ port: ports.in, host: '0.0.0.0', reusePort: true }, resolve);
    });
    await expect(listening).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  it('never speak to somebody else than they mean', async () => {
    const [out = 0] = await freePorts(1);
    await start(
      bootstrapOf(
        { 'signet.dev/proxy-outbound': `${out}=${BACK_IP}:${ports.in}=spiffe://shop.test/ns/shop/sa/front` },
        ...(['127.0.1.7', socket('front')] as const),
      ),
    );
    const before = seen.length;
    expect(await get('/items/1', out)).toMatchObject({ status: 0 });
    expect(seen).toHaveLength(before);
  });

  it('are asked for their health by the proxy, and by nobody through it', async () => {
    const ready = '/probes/app/readinessProbe';
    await until('a program that does well', async () => (await health(ready)).status === 200);
    await until('a port that is open', async () => (await health('/probes/app/startupProbe')).status === 200);
    expect(probes.at(-1)).toMatchObject({
      method: 'GET',
      headers: {
        ...{ host: `127.0.0.1:${ports.web}`, 'user-agent': 'kube-probe/signet' },
        'x-probe': '100% $(HOME)',
      },
    });
    // Whatever is asked of the proxy: nothing of it comes to the program.
    for (const path of [ready, `${ready}?x=1`, `${ready}/../../items/1`, '/health?deep', '/items/1'])
      await client.request({
        ...{ path, port: HEALTH, address: BACK_IP, plaintext: true },
        headers: [['x-from-outside', 'yes']],
      });
    expect([...seen, ...probes].filter(({ headers }) => headers['x-from-outside'] !== undefined)).toEqual([]);
    expect((await health(`${ready}?x=1`)).status).toBe(404);
    status = 500;
    await until('a program that does not', async () => (await health(ready)).status === 503);
    status = 302;
    await until('a program that does again', async () => (await health(ready)).status === 200);
    status = 200;
    // The other program is not meant.
    expect((await health('/probes/app/startupProbe')).status).toBe(200);
  });

  it('are not ready while they can be reached around the proxy', async () => {
    expect(await health('/startup')).toMatchObject({ status: 200 });
    await until('ready', async () => (await health('/ready')).status === 200);
    const careless = createTcpServer((connection) => connection.destroy());
    await new Promise<void>((resolve) => careless.listen(ports.web, BACK_IP, resolve));
    const answer = await until('not ready', async () => {
      const one = await health('/ready');
      return one.status === 503 && one;
    });
    expect(answer.body).toContain('let it listen on 127.0.0.1');
    await new Promise((resolve) => careless.close(resolve));
    await until('ready again', async () => (await health('/ready')).status === 200);
    expect(await health('/anything')).toMatchObject({ status: 404 });
    expect(await health('/ready', FRONT_IP)).toMatchObject({ status: 200 });
  });
});
