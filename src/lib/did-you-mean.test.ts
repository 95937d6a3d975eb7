import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { didYouMean } from './did-you-mean.js';

describe('didYouMean', () => {
  const fields = ['podSelector', 'serviceAccountNames', 'x509TTL', 'jwtTTL', 'hint', 'to', 'from'];

  it.each([
    ['podselector', 'podSelector'],
    ['podSelectors', 'podSelector'],
    ['podSelecotr', 'podSelector'],
    ['serviceAccountName', 'serviceAccountNames'],
    ['x509Ttl', 'x509TTL'],
    ['form', 'from'],
    ['hints', 'hint'],
  ])('knows what %s was meant to be', (written, meant) => {
    expect(didYouMean(written, fields)).toBe(meant);
  });

  it.each(['', 'xyz', 'zz', 'x'.repeat(10_000), 'somethingElse'])('does not guess at %j', (written) => {
    expect(didYouMean(written, fields)).toBeUndefined();
  });

  it('finds a word of four letters or more after one slip', () => {
    const word = fc.stringMatching(/^[a-z]{4,20}$/);
    fc.assert(
      fc.property(
        word,
        fc.nat(),
        fc.stringMatching(/^[a-z]$/),
        fc.constantFrom('insert', 'delete', 'change'),
        (meant, at, letter, slip) => {
          const place = at % meant.length;
          const rest = meant.slice(place + (slip === 'insert' ? 0 : 1));
          const written = meant.slice(0, place) + (slip === 'delete' ? '' : letter) + rest;
          fc.pre(written !== meant);
          expect(didYouMean(written, [meant])).toBe(meant);
        },
      ),
    );
  });

  it('only ever answers with a candidate, never with what was written', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string()), (written, candidates) => {
        const found = didYouMean(written, candidates);
        if (found !== undefined)
          expect(candidates.filter((candidate) => candidate !== written)).toContain(found);
      }),
    );
  });
});
