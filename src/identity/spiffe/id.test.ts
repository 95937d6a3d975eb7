import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parseSpiffeId, parseTrustDomain, spiffeId, SpiffeIdError } from './id.js';

/** The code of the SpiffeIdError that is thrown. */
function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof SpiffeIdError) return error.code;
    throw error;
  }
  return 'none';
}

describe('parseSpiffeId (SPIFFE-ID §2)', () => {
  it.each([
    ['spiffe://example.org', 'example.org', ''],
    ['spiffe://example.org/workload', 'example.org', '/workload'],
    ['spiffe://example.org/ns/a/sa/b', 'example.org', '/ns/a/sa/b'],
    ['spiffe://a/b', 'a', '/b'],
    ['spiffe://10.0.0.1/dotted-quad', '10.0.0.1', '/dotted-quad'],
    ['spiffe://under_score.-dash/x', 'under_score.-dash', '/x'],
    ['spiffe://example.org/A-Z.a_z-0/9', 'example.org', '/A-Z.a_z-0/9'],
    ['spiffe://example.org/...', 'example.org', '/...'],
    ['spiffe://example.org/.hidden/a..b', 'example.org', '/.hidden/a..b'],
    ['SPIFFE://example.org/workload', 'example.org', '/workload'],
  ])('accepts %s', (text, trustDomain, path) => {
    const id = parseSpiffeId(text);
    expect(id.trustDomain).toBe(trustDomain);
    expect(id.path).toBe(path);
    expect(id.uri).toBe(`spiffe://${trustDomain}${path}`);
  });

  it.each([
    ['', 'SpiffeIdInvalid'],
    ['example.org/workload', 'SpiffeIdInvalid'],
    ['spiffe:example.org', 'SpiffeIdInvalid'],
    ['spiffe:/example.org/x', 'SpiffeIdInvalid'],
    ['https://example.org/workload', 'SpiffeIdInvalid'],
    ['spiffes://example.org/workload', 'SpiffeIdInvalid'],
    [' spiffe://example.org/workload', 'SpiffeIdInvalid'],
    ['spiffe://', 'TrustDomainInvalid'],
    ['spiffe:///workload', 'TrustDomainInvalid'],
    ['spiffe://Example.org/workload', 'TrustDomainInvalid'],
    ['spiffe://user@example.org/workload', 'TrustDomainInvalid'],
    ['spiffe://user:secret@example.org/workload', 'TrustDomainInvalid'],
    ['spiffe://example.org:8080/workload', 'TrustDomainInvalid'],
    ['spiffe://[::1]/workload', 'TrustDomainInvalid'],
    ['spiffe://example%2Eorg/workload', 'TrustDomainInvalid'],
    ['spiffe://example.org?query', 'TrustDomainInvalid'],
    ['spiffe://example.org#fragment', 'TrustDomainInvalid'],
    ['spiffe://ünicode.org/workload', 'TrustDomainInvalid'],
    ['spiffe://example.org\n/workload', 'TrustDomainInvalid'],
    ['spiffe://example.org/', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a/', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org//a', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a//b', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/.', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/..', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a/../b', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a/./b', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a%20b', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a%2Fb', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a?query', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a#fragment', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a b', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/ä', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a\0', 'SpiffeIdPathInvalid'],
    ['spiffe://example.org/a\n', 'SpiffeIdPathInvalid'],
    [`spiffe://${'a'.repeat(256)}/x`, 'TrustDomainInvalid'],
  ])('refuses %j', (text, code) => {
    expect(codeOf(() => parseSpiffeId(text))).toBe(code);
  });

  it('accepts 2,048 bytes and refuses one more, without echoing the text', () => {
    const longest = `spiffe://example.org/${'a'.repeat(2048 - 'spiffe://example.org/'.length)}`;
    expect(parseSpiffeId(longest).uri).toHaveLength(2048);
    expect(codeOf(() => parseSpiffeId(`${longest}a`))).toBe('SpiffeIdTooLong');
    expect(() => parseSpiffeId('x'.repeat(1_000_000))).toThrow(/^.{0,200}$/);
  });

  it('accepts a trust domain of 255 bytes', () => {
    expect(parseTrustDomain('a'.repeat(255))).toHaveLength(255);
  });

  it('tells how to write a trust domain with upper case', () => {
    expect(() => parseTrustDomain('Example.ORG')).toThrow('write "example.org"');
  });

  const segment = fc
    .string({ unit: fc.constantFrom(...Array.from('abzAZ09._-')), minLength: 1, maxLength: 12 })
    .filter((text) => text !== '.' && text !== '..');
  const trustDomain = fc.string({
    unit: fc.constantFrom(...Array.from('abz09._-')),
    minLength: 1,
    maxLength: 40,
  });

  it('gives back what was joined, for any valid parts', () => {
    fc.assert(
      fc.property(trustDomain, fc.array(segment, { maxLength: 6 }), (name, segments) => {
        const path = segments.map((text) => `/${text}`).join('');
        const id = spiffeId(name, path);
        expect(parseSpiffeId(id.uri)).toEqual({ trustDomain: name, path, uri: `spiffe://${name}${path}` });
      }),
    );
  });

  it('either refuses a text or gives an ID that parses to itself', () => {
    const noise = fc.string({ unit: fc.constantFrom(...Array.from('aA0./:?#%@_- \0é')), maxLength: 30 });
    fc.assert(
      fc.property(noise, (rest) => {
        let id;
        try {
          id = parseSpiffeId(`spiffe://${rest}`);
        } catch (error) {
          expect(error).toBeInstanceOf(SpiffeIdError);
          return;
        }
        // What is accepted must be a URI that another parser reads in the same way.
        const url = new URL(id.uri);
        expect([url.host, url.pathname, url.search, url.hash, url.username, url.port]).toEqual([
          id.trustDomain,
          id.path,
          '',
          '',
          '',
          '',
        ]);
        expect(parseSpiffeId(id.uri)).toEqual(id);
      }),
      { numRuns: 2000 },
    );
  });
});
