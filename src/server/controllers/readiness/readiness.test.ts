import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../../test/support/fake-clock.js';
import { aPodObject, aWorkloadIdentity } from '../../../../test/support/identities.js';
import { MemoryStore } from '../../../../test/support/memory-store.js';
import { seededRandom } from '../../../../test/support/seeded-random.js';
import { createRegistrationIndex } from '../../../identity/registration/registration-index.js';
import { SignetError } from '../../../lib/errors.js';
import { silentLogger } from '../../../lib/logger.js';
import { WatchedValue } from '../../../lib/watched.js';
import type { StoredObject } from '../../../store/store.js';
import { createRegistrationController, type RegistrationController } from '../../registrations.js';
import { SigningRefusals } from '../../signing-refusals.js';
import { createReadinessController, type PodCondition } from './controller.js';

const GATES = [{ conditionType: 'signet.dev/identity' }];
const SETTLE_MS = 20_000;

let clock: FakeClock;
let store: MemoryStore;
let registrations: RegistrationController;
let refusals: SigningRefusals;
let leading: WatchedValue<boolean>;
let agents: Set<string>;
let written: { readonly pod: string; readonly condition: PodCondition }[];
let failNext: SignetError | undefined;
let stop: () => Promise<void>;
let version = 100;

/** Starts a replica; what it writes comes back through the store as from the API server. */
function start(): void {
  const index = createRegistrationIndex({
    trustDomain: 'example.org',
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
  });
  registrations = createRegistrationController({ store, index, clock, logger: silentLogger });
  const { controller, close } = createReadinessController({
    ...{ store, svids: registrations.svids, refusals, leading, settleMs: SETTLE_MS, clock },
    ...{ random: seededRandom(1), logger: silentLogger, inForce: new WatchedValue(0) },
    registrations: {
      ready: registrations.registrations.ready,
      forPod: (uid) => index.forPod(uid),
      explainPod: (uid) => index.explainPod(uid),
    },
    hasAgent: (nodeName) => agents.has(nodeName),
    write(pod, condition) {
      if (failNext !== undefined) {
        const error = failNext;
        failNext = undefined;
        return Promise.reject(error);
      }
      written.push({ pod: pod.name, condition });
      const present = store.get('Pod', `shop/${pod.name}`);
      if (present !== undefined) put({ ...present, status: { conditions: [condition] } } as StoredObject);
      return Promise.resolve(String(version));
    },
  });
  const aborted = new AbortController();
  const done = controller.run(aborted.signal);
  stop = async () => {
    close();
    aborted.abort();
    await done;
    await registrations.close();
  };
}

function put(object: StoredObject): void {
  version += 1;
  store.put({
    ...object,
    metadata: { ...object.metadata, resourceVersion: String(version) },
  } as StoredObject);
}
const gated = (name: string, spec: object = {}): StoredObject =>
  aPodObject(name, { readinessGates: GATES, ...spec });
const issue = (name: string, identity = 'all', forMs = 3_600_000): void =>
  registrations.svids.note({
    registrationId: `uid-${name}/${identity === 'all' ? 'shop/all' : `shop/${identity}`}`,
    ...{ notBefore: clock.now(), notAfter: clock.now() + forMs },
  });
const said = (): readonly string[] =>
  written.map(({ pod, condition }) => `${pod} ${condition.status} ${condition.reason}`);

beforeEach(() => {
  clock = new FakeClock();
  store = new MemoryStore();
  refusals = new SigningRefusals();
  leading = new WatchedValue(true);
  agents = new Set(['node-1']);
  written = [];
  failNext = undefined;
});
afterEach(async () => {
  await stop();
  expect(store.subscribers).toBe(0);
  expect(clock.timers).toBe(0);
});

