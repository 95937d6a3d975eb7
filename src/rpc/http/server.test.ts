import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { ask, readAll, type HttpReply, type HttpSent } from '../../../test/support/http-client.js';
import { recordingLogger, type RecordingLogger } from '../../../test/support/recording-logger.js';
import { closed, rawConnection } from '../../../test/support/sockets.js';
import { AnyAuthority, TestTlsIdentity } from '../../../test/support/tls-identity.js';
import { until } from '../../../test/support/until.js';
import { NOON } from '../../../test/support/certificates.js';
import { systemRandom } from '../../lib/random.js';
import { linuxPeerCredentials } from '../peer/linux.js';
import { StatusError } from '../service.js';
import { defaultHttpLimits, type HttpLimits } from './limits.js';
import type { HttpCall, HttpRoute } from './route.js';
import { createHttpServer, type HttpServer } from './server.js';

let directory = '';
let path = '';
let clock: FakeClock;
let log: RecordingLogger;
const calls: HttpCall[] = [];
const closers: (() => Promise<void> | void)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sg-'));
  path = join(directory, 'a.sock');
  clock = new FakeClock(NOON);
  log = recordingLogger();
  calls.length = 0;
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(directory, { recursive: true, force: true });
});

const echo: HttpRoute['handle'] = (call) => {
  calls.push(call);
  return { status: 200, body: { segments: call.segments, body: call.body ?? null } };
};

async function serve(limits: Partial<HttpLimits> = {}, more: readonly HttpRoute[] = []): Promise<HttpServer> {
  const server = createHttpServer({
    routes: [
      { method: 'POST', path: '/echo', handle: echo },
      { method: 'GET', path: '/tree', below: true, handle: echo },
      ...more,
    ],
    ...{ clock, random: systemRandom, logger: log, limits, peerCredentials: linuxPeerCredentials },
  });
  closers.push(() => server.close());
  await server.listenUnix({ path, mode: 0o600, name: 'shared', peerCredentials: true });
  return server;
}

const say = (to: string, sent?: HttpSent): Promise<HttpReply> => ask({ socketPath: path }, to, sent);

async function raw(text = ''): Promise<Socket> {
  const socket = await rawConnection(path);
  closers.push(() => void socket.destroy());
  socket.write(text);
  return socket;
}

