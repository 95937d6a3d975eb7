import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { RotatingSvid } from './rotation.js';
import { isExpired, LONGEST_LOOK_MS, lookAgainIn, renewalTime, rotationReason } from './rotation.js';

const HOUR = 3_600_000;
const none = new Set<string>();

function svid(changes: Partial<RotatingSvid> = {}): RotatingSvid {
  return {
    notBefore: -60_000,
    notAfter: HOUR,
    receivedAt: 0,
    renewAt: HOUR / 2,
    authorityId: 'a1',
    ...changes,
  };
}

describe('renewalTime', () => {
  it('is the half of what is left on receipt, ± 10 %', () => {
    const validity = { notBefore: -60_000, notAfter: HOUR };
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
          const validity = { notBefore: start, notAfter: start + length };
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
    expect(rotationReason(svid(), HOUR / 2 - 1, none)).toBeUndefined();
    expect(rotationReason(svid(), HOUR / 2, none)).toBe('due');
  });

  it('is expired from notAfter on', () => {
    expect(rotationReason(svid(), HOUR, none)).toBe('expired');
    expect(isExpired(svid(), HOUR - 1)).toBe(false);
    expect(isExpired(svid(), HOUR)).toBe(true);
  });

  it('is tainted at once', () => {
    expect(rotationReason(svid(), 1, new Set(['a1']))).toBe('tainted');
    expect(rotationReason(svid(), 1, new Set(['a2']))).toBeUndefined();
  });

  it('sees a clock that was set back behind notBefore', () => {
    expect(rotationReason(svid(), -60_001, none)).toBe('clock');
    expect(rotationReason(svid(), -59_999, none)).toBeUndefined();
  });

  it('does not ask again and again when the server’s clock runs ahead', () => {
    expect(rotationReason(svid({ notBefore: 10_000, receivedAt: 0 }), 5_000, none)).toBeUndefined();
  });
});

describe('lookAgainIn', () => {
  it('waits for the first event, no shorter than the granularity, no longer than the longest look', () => {
    expect(lookAgainIn(5_000, 0, 1_000)).toBe(5_000);
    expect(lookAgainIn(10, 0, 1_000)).toBe(1_000);
    expect(lookAgainIn(-10, 0, 1_000)).toBe(1_000);
    expect(lookAgainIn(HOUR, 0, 1_000)).toBe(LONGEST_LOOK_MS);
    expect(lookAgainIn(undefined, 0, 1_000)).toBe(LONGEST_LOOK_MS);
  });
});
