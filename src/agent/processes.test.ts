import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type RecordingSink, startCall, testContext, until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import type { ProcessFacts, ProcessSelector, Registration } from '../identity/registration/registration.js';
import { silentLogger } from '../lib/logger.js';
import { X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { StatusError } from '../rpc/service.js';
import { type Agent, createAgent, workloadApiHandlers } from './agent.js';
import type { Attestor } from './attestor.js';
import type { AgentLimits } from './limits.js';

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let stop: AbortController;
let running: Promise<void> | undefined;
/** What procfs would say, by pid. */
let processes: Map<number, ProcessFacts>;
let digested: number[];
let located: number[];

/** In which pods they are, by pid; the others are on the machine. */
let pods: Map<number, { readonly uid: string; readonly container: string }>;

const attestor: Attestor = {
  locate({ pid }) {
    const pod = pods.get(pid);
    return pod === undefined ? { kind: 'machine' } : { kind: 'pod', ...pod };
  },
  attest(credentials, depth) {
    const facts = processes.get(credentials.pid);
    if (facts === undefined || !credentials.isAlive())
      return Promise.reject(new StatusError('Unauthenticated', 'gone'));
    const { sha256, path, ...ids } = facts;
    if (depth !== 'ids') located.push(credentials.pid);
    if (depth === 'digest') digested.push(credentials.pid);
    return Promise.resolve({
      ...ids,
      ...(depth === 'ids' || path === undefined ? {} : { path }),
      ...(depth !== 'digest' || sha256 === undefined ? {} : { sha256 }),
    });
  },
};

async function start(limits: Partial<AgentLimits> = {}): Promise<void> {
  agent = createAgent({
    api,
    nodeName: 'n',
    clock,
    random: seededRandom(),
    logger: silentLogger,
    limits,
    attestor,
  });
  running = agent.run(stop.signal);
  await until(() => agent.ready.value && agent.stats().svids === api.registrations.size);
}

function processRegistration(id: string, selector: ProcessSelector): Registration {
  return podRegistration(id, {
    id,
    subject: { kind: 'process', selector },
    nodeName: '',
    path: `/process/${id}`,
    identity: { kind: 'ClusterWorkloadIdentity', namespace: '', name: id },
  });
}

function connect(pid: number, alive = true): RecordingSink<X509SVIDResponse> {
  const { uid, gid } = processes.get(pid) ?? { uid: 0, gid: 0 };
  return startCall(
    X509SVIDResponse,
    (context, sink) => workloadApiHandlers(agent).fetchX509Svid({}, context, sink),
    testContext({ listener: 'shared', credentials: { pid, uid, gid, isAlive: () => alive } }),
  );
}

const paths = (response: X509SVIDResponse): string[] =>
  response.svids.map(({ spiffeId }) => spiffeId.slice('spiffe://example.org/process/'.length));

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  stop = new AbortController();
  running = undefined;
  digested = [];
  located = [];
  pods = new Map();
  processes = new Map([
    [10, { uid: 1000, gid: 100, supplementaryGids: [4, 27], path: '/usr/bin/shop', sha256: 'ab'.repeat(32) }],
    [11, { uid: 1001, gid: 100, supplementaryGids: [], path: '/usr/bin/other' }],
  ]);
});

afterEach(async () => {
  stop.abort();
  await running;
});

