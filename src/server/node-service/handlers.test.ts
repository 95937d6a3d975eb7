import { beforeEach, describe, expect, it } from '@jest/globals';
import { settle } from '../../../test/support/fake-clock.js';
import { aPodObject, aWorkloadIdentity } from '../../../test/support/identities.js';
import { AGENTS, nodeWorlds, type NodeWorld, type Replica } from '../../../test/support/node-world.js';
import { until } from '../../../test/support/until.js';
import { makeKey, type MadeKey } from '../../agent/key-maker.js';
import { parseCertificate } from '../../identity/pki/certificate.js';
import { keyPairFromPkcs8 } from '../../identity/pki/keys.js';
import { encodePem } from '../../identity/pki/pem.js';
import { verifyX509Svid } from '../../identity/pki/svid.js';
import { formatBundleDocument } from '../../identity/spiffe/bundle-document.js';
import { spiffeId } from '../../identity/spiffe/id.js';
import { systemRandom } from '../../lib/random.js';
import { WatchedValue } from '../../lib/watched.js';
import { connectTls, type RpcConnection, type TypedClient } from '../../rpc/client.js';
import type { SyncUpdate } from '../../rpc/gen/signet/node/v1/node.js';
import { nodeService, peerService } from '../../rpc/services.js';
import type { TlsSvid } from '../../rpc/tls/identity.js';
import { SERVER_PATH } from './agent-id.js';

const { world, closing } = nodeWorlds();

let w: NodeWorld;
let replica: Replica;
beforeEach(async () => {
  w = await world();
  replica = await w.replica();
});

type NodeClient = TypedClient<typeof nodeService>;

/** A connection that shows this SVID, or none. */
function dial(svid?: TlsSvid, port = replica.port): RpcConnection {
  const { clock, ca } = w;
  const connection = connectTls({
    ...{ host: '127.0.0.1', port, clock, random: systemRandom, showSvid: svid !== undefined },
    identity: {
      svid: new WatchedValue(svid),
      verifyPeer(chain) {
        const { id, leaf } = verifyX509Svid({ chain, bundles: () => ca.bundle.value, now: clock.now() });
        return { spiffeId: id, serial: leaf.serial, notAfter: leaf.notAfter };
      },
      onTrustChange: (listener) => ca.bundle.watch(listener),
    },
    authorizeServer: () => ({ allowed: true }),
  });
  closing(() => connection.close());
  return connection;
}

const tlsSvid = (chain: readonly Uint8Array[], key: MadeKey, notAfter: number): TlsSvid => ({
  cert: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
  key: keyPairFromPkcs8(key.pkcs8).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  notAfter,
});
/** An SVID of any path, straight from the CA. */
async function svidOf(path: string): Promise<TlsSvid> {
  const key = await makeKey('ec-p256');
  const { chain, notAfter } = await w.ca.signX509({
    ...{ spki: key.spki, spiffeId: spiffeId('example.org', path), dnsNames: [], ttlSeconds: 3600 },
  });
  return tlsSvid(chain, key, notAfter);
}
/** An agent that has attested: its client. */
async function agentOf(nodeName: string): Promise<NodeClient> {
  const key = await makeKey('ec-p256');
  const token = w.agentPod(nodeName);
  const answer = await dial()
    .client(nodeService)
    .attestAgent({ token, csr: Buffer.from(key.csr) });
  return dial(tlsSvid(answer.chain, key, answer.notAfter)).client(nodeService);
}
const csr = async (): Promise<Buffer> => Buffer.from((await makeKey('ec-p256')).csr);
const firstOf = async <T>(updates: AsyncIterable<T>): Promise<T> => {
  for await (const update of updates) return update;
  throw new Error('the stream ended');
};

