import { expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { ClockCheck } from './clock-check.js';

const MINUTE = 60_000;

it('tells once of a clock that is a minute off or more, either way, and once that it is right again', () => {
  const clock = new FakeClock();
  const logger = recordingLogger();
  const check = new ClockCheck(clock, logger);
  /** An SVID comes from a server whose clock is right. */
  const comes = (): void => check.signed({ notBefore: right - 10_000 });
  const right = clock.now();
  expect(check.aheadMs).toBeUndefined();
  clock.jump(MINUTE - 1);
  comes();
  expect(check.aheadMs).toBe(MINUTE - 1);
  expect(logger.all).toEqual([]);
  clock.jump(-11 * MINUTE + 1);
  comes();
  comes();
  expect(check.aheadMs).toBe(-10 * MINUTE);
  expect(logger.all).toEqual([expect.stringMatching(/600 s behind that of the server.*NTP/)]);
  clock.jump(10 * MINUTE);
  comes();
  expect(logger.all).toHaveLength(2);
  expect(logger.all[1]).toContain('agrees');
  clock.jump(20 * MINUTE);
  comes();
  expect(logger.all[2]).toContain('1200 s ahead of');
});
