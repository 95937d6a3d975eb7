import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { MAX_DEPTH, MAX_VALUES, readJsonPart } from './json.js';
import { TokenRefusal } from './refusal.js';

const read = (text: string): unknown => readJsonPart(Buffer.from(text), 'payload');

function reasonOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof TokenRefusal && error.code === 'TokenMalformed') return error.message;
    throw error;
  }
  return 'none';
}

function isDeepFrozen(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return Object.isFrozen(value) && Object.values(value).every(isDeepFrozen);
}

/** JSON without the one name that is refused. */
const json = fc
  .dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 }), { maxKeys: 8 })
  .map((value) => JSON.stringify(value))
  .filter((text) => !text.includes('__proto__'));

describe('one part of a token', () => {
  it('reads as JSON.parse reads it, and cannot be changed at any depth', () => {
    fc.assert(
      fc.property(json, (text) => {
        fc.pre(text.isWellFormed());
        const value = read(text);
        expect(value).toEqual(JSON.parse(text));
        expect(isDeepFrozen(value)).toBe(true);
      }),
    );
  });

  it('is refused when any object in it has a member twice, however it is written', () => {
    const twice = fc
      .tuple(fc.string(), fc.jsonValue({ maxDepth: 2 }), fc.boolean(), fc.nat(4))
      .map(([name, value, escape, depth]) => {
        const first = JSON.stringify(name);
        const escaped = [...Array(name.length).keys()]
          .map((at) => `\\u${name.charCodeAt(at).toString(16).padStart(4, '0')}`)
          .join('');
        const second = escape ? `"${escaped}"` : first;
        const inner = `{${first}: ${JSON.stringify(value)}, "between:\\":": 1 ,${second}:2}`;
        return `${'{"a":['.repeat(depth)}${inner}${']}'.repeat(depth)}`;
      });
    fc.assert(
      fc.property(twice, (text) => {
        fc.pre(JSON.stringify(JSON.parse(text)).isWellFormed());
        expect(reasonOf(() => read(text))).toMatch(/twice|__proto__|no Unicode/);
      }),
    );
  });

  it.each([
    ['a list', '[1]', 'no JSON object'],
    ['null', 'null', 'no JSON object'],
    ['a text', '"x"', 'no JSON object'],
    ['half an object', '{"a":', 'no JSON'],
    ['two objects', '{}{}', 'no JSON'],
    ['a byte order mark', '\ufeff{}', 'no JSON'],
    ['a number that is infinite once read', '{"exp":1e999}', 'too large'],
    ['a member __proto__', '{"a":{"__proto__":{"admin":true}}}', '__proto__'],
    ['half a surrogate pair in a text', '{"sub":"\\ud800"}', 'no Unicode'],
    ['half a surrogate pair in a name', '{"\\udc00":1}', 'no Unicode'],
    ['deep nesting', `${'{"a":'.repeat(MAX_DEPTH + 1)}1${'}'.repeat(MAX_DEPTH + 1)}`, 'deeper'],
    ['very deep nesting', `{"a":${'['.repeat(7000)}${']'.repeat(7000)}}`, 'deeper'],
    ['many values', JSON.stringify({ a: Array.from({ length: MAX_VALUES }, () => 1) }), 'more than'],
  ])('refuses %s', (_, text, reason) => {
    expect(reasonOf(() => read(text))).toContain(reason);
  });

  it('refuses what is no UTF-8', () => {
    expect(reasonOf(() => readJsonPart(Buffer.from([0x7b, 0x22, 0xc0, 0x80, 0x22]), 'header'))).toContain(
      'not UTF-8',
    );
  });

  it('reads what is just within the bounds', () => {
    const deep = `${'{"a":'.repeat(MAX_DEPTH)}1${'}'.repeat(MAX_DEPTH)}`;
    expect(read(deep)).toEqual(JSON.parse(deep));
    const many = JSON.stringify({ a: Array.from({ length: MAX_VALUES - 2 }, () => 1) });
    expect(read(many)).toEqual(JSON.parse(many));
  });
});