describe('attesting', () => {
  it('gives an SVID for the key of the CSR, named after the node of the token', async () => {
    const key = await makeKey('ec-p256');
    const token = w.agentPod('n1');
    const answer = await dial()
      .client(nodeService)
      .attestAgent({ token, csr: Buffer.from(key.csr) });
    const leaf = parseCertificate(answer.chain[0] ?? new Uint8Array());
    expect(leaf.uris).toEqual(['spiffe://example.org/signet/agent/n1']);
    expect(Buffer.from(leaf.spki)).toEqual(Buffer.from(key.spki));
    expect(answer).toMatchObject({
      ...{ spiffeId: 'spiffe://example.org/signet/agent/n1', nodeName: 'n1' },
      ...{ notBefore: leaf.notBefore, notAfter: leaf.notAfter },
      bundle: formatBundleDocument(w.ca.bundle.value),
    });
    expect(leaf.notAfter - w.clock.now()).toBeLessThanOrEqual(3_600_000);
  });

  it('says why not, and nothing of the token, to the client and in the log', async () => {
    const token = w.agentPod('n1');
    const stranger = dial().client(nodeService);
    const bad = `${token}x`;
    await expect(stranger.attestAgent({ token: bad, csr: await csr() })).rejects.toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining('does not accept the token'),
    });
    w.store.remove(...w.store.list('Pod'));
    await expect(stranger.attestAgent({ token, csr: await csr() })).rejects.toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining('is not there'),
    });
    w.reviews.fails = new Error(`POST tokenreviews failed: ${token}`);
    await expect(stranger.attestAgent({ token, csr: await csr() })).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.not.stringContaining('token-of'),
    });
    expect(w.log.lines.filter((line) => line.includes('agent refused'))).toHaveLength(3);
    expect(w.log.all.join('\n')).not.toContain('token-of-n1');
  });

  it('spends no token on a CSR that proves nothing', async () => {
    const token = w.agentPod('n1');
    const forged = await csr();
    forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
    for (const bytes of [Buffer.alloc(0), forged])
      await expect(dial().client(nodeService).attestAgent({ token, csr: bytes })).rejects.toMatchObject({
        status: 'InvalidArgument',
      });
    expect(w.reviewed).toBe(0);
  });

  it('ends for an address from which too much failed, before the API server is asked', async () => {
    const limited = await w.replica({ limits: { failedBurst: 2, failedPerMinute: 1 } });
    const stranger = dial(undefined, limited.port).client(nodeService);
    for (let at = 0; at < 2; at++)
      await expect(stranger.attestAgent({ token: `guess-${at}`, csr: await csr() })).rejects.toMatchObject({
        status: 'PermissionDenied',
      });
    await expect(stranger.attestAgent({ token: 'guess-3', csr: await csr() })).rejects.toMatchObject({
      status: 'ResourceExhausted',
    });
    expect(w.reviewed).toBe(2);
  });
});

describe('who is not an agent', () => {
  it.each([
    ['without an SVID', undefined, 'Unauthenticated'],
    ['a workload', '/ns/shop/sa/pay', 'PermissionDenied'],
    ['a workload named like an agent', '/ns/signet/agent/n1', 'PermissionDenied'],
    ['the server itself', SERVER_PATH, 'PermissionDenied'],
    ['something below an agent', '/signet/agent/n1/x', 'PermissionDenied'],
  ])('gets nothing: %s', async (_, path, status) => {
    const svid = path === undefined ? undefined : await svidOf(path);
    const client = dial(svid).client(nodeService);
    const calls: (() => Promise<unknown>)[] = [
      async () => client.renew({ csr: await csr(), token: w.agentPod('n1') }),
      () => firstOf(client.sync({ held: [] })),
      () => firstOf(client.watchBundles({})),
      async () => client.signX509({ requests: [{ registrationId: 'x', csr: await csr() }] }),
      () => client.signJwt({ requests: [{ registrationId: 'x', audience: ['a'] }] }),
      () => client.explain({ subject: { $case: 'podUid', value: 'x' } }),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ status });
  });

  it('is no replica either: none but the server itself reports SVIDs', async () => {
    w.store.put(aWorkloadIdentity('main'), aPodObject('pay'));
    const svid = {
      registrationId: 'uid-pay/shop/main',
      notBefore: w.clock.now(),
      notAfter: w.clock.now() + 60_000,
    };
    for (const path of ['/signet/agent/node-1', '/ns/shop/sa/pay', '/signet/server/x']) {
      const client = dial(await svidOf(path)).client(peerService);
      await expect(client.reportSvids({ svids: [svid] })).rejects.toMatchObject({
        status: 'PermissionDenied',
      });
      const report = { epoch: 'e', revocations: [], agents: [{ nodeName: 'node-1', revision: 9 }] };
      await expect(client.reportRevocations(report)).rejects.toMatchObject({ status: 'PermissionDenied' });
    }
    await expect(
      dial()
        .client(peerService)
        .reportSvids({ svids: [svid] }),
    ).rejects.toMatchObject({
      status: 'PermissionDenied',
    });
    expect([...replica.controller.svids.all()]).toEqual([]);
    const server = dial(await svidOf(SERVER_PATH)).client(peerService);
    await server.reportSvids({ svids: [svid, { ...svid, registrationId: 'uid-nobody/shop/main' }] });
    expect([...replica.controller.svids.all()]).toEqual([svid]);
  });
});

