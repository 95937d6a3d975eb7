import { describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http2';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { join } from 'node:path';
import { FakeClock } from '../../test/support/fake-clock.js';
import { aborted, preface, rpcFixture, settings } from '../../test/support/rpc-fixture.js';
import { closed, rawConnection } from '../../test/support/sockets.js';
import type { Logger } from '../lib/logger.js';
import { RpcError } from './client.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
import { AdminService } from './gen/signet/admin/v1/admin.js';
import { SpiffeWorkloadAPIService, X509SVIDResponse } from './gen/spiffe/workload.js';
import { SecretDiscoveryServiceService } from './gen/envoy/secret/sds.js';
import { PeerCredentialsError } from './peer/reader.js';
import type { CallContext, Peer } from './service.js';
import { StatusError } from './service.js';

const fixture = rpcFixture();
const { closers, serverWith, listen, dial } = fixture;

/** Collects what is logged. */
function recorder(): { logger: Logger; lines: { level: string; message: string; fields: unknown }[] } {
  const lines: { level: string; message: string; fields: unknown }[] = [];
  const at = (level: string) => (message: string, fields?: unknown) =>
    void lines.push({ level, message, fields });
  const logger: Logger = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
  };
  return { logger, lines };
}

async function failure(promise: Promise<unknown>): Promise<RpcError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new Error('the call did not fail');
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of stream) all.push(message);
  return all;
}

async function* from<T>(...items: T[]): AsyncGenerator<T, void, void> {
  for (const item of items) yield item;
}

const svid = (hint: string): X509SVIDResponse => ({
  svids: [
    {
      spiffeId: 'spiffe://example.org/a',
      x509Svid: Buffer.alloc(0),
      x509SvidKey: Buffer.alloc(0),
      bundle: Buffer.alloc(0),
      hint,
    },
  ],
  crl: [],
  federatedBundles: {},
});

