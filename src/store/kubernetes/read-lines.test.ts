import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { readLines } from './read-lines.js';

async function linesOf(chunks: readonly Buffer[], most = 1_000_000): Promise<(string | undefined)[]> {
  const lines = [];
  for await (const line of readLines(from(chunks), most)) lines.push(line);
  return lines;
}

async function* from(chunks: readonly Buffer[]): AsyncIterable<Buffer> {
  for (const chunk of chunks) yield await Promise.resolve(chunk);
}

describe('lines of a stream', () => {
  it('are the same however the bytes were cut, characters of several bytes too', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\n', '')),
          { maxLength: 20 },
        ),
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 50 }),
        async (lines, sizes) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const chunks: Buffer[] = [];
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const size = sizes[turn % sizes.length] ?? 1;
            chunks.push(bytes.subarray(at, at + size));
            at += size;
          }
          expect((await linesOf(chunks)).filter((line) => line !== undefined)).toEqual(lines);
        },
      ),
    );
  });

  it('give a sign of life for a chunk that ends none, and drop what is cut short', async () => {
    expect(await linesOf([Buffer.from('a'), Buffer.from('b\nc\nd')])).toEqual([undefined, 'ab', 'c']);
  });

  it('are not read beyond the limit, whether or not they end', async () => {
    await expect(linesOf([Buffer.alloc(60, 97), Buffer.alloc(60, 97)], 100)).rejects.toMatchObject({
      code: 'ApiAnswerUnusable',
    });
    await expect(linesOf([Buffer.from(`${'a'.repeat(101)}\n`)], 100)).rejects.toMatchObject({
      code: 'ApiAnswerUnusable',
    });
    expect(await linesOf([Buffer.from(`${'a'.repeat(100)}\n`)], 100)).toEqual(['a'.repeat(100)]);
  });
});