describe('an agent', () => {
  it('has signed what its node holds, and nothing else, whatever it asks for', async () => {
    w.store.put(
      aWorkloadIdentity('main'),
      aPodObject('a'),
      aPodObject('b', { nodeName: 'node-2' }),
      aPodObject('c', { nodeName: '' }),
    );
    const agent = await agentOf('node-1');
    const ids = [
      'uid-a/shop/main',
      'uid-b/shop/main',
      'uid-c/shop/main',
      '',
      'x'.repeat(5_000),
      '../uid-b/shop/main',
    ];
    const requests = await Promise.all(
      ids.map(async (registrationId) => ({ registrationId, csr: await csr() })),
    );
    const { results } = await agent.signX509({ requests });
    expect(results.map(({ result }) => result?.$case)).toEqual([
      'svid',
      ...Array.from({ length: 5 }, () => 'refusal'),
    ]);
    const [first] = results;
    const leaf = first?.result?.$case === 'svid' ? first.result.value.chain[0] : undefined;
    expect(parseCertificate(leaf ?? new Uint8Array()).uris).toEqual(['spiffe://example.org/ns/shop/sa/a']);
    const tokens = await agent.signJwt({
      requests: ids.map((registrationId) => ({ registrationId, audience: ['x'] })),
    });
    expect(tokens.results.map(({ result }) => result?.$case)).toEqual(
      results.map(({ result }) => result?.$case),
    );
  });

  it('is not sent what is for single containers by an agent that does not know them', async () => {
    const containerSelector = { names: ['app'] };
    w.store.put(
      aWorkloadIdentity('one', { containerSelector }),
      aPodObject('a', { containers: [{ name: 'app', image: 'x' }] }),
    );
    const agent = await agentOf('node-1');
    const seen = { old: [] as SyncUpdate[], present: [] as SyncUpdate[] };
    const stop = new AbortController();
    const follow = async (into: SyncUpdate[], knowsContainers: boolean | undefined): Promise<void> => {
      const updates = agent.sync({ held: [], knowsContainers }, { signal: stop.signal });
      for await (const update of updates) into.push(update);
    };
    const reading = [follow(seen.old, undefined), follow(seen.present, true)];
    await until('the first updates', () => seen.old.length === 1 && seen.present.length === 1);
    expect(seen.present[0]?.upserts.map(({ id }) => id)).toEqual(['uid-a/shop/one']);
    expect(seen.old[0]?.upserts).toEqual([]);
    w.store.put(aWorkloadIdentity('one'));
    await until('it is for the whole pod', () => seen.old.length === 2);
    expect(seen.old[1]?.upserts.map(({ id }) => id)).toEqual(['uid-a/shop/one']);
    w.store.put(aWorkloadIdentity('one', { containerSelector }));
    await until('it is not any more', () => seen.old.length === 3);
    expect(seen.old[2]).toMatchObject({ upserts: [], removed: ['uid-a/shop/one'] });
    stop.abort();
    await Promise.allSettled(reading);
  });

  it('sees the registrations of its node alone, and each change', async () => {
    w.store.put(aWorkloadIdentity('main'), aPodObject('a'), aPodObject('b', { nodeName: 'node-2' }));
    const agent = await agentOf('node-1');
    const seen: SyncUpdate[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      for await (const update of agent.sync({ held: [] }, { signal: stop.signal })) seen.push(update);
    })().catch(() => undefined);
    await until('the first update', () => seen.length === 1);
    expect(seen[0]?.upserts.map(({ id }) => id)).toEqual(['uid-a/shop/main']);
    w.store.put(aPodObject('d', { nodeName: 'node-2' }));
    w.store.put(aPodObject('c'));
    w.store.remove(aPodObject('a'));
    await until('the changes', () => seen.flatMap(({ removed }) => removed).length === 1);
    expect(seen.slice(1).flatMap(({ upserts }) => upserts.map(({ id }) => id))).toEqual(['uid-c/shop/main']);
    stop.abort();
    await reading;
  });

  it('is told the same bytes of bundles as all others', async () => {
    const [one, two] = [await agentOf('node-1'), await agentOf('node-2')];
    const [first, second] = [await firstOf(one.watchBundles({})), await firstOf(two.watchBundles({}))];
    expect(first).toEqual(second);
    expect(first.own).toBe(formatBundleDocument(w.ca.bundle.value));
  });

  it('is renewed while its pod is on the node, and not once it is gone', async () => {
    const agent = await agentOf('node-1');
    const token = w.agentPod('node-1');
    const renewed = await agent.renew({ csr: await csr(), token });
    expect(renewed.spiffeId).toBe('spiffe://example.org/signet/agent/node-1');
    const [pod] = w.store.list('Pod');
    if (pod !== undefined) w.store.put({ ...pod, ...{ status: { phase: 'Failed' } } });
    const isRefused = async (): Promise<void> =>
      expect(agent.renew({ csr: await csr(), token })).rejects.toMatchObject({ status: 'PermissionDenied' });
    await isRefused();
    w.agentPod('node-1');
    await agent.renew({ csr: await csr(), token });
    w.store.remove(...w.store.list('Pod'));
    // A pod of the same name that is no agent's.
    w.store.put(
      aPodObject('agent-node-1', { serviceAccountName: 'default' }, { namespace: AGENTS.namespace }),
    );
    w.store.put(aPodObject('agent-node-1', { serviceAccountName: AGENTS.name }, { namespace: 'shop' }));
    await isRefused();
  });

  it('is not renewed by its SVID alone, which somebody may have stolen, nor with a token of another node or pod', async () => {
    const agent = await agentOf('node-1');
    const other = w.agentPod('node-2');
    const renewed = async (token: string): Promise<unknown> => agent.renew({ csr: await csr(), token });
    const refused = (why: string): unknown =>
      expect.objectContaining({ status: 'PermissionDenied', message: expect.stringContaining(why) });
    for (const [token, why] of [
      ['', 'the token has 0 bytes'],
      ['header.guess.signature', 'does not accept the token'],
      [other, 'is of the agent of node node-2'],
    ] as const)
      await expect(renewed(token)).rejects.toEqual(refused(why));
    // Of the pod that was there before the one that is now.
    const token = w.agentPod('node-1');
    const [pod] = w.store.list('Pod').filter(({ metadata }) => metadata.name === 'agent-node-1');
    if (pod !== undefined) w.store.put({ ...pod, metadata: { ...pod.metadata, uid: 'another' } });
    await expect(renewed(token)).rejects.toEqual(refused('is not there'));
    expect(w.log.all.join('\n')).not.toContain('token-of');
  });

  it('is renewed with one token as often as need be, but not without end', async () => {
    const agent = await agentOf('node-1');
    const token = w.agentPod('node-1');
    for (let at = 0; at < 20; at += 1) await agent.renew({ csr: await csr(), token });
    await expect(agent.renew({ csr: await csr(), token })).rejects.toMatchObject({
      status: 'ResourceExhausted',
    });
    await w.clock.advance(1_000);
    await agent.renew({ csr: await csr(), token });
  });

  it('is told why a pod of its own node has nothing, and nothing of others', async () => {
    const agent = await agentOf('node-1');
    w.store.put(aPodObject('a'), aPodObject('b', { nodeName: 'node-2' }));
    const about = async (value: string): Promise<string> =>
      (await agent.explain({ subject: { $case: 'podUid', value } })).text;
    expect(await about('uid-a')).toContain('no identity selects pod shop/a');
    expect(await about('uid-b')).not.toContain('shop/b');
    await expect(agent.explain({ subject: undefined })).rejects.toMatchObject({ status: 'InvalidArgument' });
  });

  it('is not believed about SVIDs that its node cannot hold, or that end too late', async () => {
    w.store.put(aWorkloadIdentity('main'), aPodObject('a'), aPodObject('b', { nodeName: 'node-2' }));
    const agent = await agentOf('node-1');
    const now = w.clock.now();
    const holding = (id: string, svidNotAfter: number, svidNotBefore = now) =>
      firstOf(agent.sync({ held: [{ id, revision: 'x', svidNotBefore, svidNotAfter }] }));
    await holding('uid-b/shop/main', now + 60_000);
    await holding('uid-a/shop/main', now + 3 * 3_600_000);
    await holding('uid-a/shop/main', now + 60_000, now + 3 * 3_600_000);
    await holding('uid-a/shop/main', now - 1, now - 2);
    await holding('uid-x/shop/main', now + 60_000);
    expect([...replica.controller.svids.all()]).toEqual([]);
    await holding('uid-a/shop/main', now + 60_000);
    expect([...replica.controller.svids.all()]).toEqual([
      { registrationId: 'uid-a/shop/main', notBefore: now, notAfter: now + 60_000 },
    ]);
  });

  it('acknowledges revocations for its own node alone, at a bounded rate', async () => {
    const said: string[] = [];
    const limited = await w.replica({
      limits: { acknowledgementBurst: 2 },
      acknowledged: (nodeName, { epoch, revision }) => said.push(`${nodeName} ${epoch} ${revision}`),
    });
    const of = async (path: string) => dial(await svidOf(path), limited.port).client(nodeService);
    const revocations = { epoch: 'e', revision: 7 };
    const agent = await of('/signet/agent/node-1');
    await agent.acknowledge({ revocations });
    // Nothing said is nothing known.
    await agent.acknowledge({ revocations: undefined });
    await expect(agent.acknowledge({ revocations })).rejects.toMatchObject({ status: 'ResourceExhausted' });
    const workload = await of('/ns/shop/sa/app');
    await expect(workload.acknowledge({ revocations })).rejects.toMatchObject({ status: 'PermissionDenied' });
    await (await of('/signet/agent/node-2')).acknowledge({ revocations });
    expect(said).toEqual(['node-1 e 7', 'node-2 e 7']);
  });

  it('has a bounded number of streams', async () => {
    const limited = await w.replica({ limits: { streams: 1 } });
    const svid = await svidOf('/signet/agent/node-1');
    const client = dial(svid, limited.port).client(nodeService);
    const stop = new AbortController();
    const open = client.watchBundles({}, { signal: stop.signal })[Symbol.asyncIterator]();
    await open.next();
    await expect(firstOf(client.watchBundles({}))).rejects.toMatchObject({ status: 'ResourceExhausted' });
    await firstOf(client.sync({ held: [] }));
    stop.abort();
    await open.next().catch(() => undefined);
    await until('the place is free again', () => firstOf(client.watchBundles({})));
  });
});

