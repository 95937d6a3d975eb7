import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { connectUnix, RpcError, type RpcConnection, type WorkloadApiClient } from '../../src/rpc/client.js';
import { AuthorityKind } from '../../src/rpc/gen/signet/admin/v1/admin.js';
import { SpiffeWorkloadAPIService } from '../../src/rpc/gen/spiffe/workload.js';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';
import { runGo, startGo } from './support/clients.js';
import { fileLimit, openFiles, rssMiB } from './support/process.js';
import { identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';
import { activeAuthority, replaceAuthority, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(120_000);

const order = 'spiffe://shop.test/ns/shop/sa/order';

describe('clients that call wrongly', () => {
  const shared = newScope();
  let scope: Scope;
  let server: Signet;

  beforeAll(async () => {
    const resources = shared.folder();
    const pods = ['order', 'payment', 'stranger', 'climber'].flatMap((name) => pod(name));
    writeResources(resources, 'shop.yaml', [
      namespace('shop'),
      ...pods,
      identity('order', { audiences: ['bank'] }),
      identity('payment'),
      identity('climber', { spiffeIDTemplate: '/ns/bank/sa/director' }),
    ]);
    server = await startSignet(shared, { resources, state: shared.folder(), trustDomain: 'shop.test' });
  }, 60_000);
  afterAll(() => shared.end());
  beforeEach(() => {
    scope = newScope();
  });
  afterEach(() => scope.end());

  const connect = (podName: string): RpcConnection => {
    const connection = connectUnix(server.socket(podName), { deadlineMs: 30_000 });
    scope.onEnd(() => connection.close());
    return connection;
  };
  const first = async <T>(stream: AsyncIterable<T>): Promise<T> => {
    for await (const message of stream) return message;
    throw new Error('the stream ended without a message');
  };
  const everyMethod = (api: WorkloadApiClient): Record<string, () => Promise<unknown>> => ({
    FetchX509SVID: () => first(api.fetchX509Svid({})),
    FetchX509Bundles: () => first(api.fetchX509Bundles({})),
    FetchJWTSVID: () => api.fetchJwtsvid({ audience: ['bank'], spiffeId: '' }),
    FetchJWTBundles: () => first(api.fetchJwtBundles({})),
    ValidateJWTSVID: () => api.validateJwtsvid({ audience: 'bank', svid: 'a.b.c' }),
  });

  it.each(['FetchX509SVID', 'FetchX509Bundles', 'FetchJWTSVID', 'FetchJWTBundles', 'ValidateJWTSVID'])(
    'get InvalidArgument from %s without the workload.spiffe.io header, or with another value',
    async (method) => {
      const connection = connect('order');
      const wrong: Readonly<Record<string, string>>[] = [{}, { 'workload.spiffe.io': 'True' }];
      for (const metadata of wrong) {
        const call = everyMethod(connection.client(SpiffeWorkloadAPIService, metadata))[method];
        await expect(call?.()).rejects.toMatchObject({
          status: 'InvalidArgument',
          message: expect.stringContaining('workload.spiffe.io'),
        });
      }
    },
  );

  it('get PermissionDenied when no identity is theirs, with what was seen, and no stack of ours', async () => {
    const api = connect('stranger').workloadApi();
    const fetches = Object.entries(everyMethod(api)).filter(([name]) => name.startsWith('Fetch'));
    // At the same time: each is held for a while, in case an identity is on its way.
    const errors = await Promise.all(fetches.map(([, call]) => call().catch((error: unknown) => error)));
    expect(errors).toHaveLength(4);
    for (const error of errors) {
      expect(error).toBeInstanceOf(RpcError);
      expect(error).toMatchObject({
        status: 'PermissionDenied',
        message: expect.stringMatching(/stranger.*nearest.*shop\/order/s),
      });
      expect((error as RpcError).message).not.toMatch(/at .*\.js:\d+/);
    }
  });

  it('get no SPIFFE ID outside the namespace of the resource that asks for it, and the log says why', async () => {
    await expect(first(connect('climber').workloadApi().fetchX509Svid({}))).rejects.toMatchObject({
      status: 'PermissionDenied',
    });
    expect(server.process.stderr()).toMatch(
      /shop\.yaml:\d+:\d+: WorkloadIdentity shop\/climber .*outside \/ns\/shop\//,
    );
  });

  it('get InvalidArgument for mandatory fields left empty', async () => {
    const api = connect('order').workloadApi();
    const refused = { status: 'InvalidArgument', message: expect.stringMatching(/audience/) };
    await expect(api.fetchJwtsvid({ audience: [], spiffeId: '' })).rejects.toMatchObject(refused);
    await expect(api.fetchJwtsvid({ audience: [''], spiffeId: '' })).rejects.toMatchObject(refused);
    await expect(api.validateJwtsvid({ audience: '', svid: 'a.b.c' })).rejects.toMatchObject(refused);
    await expect(api.validateJwtsvid({ audience: 'bank', svid: '' })).rejects.toMatchObject({
      status: 'InvalidArgument',
    });
  });

  it('get no JWT-SVID of another SPIFFE ID, nor for an audience that the identity does not allow', async () => {
    const api = connect('order').workloadApi();
    await expect(
      api.fetchJwtsvid({ audience: ['bank'], spiffeId: 'spiffe://shop.test/ns/shop/sa/payment' }),
    ).rejects.toMatchObject({ status: 'PermissionDenied' });
    await expect(
      api.fetchJwtsvid({ audience: ['bank'], spiffeId: 'spiffe://SHOP.test/x y' }),
    ).rejects.toMatchObject({
      status: 'InvalidArgument',
    });
    await expect(api.fetchJwtsvid({ audience: ['casino'], spiffeId: '' })).rejects.toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringMatching(/casino/),
    });
    const { svids } = await api.fetchJwtsvid({ audience: ['bank'], spiffeId: order });
    expect(svids).toMatchObject([{ spiffeId: order }]);
  });

  it('get ResourceExhausted for a request over the size limit, and are served afterwards', async () => {
    const api = connect('order').workloadApi();
    await expect(
      api.fetchJwtsvid({ audience: ['a'.repeat(8 * 1024 * 1024)], spiffeId: '' }),
    ).rejects.toMatchObject({ status: 'ResourceExhausted' });
    expect((await first(api.fetchX509Svid({}))).svids).toMatchObject([{ spiffeId: order }]);
  });

  it('get Unimplemented for a method that is not there, and no admin service on a workload socket', async () => {
    const connection = connect('order');
    await expect(connection.admin().listAuthorities({})).rejects.toMatchObject({ status: 'Unimplemented' });
    expect(await connection.health().check({ service: '' })).toMatchObject({ status: 1 });
  });
});

