import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Authority, AuthorityKind, AuthoritySet } from './authority-set.js';
import {
  activateAuthority,
  AUTHORITY_KINDS,
  discardPrepared,
  EMPTY_SET,
  inSlot,
  markPublished,
  MAX_TRUSTED_AUTHORITIES,
  prepareAuthority,
  retireAuthorities,
  revokeAuthority,
  taintAuthority,
  trustedJwtAuthorities,
  trustedRoots,
} from './authority-set.js';

const NOW = 1_000_000;
const coded = (code: string): unknown => expect.objectContaining({ code });

function authority(kind: AuthorityKind, name: string, root?: string): Authority {
  const base = {
    id: name,
    keyId: `key-${name}`,
    keyType: 'ec-p256',
    subject: name,
    slot: 'prepared',
    published: false,
    tainted: false,
    revoked: false,
    notBefore: 0,
    notAfter: 2 * NOW,
  } as const;
  if (kind === 'jwt') return { kind, ...base, spki: Buffer.from(name) };
  const certificate = Buffer.from(name);
  return { kind, ...base, certificate, intermediates: [], roots: [Buffer.from(root ?? name)] };
}

const published = (set: AuthoritySet): AuthoritySet => markPublished(set, set.sequence);
const rotated = (set: AuthoritySet, one: Authority): AuthoritySet =>
  activateAuthority(published(prepareAuthority(set, one)), one.kind, NOW);
const roots = (set: AuthoritySet): string[] => trustedRoots(set).map((der) => Buffer.from(der).toString());

describe('an authority', () => {
  it('is trusted from the moment it is prepared', () => {
    const set = prepareAuthority(prepareAuthority(EMPTY_SET, authority('x509', 'a')), authority('jwt', 'b'));
    expect(roots(set)).toEqual(['a']);
    expect(trustedJwtAuthorities(set).map(({ id }) => id)).toEqual(['b']);
    expect(set.sequence).toBe(2);
  });

  it('is not activated before it was published', () => {
    const set = prepareAuthority(EMPTY_SET, authority('x509', 'a'));
    expect(() => activateAuthority(set, 'x509', NOW)).toThrow(coded('AuthorityNotPublished'));
    expect(() => markPublished(set, set.sequence - 1)).toThrow('BUG');
    expect(inSlot(activateAuthority(published(set), 'x509', NOW), 'x509', 'active')?.id).toBe('a');
  });

  it('is not activated outside its lifetime', () => {
    const set = published(prepareAuthority(EMPTY_SET, { ...authority('x509', 'a'), notBefore: NOW }));
    expect(() => activateAuthority(set, 'x509', NOW - 1)).toThrow(coded('AuthorityNotYetValid'));
    expect(() => activateAuthority(set, 'x509', 2 * NOW)).toThrow(coded('AuthorityExpired'));
    expect(activateAuthority(set, 'x509', NOW)).toBeDefined();
  });

  it('makes the one before it old, which stays trusted', () => {
    const set = rotated(rotated(EMPTY_SET, authority('x509', 'a')), authority('x509', 'b'));
    expect(set.authorities.map(({ id, slot }) => `${id} ${slot}`)).toEqual(['a old', 'b active']);
    expect(roots(set)).toEqual(['a', 'b']);
  });

  it('leaves the other kind alone', () => {
    const set = rotated(rotated(EMPTY_SET, authority('x509', 'a')), authority('jwt', 'b'));
    expect(set.authorities.map(({ slot }) => slot)).toEqual(['active', 'active']);
  });

  it('waits for its turn: one is prepared at a time', () => {
    const set = prepareAuthority(EMPTY_SET, authority('x509', 'a'));
    expect(() => prepareAuthority(set, authority('x509', 'b'))).toThrow(coded('AuthorityAlreadyPrepared'));
    expect(() => activateAuthority(EMPTY_SET, 'x509', NOW)).toThrow(coded('AuthorityNotPrepared'));
  });

  it('can be dropped while it has signed nothing', () => {
    const set = discardPrepared(prepareAuthority(EMPTY_SET, authority('x509', 'a')), 'x509');
    expect(set).toEqual({ sequence: 2, authorities: [] });
    expect(discardPrepared(set, 'x509')).toBe(set);
  });
});

