import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type RecordingSink, startCall, testContext, until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import type { Registration, RegistrationContainers } from '../identity/registration/registration.js';
import { silentLogger } from '../lib/logger.js';
import { X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { type Agent, createAgent, workloadApiHandlers } from './agent.js';
import { shareOf } from './container-share.js';
import type { CallerLocation } from './locator.js';

describe('what a caller gets of its pod', () => {
  const container = fc.constantFrom('a', 'b', 'c');
  /** What the server knows of containers is the same for all registrations of a pod. */
  const pods = fc
    .record({
      known: fc.uniqueArray(container),
      picks: fc.array(fc.option(fc.array(container)), { maxLength: 4 }),
    })
    .map(({ known, picks }) =>
      picks.map((pick, at): Registration => {
        const one = podRegistration('p', { id: `${at}` });
        if (pick === null) return one;
        const ids = known.filter((id) => pick.includes(id));
        return { ...one, containers: { ids, others: known.filter((id) => !ids.includes(id)) } };
      }),
    );

  it('is what is for the pod, and what names its container; more may come only while nothing is known of that', () => {
    let withheld = 0;
    fc.assert(
      fc.property(pods, fc.option(container, { nil: undefined }), (registrations, caller) => {
        const { given, awaited } = shareOf(registrations, caller);
        const wanted = registrations.filter(
          ({ containers }) =>
            containers === undefined || (caller !== undefined && containers.ids.includes(caller)),
        );
        withheld += registrations.length - wanted.length;
        expect(given).toEqual(wanted);
        const known = registrations.flatMap(({ containers }) =>
          containers === undefined ? [] : [...containers.ids, ...containers.others],
        );
        const some = registrations.some(({ containers }) => containers !== undefined);
        expect(awaited).toBe(caller !== undefined && some && !known.includes(caller));
      }),
      { numRuns: 500 },
    );
    expect(withheld).toBeGreaterThan(100);
  });
});

describe('the shared socket', () => {
  const APP = 'a'.repeat(64);
  const SIDE_CAR = 'b'.repeat(64);
  let clock: FakeClock;
  let api: FakeNodeApi;
  let agent: Agent;
  let stop: AbortController;
  let running: Promise<void>;
  let place: CallerLocation;

  beforeEach(async () => {
    clock = new FakeClock();
    api = await FakeNodeApi.create(clock);
    stop = new AbortController();
    agent = createAgent({
      ...{ api, nodeName: 'node-1', clock, random: seededRandom(), logger: silentLogger },
      attestor: { locate: () => place, attest: () => Promise.reject(new Error('it is in a pod')) },
    });
    running = agent.run(stop.signal);
  });
  afterEach(async () => {
    stop.abort();
    await running;
  });

  const signed = (): Promise<void> =>
    until(() => agent.ready.value && agent.stats().svids === api.registrations.size);
  const short = (ids: readonly string[]): readonly string[] => ids.map((id) => id.slice(0, 32));
  const of = (ids: readonly string[], others: readonly string[]): RegistrationContainers => ({
    ...{ ids: short(ids), others: short(others) },
  });
  /** The registration of pod `p` for these containers; its revision tells of them. */
  const registration = (
    containers: RegistrationContainers,
    more: Parameters<typeof podRegistration>[1] = {},
  ): Registration =>
    podRegistration('p', { id: 'one', revision: `r/${JSON.stringify(containers)}`, containers, ...more });
  function call(
    container: string | undefined,
    uid = 'p',
    listener = 'shared',
  ): RecordingSink<X509SVIDResponse> {
    place = { kind: 'pod', uid, ...(container === undefined ? {} : { container }) };
    const credentials = { pid: 1, uid: 1000, gid: 1000, isAlive: () => true };
    return startCall(
      X509SVIDResponse,
      (context, sink) => workloadApiHandlers(agent).fetchX509Svid({}, context, sink),
      testContext(listener === 'shared' ? { listener, credentials } : { listener }),
    );
  }
  async function refusalOf(sink: RecordingSink<X509SVIDResponse>): Promise<unknown> {
    await settle();
    await clock.advance(10_000);
    return sink.next().catch((error: unknown) => error);
  }

  it('gives an identity to a caller in its container, and says why to one in another', async () => {
    api.explanation = 'no identity selects container side-car';
    api.upsert(registration(of([APP], [SIDE_CAR])));
    await signed();
    expect((await call(APP).next()).svids).toHaveLength(1);
    expect(await refusalOf(call(SIDE_CAR))).toMatchObject({
      ...{ status: 'PermissionDenied', code: 'NoIdentity' },
      message: expect.stringContaining('no identity selects container side-car'),
    });
    expect(api.explained).toEqual([{ kind: 'pod', uid: 'p', container: SIDE_CAR }]);
  });

  it('gives it to nobody whose container is not told: on the socket of the pod, or beside the containers', async () => {
    api.upsert(registration(of([APP], [SIDE_CAR])));
    await signed();
    for (const sink of [call(undefined), call(undefined, 'p', 'pod/p')])
      expect(await refusalOf(sink)).toMatchObject({ status: 'PermissionDenied', code: 'NoIdentity' });
  });

  it('holds a caller whose container is not known yet, and signs nothing anew when it is', async () => {
    api.upsert(registration(of([], [])));
    await signed();
    const batches = api.x509Batches.length;
    const sink = call(APP);
    await settle();
    await clock.advance(1_000);
    api.upsert(registration(of([APP], [])));
    expect((await sink.next()).svids).toHaveLength(1);
    expect(api.x509Batches).toHaveLength(batches);
    // It is another container from here on: the first has ended, and its stream with it.
    api.upsert(registration(of([SIDE_CAR], [])));
    expect((await call(SIDE_CAR).next()).svids).toHaveLength(1);
    expect(api.x509Batches).toHaveLength(batches);
  });

  it('asks a caller to come again whose container stays unknown', async () => {
    api.upsert(registration(of([], [SIDE_CAR])));
    await signed();
    expect(await refusalOf(call(APP))).toMatchObject({ status: 'Unavailable', code: 'ContainerUnknown' });
  });

  it('gives what is for the whole pod meanwhile, and the rest when it comes', async () => {
    api.upsert(podRegistration('p', { id: 'whole', path: '/whole' }), registration(of([], [])));
    await signed();
    const sink = call(APP);
    await settle();
    await clock.advance(1_000);
    expect((await sink.next()).svids.map(({ spiffeId }) => spiffeId)).toEqual(['spiffe://example.org/whole']);
    api.upsert(registration(of([APP], [])));
    expect((await sink.next()).svids).toHaveLength(2);
  });

  it('finds a static pod by its UID on the node, and only where the node has told of the container', async () => {
    const hash = 'f'.repeat(32);
    const subject = (uid: string): Registration['subject'] => ({
      ...{ kind: 'pod', namespace: 'kube-system', name: uid, uid, staticUid: hash },
    });
    // A pod that says that it is the mirror has no container there.
    api.upsert(
      registration(of([APP], []), { subject: subject('mirror') }),
      registration(of([], []), { id: 'forged', path: '/forged', subject: subject('forged') }),
    );
    await signed();
    expect((await call(APP, hash).next()).svids.map(({ spiffeId }) => spiffeId)).toEqual([
      'spiffe://example.org/ns/shop/sa/p',
    ]);
    expect(await refusalOf(call(SIDE_CAR, hash))).toMatchObject({ code: 'ContainerUnknown' });
    expect(await refusalOf(call(APP, 'mirror'))).toMatchObject({ code: 'NoIdentity' });
  });
});
