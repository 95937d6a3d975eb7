import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../lib/logger.js';
import type { RpcConnection } from './client.js';
import { RpcError, connectUnix } from './client.js';
import type { ServerReflectionRequest } from './gen/grpc/reflection/v1/reflection.js';
import { ServerReflectionService } from './gen/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as Alpha } from './gen/grpc/reflection/v1alpha/reflection.js';
import type { RpcServer } from './server.js';
import { createRpcServer } from './server.js';
import { workloadApiService } from './services.js';

let directory: string;
let server: RpcServer;
let connection: RpcConnection;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-rpc-'));
  server = createRpcServer({ logger: silentLogger });
  server.service(workloadApiService, {});
  const path = join(directory, 'api.sock');
  await server.listenUnix({ path, mode: 0o600, name: 'shared', peerCredentials: false });
  connection = connectUnix(path);
});

afterEach(async () => {
  connection.close();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

describe('health', () => {
  it('says of the server and its services whether they serve', async () => {
    const health = connection.health();
    expect(await health.check({ service: '' })).toEqual({ status: 1 });
    expect(await health.check({ service: 'SpiffeWorkloadAPI' })).toEqual({ status: 1 });
    server.setServing('SpiffeWorkloadAPI', false);
    expect(await health.check({ service: 'SpiffeWorkloadAPI' })).toEqual({ status: 2 });
    expect(await health.check({ service: '' })).toEqual({ status: 1 });
    const unknown = health.check({ service: 'nobody' });
    await expect(unknown).rejects.toBeInstanceOf(RpcError);
    await expect(unknown).rejects.toMatchObject({ status: 'NotFound' });
  });

  it('tells a watcher of each change, and of a service that comes later, and of the end', async () => {
    const watch = connection.health().watch({ service: 'later' })[Symbol.asyncIterator]();
    const next = async () => ((await watch.next()) as { value: { status: number } }).value.status;
    expect(await next()).toBe(3);
    server.setServing('later', true);
    expect(await next()).toBe(1);
    server.setServing('', true); // another one's change is none here
    server.setServing('later', false);
    expect(await next()).toBe(2);
    server.setServing('later', true);
    expect(await next()).toBe(1);
    const drained = server.drain(60_000);
    expect(await next()).toBe(2);
    await watch.return?.();
    await drained;
  });
});

describe('reflection', () => {
  async function* ask(...requests: ServerReflectionRequest['messageRequest'][]) {
    for (const messageRequest of requests) yield { host: 'h', messageRequest };
  }

  async function answers(...requests: ServerReflectionRequest['messageRequest'][]) {
    const all = [];
    const info = connection.client(ServerReflectionService).serverReflectionInfo(ask(...requests));
    for await (const response of info) {
      expect(response.validHost).toBe('h');
      all.push(response.messageResponse);
    }
    return all;
  }

  it('lists what is served, in both versions of the protocol', async () => {
    const expected = {
      $case: 'listServicesResponse',
      value: {
        service: [
          { name: 'SpiffeWorkloadAPI' },
          { name: 'grpc.health.v1.Health' },
          { name: 'grpc.reflection.v1.ServerReflection' },
          { name: 'grpc.reflection.v1alpha.ServerReflection' },
        ],
      },
    };
    expect(await answers({ $case: 'listServices', value: '' })).toEqual([expected]);
    const old = connection.client(Alpha).serverReflectionInfo(ask({ $case: 'listServices', value: '' }));
    for await (const { messageResponse } of old) expect(messageResponse).toEqual(expected);
  });

  it('gives a service’s file with all that it imports, by symbol and by name', async () => {
    const both = await answers(
      { $case: 'fileContainingSymbol', value: 'SpiffeWorkloadAPI.FetchX509SVID' },
      { $case: 'fileByFilename', value: 'spiffe/workload.proto' },
      { $case: 'fileContainingSymbol', value: 'grpc.health.v1.HealthCheckResponse.ServingStatus' },
    );
    const files = both.map((response) =>
      response?.$case === 'fileDescriptorResponse'
        ? response.value.fileDescriptorProto.map((file) => fromBinary(FileDescriptorProtoSchema, file))
        : [],
    );
    const workload = ['spiffe/workload.proto', 'google/protobuf/struct.proto'];
    expect(files.map((some) => some.map(({ name }) => name))).toEqual([
      workload,
      workload,
      ['grpc/health/v1/health.proto'],
    ]);
    const served = files[0]?.[0]?.service[0]?.method.map(({ name }) => `/SpiffeWorkloadAPI/${name}`);
    expect(served?.sort()).toEqual(
      Object.values(workloadApiService)
        .map(({ path }) => path)
        .sort(),
    );
  });

  it('answers what it does not know, and what is no question, with an error', async () => {
    const error = (errorCode: number, text: string) => ({
      $case: 'errorResponse',
      value: { errorCode, errorMessage: expect.stringContaining(text) },
    });
    expect(
      await answers(
        { $case: 'fileByFilename', value: 'none.proto' },
        { $case: 'fileContainingSymbol', value: 'no.Such' },
        { $case: 'fileContainingExtension', value: { containingType: 'X509SVID', extensionNumber: 7 } },
        { $case: 'allExtensionNumbersOfType', value: 'no.Such' },
        { $case: 'allExtensionNumbersOfType', value: 'X509SVID' },
        undefined,
      ),
    ).toEqual([
      error(5, 'none.proto'),
      error(5, 'no.Such'),
      error(5, 'X509SVID'),
      error(5, 'no.Such'),
      { $case: 'allExtensionNumbersResponse', value: { baseTypeName: 'X509SVID', extensionNumber: [] } },
      error(3, 'not set'),
    ]);
  });
});
