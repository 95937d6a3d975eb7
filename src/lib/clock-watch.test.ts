import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { ClockWatch } from './clock-watch.js';

const HOUR = 3_600_000;
let clock: FakeClock;
let watch: ClockWatch;
beforeEach(() => {
  clock = new FakeClock();
  watch = new ClockWatch(clock);
});

describe('a watch on the wall clock', () => {
  it.each([-HOUR, -2_000, 2_000, HOUR])('notices once that it was set by %s ms', (ms) => {
    expect(watch.wasSet()).toBe(false);
    clock.jump(ms);
    expect([watch.wasSet(), watch.wasSet()]).toEqual([true, false]);
  });

  it('takes time that passes, and a clock that drifts, for no setting', async () => {
    for (let hour = 0; hour < 10; hour++) {
      await clock.advance(HOUR);
      // More in all than what counts as a setting.
      clock.jump(1_000);
      expect(watch.wasSet()).toBe(false);
    }
  });

  it('fires when it is due, and no earlier', async () => {
    const fired: [number, boolean][] = [];
    watch.after(10_500, (wasSet) => fired.push([clock.monotonic(), wasSet]));
    await clock.advance(HOUR);
    expect(fired).toEqual([[10_500, false]]);
    expect(clock.timers).toBe(0);
  });

  it('fires within a second of a setting, also of one that came before it was armed', async () => {
    const fired: [number, boolean][] = [];
    const arm = (): unknown => watch.after(HOUR, (wasSet) => fired.push([clock.monotonic(), wasSet]));
    arm();
    await clock.advance(5_500);
    clock.jump(-HOUR);
    await clock.advance(1_000);
    expect(fired).toEqual([[6_000, true]]);
    clock.jump(HOUR);
    arm();
    await clock.advance(1_000);
    expect(fired[1]).toEqual([7_500, true]);
  });

  it('fires no more once it is cancelled, at whatever time', async () => {
    const timer = watch.after(HOUR, () => expect(true).toBe(false));
    await clock.advance(5_500);
    timer.cancel();
    expect(clock.timers).toBe(0);
    clock.jump(HOUR);
    await clock.advance(2 * HOUR);
  });

  it('tells of each setting until it is told to stop', async () => {
    const told: number[] = [];
    const stop = new AbortController();
    const following = watch.follow(() => told.push(clock.monotonic()), stop.signal);
    for (const jump of [HOUR, -HOUR]) {
      await clock.advance(5_000);
      clock.jump(jump);
    }
    await clock.advance(5_000);
    stop.abort();
    await following;
    expect([told, clock.timers]).toEqual([[6_000, 11_000], 0]);
  });

  it('sleeps for the time that was said, until a setting, or until it is told to stop', async () => {
    const ends: unknown[] = [];
    const stop = new AbortController();
    const sleep = (ms: number): void =>
      void watch.sleep(ms, stop.signal).then(
        (wasSet) => ends.push([clock.monotonic(), wasSet]),
        (reason: unknown) => ends.push(reason),
      );
    sleep(2_500);
    await clock.advance(3_000);
    sleep(HOUR);
    await clock.advance(1_500);
    clock.jump(HOUR);
    await clock.advance(1_000);
    sleep(HOUR);
    await clock.advance(1_500);
    stop.abort('enough');
    await clock.advance(0);
    expect(ends).toEqual([[2_500, false], [5_000, true], 'enough']);
    expect(clock.timers).toBe(0);
  });
});