(rig.isSkipped('go') ? describe.skip : describe)('clients that take and do not give back', () => {
  const scope = newScope();
  let server: Signet;
  let pid: number;

  beforeAll(async () => {
    await rig.spiffeClient();
    const resources = scope.folder();
    const pods = ['order', 'payment'].flatMap((name) => [...pod(name), identity(name)]);
    writeResources(resources, 'shop.yaml', [namespace('shop'), ...pods]);
    server = await startSignet(scope, { resources, state: scope.folder(), trustDomain: 'shop.test' });
    pid = server.process.pid;
  }, rig.rigTimeout);
  afterAll(() => scope.end());

  const isServed = async (podName: string): Promise<boolean> =>
    (await runGo(scope, ['x509', 'fetch', '-socket', server.socket(podName)])).svids?.[0]?.verified === true;

  it.each([
    ['silent', []],
    ['that said they speak HTTP/2', ['-preface']],
  ])(
    'open 10,000 connections %s and leave them: others are served meanwhile, and all is given back',
    async (_, flags) => {
      expect(await isServed('order')).toBe(true);
      const before = { files: openFiles(pid), rss: rssMiB(pid) };
      const limit = Math.min(10_000, fileLimit(pid) - 1000);
      const flood = await startGo(scope, [
        ...['flood', '-socket', server.socket('order'), '-connections', String(limit), ...flags],
      ]);
      const said = await flood.next((line) => line['opened'] !== undefined, { limitMs: 60_000 });
      // Connections over the listener's bound are taken and closed, so the client's connect does not fail.
      expect(Number(said['opened']) + Number(said['refused'])).toBe(limit);
      expect(await isServed('payment')).toBe(true);
      expect(rssMiB(pid) - before.rss).toBeLessThan(100);
      await flood.program.kill();
      await until('the file descriptors are given back', () => openFiles(pid) <= before.files + 5);
      expect(await isServed('order')).toBe(true);
      expect(rssMiB(pid) - before.rss).toBeLessThan(100);
    },
  );

  it('never read while 200 rotations go by: memory stays bounded, and others get every one', async () => {
    // Twelve connections, twenty streams each, none of which is ever read.
    for (let n = 0; n < 12; n++) {
      const stalled = await startGo(scope, ['stall', '-socket', server.socket('order'), '-streams', '20']);
      await stalled.next((line) => line['stalled'] !== undefined);
    }
    const reader = await startGo(scope, ['x509', 'watch', '-socket', server.socket('payment')]);
    await reader.next(({ svids }) => svids !== undefined);
    const before = rssMiB(pid);
    let last: string | undefined;
    const former: string[] = [];
    for (let round = 0; round < 200; round++) {
      former.push(await replaceAuthority(server));
      // The bundle has bounds: the oldest is taken out, once all that it signed was replaced.
      const oldest = former.length > 10 ? former.shift() : undefined;
      if (oldest !== undefined) {
        await server.admin.revokeAuthority({ kind: AuthorityKind.AUTHORITY_KIND_X509, id: oldest });
      }
      if (round % 20 === 19) {
        const line = await reader.next(({ svids }) => svids?.[0] !== undefined && svids[0].serial !== last, {
          from: Math.max(0, reader.mark() - 1),
        });
        last = line.svids?.[0]?.serial;
      }
    }
    const active = await activeAuthority(server);
    const newest = await reader.next(({ svids }) => svids?.[0]?.authority === active);
    expect(newest.svids).toMatchObject([{ verified: true }]);
    // Two messages of some 8 kB for each of 240 streams and 200 rotations would be 750 MiB. What there is comes from the
    // rotations themselves (Node collects its garbage late) and from the sockets' own buffers.
    expect(rssMiB(pid) - before).toBeLessThan(300);
    expect(await isServed('order')).toBe(true);
  });
});
