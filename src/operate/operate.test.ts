import { afterEach, describe, expect, it } from '@jest/globals';
import { get, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { until } from '../../test/support/until.js';
import { systemRandom } from '../lib/random.js';
import { defaultHttpLimits } from '../rpc/http/limits.js';
import { createHttpServer, type HttpServer } from '../rpc/http/server.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import { createHealth, type Health } from './health.js';
import { METRICS } from './metrics/catalogue.js';
import type { MetricDefinition } from './metrics/definition.js';
import { createMetrics, type Metrics } from './metrics/metrics.js';
import { operationsRoutes } from './routes.js';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

interface Served {
  readonly health: Health;
  readonly metrics: Metrics;
  readonly server: HttpServer;
  readonly address: string;
}

async function serve(): Promise<Served> {
  const health = createHealth();
  const metrics = createMetrics('server', '1.2.3');
  const server = createHttpServer({
    routes: operationsRoutes({ health, metrics, state: () => ({ leader: 'one' }) }),
    ...{ clock: new FakeClock(), random: systemRandom, logger: recordingLogger() },
    peerCredentials: linuxPeerCredentials,
  });
  closers.push(() => server.close());
  const { path } = await server.listenPlain({ address: '127.0.0.1', port: 0, name: 'operations' });
  return { health, metrics, server, address: path };
}

interface Reply {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly text: string;
}

async function ask(address: string, path: string): Promise<Reply> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`http://${address}${path}`, { agent: false }).on('response', resolve).on('error', reject);
  });
  let text = '';
  for await (const part of response.setEncoding('utf8')) text += String(part);
  return { status: response.statusCode, type: response.headers['content-type'], text };
}

describe('health over HTTP', () => {
  it('is ok while every check is, and tells each when asked', async () => {
    const { health, address } = await serve();
    health.ready.add('store', () => undefined);
    expect(await ask(address, '/readyz')).toMatchObject({ status: 200, text: 'ok\n' });
    expect((await ask(address, '/readyz?verbose')).text).toBe('[+]store ok\nreadyz check passed\n');
  });

  it('names the check that fails and why, unasked, with a status that probes understand', async () => {
    const { health, address } = await serve();
    health.ready.add('store', () => undefined);
    const mend = health.ready.add('authorities', () => 'there is none');
    expect(await ask(address, '/readyz')).toMatchObject({
      status: 503,
      text: '[+]store ok\n[-]authorities failed: there is none\nreadyz check failed\n',
    });
    // Not ready is no reason for a restart.
    expect(await ask(address, '/livez')).toMatchObject({ status: 200, text: 'ok\n' });
    mend();
    expect((await ask(address, '/readyz')).status).toBe(200);
  });
});

describe('the state', () => {
  it('is shown to this machine alone', async () => {
    const { address } = await serve();
    expect(JSON.parse((await ask(address, '/debug/state')).text)).toEqual({ leader: 'one' });
    const stranger = operationsRoutes({
      ...{ health: createHealth(), metrics: createMetrics('server', '') },
      state: () => 'secret',
    }).find(({ path }) => path === '/debug/state');
    for (const remoteAddress of ['10.0.0.7', '::ffff:10.0.0.7', 'fe80::1', '127.0.0.1.evil', '', undefined]) {
      const peer = {
        listener: 'operations',
        connectionId: 'c1',
        ...(remoteAddress === undefined ? {} : { remoteAddress }),
      };
      const call = {
        context: { peer, signal: new AbortController().signal, requestId: 'r1', metadata: () => undefined },
        ...{ segments: [], query: new URLSearchParams(), host: '', secure: false, body: undefined },
      };
      expect(() => stranger?.handle(call)).toThrow(/localhost alone/);
    }
  });
});

describe('metrics', () => {
  it('are shown as Prometheus reads them, gauges as they are at that moment', async () => {
    const { metrics, address } = await serve();
    metrics.count('signatures', { kind: 'x509', result: 'success' });
    metrics.count('signatures', { kind: 'x509', result: 'success' });
    metrics.observe('signingSeconds', { kind: 'x509' }, 0.002);
    const queues = new Map([['a', 3]]);
    metrics.read('queueLength', () =>
      [...queues].map(([controller, value]) => ({ labels: { controller }, value })),
    );
    metrics.readOne('stateAge', () => undefined);
    const first = await ask(address, '/metrics');
    expect(first.type).toContain('text/plain; version=0.0.4');
    expect(first.text).toContain('signet_signatures_total{kind="x509",result="success"} 2');
    expect(first.text).toContain('signet_signing_batch_duration_seconds_bucket{le="0.0025",kind="x509"} 1');
    expect(first.text).toContain('signet_controller_queue_length{controller="a"} 3');
    expect(first.text).toContain('signet_build_info{version="1.2.3",program="server"} 1');
    // What cannot be read now is not shown, rather than wrong.
    expect(first.text).not.toMatch(/^signet_ca_state_age_seconds /m);
    queues.clear();
    expect((await ask(address, '/metrics')).text).not.toContain('controller="a"');
  });

  it('of the other program are neither shown nor an error', async () => {
    const metrics = createMetrics('agent', '');
    metrics.count('signatures', { kind: 'x509', result: 'success' });
    metrics.readOne('leading', () => 1);
    metrics.readOne('registrations', () => 7);
    const text = await metrics.text();
    expect(text).toContain('signet_registrations 7');
    expect(text).not.toMatch(/signet_leader|signet_signatures_total/);
  });

  it('have names and units by convention', () => {
    const definitions: readonly MetricDefinition[] = Object.values(METRICS);
    const names = definitions.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, type, help, labels } of definitions) {
      expect(name).toMatch(/^signet_[a-z0-9]+(_[a-z0-9]+)*$/);
      expect(name.endsWith('_total')).toBe(type === 'counter');
      if (type === 'histogram') expect(name).toMatch(/_duration_seconds$/);
      // Base units alone.
      expect(name).not.toMatch(/_(ms|milliseconds|minutes|kb|mb|percent)(_|$)/);
      expect(help).toMatch(/^[A-Z].*\.$/);
      for (const label of Object.keys(labels)) expect(label).toMatch(/^[a-z]+$/);
    }
  });
});

describe('the port', () => {
  it('gives one address no more than its share of connections', async () => {
    const { server, address } = await serve();
    const port = Number(address.split(':')[1]);
    const open = (): Socket => connect({ host: '127.0.0.1', port }).on('error', () => undefined);
    const sockets = Array.from({ length: defaultHttpLimits.maxConnectionsPerPeer }, open);
    try {
      await until('all of its share', () => server.connections === sockets.length);
      const another = open();
      sockets.push(another);
      await new Promise((resolve) => another.once('close', resolve));
      expect(server.connections).toBe(defaultHttpLimits.maxConnectionsPerPeer);
      // Who has one already goes on.
      expect(sockets[0]?.closed).toBe(false);
    } finally {
      sockets.forEach((socket) => socket.destroy());
    }
  });
});
