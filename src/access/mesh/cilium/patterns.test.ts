import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { matchesHost, normaliseHost } from '../../policy/http.js';
import {
  exactPattern,
  matchesPath,
  normalisePath,
  prefixPattern,
  templatePattern,
} from '../../policy/path.js';
import type { PathPattern } from '../../policy/model.js';
import { isIdentityLabel } from './labels.js';
import { anyHost, anyPath, hostPattern, pathPattern } from './patterns.js';

const LIMIT = 1000;
const whole = ({ text }: { readonly text: string }): RegExp => new RegExp(`^(?:${text})$`, 'u');

function parsed(result: ReturnType<typeof exactPattern>): PathPattern {
  if (!result.ok) throw new Error(result.reason);
  return result.pattern;
}

function compiled(pattern: PathPattern): RegExp {
  const built = pathPattern(pattern, LIMIT);
  if (built === undefined) throw new Error('too large');
  return whole(built);
}

const PATTERNS = [
  exactPattern('/p/q'),
  exactPattern('/a.b+c'),
  exactPattern('/caf%C3%A9'),
  prefixPattern('/p'),
  prefixPattern('/'),
  templatePattern('/p/{a}/r'),
  templatePattern('/p/{rest=**}'),
  templatePattern('/{a}/'),
].map(parsed);

describe('paths for Cilium', () => {
  it('never match what the policy does not', () => {
    const piece = fc.constantFrom(
      'p',
      'q',
      'r',
      '/',
      '.',
      '..',
      '%2f',
      '%2E',
      '%20',
      '%c3%A9',
      ';',
      '//',
      'a.b+c',
      'aXb',
      'caf',
      '?x=/../',
      '%25',
      '\\',
      '%5C',
      '%3b',
      '%00',
      '{',
      ' ',
    );
    fc.assert(
      fc.property(fc.constantFrom(...PATTERNS), fc.array(piece, { maxLength: 7 }), (pattern, pieces) => {
        const path = `/${pieces.join('')}`;
        const normal = normalisePath(path);
        if (compiled(pattern).test(path)) expect(normal.ok && matchesPath(pattern, normal.path)).toBe(true);
        if (whole(anyPath()).test(path)) expect(normal.ok).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });

  it('match what the policy does, encoded as clients encode', () => {
    const piece = fc.constantFrom('p', 'q', 'r', '/', 'x.y', '.z', '%20', '%C3%A9', '~', '@');
    let matched = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...PATTERNS),
        fc.array(piece, { maxLength: 6 }),
        fc.constantFrom('', '?', '?a=b&c=%2F'),
        (pattern, pieces, query) => {
          const path = `/${pieces.join('')}`;
          const normal = normalisePath(path);
          fc.pre(normal.ok && !path.includes('..') && !path.includes('.z.'));
          const matches = normal.ok && matchesPath(pattern, normal.path);
          if (matches) matched += 1;
          expect(compiled(pattern).test(path + query)).toBe(matches);
        },
      ),
      { numRuns: 5000 },
    );
    expect(matched).toBeGreaterThan(300);
  });

  it('trap 14: a prefix ends at a segment, its characters stand for themselves, and a query may follow', () => {
    const admin = compiled(parsed(prefixPattern('/admin.v1')));
    expect(
      ['/admin.v1', '/admin.v1/', '/admin.v1/x?y=1', '/admin.v1?x'].filter((path) => !admin.test(path)),
    ).toEqual([]);
    expect(
      ['/admin.v1x', '/adminXv1', '/x/admin.v1', '/admin.v1/../x', '/admin.v1//x'].filter((path) =>
        admin.test(path),
      ),
    ).toEqual([]);
  });

  it('say segments without percent-encoding where that makes them small enough, or nothing', () => {
    const two = parsed(templatePattern('/{a}/{b}'));
    expect(pathPattern(two, 200)?.text).toContain('%');
    expect(pathPattern(two, 100)?.text).not.toContain('%');
    expect(pathPattern(two, 100)?.size).toBeLessThanOrEqual(100);
    expect(pathPattern(two, 40)).toBeUndefined();
    expect(pathPattern(parsed(exactPattern(`/${'x'.repeat(120)}`)), 100)).toBeUndefined();
  });
});

describe('hosts for Cilium', () => {
  it('match as policies match', () => {
    const text = fc
      .array(fc.constantFrom('api', 'API', '.example', '.EXAMPLE', '.', ':8080', ':', 'evil', '*', '-'), {
        maxLength: 5,
      })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.constantFrom('api.example', '*.example', 'example'), text, (pattern, host) => {
        const built = hostPattern(pattern, LIMIT);
        const normal = normaliseHost(host);
        const matches = normal !== undefined && matchesHost(pattern, normal);
        expect(built !== undefined && whole(built).test(host)).toBe(matches);
        if (whole(anyHost()).test(host)) expect(host === '' || normal !== undefined).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('labels for Cilium', () => {
  it('knows which are part of an identity, by the longest match', () => {
    const kept = ['app', 'app.kubernetes.io/name', 'team.example.org/x', 'version'];
    const dropped = [
      'pod-template-hash',
      'topology.kubernetes.io/zone',
      'kubernetes.io/arch',
      'beta.kubernetes.io/os',
      'controller-uid',
    ];
    expect(kept.filter((key) => !isIdentityLabel(key))).toEqual([]);
    expect(dropped.filter(isIdentityLabel)).toEqual([]);
  });
});
