import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { ClockSkew } from './clock-skew.js';

describe('the skew of a clock', () => {
  it('is told within two seconds, whatever the clocks and the ways are', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: -86_400_000, max: 86_400_000 }),
        fc.integer({ min: 0, max: 999 }),
        fc.integer({ min: 0, max: 999 }),
        fc.integer({ min: 0, max: 999 }),
        async (ahead, phase, there, back) => {
          const clock = new FakeClock(Date.UTC(2026, 0, 1) + phase);
          const skew = new ClockSkew(clock);
          const answered = skew.sent();
          await clock.advance(there);
          const header = new Date(clock.now() - ahead).toUTCString();
          await clock.advance(back);
          answered(header);
          expect(Math.abs((skew.aheadMs ?? Number.NaN) - ahead)).toBeLessThan(2_000);
          // Clocks that agree are not said to differ.
          if (ahead === 0) expect(skew.aheadMs).toBe(0);
        },
      ),
    );
  });

  it('is none where nothing tells it: no header, a broken one, an answer that was long under way', async () => {
    const clock = new FakeClock();
    const skew = new ClockSkew(clock);
    const [one, two, three] = [skew.sent(), skew.sent(), skew.sent()];
    one(undefined);
    two('yesterday');
    await clock.advance(2_500);
    three(new Date(0).toUTCString());
    expect(skew.aheadMs).toBeUndefined();
  });

  it('follows a clock that is set', () => {
    const clock = new FakeClock();
    const skew = new ClockSkew(clock);
    const real = new Date(clock.now()).toUTCString();
    clock.jump(600_000);
    skew.sent()(real);
    expect(skew.aheadMs).toBeGreaterThan(598_000);
    clock.jump(-600_000);
    skew.sent()(real);
    expect(skew.aheadMs).toBe(0);
  });
});
