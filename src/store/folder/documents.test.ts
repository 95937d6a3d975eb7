import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import { locate, readJson, readYaml, splitDocuments, wholeFile } from './documents.js';

function only(text: string): ReturnType<typeof readYaml> {
  const [chunk] = splitDocuments(text);
  if (chunk === undefined) throw new Error('no document');
  return readYaml(chunk);
}

describe('splitDocuments', () => {
  it('cuts at markers, knows the lines, and leaves out what holds nothing', () => {
    const text = '# head\n---\na: 1\n---\n# nothing\n\n---   \nb: 2\n--- # note\nc: 3\n';
    expect(splitDocuments(text).map(({ text: piece, startLine }) => [piece, startLine])).toEqual([
      ['a: 1\n', 3],
      ['b: 2\n', 8],
      [' # note\nc: 3\n', 9],
    ]);
  });

  it('does not take a marker for one that stands inside of a text or a line', () => {
    expect(splitDocuments('a: |\n  ---\n  b\nc: x --- y\n----\n')).toHaveLength(1);
  });

  it('gives equal texts the same hash, and others another', () => {
    const [a, b, c] = splitDocuments('a: 1\n---\na: 2\n---\na: 1\n');
    expect(a?.hash).toBe(c?.hash);
    expect(a?.hash).not.toBe(b?.hash);
  });

  it('reads the same documents as the full parser does of the whole', () => {
    const document = fc.constantFrom(
      'a: 1\n',
      'b:\n  - c\n',
      'd: |\n  ---\n  text\n',
      '# no\n',
      '"---": x\n',
      'e: [1, {f: g}]\n',
    );
    const mark = fc.constantFrom('---\n', '--- \n', '--- # x\n', '---\r\n');
    fc.assert(
      fc.property(fc.array(fc.tuple(mark, document), { minLength: 1, maxLength: 6 }), (pieces) => {
        const text = pieces.flat().join('');
        const ours = splitDocuments(text).flatMap((chunk) => {
          const content = readYaml(chunk);
          return content.ok ? content.values : ['broken'];
        });
        const theirs = parseAllDocuments(text).flatMap((parsed) =>
          'contents' in parsed && parsed.contents !== null ? [parsed.toJS() as unknown] : [],
        );
        const there = (value: unknown): boolean => value !== null;
        expect(ours.filter(there)).toEqual(theirs.filter(there));
      }),
    );
  });
});

describe('readYaml', () => {
  it.each([
    ['a: 1\n\tb: 2\n', 2, /tab/],
    ['x: 1\ny: 2\nx: 3\n', 3, /written twice/],
    ['a: [1, 2\nb: 3\n', 2, /cannot be read/],
    ['ok: 1\nnot ok\n', 2, /cannot be read/],
    ['a: *nobody\n', 1, /nobody/],
    ['a: "open\n', 2, /quote/],
  ])('says where %j is wrong', (text, line, message) => {
    const content = only(text);
    expect(content.ok).toBe(false);
    if (!content.ok) {
      expect(content.message + (content.fix ?? '')).toMatch(message);
      expect(content.position.line).toBe(line);
    }
  });

  it('ends with an error, not a crash, on bombs', () => {
    const laughs = Array.from({ length: 12 }, (_, n) =>
      n === 0 ? 'a0: &a0 [x, x]' : `a${n}: &a${n} [*a${n - 1}, *a${n - 1}, *a${n - 1}, *a${n - 1}]`,
    ).join('\n');
    expect(only(`${laughs}\n`).ok).toBe(false);
    expect(only(`${'['.repeat(20_000)}\n`).ok).toBe(false);
    const deep = Array.from({ length: 5_000 }, (_, n) => `${' '.repeat(n)}a:`).join('\n');
    expect(typeof only(`${deep}\n`).ok).toBe('boolean');
  });

  it('never throws, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        for (const chunk of splitDocuments(text)) expect(typeof readYaml(chunk).ok).toBe('boolean');
      }),
    );
  });
});

describe('readJson', () => {
  it('says where JSON is wrong', () => {
    const [chunk] = wholeFile('{\n  "a": 1,\n  "b": ]\n}\n');
    expect(chunk).toBeDefined();
    if (chunk === undefined) return;
    expect(readJson(chunk)).toMatchObject({ ok: false, position: { line: 3 } });
  });

  it('has nothing to say of an empty file', () => {
    expect(wholeFile(' \n')).toEqual([]);
  });
});

describe('locate', () => {
  const text =
    'first: x\n---\nspec:\n  rules:\n    - name: a\n      from: []\n    - name: b\n  "odd key": 1\n';
  const chunk = splitDocuments(text)[1];
  const at = (...path: (string | number)[]): string => {
    if (chunk === undefined) throw new Error('no document');
    const { line, column } = locate(chunk, 0, path);
    return `${line}:${column}`;
  };

  it('finds fields, list entries, and the nearest thing above what is not there', () => {
    expect(at('spec')).toBe('3:1');
    expect(at('spec', 'rules', 1)).toBe('7:7');
    expect(at('spec', 'rules', 0, 'from')).toBe('6:7');
    expect(at('spec', 'odd key')).toBe('8:3');
    expect(at('spec', 'rules', 1, 'from')).toBe('7:7');
    expect(at('nothing')).toBe('3:1');
  });
});