describe('calls', () => {
  it('answers a unary call, a server stream and a bidirectional stream', async () => {
    const server = serverWith();
    server.service(SpiffeWorkloadAPIService, {
      fetchJwtsvid: async (request) => ({
        svids: request.audience.map((audience) => ({ spiffeId: request.spiffeId, svid: audience, hint: '' })),
      }),
      fetchX509Svid: async (_request, _context, sink) => {
        await sink.write(svid('one'));
        await sink.write(X509SVIDResponse.encode(svid('two')).finish());
      },
    });
    server.service(SecretDiscoveryServiceService, {
      streamSecrets: async (requests, _context, sink) => {
        for await (const request of requests)
          await sink.write({
            canary: false,
            versionInfo: request.resourceNames.join(','),
            resources: [],
            typeUrl: '',
            nonce: '',
          });
      },
    });
    await listen(server);
    const connection = dial();
    const api = connection.workloadApi();

    const jwt = await api.fetchJwtsvid({ audience: ['a', 'b'], spiffeId: 'spiffe://example.org/x' });
    expect(jwt.svids.map(({ svid }) => svid)).toEqual(['a', 'b']);
    expect((await collect(api.fetchX509Svid({}))).map(({ svids }) => svids[0]?.hint)).toEqual(['one', 'two']);
    const sds = connection.client(SecretDiscoveryServiceService);
    const request = {
      versionInfo: '',
      typeUrl: '',
      responseNonce: '',
      node: undefined,
      errorDetail: undefined,
    };
    const answers = await collect(
      sds.streamSecrets(
        from({ ...request, resourceNames: ['x'] }, { ...request, resourceNames: ['y', 'z'] }),
      ),
    );
    expect(answers.map(({ versionInfo }) => versionInfo)).toEqual(['x', 'y,z']);
  });

  it('hands metadata and the listener to the handler, and no client can pose as another connection', async () => {
    const server = serverWith();
    const seen: { listener: string; id: string; header: string | undefined; missing: string | undefined }[] =
      [];
    server.service(HealthService, {
      check: async (_request, { peer }: CallContext) => {
        seen.push({ listener: peer.listener, id: peer.connectionId, header: undefined, missing: undefined });
        return { status: 1 };
      },
      watch: async (_request, context, sink) => {
        seen.push({
          listener: context.peer.listener,
          id: context.peer.connectionId,
          header: context.metadata('x-test'),
          missing: context.metadata('x-other'),
        });
        await sink.write({ status: 1 });
      },
    });
    await listen(server, { path: join(fixture.directory, 'a.sock'), name: 'pod/a' });
    await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const spoof = { 'x-test': 'yes', 'remote-address': 'c1', 'x-forwarded-for': 'c1', peer: 'c1' };
    await dial(join(fixture.directory, 'a.sock')).health().check({ service: '' }, { metadata: spoof });
    await collect(
      dial(join(fixture.directory, 'b.sock')).health().watch({ service: '' }, { metadata: spoof }),
    );
    expect(seen).toEqual([
      { listener: 'pod/a', id: 'c1', header: undefined, missing: undefined },
      { listener: 'pod/b', id: 'c2', header: 'yes', missing: undefined },
    ]);
  });

  it('answers Unimplemented for a method without a handler and for a service nobody added', async () => {
    const server = serverWith();
    server.service(SpiffeWorkloadAPIService, {});
    await listen(server);
    const connection = dial();
    const jwt = connection.workloadApi().fetchJwtsvid({ audience: ['a'], spiffeId: '' });
    expect((await failure(jwt)).status).toBe('Unimplemented');
    expect((await failure(collect(connection.workloadApi().fetchX509Svid({})))).status).toBe('Unimplemented');
    expect((await failure(connection.admin().listAuthorities({}))).status).toBe('Unimplemented');
  });

  it('carries a StatusError to the client, in unary calls and streams, whatever its text', async () => {
    const server = serverWith();
    const text = 'no identity for “pod/a”: \ud800 % \n' + 'x'.repeat(10_000);
    server.service(SpiffeWorkloadAPIService, {
      fetchJwtsvid: async () => {
        throw new StatusError('PermissionDenied', text);
      },
      fetchX509Svid: async (_request, _context, sink) => {
        await sink.write(svid('one'));
        throw new StatusError('FailedPrecondition', 'later');
      },
    });
    await listen(server);
    const api = dial().workloadApi();
    const unary = await failure(api.fetchJwtsvid({ audience: ['a'], spiffeId: '' }));
    expect(unary.status).toBe('PermissionDenied');
    expect(unary.code).toBe('RpcPermissionDenied');
    expect(unary.message).toMatch(/^no identity for “pod\/a”: \ufffd % \nxxx/);
    expect(unary.message.length).toBeLessThan(3000);

    const hints: string[] = [];
    const streamed = await failure(
      (async () => {
        for await (const message of api.fetchX509Svid({})) hints.push(message.svids[0]?.hint ?? '');
      })(),
    );
    expect(hints).toEqual(['one']);
    expect(streamed).toMatchObject({ status: 'FailedPrecondition', message: 'later' });
  });

  it('tells the client nothing of an unknown error, and logs it', async () => {
    const { logger, lines } = recorder();
    const server = serverWith({ logger });
    server.service(SpiffeWorkloadAPIService, {
      fetchJwtsvid: () => {
        throw new Error('secret detail');
      },
      fetchX509Svid: async () => {
        throw new TypeError('secret detail');
      },
    });
    await listen(server);
    const api = dial().workloadApi();
    for (const call of [
      api.fetchJwtsvid({ audience: ['a'], spiffeId: '' }),
      collect(api.fetchX509Svid({})),
    ]) {
      expect(await failure(call)).toMatchObject({ status: 'Internal', message: 'internal error' });
    }
    expect(lines.filter(({ level }) => level === 'error').map(({ fields }) => fields)).toEqual([
      expect.objectContaining({
        method: '/SpiffeWorkloadAPI/FetchJWTSVID',
        error: expect.stringContaining('secret detail'),
      }),
      expect.objectContaining({
        method: '/SpiffeWorkloadAPI/FetchX509SVID',
        error: expect.stringContaining('secret detail'),
      }),
    ]);
  });
});

