import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { aPodObject, aWorkloadIdentity } from '../../../test/support/identities.js';
import { MemoryStore } from '../../../test/support/memory-store.js';
import { createRegistrationIndex } from '../../identity/registration/registration-index.js';
import { silentLogger } from '../../lib/logger.js';
import { systemRandom } from '../../lib/random.js';
import { WatchedValue } from '../../lib/watched.js';
import type { IssuedSvid } from '../issued-svids.js';
import { createRegistrationController, type RegistrationController } from '../registrations.js';
import { addressOfReplica, replicaIdentity } from './leader-address.js';
import { reportToLeader } from './reporter.js';

const SELF = replicaIdentity('server-0', '10.0.0.1:8443', 'aa');
const OTHER = replicaIdentity('server-1', '10.0.0.2:8443', 'bb');
const THIRD = replicaIdentity('server-2', '[fd00::3]:8443', 'cc');

let clock: FakeClock;
let controller: RegistrationController;
let leader: WatchedValue<string | undefined>;
let reports: { readonly address: string; readonly ids: readonly string[] }[];
let open: string[];
let fails: boolean;
let stop: AbortController;
let running: Promise<void>;

beforeEach(() => {
  clock = new FakeClock();
  const store = new MemoryStore();
  store.put(aWorkloadIdentity('main'), ...Array.from({ length: 12_000 }, (_, at) => aPodObject(`p${at}`)));
  controller = createRegistrationController({
    ...{ store, clock, logger: silentLogger, leading: new WatchedValue(false) },
    index: createRegistrationIndex({
      trustDomain: 'example.org',
      defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
    }),
  });
  leader = new WatchedValue<string | undefined>(undefined);
  reports = [];
  open = [];
  fails = false;
  stop = new AbortController();
  running = reportToLeader<IssuedSvid>(
    {
      ...{
        what: 'SVIDs',
        items: controller.svids,
        leader,
        self: SELF,
        clock,
        random: systemRandom,
        logger: silentLogger,
      },
      connect(address) {
        open.push(address);
        return {
          report(svids: readonly IssuedSvid[]) {
            if (fails) return Promise.reject(new Error('unreachable'));
            reports.push({ address, ids: svids.map(({ registrationId }) => registrationId) });
            return Promise.resolve();
          },
          close: () => open.splice(open.indexOf(address), 1),
        };
      },
    },
    stop.signal,
  );
});
afterEach(async () => {
  stop.abort();
  await running;
  await controller.close();
  expect(open).toEqual([]);
  expect(leader.watchers).toBe(0);
  expect(clock.timers).toBe(0);
});

const idOf = (at: number): string => `uid-p${at}/shop/main`;
const sign = (at: number, later = 0): void => {
  const notBefore = clock.now() + later;
  controller.svids.note({ registrationId: idOf(at), notBefore, notAfter: notBefore + 3_600_000 });
};

describe('reports of SVIDs', () => {
  it('go to the leader: all that are known at once, what comes later together, each once', async () => {
    sign(1);
    sign(2);
    await clock.advance(60_000);
    expect(reports).toEqual([]);
    leader.set(OTHER);
    await settle();
    expect(reports).toEqual([{ address: '10.0.0.2:8443', ids: [idOf(1), idOf(2)] }]);
    sign(3);
    await clock.advance(1_000);
    sign(4);
    sign(3, 10);
    expect(reports).toHaveLength(1);
    await clock.advance(5_000);
    expect(reports.slice(1)).toEqual([{ address: '10.0.0.2:8443', ids: [idOf(3), idOf(4)] }]);
    await clock.advance(600_000);
    expect(reports).toHaveLength(2);
  });

  it('go to the next leader from the beginning, and to nobody when this replica leads', async () => {
    leader.set(OTHER);
    sign(1);
    await clock.advance(6_000);
    leader.set(SELF);
    await clock.advance(6_000);
    sign(2);
    await clock.advance(60_000);
    expect(reports.map(({ address }) => address)).toEqual(['10.0.0.2:8443']);
    expect(open).toEqual([]);
    leader.set(THIRD);
    await clock.advance(6_000);
    expect(reports.slice(1)).toEqual([{ address: '[fd00::3]:8443', ids: [idOf(1), idOf(2)] }]);
  });

  it('are made again until they arrive', async () => {
    leader.set(OTHER);
    fails = true;
    sign(1);
    await clock.advance(30_000);
    expect(reports).toEqual([]);
    sign(2);
    fails = false;
    await clock.advance(13_000);
    expect(reports.flatMap(({ ids }) => ids).sort()).toEqual([idOf(1), idOf(2)]);
  });

  it('have a bounded size each', async () => {
    for (let at = 0; at < 12_000; at++) sign(at);
    leader.set(OTHER);
    await clock.advance(6_000);
    expect(reports.map(({ ids }) => ids.length)).toEqual([3_000, 3_000, 3_000, 3_000]);
  });

  it('are not made of registrations that are gone, nor to a leader that does not say where it is', async () => {
    leader.set(replicaIdentity('server-1', undefined, 'bb'));
    sign(1);
    await clock.advance(60_000);
    expect(reports).toEqual([]);
  });
});

describe('the identity of a replica', () => {
  it('gives its address, whatever the host is called', () => {
    fc.assert(
      fc.property(fc.string(), fc.boolean(), (host, has) => {
        const address = has ? '10.0.0.1:8443' : undefined;
        expect(addressOfReplica(replicaIdentity(host, address, 'x'))).toBe(address);
      }),
    );
    expect(addressOfReplica('anything')).toBeUndefined();
    expect(addressOfReplica('a_b_c_d')).toBeUndefined();
  });
});