describe('taint and revoke', () => {
  const two = rotated(rotated(EMPTY_SET, authority('x509', 'a')), authority('x509', 'b'));

  it('touch only old authorities, and say how to make them old', () => {
    expect(() => taintAuthority(two, 'x509', 'b')).toThrow(/active.*signet ca rotate --kind x509/);
    const three = prepareAuthority(two, authority('x509', 'c'));
    expect(() => taintAuthority(three, 'x509', 'c')).toThrow(/prepared.*rotate twice/);
    expect(() => taintAuthority(two, 'jwt', 'a')).toThrow(coded('AuthorityNotFound'));
  });

  it('come one after the other', () => {
    expect(() => revokeAuthority(two, 'x509', 'a')).toThrow(/not tainted.*signet ca taint/);
    const tainted = taintAuthority(two, 'x509', 'a');
    expect(tainted.sequence).toBe(two.sequence);
    expect(roots(tainted)).toEqual(['a', 'b']);
    const revoked = revokeAuthority(tainted, 'x509', 'a');
    expect(roots(revoked)).toEqual(['b']);
    expect(revoked.sequence).toBe(two.sequence + 1);
    expect(revoked.authorities[0]).toMatchObject({ id: 'a', tainted: true, revoked: true });
  });

  it('twice are once', () => {
    const tainted = taintAuthority(two, 'x509', 'a');
    expect(taintAuthority(tainted, 'x509', 'a')).toBe(tainted);
    const revoked = revokeAuthority(tainted, 'x509', 'a');
    expect(revokeAuthority(revoked, 'x509', 'a')).toBe(revoked);
  });

  it('do not pretend to distrust an intermediate whose root stays', () => {
    const shared = rotated(
      rotated(EMPTY_SET, authority('x509', 'a', 'root')),
      authority('x509', 'b', 'root'),
    );
    expect(shared.sequence).toBe(1);
    const tainted = taintAuthority(shared, 'x509', 'a');
    expect(() => revokeAuthority(tainted, 'x509', 'a')).toThrow(coded('AuthorityRootShared'));
    const other = rotated(tainted, authority('x509', 'c', 'root 2'));
    const both = taintAuthority(other, 'x509', 'b');
    expect(() => revokeAuthority(both, 'x509', 'b')).toThrow(coded('AuthorityRootShared'));
  });
});

it('refuses to let the bundle grow without bound', () => {
  let set = EMPTY_SET;
  for (let n = 0; n < MAX_TRUSTED_AUTHORITIES; n++) set = rotated(set, authority('x509', `a${n}`));
  expect(() => prepareAuthority(set, authority('x509', 'more'))).toThrow(coded('AuthorityLimit'));
  expect(prepareAuthority(set, authority('jwt', 'more'))).toBeDefined();
  const freed = revokeAuthority(taintAuthority(set, 'x509', 'a0'), 'x509', 'a0');
  expect(prepareAuthority(freed, authority('x509', 'more'))).toBeDefined();
});

