import { ApiError } from './api-error.js';

const NEWLINE = 0x0a;

/**
 * Cuts a stream of bytes into lines. A chunk that ends no line gives `undefined`, so that the reader knows that the other
 * side lives. An unfinished last line is dropped: the object in it may be cut short.
 *
 * @throws ApiError `ApiAnswerUnusable` when a line is longer than `maxBytes`
 */
export async function* readLines(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
): AsyncIterable<string | undefined> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let start = 0;
    let ended = false;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, start)) {
      parts.push(chunk.subarray(start, at));
      check(size + at - start, maxBytes);
      yield Buffer.concat(parts).toString('utf8');
      parts = [];
      size = 0;
      start = at + 1;
      ended = true;
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start));
      size += chunk.length - start;
      check(size, maxBytes);
    }
    if (!ended) yield undefined;
  }
}

function check(size: number, maxBytes: number): void {
  if (size > maxBytes)
    throw new ApiError('ApiAnswerUnusable', `a line of the answer is longer than ${maxBytes} bytes`);
}
