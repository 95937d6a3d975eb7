import { describe, expect, it } from '@jest/globals';
import { readdir } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { aborted, preface, rpcFixture, settings } from '../../test/support/rpc-fixture.js';
import { closed, rawConnection } from '../../test/support/sockets.js';
import { encodeFrame } from './authority/frames.js';
import { encodeBlock } from './authority/hpack.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
import { SpiffeWorkloadAPIService } from './gen/spiffe/workload.js';
import type { MessageSink } from './service.js';

const fixture = rpcFixture();
const { serverWith, listen, dial } = fixture;

describe('bad clients', () => {
  it('holds one message for a client that never reads, and serves others meanwhile', async () => {
    const server = serverWith();
    const payload = Buffer.alloc(256 * 1024, 7);
    let written = 0;
    const blocked = Promise.withResolvers<undefined>();
    const ended = Promise.withResolvers<unknown>();
    server.service(SpiffeWorkloadAPIService, {
      fetchX509Bundles: async (_request, context, sink: MessageSink<unknown>) => {
        void aborted(context).then(ended.resolve);
        for (;;) {
          const write = sink.write({ crl: [payload], bundles: {} });
          const turn = new Promise<'waits'>((resolve) => setTimeout(() => resolve('waits'), 200));
          if ((await Promise.race([write, turn])) === 'waits') blocked.resolve(undefined);
          await write;
          written++;
        }
      },
      fetchJwtsvid: async () => ({ svids: [] }),
    });
    await listen(server);
    // The library's own client reads without being asked, so this one speaks HTTP/2 itself.
    const session = connectHttp2('http://localhost', {
      createConnection: () => connect({ path: join(fixture.directory, 'api.sock') }),
    });
    const call = session.request({
      ':method': 'POST',
      ':path': SpiffeWorkloadAPIService.fetchX509Bundles.path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    call.on('error', () => undefined);
    call.end(Buffer.alloc(5));
    await blocked.promise;
    expect(written).toBeLessThan(40);
    await dial()
      .workloadApi()
      .fetchJwtsvid({ audience: ['a'], spiffeId: '' });
    session.destroy();
    expect(await ended.promise).toMatchObject({ status: 'Cancelled' });
  });

  it('holds little for a client that opens its windows wide and then never reads', async () => {
    const server = serverWith();
    let written = 0;
    const stuck = Promise.withResolvers<undefined>();
    server.service(HealthService, {
      watch: async (_request, _context, sink) => {
        for (;;) {
          const write = sink.write(Buffer.alloc(64 * 1024));
          const turn = new Promise<'waits'>((resolve) => setTimeout(() => resolve('waits'), 200));
          if ((await Promise.race([write, turn])) === 'waits') stuck.resolve(undefined);
          await write;
          written++;
        }
      },
    });
    const listener = await listen(server);
    const socket = await rawConnection(listener.path);
    const window = Buffer.from([0x40, 0, 0, 0]);
    const fields = {
      ':method': 'POST',
      ':scheme': 'http',
      ':path': HealthService.watch.path,
      ':authority': 'localhost',
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const block = encodeBlock(
      Object.entries(fields).map(([name, value]) => ({ name, value, neverIndexed: false })),
    );
    socket.write(
      Buffer.concat([
        preface,
        encodeFrame({ type: 4, flags: 0, stream: 0 }, Buffer.concat([Buffer.from([0, 4]), window])),
        encodeFrame({ type: 8, flags: 0, stream: 0 }, window),
        encodeFrame({ type: 1, flags: 4, stream: 1 }, block),
        encodeFrame({ type: 0, flags: 1, stream: 1 }, Buffer.alloc(5)),
      ]),
    );
    await stuck.promise;
    // The kernel's buffer, and one message or two.
    expect(written).toBeLessThan(20);
    const free = await dial().health().watch({ service: '' })[Symbol.asyncIterator]().next();
    expect(free.done).toBe(false);
    socket.destroy();
  });

  it('gives everything back after 10,000 connections that were opened and left', async () => {
    const server = serverWith({ limits: { maxConnectionsPerProcess: 1000 } });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const listener = await listen(server, { peerCredentials: true, maxConnections: 1000 });
    await dial().health().check({ service: '' });
    const descriptors = async () => (await readdir('/proc/self/fd')).length;
    const before = await descriptors();
    const hello = Buffer.concat([preface, settings]);
    // Nothing, half a hello, all of it, and HTTP/2 that breaks off inside a call.
    const said = [
      Buffer.alloc(0),
      hello.subarray(0, 11),
      hello,
      Buffer.concat([hello, Buffer.from([0, 0, 9, 1])]),
    ];
    for (let round = 0; round < 50; round++) {
      const sockets = await Promise.all(Array.from({ length: 200 }, () => rawConnection(listener.path)));
      for (const [index, socket] of sockets.entries()) {
        socket.write(said[index % said.length] ?? '');
        socket.destroy();
      }
      while (listener.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(server.connections).toBe(1);
    expect(await descriptors()).toBe(before);
    await dial().health().check({ service: '' });
  });

  it('bears 3,000 connections at once that stay silent, and takes no more than its bound', async () => {
    const server = serverWith({ limits: { maxConnectionsPerListener: 500 } });
    server.service(HealthService, { check: async () => ({ status: 1 }) });
    const flooded = await listen(server, { path: join(fixture.directory, 'a.sock'), name: 'pod/a' });
    await listen(server, { path: join(fixture.directory, 'b.sock'), name: 'pod/b' });
    const sockets = await Promise.all(Array.from({ length: 3000 }, () => rawConnection(flooded.path)));
    await Promise.all(sockets.slice(500).map(closed));
    expect(flooded.connections).toBe(500);
    await dial(join(fixture.directory, 'b.sock')).health().check({ service: '' });
    for (const socket of sockets) socket.destroy();
    while (flooded.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});