describe('whatever happens, in any order', () => {
  type Step = { readonly do: string; readonly kind: AuthorityKind; readonly pick: number };
  const one = (what: string): fc.Arbitrary<Step> =>
    fc.record({
      do: fc.constant(what),
      kind: fc.constantFrom(...AUTHORITY_KINDS),
      pick: fc.nat({ max: 20 }),
    });
  const all = ['prepare', 'publish', 'activate', 'taint', 'revoke', 'retire', 'discard', 'pass'];
  // Single steps in any order, and often enough those that make a rotation or a revocation.
  const steps = fc
    .array(
      fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom(...all).chain((what) => one(what).map((step) => [step])) },
        {
          weight: 1,
          arbitrary: one('prepare').map((step) => [
            { ...step, pick: step.pick | 1 },
            { ...step, do: 'publish', pick: 0 },
            { ...step, do: 'activate', pick: 0 },
          ]),
        },
        {
          weight: 1,
          arbitrary: one('taint').map(({ kind, pick }) => [
            { do: 'taint', kind, pick: pick % 4 },
            { do: 'revoke', kind, pick: pick % 4 },
          ]),
        },
      ),
      { maxLength: 60, size: 'max' },
    )
    .map((groups) => groups.flat());
  const content = (set: AuthoritySet): string =>
    JSON.stringify([
      roots(set).sort(),
      trustedJwtAuthorities(set)
        .map(({ id }) => id)
        .sort(),
    ]);

  function play(set: AuthoritySet, step: Step, now: number): AuthoritySet {
    const ofKind = set.authorities.filter(({ kind }) => kind === step.kind);
    const pick = ofKind[step.pick % Math.max(1, ofKind.length)]?.id ?? 'none';
    switch (step.do) {
      case 'prepare':
        // Some share a root, as under an upstream authority.
        return prepareAuthority(set, {
          ...authority(step.kind, `${step.kind}-${now}`, step.pick % 3 === 0 ? 'shared' : undefined),
          notBefore: now + (step.pick % 4 === 1 ? 50 : 0),
          notAfter: now + 50 + step.pick * 10,
        });
      case 'publish':
        return markPublished(set, set.sequence);
      case 'activate':
        return activateAuthority(set, step.kind, now);
      case 'taint':
        return taintAuthority(set, step.kind, pick);
      case 'revoke':
        return revokeAuthority(set, step.kind, pick);
      case 'retire':
        return retireAuthorities(set, ({ notAfter }) => notAfter <= now);
      case 'discard':
        return discardPrepared(set, step.kind);
      default:
        return set;
    }
  }

  function checkSlots(set: AuthoritySet, everPublished: ReadonlySet<string>): void {
    for (const kind of AUTHORITY_KINDS) {
      for (const slot of ['active', 'prepared'] as const) {
        const there = set.authorities.filter((other) => other.kind === kind && other.slot === slot);
        expect(there.length).toBeLessThanOrEqual(1);
        // Neither signs after it was tainted, and no more does one that nobody was told of.
        for (const { tainted, revoked, id } of there) {
          expect(tainted || revoked).toBe(false);
          if (slot === 'active') expect(everPublished).toContain(id);
        }
      }
      const active = inSlot(set, kind, 'active');
      if (active?.kind === 'x509')
        expect(roots(set)).toEqual(expect.arrayContaining(active.roots.map(String)));
    }
  }

  it('the promises hold', () => {
    let activations = 0;
    let revocations = 0;
    fc.assert(
      fc.property(steps, (list) => {
        let set = EMPTY_SET;
        let now = NOW;
        const everPublished = new Set<string>();
        for (const step of list) {
          now += 1 + step.pick;
          let next: AuthoritySet;
          try {
            next = play(set, step, now);
          } catch (error) {
            expect(error).toHaveProperty('code', expect.stringMatching(/^Authority/));
            continue;
          }
          if (step.do === 'publish') for (const { id } of next.authorities) everPublished.add(id);
          if (step.do === 'activate') activations++;
          if (step.do === 'revoke' && next !== set) revocations++;
          checkSlots(next, everPublished);
          expect(next.sequence).toBe(set.sequence + (content(next) === content(set) ? 0 : 1));
          set = next;
        }
      }),
      { numRuns: 150 },
    );
    // The run was about something.
    expect(activations).toBeGreaterThan(50);
    expect(revocations).toBeGreaterThan(5);
  });
});
