import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../lib/logger.js';
import type { RpcConnection } from './client.js';
import { connectRpc, connectUnix } from './client.js';
import type { RpcServer } from './server.js';
import { createRpcServer } from './server.js';
import type { Peer } from './service.js';
import { StatusError } from './service.js';
import { adminService, secretDiscoveryService, workloadApiService } from './services.js';

let directory: string;
let path: string;
let server: RpcServer;
let connection: RpcConnection;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-rpc-'));
  path = join(directory, 'api.sock');
  server = createRpcServer({ logger: silentLogger });
  connection = connectUnix(path);
});

afterEach(async () => {
  connection.close();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

function open(): Promise<unknown> {
  return server.listenUnix({ path, mode: 0o600, name: 'shared', peerCredentials: false });
}

describe('a connection', () => {
  it('says Unavailable, soon, when nobody listens, and works once somebody does', async () => {
    const request = { audience: ['a'], spiffeId: '' };
    await expect(connection.workloadApi().fetchJwtsvid(request)).rejects.toMatchObject({
      status: 'Unavailable',
      code: 'RpcUnavailable',
      message: expect.stringContaining('ENOENT'),
    });
    server.service(workloadApiService, { fetchJwtsvid: async () => ({ svids: [] }) });
    await open();
    for (;;) {
      try {
        expect(await connection.workloadApi().fetchJwtsvid(request)).toEqual({ svids: [] });
        return;
      } catch (error) {
        // It tries again after 100 ms.
        expect(error).toMatchObject({ status: 'Unavailable' });
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  });

  it('is used again for every call, carries the security header, and is closed', async () => {
    const peers: Peer[] = [];
    const headers: (string | undefined)[] = [];
    server.service(workloadApiService, {
      fetchJwtsvid: async (_request, context) => {
        peers.push(context.peer);
        headers.push(context.metadata('workload.spiffe.io'), context.metadata('x-more'));
        return { svids: [] };
      },
    });
    server.service(adminService, {
      listAuthorities: async (_request, context) => {
        peers.push(context.peer);
        headers.push(context.metadata('workload.spiffe.io'));
        return { trustDomain: 'example.org', bundleSequence: 3, authorities: [] };
      },
    });
    await open();
    const request = { audience: ['a'], spiffeId: '' };
    await connection.workloadApi().fetchJwtsvid(request, { metadata: { 'x-more': '1' } });
    expect(await connection.admin().listAuthorities({})).toMatchObject({ trustDomain: 'example.org' });
    expect(headers).toEqual(['true', '1', undefined]);
    expect(peers.map(({ connectionId }) => connectionId)).toEqual(['c1', 'c1']);
    connection.close();
    while (server.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it('reaches a TCP address, too, and says where it could not', async () => {
    const tcp = connectRpc({ kind: 'tcp', host: '127.0.0.1', port: 1 });
    await expect(tcp.health().check({ service: '' })).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('127.0.0.1:1'),
    });
    tcp.close();
  });

  it('holds its own default deadline for unary calls, which a call may change', async () => {
    server.service(adminService, { listAuthorities: () => new Promise(() => undefined) });
    await open();
    const impatient = connectUnix(path, { deadlineMs: 20 });
    await expect(impatient.admin().listAuthorities({})).rejects.toMatchObject({ status: 'DeadlineExceeded' });
    const stop = new AbortController();
    const call = impatient.admin().listAuthorities({}, { deadlineMs: 60_000, signal: stop.signal });
    stop.abort();
    await expect(call).rejects.toMatchObject({ status: 'Cancelled' });
    impatient.close();
  });

  it('refuses a message that is larger than it takes', async () => {
    server.service(adminService, {
      listAuthorities: async () => ({ trustDomain: 'x'.repeat(5000), bundleSequence: 0, authorities: [] }),
    });
    await open();
    const small = connectUnix(path, { maxMessageBytes: 1000 });
    await expect(small.admin().listAuthorities({})).rejects.toMatchObject({ status: 'ResourceExhausted' });
    small.close();
  });

  it('begins nothing when the signal was aborted before', async () => {
    const signal = AbortSignal.abort();
    await expect(connection.admin().listAuthorities({}, { signal })).rejects.toMatchObject({
      status: 'Cancelled',
    });
    const stream = connection.workloadApi().fetchX509Svid({}, { signal })[Symbol.asyncIterator]();
    await expect(stream.next()).rejects.toMatchObject({ status: 'Cancelled' });
  });

  it('reads a stream only as fast as its caller', async () => {
    let written = 0;
    server.service(workloadApiService, {
      fetchX509Bundles: async (_request, { signal }, sink) => {
        while (!signal.aborted) {
          await sink.write({ crl: [Buffer.alloc(100_000)], bundles: {} });
          written++;
        }
      },
    });
    await open();
    let read = 0;
    for await (const message of connection.workloadApi().fetchX509Bundles({})) {
      expect(message.crl).toHaveLength(1);
      // Whatever the server could run ahead, it has by now.
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (++read === 20) break;
    }
    expect(written).toBeLessThan(read + 40);
  });

  it('ends a bidirectional call when the server ends it, though the source of requests waits for ever', async () => {
    server.service(secretDiscoveryService, {
      streamSecrets: async (requests) => {
        for await (const request of requests) {
          throw new StatusError('InvalidArgument', `no such type ${request.typeUrl}`);
        }
      },
    });
    await open();
    const first = {
      versionInfo: '',
      node: undefined,
      resourceNames: [],
      typeUrl: 'nonsense',
      responseNonce: '',
      errorDetail: undefined,
    };
    async function* requests() {
      yield first;
      await new Promise(() => undefined);
    }
    const call = connection.client(secretDiscoveryService).streamSecrets(requests());
    await expect(call[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      status: 'InvalidArgument',
      message: 'no such type nonsense',
    });
  });

  it('ends a bidirectional call when the source of requests fails', async () => {
    server.service(secretDiscoveryService, {
      streamSecrets: async (requests) => {
        for await (const request of requests) expect(request).toBeUndefined();
      },
    });
    await open();
    // eslint-disable-next-line require-yield -- a stream that fails or ends before its first message
    async function* requests(): AsyncGenerator<never, void, void> {
      throw new Error('the source broke');
    }
    const call = connection.client(secretDiscoveryService).streamSecrets(requests());
    await expect(call[Symbol.asyncIterator]().next()).rejects.toMatchObject({ status: 'Cancelled' });
  });
});