describe('peer credentials', () => {
  it('come from the kernel, for listeners that want them, and are given back with the connection', async () => {
    const server = serverWith();
    const peers: Peer[] = [];
    server.service(HealthService, {
      check: async (_request, { peer }) => {
        peers.push(peer);
        return { status: 1 };
      },
    });
    await listen(server, { path: join(fixture.directory, 'a.sock'), peerCredentials: true });
    const other = await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const connection = dial(join(fixture.directory, 'a.sock'));
    await connection.health().check({ service: '' }, { metadata: { pid: '1', uid: '0' } });
    await dial(other.path).health().check({ service: '' });
    expect(peers[0]?.credentials).toMatchObject({ pid: process.pid, uid: process.getuid?.() });
    expect(peers[0]?.credentials?.isAlive()).toBe(true);
    expect(peers[1]).toEqual({ listener: 'pod/b', connectionId: 'c2' });
    connection.close();
    while (server.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    expect(peers[0]?.credentials?.isAlive()).toBe(false);
  });

  it('that the kernel will not give close the connection before anything is read', async () => {
    const { logger, lines } = recorder();
    const reader = {
      read: () => {
        throw new PeerCredentialsError('PeerUnknown', 'outside the pid namespace');
      },
      readUser: () => 0,
    };
    const server = serverWith({ logger, peerCredentials: () => Promise.resolve(reader) });
    const listener = await listen(server, { peerCredentials: true });
    await closed(await rawConnection(listener.path));
    expect(lines).toContainEqual({
      level: 'warn',
      message: 'connections refused',
      fields: expect.objectContaining({ reason: 'outside the pid namespace' }),
    });
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it('that cannot be had are told to handlers, where the listener says so, and bounded as those of one process', async () => {
    const reader = {
      read: () => {
        throw new PeerCredentialsError('PeerUnknown', 'outside the pid namespace');
      },
      readUser: () => 0,
    };
    const server = serverWith({
      limits: { maxConnectionsPerProcess: 2 },
      peerCredentials: () => Promise.resolve(reader),
    });
    const peers: Peer[] = [];
    server.service(HealthService, {
      check: (_request, { peer }) => {
        peers.push(peer);
        return Promise.resolve({ status: 1 });
      },
    });
    const listener = await listen(server, { peerCredentials: true, tellUnknown: true });
    await dial().health().check({ service: '' });
    expect(peers).toEqual([
      { listener: 'shared', connectionId: expect.anything(), unknown: 'outside the pid namespace' },
    ]);
    const second = await rawConnection(listener.path);
    await closed(await rawConnection(listener.path));
    second.destroy();
    while (listener.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    await dial().health().check({ service: '' });
    expect(peers).toHaveLength(2);
  });
});

describe('a listener for one user', () => {
  it('lets in its processes alone, also those outside the pid namespace', async () => {
    const { logger, lines } = recorder();
    let uid = 1000;
    const reader = {
      read: () => {
        throw new PeerCredentialsError('PeerUnknown', 'outside the pid namespace');
      },
      readUser: () => uid,
    };
    const server = serverWith({ logger, peerCredentials: () => Promise.resolve(reader) });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const listener = await listen(server, { callerUid: 0 });
    await closed(await rawConnection(listener.path));
    expect(lines).toContainEqual({
      level: 'warn',
      message: 'connections refused',
      fields: expect.objectContaining({ reason: 'a process of user 1000, not 0' }),
    });
    uid = 0;
    expect(await dial(listener.path).health().check({ service: '' })).toEqual({ status: 1 });
  });

  it('asks the kernel who that is', async () => {
    const server = serverWith();
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const own = process.getuid?.() ?? -1;
    const mine = await listen(server, { path: join(fixture.directory, 'mine.sock'), callerUid: own });
    expect(await dial(mine.path).health().check({ service: '' })).toEqual({ status: 1 });
    const path = join(fixture.directory, 'other.sock');
    await listen(server, { path, name: 'other', callerUid: own + 1 });
    await closed(await rawConnection(path));
  });
});

describe('the end of a call', () => {
  it('aborts the signal when the client cancels, goes, or its deadline passes', async () => {
    const server = serverWith();
    const contexts: CallContext[] = [];
    let arrived = Promise.withResolvers<CallContext>();
    server.service(SpiffeWorkloadAPIService, {
      fetchX509Svid: async (_request, context, sink) => {
        contexts.push(context);
        await sink.write(svid('one'));
        arrived.resolve(context);
        await aborted(context);
        await sink.write(svid('two')); // rejects: nobody is there
      },
      fetchJwtsvid: async (_request, context) => {
        arrived.resolve(context);
        await aborted(context);
        return { svids: [] };
      },
    });
    await listen(server);
    const connection = dial();
    const api = connection.workloadApi();

    for await (const message of api.fetchX509Svid({})) {
      expect(message.svids).toHaveLength(1);
      break;
    }
    expect(await aborted(await arrived.promise)).toMatchObject({ status: 'Cancelled' });

    arrived = Promise.withResolvers();
    const stop = new AbortController();
    const call = failure(api.fetchJwtsvid({ audience: ['a'], spiffeId: '' }, { signal: stop.signal }));
    const context = await arrived.promise;
    stop.abort();
    expect((await call).status).toBe('Cancelled');
    expect(await aborted(context)).toMatchObject({ status: 'Cancelled' });

    arrived = Promise.withResolvers();
    const late = await failure(api.fetchJwtsvid({ audience: ['a'], spiffeId: '' }, { deadlineMs: 30 }));
    expect(late.status).toBe('DeadlineExceeded');
    await aborted(await arrived.promise);

    arrived = Promise.withResolvers();
    const stream = api.fetchX509Svid({})[Symbol.asyncIterator]();
    await stream.next();
    const last = await arrived.promise;
    connection.close();
    await aborted(last);
    expect(contexts).toHaveLength(2);
  });

  it('answers DeadlineExceeded when a unary handler takes too long', async () => {
    const clock = new FakeClock();
    const server = serverWith({ clock, limits: { unaryDeadlineMs: 5000 } });
    const contexts: CallContext[] = [];
    const arrived = Promise.withResolvers<undefined>();
    server.service(AdminService, {
      listAuthorities: (_request, context) => {
        contexts.push(context);
        arrived.resolve(undefined);
        return new Promise(() => undefined);
      },
    });
    await listen(server);
    const call = failure(dial().admin().listAuthorities({}));
    await arrived.promise;
    await clock.advance(4999);
    expect(contexts[0]?.signal.aborted).toBe(false);
    await clock.advance(1);
    expect((await call).status).toBe('DeadlineExceeded');
    expect(contexts[0]?.signal.aborted).toBe(true);
    expect(clock.timers).toBe(0);
  });
});

describe('bounds', () => {
  it('refuses a request that is too large with ResourceExhausted, and goes on serving', async () => {
    const server = serverWith({ limits: { maxRequestBytes: 1000 } });
    server.service(SpiffeWorkloadAPIService, { fetchJwtsvid: async () => ({ svids: [] }) });
    await listen(server);
    const api = dial().workloadApi();
    const large = api.fetchJwtsvid({ audience: ['x'.repeat(2000)], spiffeId: '' });
    expect((await failure(large)).status).toBe('ResourceExhausted');
    expect(await api.fetchJwtsvid({ audience: ['x'], spiffeId: '' })).toEqual({ svids: [] });
  });

  it('refuses a small message that unpacks to a large one', async () => {
    const server = serverWith({ limits: { maxRequestBytes: 10_000 } });
    let calls = 0;
    server.service(HealthService, {
      check: async () => {
        calls++;
        return { status: 1 };
      },
    });
    const listener = await listen(server);
    const session = connectHttp2('http://localhost', {
      createConnection: () => connect({ path: listener.path }),
    });
    closers.push(() => session.destroy());
    const send = (size: number) =>
      new Promise<unknown>((resolve) => {
        const call = session.request({
          ':method': 'POST',
          ':path': HealthService.check.path,
          'content-type': 'application/grpc',
          'grpc-encoding': 'gzip',
          te: 'trailers',
        });
        const packed = gzipSync(HealthService.check.requestSerialize({ service: 'x'.repeat(size) }));
        const prefix = Buffer.from([1, 0, 0, 0, 0]);
        prefix.writeUInt32BE(packed.length, 1);
        // With an answer the status is a trailer, without one a header.
        for (const event of ['response', 'trailers'] as const)
          call.on(event, (headers: IncomingHttpHeaders) => {
            if (headers['grpc-status'] !== undefined) resolve(headers['grpc-status']);
          });
        call.resume();
        call.end(Buffer.concat([prefix, packed]));
      });
    expect(await send(5_000)).toBe('0');
    expect(await send(5_000_000)).toBe('8');
    expect(calls).toBe(1);
  });

  it('refuses headers that are too large', async () => {
    const server = serverWith({ limits: { maxMetadataBytes: 2000 } });
    let calls = 0;
    server.service(HealthService, {
      check: async () => {
        calls++;
        return { status: 1 };
      },
    });
    await listen(server);
    const health = dial().health();
    await health.check({ service: '' }, { metadata: { 'x-fill': 'y'.repeat(500) } });
    await failure(
      health.check({ service: '' }, { metadata: { 'x-fill': 'y'.repeat(4000) }, deadlineMs: 10_000 }),
    );
    expect(calls).toBe(1);
  });

  it('refuses a connection above the bound of its listener, and serves the other listeners', async () => {
    const server = serverWith({ limits: { maxConnectionsPerListener: 2 } });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const flooded = await listen(server, { path: join(fixture.directory, 'a.sock'), name: 'pod/a' });
    await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const kept = await Promise.all([rawConnection(flooded.path), rawConnection(flooded.path)]);
    const third = await rawConnection(flooded.path);
    await closed(third);
    expect(flooded.connections).toBe(2);
    await dial(join(fixture.directory, 'b.sock')).health().check({ service: '' });
    for (const socket of kept) socket.destroy();
  });

  it('refuses a connection above the bound of its process, where the kernel says which it is', async () => {
    const server = serverWith({ limits: { maxConnectionsPerProcess: 2 } });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const shared = await listen(server, { peerCredentials: true });
    const [first, second] = await Promise.all([rawConnection(shared.path), rawConnection(shared.path)]);
    await closed(await rawConnection(shared.path));
    first.destroy();
    while (shared.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    await dial().health().check({ service: '' });
    expect(shared.connections).toBe(2);
    second.destroy();
  });

  it('closes a connection that makes no call for too long, whatever else it says', async () => {
    const clock = new FakeClock();
    const server = serverWith({ clock, limits: { firstCallMs: 5000 } });
    const listener = await listen(server);
    const [silent, polite] = await Promise.all([rawConnection(listener.path), rawConnection(listener.path)]);
    polite.write(Buffer.concat([preface, settings]));
    await once(polite, 'data');
    await clock.armed(2);
    await clock.advance(4999);
    expect(listener.connections).toBe(2);
    await clock.advance(1);
    await Promise.all([closed(silent), closed(polite)]);
    expect(clock.timers).toBe(0);
  });

  it('keeps a few places for each listener when the total is used up', async () => {
    const limits = { maxConnections: 3, maxConnectionsPerListener: 100, reservedConnectionsPerListener: 1 };
    const server = serverWith({ limits });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const greedy = await listen(server, { path: join(fixture.directory, 'a.sock'), name: 'pod/a' });
    await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const sockets = await Promise.all(Array.from({ length: 5 }, () => rawConnection(greedy.path)));
    await Promise.any(sockets.map(closed));
    await dial(join(fixture.directory, 'b.sock')).health().check({ service: '' });
    expect(greedy.connections).toBe(3);
    for (const socket of sockets) socket.destroy();
  });

  it('bounds the calls on one connection', async () => {
    const server = serverWith({ limits: { maxStreamsPerConnection: 3 } });
    let running = 0;
    let most = 0;
    const full = Promise.withResolvers<undefined>();
    const release = Promise.withResolvers<undefined>();
    server.service(HealthService, {
      check: async () => {
        most = Math.max(most, ++running);
        if (running === 3) full.resolve(undefined);
        await release.promise;
        running--;
        return { status: 1 };
      },
    });
    await listen(server);
    const health = dial().health();
    const calls = Array.from({ length: 10 }, () => health.check({ service: '' }));
    await full.promise;
    release.resolve(undefined);
    await Promise.all(calls);
    expect(most).toBe(3);
  });

  it('refuses to queue for a handler that does not await its writes', async () => {
    const server = serverWith();
    const outcome = Promise.withResolvers<PromiseSettledResult<void>[]>();
    server.service(SpiffeWorkloadAPIService, {
      fetchX509Svid: async (_request, _context, sink) => {
        outcome.resolve(Promise.allSettled(Array.from({ length: 20 }, () => sink.write(svid('x')))));
        await outcome.promise;
      },
    });
    await listen(server);
    expect(await collect(dial().workloadApi().fetchX509Svid({}))).toHaveLength(16);
    const rejected = (await outcome.promise).filter(({ status }) => status === 'rejected');
    expect(rejected).toHaveLength(4);
  });

  it('closes a connection that has had no call for the idle time', async () => {
    const server = serverWith({ limits: { idleMs: 20 } });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const listener = await listen(server);
    const connection = dial();
    await connection.health().check({ service: '' });
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await connection.health().check({ service: '' })).toEqual({ status: 1 });
  });
});

describe('stopping', () => {
  it('drains: lets calls end, takes no new ones, removes the socket', async () => {
    const server = serverWith();
    const started = Promise.withResolvers<undefined>();
    const release = Promise.withResolvers<undefined>();
    server.service(HealthService, {
      check: async () => {
        started.resolve(undefined);
        await release.promise;
        return { status: 1 };
      },
    });
    const listener = await listen(server);
    const call = dial().health().check({ service: '' });
    await started.promise;
    const drained = server.drain(60_000);
    const late = await failure(dial().health().check({ service: '' }));
    expect(late.status).toBe('Unavailable');
    release.resolve(undefined);
    expect(await call).toEqual({ status: 1 });
    await drained;
    expect(server.connections).toBe(0);
    await expect(stat(listener.path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('drains no longer than the grace time: what still runs is Unavailable', async () => {
    const clock = new FakeClock();
    const server = serverWith({ clock });
    const contexts: CallContext[] = [];
    server.service(HealthService, {
      watch: async (_request, context, sink) => {
        contexts.push(context);
        await sink.write({ status: 1 });
        await aborted(context);
      },
    });
    await listen(server);
    const stream = dial().health().watch({ service: '' })[Symbol.asyncIterator]();
    await stream.next();
    const drained = server.drain(3000);
    await clock.armed();
    await clock.advance(2999);
    expect(contexts[0]?.signal.aborted).toBe(false);
    await clock.advance(1);
    await drained;
    expect(contexts[0]?.signal.reason).toMatchObject({ status: 'Unavailable' });
    expect((await failure(stream.next())).status).toBe('Unavailable');
    expect(clock.timers).toBe(0);
  });

  it('closes one listener and leaves the others alone', async () => {
    const server = serverWith();
    server.service(HealthService, {
      watch: async (_request, context, sink) => {
        await sink.write({ status: 1 });
        await aborted(context);
      },
    });
    const one = await listen(server, { path: join(fixture.directory, 'a.sock'), name: 'pod/a' });
    const other = await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const streams = [one, other].map(({ path }) =>
      dial(path).health().watch({ service: '' })[Symbol.asyncIterator](),
    );
    await Promise.all(streams.map((stream) => stream.next()));
    await one.close();
    const [first] = streams;
    if (first === undefined) throw new Error('no stream');
    expect(await failure(first.next())).toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('closing'),
    });
    expect(one.connections).toBe(0);
    expect(other.connections).toBe(1);
    await expect(stat(one.path)).rejects.toMatchObject({ code: 'ENOENT' });
    await stat(other.path);
  });

  it('closes one of two listeners that have the same name, as those of a pod with two volumes', async () => {
    const server = serverWith();
    server.service(HealthService, {
      watch: async (_request, context, sink) => {
        await sink.write({ status: 1 });
        await aborted(context);
      },
    });
    const [one, other] = await Promise.all(
      ['a', 'b'].map((name) => listen(server, { path: join(fixture.directory, name), name: 'pod/a' })),
    );
    if (one === undefined || other === undefined) throw new Error('no listeners');
    const [first, second] = [one, other].map(({ path }) =>
      dial(path).health().watch({ service: '' })[Symbol.asyncIterator](),
    );
    await Promise.all([first?.next(), second?.next()]);
    await one.close();
    expect(await failure(first?.next() ?? Promise.resolve())).toMatchObject({ status: 'Unavailable' });
    expect(other.connections).toBe(1);
    await server.close();
    expect(await failure(second?.next() ?? Promise.resolve())).toMatchObject({ status: 'Unavailable' });
  });

  it('opens nothing after it was closed', async () => {
    const server = serverWith();
    await server.close();
    await expect(listen(server)).rejects.toMatchObject({ status: 'Unavailable' });
  });
});
