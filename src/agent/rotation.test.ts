import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { RotatingSvid } from './rotation.js';
import { isExpired, LONGEST_LOOK_MS, lookAgainIn, renewalTime, rotationReason, timeFor } from './rotation.js';

const HOUR = 3_600_000;
const none = new Set<string>();

/** A clock that has been right all the while since 0. */
const at = (ms: number): { now: () => number; monotonic: () => number } => ({
  now: () => ms,
  monotonic: () => ms,
});

function svid(changes: Partial<RotatingSvid> = {}): RotatingSvid {
  return {
    notBefore: -60_000,
    notAfter: HOUR,
    receivedAt: 0,
    receivedMonotonic: 0,
    signedAt: -1_000,
    renewAt: HOUR / 2,
    authorityId: 'a1',
    ...changes,
  };
}

describe('renewalTime', () => {
  it('is the half of what is left on receipt, ± 10 %', () => {
    const validity = { signedAt: -60_000, notAfter: HOUR };
    expect(renewalTime(validity, 0, 0)).toBeCloseTo(HOUR * 0.45);
    expect(renewalTime(validity, 0, 0.5)).toBeCloseTo(HOUR * 0.5);
    expect(renewalTime(validity, 0, 0.999999)).toBeCloseTo(HOUR * 0.55, -1);
  });

  it('lies strictly inside the life that is left, wherever the clock stood on receipt', () => {
    const time = fc.integer({ min: 0, max: 4e12 });
    fc.assert(
      fc.property(
        time,
        fc.integer({ min: 2, max: 1e10 }),
        time,
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (start, length, received, fraction) => {
          const validity = { signedAt: start, notAfter: start + length };
          const at = renewalTime(validity, received, fraction);
          expect(at).toBeGreaterThanOrEqual(start);
          expect(at).toBeLessThanOrEqual(validity.notAfter);
          if (received < start + length - 1) expect(at).toBeGreaterThan(Math.max(start, received));
        },
      ),
    );
  });
});

describe('rotationReason', () => {
  it('is nothing before the renewal time and due from then on', () => {
    expect(rotationReason(svid(), at(HOUR / 2 - 1), none)).toBeUndefined();
    expect(rotationReason(svid(), at(HOUR / 2), none)).toBe('due');
  });

  it('is expired from notAfter on', () => {
    expect(rotationReason(svid(), at(HOUR), none)).toBe('expired');
    expect(isExpired(svid(), at(HOUR - 1))).toBe(false);
    expect(isExpired(svid(), at(HOUR))).toBe(true);
  });

  it('is tainted at once', () => {
    expect(rotationReason(svid(), at(1), new Set(['a1']))).toBe('tainted');
    expect(rotationReason(svid(), at(1), new Set(['a2']))).toBeUndefined();
  });

  it('sees a clock that was set back behind notBefore', () => {
    expect(rotationReason(svid(), at(-60_001), none)).toBe('clock');
    expect(rotationReason(svid(), at(-59_999), none)).toBeUndefined();
  });

  it('does not ask again and again when the server’s clock runs ahead', () => {
    expect(rotationReason(svid({ notBefore: 10_000, receivedAt: 0 }), at(5_000), none)).toBeUndefined();
  });
});

describe('a clock that is wrong', () => {
  const time = fc.integer({ min: -10 * HOUR, max: 10 * HOUR });

  it('makes no SVID live longer than it was made for, however it is set and whenever', () => {
    fc.assert(
      fc.property(time, time, fc.integer({ min: 0, max: 3 * HOUR }), (wall, setTo, elapsed) => {
        const { signedAt, notAfter } = svid();
        const renewAt = renewalTime({ signedAt, notAfter }, wall, 0.5);
        const held = svid({ receivedAt: wall, receivedMonotonic: 5_000, renewAt });
        const clock = { now: () => setTo, monotonic: () => 5_000 + elapsed };
        if (elapsed >= notAfter - signedAt) expect(rotationReason(held, clock, none)).toBe('expired');
        expect(timeFor(held, clock)).toBeGreaterThanOrEqual(setTo);
        expect(isExpired(held, { ...clock, now: () => notAfter })).toBe(true);
      }),
    );
  });

  it('still lets an SVID be renewed in the middle of its life', () => {
    const behind = -10 * HOUR;
    const { signedAt, notAfter } = svid();
    const renewAt = renewalTime({ signedAt, notAfter }, behind, 0.5);
    const held = svid({ receivedAt: behind, renewAt });
    const later = (ms: number): string | undefined =>
      rotationReason(held, { now: () => behind + ms, monotonic: () => ms }, none);
    expect(later((notAfter - signedAt) / 2 - 1)).toBeUndefined();
    expect(later((notAfter - signedAt) / 2)).toBe('due');
  });
});

describe('lookAgainIn', () => {
  it('waits for the first event, no shorter than the granularity, no longer than the longest look', () => {
    expect(lookAgainIn(5_000, 1_000)).toBe(5_000);
    expect(lookAgainIn(10, 1_000)).toBe(1_000);
    expect(lookAgainIn(-10, 1_000)).toBe(1_000);
    expect(lookAgainIn(HOUR, 1_000)).toBe(LONGEST_LOOK_MS);
    expect(lookAgainIn(undefined, 1_000)).toBe(LONGEST_LOOK_MS);
  });
});
