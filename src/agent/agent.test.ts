import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { FakeClock } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { type RecordingSink, startCall, testContext, until } from '../../test/support/fake-call.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { parseCertificate } from '../identity/pki/certificate.js';
import { silentLogger } from '../lib/logger.js';
import { X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { type Agent, createAgent, workloadApiHandlers } from './agent.js';
import type { WorkloadApiHandlers } from './workload-api.js';
import type { AgentLimits } from './limits.js';

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let handlers: WorkloadApiHandlers;
let stop: AbortController;
let running: Promise<void>;

function start(limits: Partial<AgentLimits> = {}): void {
  agent = createAgent({
    api,
    nodeName: 'node-1',
    clock,
    random: seededRandom(),
    logger: silentLogger,
    limits,
  });
  handlers = workloadApiHandlers(agent);
  running = agent.run(stop.signal);
}

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  stop = new AbortController();
});

afterEach(async () => {
  stop.abort();
  await running;
});

/** An open FetchX509SVID of a pod. */
function watchSvids(uid: string): RecordingSink<X509SVIDResponse> {
  return startCall(
    X509SVIDResponse,
    (context, sink) => handlers.fetchX509Svid({}, context, sink),
    testContext({ listener: `pod/${uid}` }),
  );
}

describe('FetchX509SVID', () => {
  it('gives a connected pod its SVID: key, chain and bundle that fit', async () => {
    api.upsert(podRegistration('order', { hint: 'main', dnsNames: ['order.shop.svc'] }));
    start();
    const stream = watchSvids('order');
    const [svid] = (await stream.next()).svids;
    expect(svid?.spiffeId).toBe('spiffe://example.org/ns/shop/sa/order');
    expect(svid?.hint).toBe('main');
    const leaf = parseCertificate(svid?.x509Svid ?? new Uint8Array());
    expect(leaf.uris).toEqual(['spiffe://example.org/ns/shop/sa/order']);
    expect(leaf.dnsNames).toEqual(['order.shop.svc']);
    const key = createPrivateKey({ key: svid?.x509SvidKey ?? Buffer.alloc(0), format: 'der', type: 'pkcs8' });
    expect(createPublicKey(key).equals(leaf.publicKey)).toBe(true);
    const authority = parseCertificate(svid?.bundle ?? new Uint8Array());
    expect(leaf.isSignedBy(authority.publicKey)).toBe(true);
  });

  it('is there before the workload asks', async () => {
    api.upsert(podRegistration('order'));
    start();
    await until(() => agent.stats().svids === 1);
    const batches = api.x509Batches.length;
    const response = await watchSvids('order').next();
    expect(response.svids).toHaveLength(1);
    expect(api.x509Batches).toHaveLength(batches);
  });

  it('holds a caller that comes before its registration', async () => {
    start();
    await until(() => agent.ready.value);
    const stream = watchSvids('order');
    await clock.advance(3_000);
    expect(stream.messages).toHaveLength(0);
    expect(agent.stats().holders).toBe(1);
    api.upsert(podRegistration('order'));
    expect((await stream.next()).svids).toHaveLength(1);
    expect(agent.stats().holders).toBe(0);
  });
});
