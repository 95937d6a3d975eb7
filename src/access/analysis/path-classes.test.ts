import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { PathPattern } from '../policy/model.js';
import { exactPattern, matchesPath, normalisePath, prefixPattern, templatePattern } from '../policy/path.js';
import { pathClasses } from './path-classes.js';

const text = fc.constantFrom('/', '/a', '/a/', '/a/b', '/a/b/c', '/ab', '/b');
const template = fc.constantFrom(
  '/{x}',
  '/a/{x}',
  '/{x}/b',
  '/{x}/{y}/c',
  '/a/{r=**}',
  '/{x}/{r=**}',
  '/{x}/',
  '/{r=**}',
);
const pattern: fc.Arbitrary<PathPattern> = fc
  .oneof(text.map(exactPattern), text.map(prefixPattern), template.map(templatePattern))
  .map((parsed) => {
    if (!parsed.ok) throw new Error(parsed.reason);
    return parsed.pattern;
  });
const path = fc
  .tuple(fc.array(fc.constantFrom('a', 'b', 'c', 'ab', 'zz'), { maxLength: 4 }), fc.boolean())
  .map(([segments, slash]) => (segments.length === 0 ? '/' : `/${segments.join('/')}${slash ? '/' : ''}`));

const matching = (patterns: readonly PathPattern[], one: string): string =>
  patterns.map((each) => (matchesPath(each, one) ? '1' : '0')).join('');

describe('pathClasses', () => {
  it('has one path of every kind that the patterns tell apart, and each is matched as it says', () => {
    fc.assert(
      fc.property(
        fc.array(pattern, { maxLength: 5 }),
        fc.array(path, { maxLength: 30 }),
        (patterns, paths) => {
          const classes = pathClasses(patterns);
          const kinds = classes.map((each) => matching(patterns, each.path));
          expect(new Set(kinds).size).toBe(kinds.length);
          for (const [index, each] of classes.entries()) {
            expect(normalisePath(each.path)).toEqual({ ok: true, path: each.path });
            expect(patterns.map((_, at) => (each.matching.has(at) ? '1' : '0')).join('')).toBe(kinds[index]);
          }
          for (const one of paths) expect(kinds).toContain(matching(patterns, one));
        },
      ),
      { numRuns: 500 },
    );
  });
});
