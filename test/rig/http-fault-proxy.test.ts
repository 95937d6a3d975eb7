import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { connect as connectHttp2 } from 'node:http2';
import { get as httpsGet } from 'node:https';
import { until } from '../support/until.js';
import { startControlPlane, type ControlPlane } from './control-plane.js';
import { startFaultProxy } from './fault-proxy.js';
import { startHttpFaultProxy, type HttpFaultProxy, type Matcher } from './http-fault-proxy.js';
import { newKubeClient, type KubeClient } from './kube-client.js';
import * as rig from './rig.js';

const configMaps = '/api/v1/namespaces/default/configmaps';
const ofConfigMaps: Matcher = ({ path }) => path === configMaps;

/** A watch: its events as `TYPE name`, or `ERROR code`. */
interface WatchClient {
  readonly events: string[];
  over(): boolean;
  end(): void;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('an API server that fails', () => {
  let plane: ControlPlane;
  let proxy: HttpFaultProxy;
  let client: KubeClient;

  beforeAll(async () => {
    plane = await startControlPlane();
  }, rig.rigTimeout);
  afterAll(() => plane?.close());
  beforeEach(async () => {
    proxy = await startHttpFaultProxy(plane);
    client = newKubeClient(proxy.url, plane.admin);
  });
  afterEach(async () => {
    client.close();
    await proxy.close();
  });

  const write = async (name: string): Promise<void> => {
    expect((await client.request('POST', configMaps, { metadata: { name } })).status).toBe(201);
  };
  const watch = (): WatchClient => {
    const { ca, cert, key } = plane.admin;
    const events: string[] = [];
    let over = false;
    let rest = '';
    const call = httpsGet(`${proxy.url}${configMaps}?watch=true`, { ca, cert, key, agent: false });
    call.on('error', () => (over = true));
    call.on('response', (response) => {
      response.on('close', () => (over = true));
      response.on('error', () => undefined);
      response.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) events.push(eventOf(line));
      });
    });
    return { events, over: () => over, end: () => call.destroy() };
  };

  it('hands on who asks: by certificate, by token, and nobody who only says so', async () => {
    const whoAmI = ['auth', 'whoami', '-o', 'jsonpath={.status.userInfo}'];
    const admin = await plane.kubeconfigFor(plane.admin, proxy.url);
    const byCertificate = await plane.kubectl(whoAmI, { kubeconfig: admin });
    expect(byCertificate.stdout).toContain('"username":"kubernetes-admin"');
    expect(byCertificate.stdout).toContain('system:masters');
    await write('first');
    await plane.request('POST', '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'a' } });
    const byToken = await plane.kubeconfigFor({ namespace: 'default', name: 'a' }, proxy.url);
    expect((await plane.kubectl(whoAmI, { kubeconfig: byToken })).stdout).toContain(
      'system:serviceaccount:default:a',
    );
    const status = await new Promise((resolve, reject) => {
      const headers = { 'x-remote-user': 'kubernetes-admin', 'x-remote-group': 'system:masters' };
      const call = httpsGet(`${proxy.url}${configMaps}`, { ca: plane.admin.ca, headers, agent: false });
      call.on('response', (response) => resolve(response.resume().statusCode)).on('error', reject);
    });
    expect(status).toBe(401);
  });

  it('speaks HTTP/2 too', async () => {
    const { ca, cert, key } = plane.admin;
    const session = connectHttp2(proxy.url, { ca, cert, key });
    const stream = session.request({ ':path': '/api/v1/namespaces/default' });
    let status: unknown;
    stream.on('response', (headers) => (status = headers[':status']));
    let body = '';
    stream.setEncoding('utf8').on('data', (text: string) => (body += text));
    await new Promise((resolve) => stream.on('close', resolve));
    session.close();
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({ kind: 'Namespace', metadata: { name: 'default' } });
  });

  it('answers chosen requests in its place, so many times, and the API server hears nothing of them', async () => {
    const fault = proxy.inject(
      ({ method, path }) => method === 'POST' && path === configMaps,
      { code: 429, retryAfterSeconds: 3 },
      2,
    );
    for (let i = 0; i < 2; i++) {
      expect(await client.request('POST', configMaps, { metadata: { name: 'busy' } })).toMatchObject({
        status: 429,
        headers: { 'retry-after': '3' },
        body: {
          kind: 'Status',
          reason: 'TooManyRequests',
          code: 429,
          details: { retryAfterSeconds: 3 },
        },
      });
    }
    expect((await client.request('GET', `${configMaps}/busy`)).status).toBe(404);
    await write('busy');
    expect(fault.count()).toBe(2);
    const storm = proxy.inject(() => true, { code: 500 });
    expect(await client.request('GET', configMaps)).toMatchObject({
      status: 500,
      body: { reason: 'InternalError' },
    });
    storm.end();
    expect((await client.request('GET', configMaps)).status).toBe(200);
    expect(proxy.requests().map(({ method }) => method)).toEqual([
      'POST',
      'POST',
      'GET',
      'POST',
      'GET',
      'GET',
    ]);
  });

  it('kubectl understands what is injected', async () => {
    proxy.inject(({ path }) => path.endsWith('/configmaps'), { code: 410, message: 'too old' });
    const kubeconfig = await plane.kubeconfigFor(plane.admin, proxy.url);
    const { code, stderr } = await plane.kubectl(['get', 'configmaps'], { kubeconfig });
    expect([code, stderr]).toEqual([1, expect.stringContaining('too old')]);
  });

  it('ends a watch by an error in the stream, after whole events', async () => {
    await write('before');
    const watching = watch();
    await until('its events', () => watching.events.includes('ADDED before'));
    expect(proxy.breakWatches(ofConfigMaps, { code: 410 })).toBe(1);
    await until('its end', () => watching.over());
    expect(watching.events.at(-1)).toBe('ERROR 410');
    expect(proxy.openWatches(ofConfigMaps)).toBe(0);
  });

  it('stalls open watches and nothing else, and brings what was held back', async () => {
    const stalled = watch();
    await until('it to be open', () => stalled.events.length > 0);
    const goOn = proxy.stallWatches(ofConfigMaps);
    const lively = watch();
    await write('during');
    await until('the event at the other', () => lively.events.includes('ADDED during'));
    expect([stalled.events.includes('ADDED during'), stalled.over()]).toEqual([false, false]);
    goOn();
    await until('what was held back', () => stalled.events.includes('ADDED during'));
    stalled.end();
    lively.end();
    await until('both to be gone', () => proxy.openWatches(ofConfigMaps) === 0);
  });

  it('can stand behind a network that fails: one does not know of the other', async () => {
    const network = await startFaultProxy(proxy.url);
    const far = newKubeClient(network.url, plane.admin);
    try {
      expect((await far.request('GET', configMaps)).status).toBe(200);
      network.refuse();
      await expect(far.request('GET', configMaps)).rejects.toThrow(/ECONNRESET|hang up|disconnected/);
      network.heal();
      expect((await far.request('GET', configMaps)).status).toBe(200);
    } finally {
      far.close();
      await network.close();
    }
  });

  it('says that the API server is gone', async () => {
    await plane.stopApiServer();
    expect(await client.request('GET', configMaps)).toMatchObject({ status: 503, body: { kind: 'Status' } });
    await plane.startApiServer();
    await until('an answer', async () => (await client.request('GET', configMaps)).status === 200);
  });
});

function eventOf(line: string): string {
  const { type, object } = JSON.parse(line) as {
    readonly type: string;
    readonly object: { readonly code?: number; readonly metadata?: { readonly name?: string } };
  };
  return `${type} ${object.metadata?.name ?? object.code ?? ''}`;
}
