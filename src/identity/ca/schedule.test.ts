import { describe, expect, it } from '@jest/globals';
import type { Authority, AuthoritySet, AuthoritySlot } from './authority-set.js';
import type { Moment } from './schedule.js';
import {
  activateAt,
  nextDecisionIn,
  prepareAt,
  retireAt,
  shouldActivate,
  shouldDiscard,
  shouldPrepare,
  shouldRetire,
} from './schedule.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const T0 = Date.UTC(2026, 0, 1);

function authority(slot: AuthoritySlot, from: number, to: number): Authority {
  return {
    kind: 'jwt',
    id: `${slot}-${from}`,
    keyId: 'k',
    keyType: 'ec-p256',
    subject: '',
    slot,
    published: true,
    tainted: false,
    revoked: false,
    notBefore: from,
    notAfter: to,
    spki: new Uint8Array(),
  };
}
const set = (...authorities: Authority[]): AuthoritySet => ({ sequence: 1, authorities });
const moment = (now: number, publishedForMs = DAY): Moment => ({
  now,
  publishedForMs: () => publishedForMs,
  publishDelayMs: 60_000,
});

describe('the schedule of a day', () => {
  const active = authority('active', T0, T0 + DAY);
  const prepared = authority('prepared', T0 + 12 * HOUR, T0 + 36 * HOUR);

  it('prepares with half of the life left, once', () => {
    expect(shouldPrepare(set(), 'jwt', T0)).toBe(true);
    expect(shouldPrepare(set(active), 'jwt', T0 + 12 * HOUR - 1)).toBe(false);
    expect(shouldPrepare(set(active), 'jwt', T0 + 12 * HOUR)).toBe(true);
    expect(shouldPrepare(set(active, prepared), 'jwt', T0 + 12 * HOUR)).toBe(false);
    expect(shouldPrepare(set(active), 'x509', T0)).toBe(true);
  });

  it('activates with a sixth left', () => {
    expect(shouldActivate(set(active, prepared), 'jwt', moment(T0 + 20 * HOUR - 1))).toBe(false);
    expect(shouldActivate(set(active, prepared), 'jwt', moment(T0 + 20 * HOUR))).toBe(true);
    expect(shouldActivate(set(active), 'jwt', moment(T0 + 20 * HOUR))).toBe(false);
  });

  it('gives consumers their time, but not beyond the life of the active one', () => {
    const both = set(active, prepared);
    expect(shouldActivate(both, 'jwt', moment(T0 + 23 * HOUR, 59_999))).toBe(false);
    expect(shouldActivate(both, 'jwt', moment(T0 + 23 * HOUR, 60_000))).toBe(true);
    expect(shouldActivate(both, 'jwt', moment(T0 + DAY, 0))).toBe(true);
  });

  it('never activates what is unpublished, or is not valid by the clock', () => {
    const late = T0 + 25 * HOUR;
    expect(shouldActivate(set(active, { ...prepared, published: false }), 'jwt', moment(late))).toBe(false);
    expect(shouldActivate(set(active, { ...prepared, notBefore: late + 1 }), 'jwt', moment(late))).toBe(
      false,
    );
    expect(shouldActivate(set(active, { ...prepared, notAfter: late }), 'jwt', moment(late))).toBe(false);
  });

  it('keeps an old one for a lifetime after its end, at most a day', () => {
    const old = authority('old', T0, T0 + HOUR);
    expect(retireAt(old)).toBe(T0 + 2 * HOUR);
    expect(shouldRetire(old, T0 + 2 * HOUR - 1)).toBe(false);
    expect(shouldRetire(old, T0 + 2 * HOUR)).toBe(true);
    expect(shouldRetire({ ...old, slot: 'active' }, T0 + 2 * HOUR)).toBe(false);
    expect(retireAt(authority('old', T0, T0 + 90 * DAY))).toBe(T0 + 91 * DAY);
  });
});

it('prepares at most 30 days, and activates at most 7 days, before the end', () => {
  const year = authority('active', T0, T0 + 365 * DAY);
  expect(prepareAt(year)).toBe(year.notAfter - 30 * DAY);
  expect(activateAt(year)).toBe(year.notAfter - 7 * DAY);
});

describe('when the clock jumps', () => {
  const active = authority('active', T0, T0 + DAY);

  it('far ahead: the expired one is replaced at once', () => {
    const now = T0 + 400 * DAY;
    expect(shouldPrepare(set(active), 'jwt', now)).toBe(true);
    const prepared = authority('prepared', now, now + DAY);
    expect(shouldActivate(set(active, prepared), 'jwt', moment(now, 0))).toBe(true);
  });

  it('far back: one that is not valid yet is as good as none, active or prepared', () => {
    const now = T0 - 400 * DAY;
    expect(shouldPrepare(set(active), 'jwt', now)).toBe(true);
    const prepared = authority('prepared', T0, T0 + DAY);
    expect(shouldDiscard(set(active, prepared), 'jwt', now)).toBe(true);
    expect(shouldDiscard(set(active, prepared), 'jwt', T0)).toBe(false);
    expect(shouldDiscard(set(active, prepared), 'jwt', T0 + DAY)).toBe(true);
  });
});

describe('the next decision', () => {
  it('comes when something is due', () => {
    const active = authority('active', T0, T0 + DAY);
    expect(nextDecisionIn(set(), moment(T0))).toBe(Infinity);
    expect(nextDecisionIn(set(active), moment(T0))).toBe(12 * HOUR);
    const prepared = authority('prepared', T0 + 12 * HOUR, T0 + 36 * HOUR);
    expect(nextDecisionIn(set(active, prepared), moment(T0 + 13 * HOUR))).toBe(7 * HOUR);
    expect(nextDecisionIn(set(active, prepared), moment(T0 + 13 * HOUR, 59_000))).toBe(1000);
    const old = authority('old', T0 - DAY, T0);
    expect(nextDecisionIn(set(old), moment(T0))).toBe(DAY);
  });
});
