import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { silentLogger } from '../lib/logger.js';
import { systemRandom } from '../lib/random.js';
import type { RevocationMark } from '../rpc/node-api.js';
import { Acknowledger } from './acknowledger.js';

let clock: FakeClock;
let told: string[];
let failures: number;
let answer: Promise<void>;
let stop: AbortController;
let acknowledger: Acknowledger<'sync' | 'bundles'>;
let running: Promise<void>;

const mark = (revision: number, epoch = 'a'): RevocationMark => ({ epoch, revision });

beforeEach(() => {
  clock = new FakeClock();
  told = [];
  failures = 0;
  answer = Promise.resolve();
  stop = new AbortController();
  acknowledger = new Acknowledger({
    api: {
      acknowledge({ epoch, revision }) {
        if (failures-- > 0) return Promise.reject(new Error('unreachable'));
        told.push(`${epoch}${revision}`);
        return answer;
      },
    },
    ...{ streams: ['sync', 'bundles'], clock, random: systemRandom, logger: silentLogger },
    backoff: { initialMs: 100, maxMs: 1_000 },
  });
  running = acknowledger.run(stop.signal);
});
afterEach(async () => {
  stop.abort();
  await running;
  expect(clock.timers).toBe(0);
});

describe('acknowledgements', () => {
  it('say how far all streams have come, once', async () => {
    acknowledger.took('sync', mark(3));
    await settle();
    expect(told).toEqual([]);
    acknowledger.took('bundles', mark(2));
    await settle();
    acknowledger.took('bundles', mark(3));
    await settle();
    acknowledger.took('bundles', mark(4));
    acknowledger.took('sync', mark(3));
    await settle();
    expect(told).toEqual(['a2', 'a3']);
  });

  it('wait while the streams are on their way to another replica, or come from one that says nothing', async () => {
    acknowledger.took('sync', mark(3));
    acknowledger.took('bundles', mark(3));
    await settle();
    acknowledger.took('sync', mark(1, 'b'));
    await settle();
    expect(told).toEqual(['a3']);
    acknowledger.took('bundles', mark(0, 'b'));
    await settle();
    acknowledger.took('sync', undefined);
    acknowledger.took('bundles', mark(9, 'b'));
    await settle();
    expect(told).toEqual(['a3', 'b0']);
  });

  it('are made again until they arrive, and then only of the newest', async () => {
    failures = 2;
    acknowledger.took('sync', mark(1));
    acknowledger.took('bundles', mark(1));
    await settle();
    acknowledger.took('sync', mark(5));
    acknowledger.took('bundles', mark(5));
    await clock.advance(5_000);
    expect(told).toEqual(['a5']);
  });

  it('are under way one at a time', async () => {
    let finish = (): void => undefined;
    answer = new Promise((resolve) => (finish = resolve));
    for (let at = 1; at < 10; at++) {
      acknowledger.took('sync', mark(at));
      acknowledger.took('bundles', mark(at));
      await settle();
    }
    expect(told).toEqual(['a1']);
    finish();
    await settle();
    expect(told).toEqual(['a1', 'a9']);
  });
});
