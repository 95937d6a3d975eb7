import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { FakeLeaseApi, partitionedFate, type Fate } from '../../../test/support/fake-lease-api.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import type { Clock } from '../../lib/clock.js';
import { createLeaderElection, type LeaderElection } from './leader-election.js';

const WELL: Fate = { thereMs: 5, backMs: 5 };

/** A machine's own idea of time: its wall clock is off by any amount, its crystal by a little. */
function skewed(clock: Clock, wallMs: number, rate: number): Clock {
  return {
    now: () => clock.now() + wallMs,
    monotonic: () => clock.monotonic() * rate,
    after: (ms, fire) => clock.after(ms / rate, fire),
  };
}

interface Candidate {
  readonly name: string;
  readonly election: LeaderElection;
  readonly stop: AbortController;
  readonly running: Promise<void>;
}

/** Some candidates and one Lease. */
function newWorld() {
  const clock = new FakeClock();
  const api = new FakeLeaseApi(clock);
  const log = recordingLogger();
  const start = (
    name: string,
    fate: () => Fate = () => WELL,
    own: Clock = clock,
    seed = name.length,
  ): Candidate => {
    const stop = new AbortController();
    const election = createLeaderElection({
      ...{ api: api.client(fate), namespace: 'signet', name: 'signet', identity: name },
      ...{ clock: own, random: seededRandom(seed), logger: log },
    });
    return { name, election, stop, running: election.run(stop.signal) };
  };
  return { clock, api, log, start };
}

async function leads(clock: FakeClock, { election }: Candidate): Promise<number> {
  const began = clock.monotonic();
  for (let step = 0; step < 2000 && !election.leading.value; step++) await clock.advance(10);
  expect(election.leading.value).toBe(true);
  return clock.monotonic() - began;
}

describe('leader election', () => {
  it('never has two leaders, whatever the network, the clocks and the API server do', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0, max: 0.7, noNaN: true }),
        fc.array(fc.integer({ min: -600_000, max: 600_000 }), { minLength: 2, maxLength: 4 }),
        async (seed, trouble, skews) => {
          const { clock, api, start } = newWorld();
          const random = seededRandom(seed);
          const candidates = skews.map((wall, at) =>
            start(
              `c${at}`,
              partitionedFate(clock, random, trouble),
              skewed(clock, wall, 0.95 + 0.1 * random.fraction()),
              seed + at,
            ),
          );
          let terms = 0;
          let last = '';
          for (let step = 0; step < 1500; step++) {
            await clock.advance(100);
            const leaders = candidates.filter(({ election }) => election.leading.value);
            expect(leaders.length).toBeLessThanOrEqual(1);
            const [leader] = leaders;
            if (leader !== undefined && leader.name !== last) terms++;
            if (leader !== undefined) last = leader.name;
            // Now and then one is stopped for good, or stands up from a long sleep.
            if (random.fraction() < 0.002 && leader !== undefined) leader.stop.abort();
          }
          // And there is one, where the network lets there be.
          if (trouble < 0.3) expect(terms).toBeGreaterThan(0);
          expect(api.writes.length).toBeGreaterThan(0);
          for (const { stop } of candidates) stop.abort();
          await clock.advance(60_000);
          await Promise.all(candidates.map(({ running }) => running));
        },
      ),
      { numRuns: 40 },
    );
  }, 120_000);

  it('is renewed by one request each time', async () => {
    const { clock, api, start } = newWorld();
    let requests = 0;
    const one = start('one', () => {
      requests++;
      return WELL;
    });
    await leads(clock, one);
    requests = 0;
    await clock.advance(20_000);
    expect(requests).toBeLessThanOrEqual(10);
    expect(requests).toBe(api.writes.filter(({ at }) => at > clock.monotonic() - 20_000).length);
  });

  it('is handed over in order within one attempt, though a renewal is under way', async () => {
    const { clock, api, start } = newWorld();
    let back = 5;
    const one = start('one', () => ({ thereMs: 5, backMs: back }));
    await leads(clock, one);
    const two = start('two');
    await clock.advance(3_000);
    // The renewal has come through and its answer has not: its version is not the one that we know.
    back = 1_500;
    const writes = api.writes.length;
    while (api.writes.length === writes) await clock.advance(5);
    back = 5;
    one.stop.abort();
    await settle();
    expect(one.election.leading.value).toBe(false);
    const gap = await leads(clock, two);
    expect(gap).toBeLessThan(2_500);
    await one.running;
    expect(one.election.leader.value).toBeUndefined();
  });

  it('stops to lead in time when the API server hangs, and another leads when the lease has run out', async () => {
    const { clock, start } = newWorld();
    let hangs = false;
    const one = start('one', () => (hangs ? { thereMs: Infinity, backMs: 0 } : WELL));
    await leads(clock, one);
    const two = start('two');
    await clock.advance(4_000);
    hangs = true;
    const changes: boolean[] = [];
    one.election.leading.watch((value) => changes.push(value));
    await clock.advance(6_000);
    expect([one.election.leading.value, changes]).toEqual([false, [false]]);
    expect(two.election.leading.value).toBe(false);
    expect(await leads(clock, two)).toBeLessThan(8_000);
  });

  it('knows that its time is over before any timer has fired', async () => {
    const { clock, start } = newWorld();
    let asleep = 0;
    const own: Clock = { ...skewed(clock, 0, 1), monotonic: () => clock.monotonic() + asleep };
    const one = start('one', () => WELL, own);
    await leads(clock, one);
    asleep = 20_000;
    expect(one.election.leading.value).toBe(false);
  });

  it('tells of a new term when a renewal comes through after the former one had run out unnoticed', async () => {
    const { clock, start } = newWorld();
    let asleep = 0;
    const own: Clock = { ...skewed(clock, 0, 1), monotonic: () => clock.monotonic() + asleep };
    let back = 5;
    const one = start('one', () => ({ thereMs: 5, backMs: back }), own);
    await leads(clock, one);
    // A renewal is sent, and the process stands still until its answer is there and the term before it is over.
    back = 200;
    await clock.advance(2_100);
    asleep = 4_500;
    const seen: boolean[] = [one.election.leading.value];
    one.election.leading.watch((leads) => seen.push(leads));
    await clock.advance(200);
    expect([seen, one.election.leading.value]).toEqual([[false, false, true], true]);
  });

  it('does not take over a Lease that was deleted by hand while its leader may lead', async () => {
    const { clock, api, start } = newWorld();
    const one = start('one');
    await leads(clock, one);
    const two = start('two');
    for (let round = 0; round < 30; round++) {
      await clock.advance(700);
      api.lease = undefined;
      for (let step = 0; step < 30; step++) {
        await clock.advance(100);
        expect([one, two].filter(({ election }) => election.leading.value).length).toBeLessThanOrEqual(1);
      }
    }
    expect(one.election.leading.value).toBe(true);
  });

  it('says once which right it lacks, and takes part when it has it', async () => {
    const { clock, log, start } = newWorld();
    let forbidden = true;
    const one = start('one', () => (forbidden ? { ...WELL, status: 403 } : WELL));
    await clock.advance(30_000);
    expect(log.lines).toEqual([
      'warn the lease cannot be had or kept; it is tried again; add to Signet\'s Role in namespace signet: {apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"]}',
    ]);
    forbidden = false;
    expect(await leads(clock, one)).toBeLessThan(3_000);
  });
});
