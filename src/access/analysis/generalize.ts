import type { PathInput } from '../policy/input.js';

const NUMBER = /^\d+$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const HEX = /^(?=.*\d)[0-9a-f]{12,}$/i;

/** Whether a segment looks like the name of one thing among many. */
function looksLikeId(segment: string): boolean {
  return NUMBER.test(segment) || UUID.test(segment) || HEX.test(segment);
}

/** A path with `{id}` in the place of every segment that looks like an id; the path itself when none does. */
function shapeOf(path: string): string {
  let count = 0;
  return path
    .split('/')
    .map((segment) => {
      if (!looksLikeId(segment)) return segment;
      count++;
      return count === 1 ? '{id}' : `{id${count}}`;
    })
    .join('/');
}

/**
 * Canonical paths as patterns: exact ones, and where `threshold` or more paths differ only in segments that look like ids
 * (numbers, UUIDs, long hexadecimal numbers), one template for them. Without a threshold all are exact.
 */
export function patternsOf(paths: ReadonlySet<string>, threshold: number | undefined): readonly PathInput[] {
  const shapes = new Map<string, string[]>();
  for (const path of paths) {
    const shape = threshold === undefined ? path : shapeOf(path);
    const list = shapes.get(shape);
    if (list === undefined) shapes.set(shape, [path]);
    else list.push(path);
  }
  return [...shapes]
    .flatMap(([shape, list]): readonly PathInput[] =>
      shape.includes('{id') && list.length >= (threshold ?? Infinity)
        ? [{ template: shape }]
        : list.map((exact) => ({ exact })),
    )
    .sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
}

function textOf({ exact, template }: PathInput): string {
  return exact ?? template ?? '';
}
