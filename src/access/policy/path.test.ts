import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  MAX_PATH_LENGTH,
  exactPattern,
  matchesPath,
  normalisePath,
  prefixPattern,
  templatePattern,
  type ParsedPattern,
} from './path.js';

function matches(parsed: ParsedPattern, raw: string): boolean {
  if (!parsed.ok) throw new Error(parsed.reason);
  const normal = normalisePath(raw);
  if (!normal.ok) throw new Error(normal.reason);
  return matchesPath(parsed.pattern, normal.path);
}

describe('normalisePath', () => {
  it.each([
    ['/', '/'],
    ['/api/payments', '/api/payments'],
    ['/api/payments/', '/api/payments/'],
    ['/api?x=//../%2f', '/api'],
    ['/%61%70i', '/api'],
    ['/caf%c3%a9', '/caf%C3%A9'],
    ['/a%20b', '/a%20b'],
    ['/100%25', '/100%25'],
    ['/.well-known/x', '/.well-known/x'],
    ['/a..b/...', '/a..b/...'],
    ['/%7Euser', '/~user'],
  ])('writes %s as %s', (raw, path) => {
    expect(normalisePath(raw)).toEqual({ ok: true, path });
  });

  it.each([
    ['', 'start'],
    ['api', 'start'],
    ['*', 'start'],
    ['//admin', '//'],
    ['/a//b', '//'],
    ['/a/../b', '..'],
    ['/a/.', '"."'],
    ['/a/%2e%2e/b', '..'],
    ['/a/.%2E', '..'],
    ['/a%2fb', '%2F'],
    ['/a%5cb', '%5C'],
    ['/a\\b', 'backslash'],
    ['/a;v=1/b', ';'],
    ['/a%3bv', '%3B'],
    ['/a%00', 'control'],
    ['/a\0', 'percent-encoded'],
    ['/a b', 'percent-encoded'],
    ['/é', 'percent-encoded'],
    ['/a#b', 'percent-encoded'],
    ['/a%2', 'hex'],
    ['/a%zz', 'hex'],
    ['/a%', 'hex'],
    ['/a%252fb', 'twice'],
    ['/a%25%32fb', 'twice'],
    ['/' + 'a'.repeat(MAX_PATH_LENGTH), 'characters'],
  ])('refuses %j', (raw, word) => {
    const result = normalisePath(raw);
    expect(result.ok ? 'accepted' : result.reason).toContain(word);
  });

  it('is idempotent, and leaves nothing that a decoder or a merger of slashes would read in another way', () => {
    const piece = fc.constantFrom(
      'a',
      'B',
      '.',
      '..',
      '/',
      '//',
      '%2f',
      '%2E',
      '%61',
      '%25',
      ';',
      '%',
      '~',
      '%C3',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const once = normalisePath(`/${pieces.join('')}`);
        if (!once.ok) return;
        expect(normalisePath(once.path)).toEqual(once);
        const segments = once.path.slice(1).split('/');
        expect(segments.slice(0, -1)).not.toContain('');
        for (const segment of segments) {
          // Byte by byte: the text need not be UTF-8.
          const decoded = segment.replace(/%([0-9A-F]{2})/g, (_, hex: string) =>
            String.fromCharCode(Number.parseInt(hex, 16)),
          );
          expect(['.', '..']).not.toContain(decoded);
          expect(decoded).not.toMatch(/[/\\;]/);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('patterns', () => {
  it('match a prefix by whole segments only', () => {
    const api = prefixPattern('/api');
    expect(['/api', '/api/', '/api/x/y'].map((path) => matches(api, path))).toEqual([true, true, true]);
    expect(['/apis', '/ap', '/', '/x/api'].map((path) => matches(api, path))).toEqual([
      false,
      false,
      false,
      false,
    ]);
    expect(matches(prefixPattern('/api/'), '/api')).toBe(true);
    expect(matches(prefixPattern('/'), '/anything/at/all')).toBe(true);
  });

  it('match an exact path in its canonical form', () => {
    expect(matches(exactPattern('/%61pi'), '/api')).toBe(true);
    expect(matches(exactPattern('/api'), '/api/')).toBe(false);
    expect(matches(exactPattern('/api'), '/API')).toBe(false);
  });

  it('match templates by segments', () => {
    const one = templatePattern('/users/{id}/files');
    expect(matches(one, '/users/7/files')).toBe(true);
    expect(
      ['/users//files', '/users/files'].map((path) => normalisePath(path).ok && matches(one, path)),
    ).toEqual([false, false]);
    expect(matches(one, '/users/7/8/files')).toBe(false);
    expect(matches(one, '/users/7/files/')).toBe(false);
    const rest = templatePattern('/users/{id}/{path=**}');
    expect(['/users/7/', '/users/7/a', '/users/7/a/b/'].map((path) => matches(rest, path))).toEqual([
      true,
      true,
      true,
    ]);
    expect(['/users/7', '/users/'].map((path) => matches(rest, path))).toEqual([false, false]);
    expect(matches(templatePattern('/'), '/')).toBe(true);
    expect(matches(templatePattern('/a/{x}/'), '/a/b/')).toBe(true);
  });

  it.each([
    ['exact', exactPattern('/a*')],
    ['exact', exactPattern('/a?x=1')],
    ['exact', exactPattern('a')],
    ['prefix', prefixPattern('/a/../b')],
    ['prefix', prefixPattern('/{id}')],
    ['template', templatePattern('/a//b')],
    ['template', templatePattern('/{x}/{x}')],
    ['template', templatePattern('/{x=**}/b')],
    ['template', templatePattern('/a{x}')],
    ['template', templatePattern('a/{x}')],
  ])('refuse what has no one meaning (%s)', (_, parsed) => {
    expect(parsed.ok).toBe(false);
  });
});