describe('a pod that waits for its identity', () => {
  it('is told at once when it has it, once', async () => {
    start();
    put(aWorkloadIdentity('all'));
    put(gated('pay'));
    await settle();
    expect(said()).toEqual([]);
    issue('pay');
    await settle();
    expect(said()).toEqual(['pay True SvidIssued']);
    expect(written[0]?.condition).toEqual({
      ...{ type: 'signet.dev/identity', status: 'True', reason: 'SvidIssued' },
      message: 'spiffe://example.org/ns/shop/sa/pay',
      lastTransitionTime: new Date(clock.now()).toISOString().replace('.000', ''),
    });
    // Renewals change nothing.
    await clock.advance(1_800_000);
    issue('pay');
    await clock.advance(1_000);
    expect(written).toHaveLength(1);
  });

  it('waits for an SVID of each of its identities', async () => {
    start();
    put(aWorkloadIdentity('all'));
    put(aWorkloadIdentity('more', { spiffeIDTemplate: '/ns/shop/more' }));
    put(gated('pay'));
    issue('pay');
    await settle();
    expect(said()).toEqual([]);
    issue('pay', 'more');
    await settle();
    expect(said()).toEqual(['pay True SvidIssued']);
  });

  it('is told why not: which selector missed, no agent, not yet, refused', async () => {
    start();
    await clock.advance(SETTLE_MS);
    put(gated('pay'));
    put(gated('far', { nodeName: 'node-2' }));
    await clock.advance(2_000);
    expect([...said()].sort()).toEqual(['far False NoIdentity', 'pay False NoIdentity']);
    expect(written[0]?.condition.message).toContain('there is none for namespace shop');
    put(aWorkloadIdentity('all', { podSelector: { matchLabels: { app: 'web' } } }));
    await clock.advance(50);
    expect(written.at(-1)?.condition.message).toContain('label app is "');
    written.length = 0;
    put(aWorkloadIdentity('all'));
    await clock.advance(50);
    expect([...said()].sort()).toEqual(['far False NoAgent', 'pay False SvidPending']);
    agents.add('node-2');
    refusals.refused('uid-pay/shop/all', 'AuthorityUnavailable: no authority signs now');
    await clock.advance(10_000);
    expect(said().slice(2).sort()).toEqual(['far False SvidPending', 'pay False SigningRefused']);
    refusals.signed('uid-pay/shop/all');
    issue('pay');
    issue('far');
    await clock.advance(50);
    expect(said().slice(4).sort()).toEqual(['far True SvidIssued', 'pay True SvidIssued']);
  });

  it('is told by any replica that it has its identity or is refused, and of the rest by the leader alone', async () => {
    leading.set(false);
    start();
    put(aWorkloadIdentity('all', { podSelector: { matchLabels: { has: 'it' } } }));
    const labelled = (name: string): StoredObject =>
      aPodObject(name, { readinessGates: GATES }, { labels: { has: 'it' } });
    put(labelled('one'));
    put(labelled('two'));
    put(gated('three'));
    issue('one');
    refusals.refused('uid-two/shop/all', 'CsrInvalid: no key');
    await clock.advance(60_000);
    expect(said()).toEqual(['one True SvidIssued', 'two False SigningRefused']);
    leading.set(true);
    await clock.advance(SETTLE_MS - 1);
    expect(said()).toHaveLength(2);
    await clock.advance(1);
    expect(said().slice(2)).toEqual(['three False NoIdentity']);
  });

  it('stays ready through a new leader, a new identity and a pause, until what it has is over', async () => {
    leading.set(false);
    put(aWorkloadIdentity('all'));
    const condition = { type: 'signet.dev/identity', status: 'True', reason: 'SvidIssued', message: 'x' };
    put({ ...gated('pay'), status: { conditions: [condition] } } as StoredObject);
    start();
    leading.set(true);
    await clock.advance(10 * SETTLE_MS);
    put(aWorkloadIdentity('more', { spiffeIDTemplate: '/ns/shop/more' }));
    await clock.advance(10_000);
    expect(said()).toEqual([]);
    issue('pay', 'all', 60_000);
    issue('pay', 'more', 60_000);
    await clock.advance(59_000);
    expect(said()).toEqual(['pay True SvidIssued']);
    await clock.advance(1_000);
    expect(said().slice(1)).toEqual(['pay False SvidExpired']);
    issue('pay');
    issue('pay', 'more');
    await settle();
    expect(said().slice(2)).toEqual(['pay True SvidIssued']);
    store.remove(aWorkloadIdentity('all'), aWorkloadIdentity('more'));
    await settle();
    expect(said().slice(3)).toEqual(['pay False NoIdentity']);
  });

  it('is told again when it could not be told, and left alone when it is gone', async () => {
    start();
    put(aWorkloadIdentity('all'));
    put(gated('pay'));
    await settle();
    failNext = new SignetError('ApiForbidden', 'no');
    issue('pay');
    await settle();
    expect(said()).toEqual([]);
    await clock.advance(200);
    expect(said()).toEqual(['pay True SvidIssued']);
    put(gated('gone'));
    await settle();
    failNext = new SignetError('ApiNotFound', 'no such pod');
    issue('gone');
    await clock.advance(1_000);
    expect(said()).toEqual(['pay True SvidIssued']);
  });

  it.each([
    ['has no gate', aPodObject('pay')],
    ['has no node', gated('pay', { nodeName: '' })],
    ['has ended', { ...gated('pay'), status: { phase: 'Succeeded' } } as StoredObject],
    ['is being deleted', aPodObject('pay', { readinessGates: GATES }, { deletionTimestamp: 'x' } as object)],
  ])('is left alone when it %s', async (_, pod) => {
    start();
    put(pod);
    await clock.advance(2 * SETTLE_MS);
    expect(said()).toEqual([]);
  });
});
