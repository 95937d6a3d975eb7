import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../test/support/fake-clock.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import type { Revocation, RevokedSubject } from '../resources/revocation.js';
import { followRevokedTokens, isOfTokens, RevokedTokens, type RevocableToken } from './revoked-tokens.js';

const issuer = 'https://login.test/';
const revocation = (name: string, subject: RevokedSubject, until?: string): Revocation => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'Revocation',
  metadata: { name, uid: `r-${name}`, generation: 1 },
  spec: { subject, reason: 'the laptop was stolen', ...(until === undefined ? {} : { until }) },
});
const token = (more: Partial<RevocableToken> = {}): RevocableToken => ({
  ...{ issuer, subject: 'ann', claims: { jti: 't1', sid: 's1', sub: 'ann' } },
  ...more,
});

describe('a token', () => {
  it.each<[string, RevokedSubject]>([
    ['id', { token: { issuer, id: 't1' } }],
    ['user', { user: { issuer, subject: 'ann' } }],
    ['session', { session: { issuer, id: 's1' } }],
  ])('is revoked by its %s, and by that of its own issuer alone', (name, subject) => {
    const revoked = new RevokedTokens([revocation(name, subject)]);
    const why = `by Revocation ${name}: the laptop was stolen`;
    expect(revoked.reason(token(), 0)).toBe(why);
    expect(revoked.reason(token({ issuer: 'https://login.test' }), 0)).toBeUndefined();
    expect(
      revoked.reason(token({ subject: 'bob', claims: { jti: 't2', sid: 's2', sub: 'bob' } }), 0),
    ).toBeUndefined();
  });

  it('is told by the claim that is meant and no other, and by a claim that is a text', () => {
    const revoked = new RevokedTokens([
      revocation('t', { token: { issuer, id: 'x' } }),
      revocation('u', { user: { issuer, subject: '7' } }),
      revocation('s', { session: { issuer, id: 'y' } }),
    ]);
    const claims = { jti: 'y', sid: 'x', sub: 'ann' };
    expect(revoked.reason(token({ claims }), 0)).toBeUndefined();
    expect(revoked.reason(token({ claims: { jti: ['x'], sid: { y: 1 } } }), 0)).toBeUndefined();
    expect(revoked.reason(token({ subject: '7', claims: {} }), 0)).toContain('Revocation u');
  });

  it('stays revoked by one Revocation when another of the same has ended, and for good by an end that cannot be read', () => {
    const subject = { user: { issuer, subject: 'ann' } };
    const ended = revocation('ended', subject, '2020-01-01T00:00:00Z');
    const now = Date.parse('2026-01-01T00:00:00Z');
    expect(new RevokedTokens([ended]).reason(token(), now)).toBeUndefined();
    expect(new RevokedTokens([ended, revocation('b', subject)]).reason(token(), now)).toContain(
      'Revocation b',
    );
    expect(new RevokedTokens([revocation('odd', subject, 'soon')]).reason(token(), now)).toContain('odd');
  });

  it('is judged as one by one through all Revocations, however many there are', () => {
    const text = fc.constantFrom('a', 'b', 'c');
    const subject = fc.oneof(
      fc.record({ token: fc.record({ issuer: text, id: text }) }),
      fc.record({ user: fc.record({ issuer: text, subject: text }) }),
      fc.record({ session: fc.record({ issuer: text, id: text }) }),
      fc.constant({ spiffeID: 'a' }),
    ) as fc.Arbitrary<RevokedSubject>;
    const all = fc.array(fc.tuple(subject, fc.option(fc.integer({ min: 0, max: 9 }), { nil: undefined })));
    const asked = fc.record({ iss: text, sub: text, jti: text, sid: text });
    fc.assert(
      fc.property(all, asked, fc.integer({ min: 0, max: 9 }), (made, { iss, sub, jti, sid }, now) => {
        const expected = made.some(
          ([{ token: one, user, session }, until]) =>
            (until === undefined || now < until) &&
            ((one?.issuer === iss && one.id === jti) ||
              (user?.issuer === iss && user.subject === sub) ||
              (session?.issuer === iss && session.id === sid)),
        );
        const revoked = new RevokedTokens(
          made.map(([each, until], at) =>
            revocation(`r${at}`, each, until === undefined ? undefined : new Date(until).toISOString()),
          ),
        );
        expect(revoked.reason({ issuer: iss, subject: sub, claims: { jti, sid } }, now) !== undefined).toBe(
          expected,
        );
      }),
    );
  });
});

describe('the Revocations of tokens in a store', () => {
  it('count from when they are there to the instant of their end, or until they are deleted', async () => {
    const clock = new FakeClock();
    const store = new MemoryStore();
    const { reason, close } = followRevokedTokens(store, clock);
    expect(reason(token())).toBeUndefined();
    const until = new Date(clock.now() + 5_000).toISOString();
    store.put(revocation('soon', { token: { issuer, id: 't1' } }, until));
    await clock.advance(4_999);
    expect(reason(token())).toBe(`by Revocation soon until ${until}: the laptop was stolen`);
    await clock.advance(1);
    expect(reason(token())).toBeUndefined();
    const user = revocation('user', { user: { issuer, subject: 'ann' } });
    store.put(user);
    expect(reason(token())).toContain('Revocation user');
    store.remove(user);
    expect(reason(token())).toBeUndefined();
    close();
    expect(store.subscribers).toBe(0);
  });

  it('are told from those of SVIDs', () => {
    expect(isOfTokens(revocation('t', { session: { issuer, id: 'x' } }))).toBe(true);
    expect(isOfTokens(revocation('i', { spiffeID: 'spiffe://example.org/x' }))).toBe(false);
    expect(isOfTokens({ ...revocation('n', {}), spec: undefined } as unknown as Revocation)).toBe(false);
  });
});
