import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { getEventListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { newClusterAuthority } from '../../../test/rig/cluster-certificates.js';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { until } from '../../../test/support/until.js';
import { createKubernetesApi, type KubernetesApi } from './api.js';
import type { Access } from './connection.js';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

const json: Handler = (_, response) => void response.end('{}');

/** A real client against a real server, by a clock that stands still. */
describe('requests to the API server', () => {
  let tls: { readonly ca: string; readonly cert: string; readonly key: string };
  let server: Server;
  let url: URL;
  let handler: Handler;
  let clock: FakeClock;
  let api: KubernetesApi;
  let access: () => Promise<Access>;
  const sockets = new Set<Socket>();
  let connections: number;
  let requests: string[];

  beforeAll(async () => {
    const authority = await newClusterAuthority('test');
    const own = await authority.issue({ name: 'server', addresses: ['127.0.0.1'] });
    tls = { ca: authority.cert, cert: own.cert, key: own.key };
    server = createServer({ cert: own.cert, key: own.key, keepAliveTimeout: 0 }, (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
        handler(request, response, Buffer.concat(chunks).toString());
      });
    });
    server.on('secureConnection', (socket: Socket) => {
      connections++;
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  beforeEach(() => {
    handler = json;
    clock = new FakeClock();
    requests = [];
    connections = 0;
    access = () => Promise.resolve({ headers: { Authorization: 'Bearer secret' }, tls: { ca: tls.ca } });
    api = createKubernetesApi({ server: url, namespace: undefined, access: () => access() }, clock);
  });
  afterEach(async () => {
    api.close();
    for (const socket of sockets) socket.destroy();
    await until('all connections are closed', () => sockets.size === 0);
  });
  afterAll(() => new Promise<void>((resolve) => void server.close(() => resolve())));

  const get = (path = '/x') => api.send({ method: 'GET', path });

  it('keep their connections, and send a body with its length whatever the method', async () => {
    const seen: unknown[] = [];
    handler = ({ headers }, response, body) => {
      seen.push([headers['content-length'], headers['content-type'], body]);
      response.end('{}');
    };
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const)
      await api.send({ method, path: '/x', body: { é: 1 } });
    expect(seen).toEqual(Array.from({ length: 4 }, () => ['8', 'application/json', '{"é":1}']));
    expect(connections).toBe(1);
  });

  it('are sent again on a new connection when a kept one was closed meanwhile, but for what creates', async () => {
    await get();
    // The server closes it in the moment in which it is used again.
    const closes: Handler = (request) => {
      handler = json;
      request.socket.destroy();
    };
    handler = closes;
    await api.send({ method: 'PUT', path: '/put', body: {} });
    expect(requests.filter((one) => one === 'PUT /put')).toHaveLength(2);
    handler = closes;
    await expect(api.send({ method: 'POST', path: '/post', body: {} })).rejects.toMatchObject({
      code: 'ApiUnreachable',
    });
    expect(requests.filter((one) => one === 'POST /post')).toHaveLength(1);
  });

  it('end at their time limit by the clock that was given, and let go of everything', async () => {
    handler = () => undefined;
    const controller = new AbortController();
    const failed = api
      .send({ method: 'GET', path: '/hangs', signal: controller.signal, timeoutMs: 5_000 })
      .catch((error: unknown) => error);
    await until('it has arrived', () => requests.length === 1);
    await clock.advance(4_999);
    expect(sockets.size).toBe(1);
    await clock.advance(1);
    expect(await failed).toMatchObject({
      code: 'ApiTimeout',
      message: 'GET /hangs: no answer within 5 s',
    });
    await until('the connection is closed', () => sockets.size === 0);
    expect([clock.timers, getEventListeners(controller.signal, 'abort').length]).toEqual([0, 0]);
  });

  it('drop what is idle when one hangs: it may be as dead', async () => {
    const held: ServerResponse[] = [];
    handler = (_, response) => {
      if (held.push(response) === 3) for (const one of held) one.end('{}');
    };
    await Promise.all([get(), get(), get()]);
    expect(sockets.size).toBe(3);
    handler = () => undefined;
    const failed = api.send({ method: 'GET', path: '/hangs', timeoutMs: 1_000 }).catch(() => undefined);
    await until('it has arrived', () => requests.includes('GET /hangs'));
    await clock.advance(1_000);
    await failed;
    await until('all are closed', () => sockets.size === 0);
  });

  it('end by their signal, before and after they were sent, and leave no listener', async () => {
    handler = () => undefined;
    const controller = new AbortController();
    const under = api
      .send({ method: 'GET', path: '/a', signal: controller.signal })
      .catch((error: unknown) => error);
    await until('it has arrived', () => requests.length === 1);
    controller.abort();
    expect(await under).toMatchObject({ code: 'ApiUnreachable', message: 'GET /a: given up' });
    await expect(api.send({ method: 'GET', path: '/b', signal: controller.signal })).rejects.toMatchObject({
      message: 'GET /b: given up',
    });
    expect(requests).toEqual(['GET /a']);
    expect([clock.timers, getEventListeners(controller.signal, 'abort').length]).toEqual([0, 0]);
  });

  it('do not wait for ever for credentials', async () => {
    access = () => new Promise(() => undefined);
    const failed = get().catch((error: unknown) => error);
    await clock.advance(30_000);
    expect(await failed).toMatchObject({ code: 'ApiTimeout' });
    access = () => Promise.reject(new Error('the plugin says no'));
    await expect(get()).rejects.toMatchObject({
      code: 'ApiUnauthorized',
      message: 'the credentials cannot be had: the plugin says no',
    });
  });

  it('never wait behind others when they are urgent', async () => {
    const held: ServerResponse[] = [];
    handler = ({ url: path }, response) => {
      if (path === '/urgent') response.end('{}');
      else held.push(response);
    };
    const others = Array.from({ length: 200 }, () => get());
    await until('as many as may are under way', () => held.length === 32);
    await api.send({ method: 'GET', path: '/urgent', urgent: true });
    expect(connections).toBe(33);
    handler = json;
    for (const response of held) response.end('{}');
    await Promise.all(others);
  });

  it('ask once for all whether the API server lives, and any answer will do', async () => {
    handler = (_, response) => {
      response.statusCode = 403;
      response.end('{"kind":"Status","message":"no"}');
    };
    expect(await Promise.all([api.isAlive(), api.isAlive(), api.isAlive()])).toEqual([true, true, true]);
    expect(await api.isAlive()).toBe(true);
    expect(requests).toEqual(['GET /version']);
    await clock.advance(4_000);
    handler = () => undefined;
    const dead = api.isAlive();
    await until('it is asked', () => requests.length === 2);
    await clock.advance(2_500);
    await until('it is asked again, by a new connection', () => requests.length === 3);
    await clock.advance(2_500);
    expect(await dead).toBe(false);
    expect(connections).toBe(2);
  });

  it('say what the API server says, and when to come back', async () => {
    handler = (_, response) => {
      response.writeHead(429, { 'retry-after': '3' });
      response.end('{"kind":"Status","message":"too many","reason":"TooManyRequests"}');
    };
    await expect(get()).rejects.toMatchObject({
      ...{ code: 'ApiThrottled', status: 429, retryAfterMs: 3_000 },
      ...{ message: 'GET /x: too many', reason: 'TooManyRequests' },
    });
    handler = (_, response) => void response.end('<html>');
    await expect(get()).rejects.toMatchObject({ code: 'ApiAnswerUnusable' });
    handler = (request, response) => {
      response.write('{"half":');
      setImmediate(() => request.socket.destroy());
    };
    await expect(get()).rejects.toMatchObject({ code: 'ApiUnreachable' });
  });

  it('renew their connections when the TLS material is another', async () => {
    await get();
    await get();
    expect(connections).toBe(1);
    access = () => Promise.resolve({ headers: {}, tls: { ca: `${tls.ca}\n` } });
    await get();
    expect(connections).toBe(2);
  });

  describe('that are watches', () => {
    it('give lines as they come, and end with the iteration', async () => {
      let response: ServerResponse | undefined;
      handler = (_, out) => {
        response = out;
        out.write('{"a":1}\n{"b"');
      };
      const controller = new AbortController();
      const lines = await api.stream({ path: '/w', signal: controller.signal });
      const seen: (string | undefined)[] = [];
      for await (const line of lines) {
        seen.push(line);
        if (seen.length === 1) response?.write(':2}\n');
        if (seen.at(-1) === '{"b":2}') break;
      }
      expect(seen.filter((line) => line !== undefined)).toEqual(['{"a":1}', '{"b":2}']);
      await until('the connection is closed', () => sockets.size === 0);
      expect([clock.timers, getEventListeners(controller.signal, 'abort').length]).toEqual([0, 0]);
    });

    it('break with the connection, and end with their signal', async () => {
      handler = (_, out) => void out.write('{}\n');
      for (const how of ['cut', 'abort'] as const) {
        const controller = new AbortController();
        const lines = await api.stream({ path: '/w', signal: controller.signal });
        const read = (async () => {
          for await (const line of lines)
            if (line === '{}') {
              if (how === 'abort') controller.abort();
              else for (const socket of sockets) socket.destroy();
            }
        })();
        await expect(read).rejects.toMatchObject({ code: 'ApiUnreachable' });
        await until('the connection is closed', () => sockets.size === 0);
      }
    });

    it('say why they may not begin', async () => {
      handler = (_, response) => {
        response.statusCode = 410;
        response.end('{"kind":"Status","message":"too old","reason":"Expired"}');
      };
      await expect(api.stream({ path: '/w', signal: new AbortController().signal })).rejects.toMatchObject({
        code: 'ApiGone',
        message: 'GET /w: too old',
      });
    });
  });
});
