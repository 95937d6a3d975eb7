import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { Fairness, type Party } from './fairness.js';
import { defaultAgentLimits } from './limits.js';
import { TokenBucket } from '../lib/token-bucket.js';

const pod = (uid: string): Party => ({ kind: 'pod', fairnessKey: `pod/${uid}` });

describe('TokenBucket', () => {
  it('gives a burst, then so many per second, and never saves up more than the burst', async () => {
    const clock = new FakeClock();
    const bucket = new TokenBucket(clock, 2, 4);
    expect(bucket.full).toBe(true);
    expect([bucket.take(3), bucket.take(2), bucket.take(1), bucket.take(1)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    await clock.advance(500);
    expect([bucket.take(), bucket.take()]).toEqual([true, false]);
    await clock.advance(3_600_000);
    expect(bucket.full).toBe(true);
    expect([bucket.take(4), bucket.take()]).toEqual([true, false]);
  });

  it('does not care for the wall clock', () => {
    const clock = new FakeClock();
    const bucket = new TokenBucket(clock, 1, 1);
    bucket.take();
    clock.jump(1e9);
    expect(bucket.take()).toBe(false);
  });
});

describe('Fairness', () => {
  it('gives back what is closed, once', () => {
    const fairness = new Fairness({ ...defaultAgentLimits, maxStreamsPerPod: 1 }, new FakeClock());
    const close = fairness.openStream(pod('a'));
    expect(() => fairness.openStream(pod('a'))).toThrow('1 are allowed');
    close();
    close();
    expect(fairness.streams).toBe(0);
    fairness.openStream(pod('a'));
    expect(() => fairness.openStream(pod('a'))).toThrow();
  });

  it('bounds the streams of all', () => {
    const fairness = new Fairness({ ...defaultAgentLimits, maxStreams: 2 }, new FakeClock());
    fairness.openStream(pod('a'));
    fairness.openStream(pod('b'));
    expect(() => fairness.openStream(pod('c'))).toThrow('takes no more');
  });

  it('forgets parties that owe nothing, and only those', async () => {
    const clock = new FakeClock();
    const fairness = new Fairness({ ...defaultAgentLimits, callsPerSecond: 1, callBurst: 1 }, clock);
    fairness.call(pod('busy'));
    fairness.openStream(pod('open'));
    for (let index = 0; index < 5_000; index++) {
      fairness.call(pod(`passing-${index}`));
      await clock.advance(1);
    }
    expect(fairness.parties).toBeLessThan(2_200);
    expect(fairness.streams).toBe(1);
    fairness.call(pod('late'));
    expect(() => fairness.call(pod('late'))).toThrow('too many calls');
  });
});