describe('a caller on the shared socket', () => {
  it('gets the process registrations that match it, all of them, and no pod’s', async () => {
    api.upsert(
      processRegistration('uid', { uid: 1000 }),
      processRegistration('both', { gid: 100, path: '/usr/bin/shop' }),
      processRegistration('group', { supplementaryGid: 27 }),
      processRegistration('miss', { uid: 1000, path: '/usr/bin/other' }),
    );
    await start();
    expect(paths(await connect(10).next())).toEqual(['both', 'group', 'uid']);
  });

  it('that matches nothing is refused, told what was seen of it, and why by the server', async () => {
    api.upsert(processRegistration('uid', { uid: 1000 }));
    api.explanation = 'ClusterWorkloadIdentity uid: uid is 1001, it wants 1000';
    await start();
    const stream = connect(11);
    await settle();
    await clock.advance(5_000);
    expect(await stream.outcome()).toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringMatching(/uid 1001, gid 100, path \/usr\/bin\/other: Cluster/),
    });
  });

  it('that is gone is Unauthenticated', async () => {
    api.upsert(processRegistration('uid', { uid: 1000 }));
    await start();
    expect(await connect(10, false).outcome()).toMatchObject({ status: 'Unauthenticated' });
    expect(agent.stats().streams).toBe(0);
  });

  it('has its executable digested only when that can decide', async () => {
    api.upsert(
      processRegistration('uid', { uid: 1000 }),
      processRegistration('elsewhere', { uid: 1001, sha256: 'ab'.repeat(32) }),
    );
    await start();
    const stream = connect(10);
    expect(paths(await stream.next())).toEqual(['uid']);
    expect(digested).toEqual([]);
    // A registration that comes later may need it, for a stream that is open already.
    api.upsert(processRegistration('digest', { uid: 1000, sha256: 'AB'.repeat(32) }));
    expect(paths(await stream.next())).toEqual(['digest', 'uid']);
    expect(digested).toEqual([10]);
  });

  it('has its executable looked at only when a path can decide, or when it is refused', async () => {
    api.upsert(
      processRegistration('uid', { uid: 1000 }),
      processRegistration('elsewhere', { uid: 1002, path: '/usr/bin/shop' }),
    );
    await start();
    const stream = connect(10);
    expect(paths(await stream.next())).toEqual(['uid']);
    expect(located).toEqual([]);
    api.upsert(processRegistration('path', { uid: 1000, path: '/usr/bin/shop' }));
    expect(paths(await stream.next())).toEqual(['path', 'uid']);
    expect(located).toEqual([10]);
    const refused = connect(11);
    await settle();
    await clock.advance(5_000);
    expect(await refused.outcome()).toMatchObject({ status: 'PermissionDenied' });
    expect(located).toEqual([10, 11]);
  });

  it('without a digest is not asked for one again and again', async () => {
    processes.set(12, { uid: 1000, gid: 1, supplementaryGids: [] });
    api.upsert(processRegistration('digest', { uid: 1000, sha256: 'ab'.repeat(32) }));
    await start();
    const stream = connect(12);
    await settle();
    await clock.advance(5_000);
    expect(await stream.outcome()).toMatchObject({ status: 'PermissionDenied' });
    expect(digested).toEqual([12]);
  });

  it('that goes away while a digest is needed is Unauthenticated', async () => {
    await start();
    let alive = true;
    const stream = startCall(
      X509SVIDResponse,
      (context, sink) => workloadApiHandlers(agent).fetchX509Svid({}, context, sink),
      testContext({
        listener: 'shared',
        credentials: { pid: 10, uid: 1000, gid: 100, isAlive: () => alive },
      }),
    );
    await until(() => agent.stats().holders === 1);
    alive = false;
    api.upsert(processRegistration('digest', { sha256: 'ab'.repeat(32) }));
    expect(await stream.outcome()).toMatchObject({ status: 'Unauthenticated' });
  });

  it('loses an identity whose selector no longer matches', async () => {
    api.upsert(processRegistration('a', { uid: 1000 }), processRegistration('b', { gid: 100 }));
    await start();
    const stream = connect(10);
    expect(paths(await stream.next())).toEqual(['a', 'b']);
    api.upsert({ ...processRegistration('a', { uid: 4 }), revision: '2' });
    expect(paths(await stream.next())).toEqual(['b']);
  });

  it('shares its bound on streams with all that its user runs', async () => {
    processes.set(13, { uid: 1000, gid: 1, supplementaryGids: [], path: '/tmp/copy' });
    api.upsert(processRegistration('uid', { uid: 1000 }), processRegistration('other', { uid: 1001 }));
    await start({ maxStreamsPerUid: 2 });
    await connect(10).next();
    await connect(13).next();
    expect(await connect(13).outcome()).toMatchObject({ status: 'ResourceExhausted' });
    expect(paths(await connect(11).next())).toEqual(['other']);
  });
});

describe('a caller in a pod, on the shared socket', () => {
  const inPod = (uid: string): void => void pods.set(10, { uid, container: 'c'.repeat(64) });
  const ofPod = (name: string, uid: string): Registration => podRegistration(name, { uid, nodeName: 'n' });

  it('gets the identities of its pod', async () => {
    inPod('uid-1');
    api.upsert(ofPod('one', 'uid-1'), ofPod('other', 'uid-2'));
    await start();
    const { svids } = await connect(10).next();
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(['spiffe://example.org/ns/shop/sa/one']);
  });

  it('never gets those of processes of the machine, however well they fit', async () => {
    inPod('uid-1');
    api.upsert(
      processRegistration('uid', { uid: 1000 }),
      processRegistration('all', {
        ...{ uid: 1000, gid: 100, supplementaryGid: 27, path: '/usr/bin/shop', sha256: 'ab'.repeat(32) },
      }),
    );
    await start();
    const refused = connect(10);
    await settle();
    await clock.advance(5_000);
    expect(await refused.outcome()).toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining('the pod with UID uid-1 (container cccccccccccc)'),
    });
    // Nor when it has an identity of its own, and neither has been looked at for it.
    api.upsert(ofPod('one', 'uid-1'));
    const { svids } = await connect(10).next();
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(['spiffe://example.org/ns/shop/sa/one']);
    expect([located, digested]).toEqual([[], []]);
  });

  it('is counted with its pod’s own socket, not with others of its user', async () => {
    inPod('uid-1');
    api.upsert(ofPod('one', 'uid-1'), processRegistration('uid', { uid: 1000 }));
    processes.set(13, { uid: 1000, gid: 1, supplementaryGids: [] });
    await start({ maxStreamsPerPod: 2, maxStreamsPerUid: 1 });
    await connect(10).next();
    const own = startCall(
      X509SVIDResponse,
      (context, sink) => workloadApiHandlers(agent).fetchX509Svid({}, context, sink),
      testContext({ listener: 'pod/uid-1' }),
    );
    await own.next();
    expect(await connect(10).outcome()).toMatchObject({ status: 'ResourceExhausted' });
    expect(paths(await connect(13).next())).toEqual(['uid']);
  });

  it('whom the kernel cannot name is told why', async () => {
    api.upsert(processRegistration('uid', { uid: 0 }));
    await start();
    const context = testContext({ unknown: 'run the agent with hostPID' });
    const stream = startCall(
      X509SVIDResponse,
      (given, sink) => workloadApiHandlers(agent).fetchX509Svid({}, given, sink),
      context,
    );
    expect(await stream.outcome()).toMatchObject({
      status: 'Unauthenticated',
      message: 'run the agent with hostPID',
    });
  });
});