describe('a replica that stops', () => {
  it('ends streams with a status that sends agents elsewhere, and is done as soon as they are gone', async () => {
    const agent = await agentOf('node-1');
    const stream = agent.watchBundles({})[Symbol.asyncIterator]();
    await stream.next();
    const next = stream.next();
    const drained = replica.drain();
    await expect(next).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('stopping'),
    });
    // Without the clock: nobody waits for the grace to pass.
    await drained;
    await settle();
  });
});

describe('an agent whose SPIFFE ID is revoked', () => {
  it('gets nothing any more, neither by its SVID nor by its token, and the others go on', async () => {
    const revoked = new Set<string>();
    replica = await w.replica({
      revokedBecause: (id) => (revoked.has(id) ? 'it is revoked by Revocation n1: stolen' : undefined),
    });
    const token = w.agentPod('n1');
    const agent = await agentOf('n1');
    const other = await agentOf('n2');
    const updates = agent.sync({ held: [] })[Symbol.asyncIterator]();
    await updates.next();
    revoked.add('spiffe://example.org/signet/agent/n1');
    const refusal = { status: 'PermissionDenied', message: expect.stringContaining('Revocation n1: stolen') };
    await expect(agent.signX509({ requests: [] })).rejects.toMatchObject(refusal);
    await expect(agent.renew({ csr: await csr(), token })).rejects.toMatchObject(refusal);
    await expect(
      dial()
        .client(nodeService)
        .attestAgent({ token, csr: await csr() }),
    ).rejects.toMatchObject(refusal);
    // What it listens to ends with the next thing that it would have been told.
    const next = updates.next();
    w.store.put(aWorkloadIdentity('late'), aPodObject('late', { nodeName: 'n1' }));
    await expect(next).rejects.toMatchObject(refusal);
    expect(await other.signX509({ requests: [] })).toEqual({ results: [] });
  });
});
