import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closed, rawConnection } from '../../../test/support/sockets.js';
import { silentLogger } from '../../lib/logger.js';
import { HealthService } from '../gen/grpc/health/v1/health.js';
import type { RpcListener } from '../listener.js';
import type { RpcServer } from '../server.js';
import { createRpcServer } from '../server.js';
import type { Peer } from '../service.js';
import { encodeFrame, readFrameHeader } from './frames.js';
import { encodeBlock } from './hpack.js';

let directory: string;
const servers: RpcServer[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-rpc-'));
});

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
  await rm(directory, { recursive: true, force: true });
});

describe('an authority that Node refuses', () => {
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const settings = encodeFrame({ type: 4, flags: 0, stream: 0 }, Buffer.alloc(0));
  const acknowledged = encodeFrame({ type: 4, flags: 1, stream: 0 }, Buffer.alloc(0));
  const call = (authority: string, stream = 1) =>
    Buffer.concat([
      encodeFrame(
        { type: 1, flags: 4, stream },
        encodeBlock(
          [
            [':method', 'POST'],
            [':scheme', 'http'],
            [':path', HealthService.check.path],
            [':authority', authority],
            ['content-type', 'application/grpc'],
            ['te', 'trailers'],
          ].map(([name = '', value = '']) => ({ name, value, neverIndexed: false })),
        ),
      ),
      encodeFrame({ type: 0, flags: 1, stream }, Buffer.alloc(5)),
    ]);

  /** Reads frames until one has data, and fails when the call is reset or the connection closed. */
  function answer(socket: Socket): Promise<void> {
    return new Promise((resolve, reject) => {
      let rest: Buffer = Buffer.alloc(0);
      const onData = (chunk: Buffer): void => {
        rest = Buffer.concat([rest, chunk]);
        while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
          const { type, length } = readFrameHeader(rest, 0);
          rest = rest.subarray(9 + length);
          if (type === 3 || type === 7) reject(new Error(`frame of type ${type}`));
          if (type === 0 && length > 0) {
            socket.removeListener('data', onData);
            resolve();
          }
        }
      };
      socket.on('data', onData);
      socket.once('close', () => reject(new Error('closed')));
    });
  }

  async function healthServer(): Promise<{ listener: RpcListener; server: RpcServer; peers: Peer[] }> {
    const server = createRpcServer({ logger: silentLogger, standardServices: false });
    servers.push(server);
    const peers: Peer[] = [];
    server.service(HealthService, {
      check: async (_request, { peer }) => {
        peers.push(peer);
        return { status: 1 };
      },
    });
    return {
      listener: await server.listenUnix({
        path: join(directory, 'api.sock'),
        mode: 0o600,
        name: 'shared',
        peerCredentials: true,
      }),
      server,
      peers,
    };
  }

  it.each(['/run/spire/api.sock', 'unix:/run/api.sock', '', 'localhost'])(
    'is no obstacle (%j), whether the client speaks at once or waits for the server',
    async (authority) => {
      const { listener, server, peers } = await healthServer();
      const eager = await rawConnection(listener.path);
      eager.write(Buffer.concat([preface, settings, call(authority)]));
      await answer(eager);
      eager.write(Buffer.concat([acknowledged, call(authority, 3)]));
      await answer(eager);

      const waiting = await rawConnection(listener.path);
      waiting.write(Buffer.concat([preface, settings]));
      const [greeting] = (await once(waiting, 'data')) as [Buffer];
      expect(readFrameHeader(greeting, 0)).toMatchObject({ type: 4, flags: 0, length: greeting.length - 9 });
      waiting.write(Buffer.concat([acknowledged, call(authority)]));
      await answer(waiting);
      waiting.write(Buffer.concat([acknowledged, call(authority, 3)]));
      await answer(waiting);

      expect(peers.map(({ connectionId }) => connectionId)).toEqual(['c1', 'c1', 'c2', 'c2']);
      expect(peers.every(({ credentials }) => credentials?.pid === process.pid)).toBe(true);
      eager.destroy();
      waiting.destroy();
      while (server.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    },
  );

  it.each(['/run/api.sock', 'localhost'])(
    'comes before the client has acknowledged what the server said (%j)',
    async (authority) => {
      const { listener, peers } = await healthServer();
      const socket = await rawConnection(listener.path);
      socket.write(Buffer.concat([preface, settings]));
      await once(socket, 'data');
      const answered = answer(socket);
      socket.write(call(authority));
      await new Promise((resolve) => setImmediate(resolve));
      expect(peers).toEqual([]);
      socket.write(acknowledged);
      await answered;
      socket.write(Buffer.concat([acknowledged, call(authority, 3)]));
      await answer(socket);
      expect(peers).toHaveLength(2);
      socket.destroy();
    },
  );

  it.each(['/run/api.sock', 'localhost'])('comes in single bytes (%j)', async (authority) => {
    const { listener } = await healthServer();
    const socket = await rawConnection(listener.path);
    const answered = answer(socket);
    for (const byte of Buffer.concat([preface, settings, acknowledged, call(authority)])) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await answered;
    socket.destroy();
  });

  it('does not keep a connection that is no HTTP/2, or that breaks its rules', async () => {
    const { listener, server } = await healthServer();
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
      Buffer.concat([
        preface,
        settings,
        encodeFrame({ type: 1, flags: 4, stream: 1 }, Buffer.from([0xff, 0x20])),
      ]),
      Buffer.concat([
        preface,
        settings,
        call('/a'),
        encodeFrame({ type: 9, flags: 4, stream: 1 }, Buffer.alloc(0)),
      ]),
    ]) {
      const socket = await rawConnection(listener.path);
      socket.write(bytes);
      await closed(socket);
    }
    while (server.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it('does not keep draining from its end', async () => {
    const { listener, server } = await healthServer();
    const idle = await rawConnection(listener.path);
    idle.write(Buffer.concat([preface, settings]));
    await once(idle, 'data');
    const java = await rawConnection(listener.path);
    java.write(Buffer.concat([preface, settings, call('/run/api.sock')]));
    await answer(java);
    await server.drain(60_000);
    expect(server.connections).toBe(0);
  });
});
