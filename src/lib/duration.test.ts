import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { DurationError, formatDuration, parseDuration } from './duration.js';

describe('parseDuration', () => {
  it.each([
    ['1h', 3600],
    ['30m', 1800],
    ['90s', 90],
    ['1h30m', 5400],
    ['1.5h', 5400],
    ['500ms', 0.5],
    ['0s', 0],
    ['1h1m1s1ms', 3661.001],
    ['0.1s', 0.1],
  ])('reads %s as %d seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each([
    '',
    '1',
    'h',
    '1 h',
    ' 1h',
    '-1h',
    '+1h',
    '1d',
    '1h,5m',
    '1e3s',
    '1us',
    '.5h',
    '1.h',
    '1H',
    '1h'.repeat(20),
  ])('refuses %j', (text) => {
    expect(() => parseDuration(text)).toThrow(DurationError);
  });

  it('refuses what no date can be computed with', () => {
    expect(() => parseDuration('99999999999h')).toThrow(/thousand years/);
  });

  it('says what days are in hours', () => {
    expect(() => parseDuration('30d')).toThrow(/"720h"/);
  });

  it('reads back what is written, to the millisecond', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000_000_000 }), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds / 1000))).toBe(milliseconds / 1000);
      }),
    );
  });

  it('is a number of seconds or a DurationError for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9.hms]{0,12}$/)), (text) => {
        try {
          expect(parseDuration(text)).toBeGreaterThanOrEqual(0);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(DurationError);
        }
      }),
    );
  });
});