describe('an HTTP server', () => {
  it('gives the handler the body, the path and who asks, and the answer to the client', async () => {
    await serve();
    const reply = await say('/echo', { json: { a: [1, 'ü'] } });
    expect(reply).toMatchObject({
      status: 200,
      json: { segments: ['echo'], body: { a: [1, 'ü'] } },
      headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    });
    expect(calls[0]?.context.peer).toMatchObject({
      listener: 'shared',
      credentials: { pid: process.pid, uid: process.getuid?.() },
    });
    expect(calls[0]?.secure).toBe(false);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it('names each request in the log as its client does, or by a name that the answer tells', async () => {
    await serve();
    const named = (headers: Readonly<Record<string, string>>) => ({ json: {}, headers });
    const mine = await say('/echo', named({ 'x-request-id': 'r-1' }));
    expect([mine.headers['x-request-id'], mine.headers['signet-request-id']]).toEqual(['r-1', undefined]);
    expect(calls[0]?.context.requestId).toBe('r-1');
    const made = (await say('/nowhere?token=t')).headers['x-request-id'];
    expect(made).toMatch(/^[0-9a-f]{16}$/);
    // AuthZEN gives any text back; into the log it does not come.
    const odd = 'r-1 / "x"= level=error';
    const both = (await say('/nowhere', named({ 'x-request-id': odd }))).headers;
    expect(both['x-request-id']).toBe(odd);
    expect(both['signet-request-id']).toMatch(/^[0-9a-f]{16}$/);
    const long = 'x'.repeat(65);
    const bounded = (await say('/nowhere', named({ 'x-request-id': long }))).headers['signet-request-id'];
    expect(log.all.filter((line) => line.startsWith('info a call failed'))).toEqual(
      [made, both['signet-request-id'], bounded].map((requestId) =>
        expect.stringContaining(`"requestId":"${String(requestId)}"`),
      ),
    );
    for (const secret of ['token', 'level=error', long]) expect(log.all.join('\n')).not.toContain(secret);
  });

  it('logs what it refuses with who asked for what, a bounded number of times', async () => {
    await serve();
    await say('/echo', { json: [], headers: { 'x-request-id': 'r-2' } });
    const [line = ''] = log.all;
    expect(JSON.parse(line.slice('info a call failed '.length))).toEqual({
      ...{ status: 'InvalidArgument', code: 'InvalidArgument', requestId: 'r-2', listener: 'shared' },
      ...{ method: 'POST /echo', peer: `pid ${process.pid} of uid ${process.getuid?.()}` },
      reason: expect.stringContaining('the body'),
    });
    for (let asked = 0; asked < 200; asked++) await say('/nowhere');
    expect(log.all).toHaveLength(100);
    await clock.advance(1000);
    await say(`/${'y'.repeat(5000)}`);
    const last = log.all.at(-1) ?? '';
    expect(last).toContain('"unlogged":101');
    expect(last.length).toBeLessThan(600);
  });

  it('decodes a path once, and answers none that could be read in two ways', async () => {
    await serve();
    expect((await say('/tree/a%20b/c?x=1')).json).toMatchObject({ segments: ['tree', 'a b', 'c'] });
    for (const odd of [
      '/tree/../tree',
      '/tree/%2e%2e/x',
      '/tree//x',
      '/tree/a%2Fb',
      '/tree/%00',
      '/tree/%',
      '/tree/',
    ])
      expect((await say(odd)).status).toBe(404);
    expect(calls).toHaveLength(1);
  });

  const refused: readonly (readonly [string, number, string, HttpSent])[] = [
    ['a path that is not there', 404, '/nowhere', { json: {} }],
    ['a path that only begins like one', 404, '/echoes', { json: {} }],
    ['another method', 405, '/echo', { method: 'PUT', json: {} }],
    ['GET where POST is', 405, '/echo', {}],
    ['no content type', 400, '/echo', { body: '{}' }],
    ['another content type', 400, '/echo', { body: '{}', headers: { 'content-type': 'text/plain' } }],
    [
      'a form',
      400,
      '/echo',
      { body: 'a=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    ],
    [
      'another charset',
      400,
      '/echo',
      { body: '{}', headers: { 'content-type': 'application/json; charset=utf-16' } },
    ],
    ['a packed body', 400, '/echo', { json: {}, headers: { 'content-encoding': 'gzip' } }],
    ['no body', 400, '/echo', { method: 'POST', headers: { 'content-type': 'application/json' } }],
    ['half an object', 400, '/echo', { body: '{', headers: { 'content-type': 'application/json' } }],
    ['a list', 400, '/echo', { json: [] }],
    ['a text', 400, '/echo', { json: 'x' }],
    [
      'a member twice',
      400,
      '/echo',
      { body: '{"a":1,"\\u0061":2}', headers: { 'content-type': 'application/json' } },
    ],
    [
      'a member __proto__',
      400,
      '/echo',
      { body: '{"__proto__":{}}', headers: { 'content-type': 'application/json' } },
    ],
    [
      'no UTF-8',
      400,
      '/echo',
      { body: Buffer.from('7b22ff223a317d', 'hex'), headers: { 'content-type': 'application/json' } },
    ],
    [
      'deep nesting',
      400,
      '/echo',
      {
        body: `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
        headers: { 'content-type': 'application/json' },
      },
    ],
    ['a great many values', 400, '/echo', { json: { a: Array.from({ length: 9000 }, () => 0) } }],
    ['a body that is too long', 413, '/echo', { json: { a: 'x'.repeat(65_536) } }],
    [
      'a long body without a length',
      413,
      '/echo',
      { json: { a: 'x'.repeat(65_536) }, headers: { 'transfer-encoding': 'chunked' } },
    ],
    ['a GET with a body', 400, '/tree', { method: 'GET', json: {}, headers: { 'content-length': '2' } }],
  ];
  it.each(refused)('refuses %s with %i, before the handler', async (_, status, to, sent) => {
    await serve();
    const reply = await say(to, sent);
    expect([reply.status, calls.length]).toEqual([status, 0]);
    expect(reply.text).toMatch(/[a-z]/);
    if (status === 405) expect(reply.headers.allow).toBe('POST');
    // The server is as well as before.
    expect((await say('/echo', { json: {} })).status).toBe(200);
  });

  it('takes a body that is just within the bounds', async () => {
    await serve();
    const body = `{"a":"${'x'.repeat(defaultHttpLimits.maxBodyBytes - 8)}"}`;
    expect(
      (await say('/echo', { body, headers: { 'content-type': 'application/JSON;charset=UTF-8' } })).status,
    ).toBe(200);
  });

  it.each([
    ['no HTTP', 'hello\r\n\r\n', '400'],
    ['a TLS handshake', '\x16\x03\x01\x02\x00\x01', '400'],
    ['headers without end', `GET /tree HTTP/1.1\r\n${'x: y\r\n'.repeat(5000)}`, '431'],
    ['one long header', `GET /tree HTTP/1.1\r\nHost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, '431'],
    ['no host', 'GET /tree HTTP/1.1\r\n\r\n', '400'],
    [
      'a length and chunks',
      'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      '400',
    ],
    [
      'two lengths',
      'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
      '400',
    ],
    ['a header of two lines', 'GET /tree HTTP/1.1\r\nHost: a\r\n folded: x\r\nx : y\r\n\r\n', '400'],
  ])('answers %s with an error and closes', async (_, text, status) => {
    await serve();
    expect(await readAll(await raw(text))).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(calls).toEqual([]);
  });

  it('closes a connection whose client asks for a tunnel', async () => {
    await serve();
    expect(await readAll(await raw('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'))).toBe('');
  });

  it('tells what a handler says, and keeps to itself what it did not mean to say', async () => {
    await serve({}, [
      {
        method: 'GET',
        path: '/denied',
        handle: () => Promise.reject(new StatusError('PermissionDenied', 'not you')),
      },
      {
        method: 'GET',
        path: '/late',
        handle: () => Promise.reject(new StatusError('Unavailable', 'not now')),
      },
      { method: 'GET', path: '/broken', handle: () => Promise.reject(new Error('secret')) },
      {
        ...{ method: 'GET', path: '/own', error: (status: number, message: string) => ({ status, message }) },
        handle: () => Promise.reject(new StatusError('InvalidArgument', 'x is wrong')),
      },
    ]);
    expect(await say('/denied')).toMatchObject({ status: 403, text: 'not you\n' });
    expect(await say('/late')).toMatchObject({ status: 503, text: 'not now\n' });
    const broken = await say('/broken');
    expect(broken.status).toBe(500);
    expect(broken.text).not.toContain('secret');
    expect(log.lines).toEqual(['error a handler failed']);
    expect(log.all.join('\n')).toContain(`"requestId":"${String(broken.headers['x-request-id'])}"`);
    expect((await say('/own')).json).toEqual({ status: 400, message: 'x is wrong' });
  });
});

describe('the time that a client has', () => {
  it('ends for headers that come by the byte', async () => {
    await serve();
    const socket = await raw('GET /tree HTTP/1.1\r\n');
    await clock.armed(1);
    for (let passed = 0; passed < defaultHttpLimits.idleMs; passed += 1000) {
      socket.write('x');
      await clock.advance(1000);
    }
    await closed(socket);
    expect(calls).toEqual([]);
  });

  it('ends for a body that does not come', async () => {
    await serve();
    const socket = await raw(
      'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
    );
    const all = readAll(socket);
    await until('the request', () => clock.nextIn === defaultHttpLimits.requestMs);
    await clock.advance(defaultHttpLimits.requestMs);
    expect(await all).toMatch(/^HTTP\/1.1 408 /);
  });

  it('ends for a handler that does not answer, which is told', async () => {
    let aborted = false;
    await serve({}, [
      {
        ...{ method: 'GET', path: '/never' },
        handle: ({ context }) =>
          new Promise(() => context.signal.addEventListener('abort', () => (aborted = true))),
      },
    ]);
    const reply = say('/never');
    await until('the request', () => clock.nextIn === defaultHttpLimits.requestMs);
    await clock.advance(defaultHttpLimits.requestMs);
    expect((await reply).status).toBe(503);
    expect(aborted).toBe(true);
  });

  it('ends between requests', async () => {
    const server = await serve();
    const agent = new Agent({ keepAlive: true });
    closers.push(() => agent.destroy());
    const post = (): Promise<HttpReply> => ask({ socketPath: path, agent }, '/echo', { json: {} });
    await post();
    await clock.advance(defaultHttpLimits.idleMs - 1);
    await post();
    expect(server.connections).toBe(1);
    await clock.advance(defaultHttpLimits.idleMs - 1);
    expect(server.connections).toBe(1);
    await clock.advance(1);
    await until('the end', () => server.connections === 0);
  });

  it('is over for the handler when the client goes', async () => {
    let aborted = false;
    await serve({}, [
      {
        ...{ method: 'GET', path: '/never' },
        handle: ({ context }) =>
          new Promise(() => context.signal.addEventListener('abort', () => (aborted = true))),
      },
    ]);
    const socket = await raw('GET /never HTTP/1.1\r\nHost: a\r\n\r\n');
    await until('the request', () => clock.nextIn === defaultHttpLimits.requestMs);
    socket.destroy();
    await until('the news', () => aborted);
    expect(clock.timers).toBe(0);
  });
});

describe('how much a client has', () => {
  it('is bounded in connections of one process, and the log in words about it', async () => {
    const server = await serve({ maxConnectionsPerPeer: 5 });
    const sockets = await Promise.all(Array.from({ length: 40 }, () => raw()));
    const ends = sockets.map(closed);
    await until('the refusals', () => sockets.filter(({ destroyed }) => destroyed).length === 35);
    expect(server.connections).toBe(5);
    expect(log.lines).toEqual(['warn connections refused']);
    for (const socket of sockets) socket.destroy();
    await Promise.all(ends);
    await until('the end', () => server.connections === 0);
    expect((await say('/echo', { json: {} })).status).toBe(200);
  });

  it('is bounded in connections of all, of which each listener has its own', async () => {
    const server = await serve({
      maxConnections: 2,
      reservedConnectionsPerListener: 1,
      maxConnectionsPerPeer: 99,
    });
    const other = join(directory, 'b.sock');
    await server.listenUnix({ path: other, mode: 0o600, name: 'pod/b', peerCredentials: false });
    const kept = await Promise.all([raw(), raw()]);
    await until('the connections', () => server.connections === 2);
    await closed(await raw());
    expect((await ask({ socketPath: other }, '/echo', { json: {} })).status).toBe(200);
    expect(kept.some(({ destroyed }) => destroyed)).toBe(false);
    expect(calls[0]?.context.peer).toEqual({ listener: 'pod/b', connectionId: expect.any(String) });
  });

  it('is bounded in requests that are under way on one connection', async () => {
    const release: (() => void)[] = [];
    await serve({ maxRequestsPerConnection: 4 }, [
      {
        ...{ method: 'GET', path: '/wait' },
        handle: () => new Promise((resolve) => release.push(() => resolve({ status: 200, body: {} }))),
      },
    ]);
    const one = 'GET /wait HTTP/1.1\r\nHost: a\r\n\r\n';
    const four = await raw(one.repeat(4));
    await until('the requests', () => release.length === 4);
    await closed(await raw(one.repeat(5)));
    for (const answer of release) answer();
    await until('the answers', () => four.readableLength > 0);
    expect(four.destroyed).toBe(false);
  });
});

describe('the end of a server', () => {
  it('answers what is under way, and leaves nothing behind', async () => {
    const server = await serve({}, [
      { method: 'GET', path: '/never', handle: () => new Promise(() => undefined) },
    ]);
    const reply = say('/never');
    const idle = await raw();
    await until('the request', () => clock.nextIn === defaultHttpLimits.requestMs);
    await server.close();
    expect((await reply).status).toBe(503);
    await closed(idle);
    await expect(stat(path)).rejects.toThrow('ENOENT');
    expect(clock.timers).toBe(0);
  });
});

describe('over mutual TLS', () => {
  const CLIENT = 'spiffe://own.test/ns/shop/sa/front';

  async function world(limits: Partial<HttpLimits> = {}): Promise<{
    readonly own: AnyAuthority;
    readonly other: AnyAuthority;
    readonly identity: TestTlsIdentity;
    readonly server: HttpServer;
    readonly port: number;
  }> {
    const own = await AnyAuthority.create('own.test', clock);
    const other = await AnyAuthority.create('other.test', clock);
    const identity = new TestTlsIdentity(clock, await own.issue('spiffe://own.test/signet/agent'), [
      own,
      other,
    ]);
    const server = await serve(limits);
    const listener = await server.listenHttps({
      ...{ address: '127.0.0.1', port: 0, name: 'applications', identity },
      authorize: ({ trustDomain }) =>
        trustDomain === 'own.test' ? { allowed: true } : { allowed: false, reason: 'not ours' },
    });
    return { own, other, identity, server, port: Number(listener.path.split(':')[1]) };
  }

  const to = (port: number, { cert, key }: { readonly cert: string; readonly key: string }): object => ({
    ...{ host: '127.0.0.1', port, cert, key, rejectUnauthorized: false },
  });

  it('tells the handler who asks', async () => {
    const { own, port } = await world();
    const svid = await own.issue(CLIENT);
    expect((await ask(to(port, svid), '/echo', { json: {} })).status).toBe(200);
    expect(calls[0]).toMatchObject({
      secure: true,
      context: {
        peer: {
          listener: 'applications',
          spiffeId: { uri: CLIENT },
          certificate: { notAfter: svid.notAfter },
          remoteAddress: '127.0.0.1',
        },
      },
    });
  });

  it('lets in nobody else, and no older TLS', async () => {
    const { own, other, port } = await world();
    const impostor = await AnyAuthority.create('own.test', clock);
    const svids = [
      await other.issue('spiffe://other.test/ns/shop/sa/front'),
      await other.issue(CLIENT),
      await impostor.issue(CLIENT),
      await own.issue(CLIENT, { notAfter: clock.now() - 1000 }),
      await own.issue(CLIENT, { uris: [CLIENT, `${CLIENT}2`] }),
    ];
    for (const svid of svids) await expect(ask(to(port, svid), '/echo', { json: {} })).rejects.toThrow();
    const good = await own.issue(CLIENT);
    await expect(ask({ ...to(port, good), maxVersion: 'TLSv1.2' }, '/echo', { json: {} })).rejects.toThrow();
    await expect(ask({ host: '127.0.0.1', port }, '/echo', { json: {} })).rejects.toThrow();
    expect(calls).toEqual([]);
  });

  it('gives up the oldest handshake when there are too many, and lets honest clients in', async () => {
    const { own, port, server } = await world({ maxHandshakes: 3 });
    const stalled: Socket[] = [];
    for (let count = 0; count < 20; count++) {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('error', () => undefined);
      stalled.push(socket);
    }
    closers.push(() => stalled.forEach((socket) => socket.destroy()));
    const ends = stalled.map(closed);
    await until('the refusals', () => stalled.filter(({ destroyed }) => destroyed).length >= 17);
    const agent = new SecureAgent({ keepAlive: true });
    closers.push(() => agent.destroy());
    const client = { ...to(port, await own.issue(CLIENT)), agent };
    expect((await ask(client, '/echo', { json: {} })).status).toBe(200);
    // Who has come in is none of those that handshakes push out.
    const more = Array.from({ length: 10 }, () => connect({ host: '127.0.0.1', port }));
    for (const socket of more) socket.on('error', () => undefined);
    await until('the refusals', () => more.filter(({ destroyed }) => destroyed).length >= 7);
    expect((await ask(client, '/echo', { json: {} })).status).toBe(200);
    expect(server.connections).toBe(1);
    for (const socket of more) socket.destroy();
    await clock.advance(10_000);
    await Promise.all(ends);
  });

  it('ends connections when a bundle changes or the certificate is over, once they are answered', async () => {
    const { own, identity, server, port } = await world();
    const svid = await own.issue(CLIENT, { notAfter: clock.now() + 20_000 });
    const agent = (): (() => Promise<HttpReply>) => {
      const one = new SecureAgent({ keepAlive: true });
      closers.push(() => one.destroy());
      return () => ask({ ...to(port, svid), agent: one }, '/echo', { json: {} });
    };
    const first = agent();
    await first();
    expect(server.connections).toBe(1);
    identity.trust([]);
    await until('the end', () => server.connections === 0);
    await expect(first()).rejects.toThrow();
    identity.trust([own]);
    await first();
    clock.jump(30_000);
    await expect(first()).rejects.toThrow();
    expect(calls).toHaveLength(2);
  });
});
