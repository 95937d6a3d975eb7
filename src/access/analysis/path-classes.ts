import { normalisePath } from '../policy/path.js';
import type { PathPattern } from '../policy/model.js';
import { TooComplexError } from './diagram.js';
import { fresh } from './space.js';

/** More classes than this are given up on. */
const MAX_CLASSES = 50_000;

/** Paths that the same patterns match, with the shortest of them that was found. */
export interface PathClass {
  readonly path: string;
  /** The patterns that match, by index. */
  readonly matching: ReadonlySet<number>;
}

type Item = { readonly literal: string } | 'one' | 'rest';

/** A pattern as what it asks of each segment. After the last item the path ends; `rest` takes one segment or more. */
interface Steps {
  readonly index: number;
  readonly items: readonly Item[];
  /** A prefix also takes whatever follows its last item. */
  readonly open: boolean;
}

/**
 * Every set of patterns that some canonical path matches exactly, each with such a path: walks all patterns at once,
 * segment by segment, with the texts that they name, one that none of them names, and the empty one that may end a path.
 */
export function pathClasses(patterns: readonly PathPattern[]): readonly PathClass[] {
  const found = new Map<string, PathClass>();
  const seen = new Set<string>();
  const steps = patterns.map(toSteps);
  const literals = new Set(steps.flatMap(({ items }) => items.flatMap((item) => literalOf(item) ?? [])));
  const other = fresh('other', literals);
  const keep = (segments: readonly string[], matching: readonly number[]): void => {
    const path = `/${segments.join('/')}`;
    const key = [...matching].sort((a, b) => a - b).join(',');
    // "." and "//" are never canonical; a pattern that came through says none of them.
    if (found.has(key) || !normalisePath(path).ok) return;
    if (found.size >= MAX_CLASSES) throw new TooComplexError();
    found.set(key, { path, matching: new Set(matching) });
  };
  /** `alive` still ask something of the next segment; `sticky` match whatever follows. */
  const walk = (segments: readonly string[], alive: readonly Steps[], sticky: readonly number[]): void => {
    const depth = segments.length;
    if (alive.length === 0) {
      keep([...segments, other], sticky);
      return;
    }
    const state = `${depth}:${alive.map(({ index }) => index).join(',')}:${sticky.join(',')}`;
    if (seen.has(state)) return;
    if (seen.size >= MAX_CLASSES * 4) throw new TooComplexError();
    seen.add(state);
    const wanted = new Set(alive.flatMap(({ items }) => literalOf(items[depth]) ?? []));
    for (const segment of [other, ...wanted, '']) {
      const next = alive.filter(({ items }) => takes(items[depth], segment));
      const resting = next.filter(({ items }) => items[depth] === 'rest').map(({ index }) => index);
      const moved = next.filter(({ items }) => items[depth] !== 'rest');
      const done = moved.filter(({ items }) => items.length === depth + 1);
      const path = [...segments, segment];
      keep(path, [...sticky, ...resting, ...done.map(({ index }) => index)]);
      if (segment === '') continue;
      const opened = done.filter(({ open }) => open).map(({ index }) => index);
      const going = moved.filter(({ items }) => items.length > depth + 1);
      walk(path, going, [...sticky, ...resting, ...opened]);
    }
  };
  const everywhere = steps.filter(({ items, open }) => open && items.length === 0);
  walk(
    [],
    steps.filter(({ items }) => items.length > 0),
    everywhere.map(({ index }) => index),
  );
  return [...found.values()];
}

function toSteps(pattern: PathPattern, index: number): Steps {
  switch (pattern.kind) {
    case 'exact':
      return { index, open: false, items: literalsOf(pattern.path) };
    case 'prefix':
      return { index, open: true, items: pattern.path === '/' ? [] : literalsOf(pattern.path) };
    case 'template':
      return {
        index,
        open: false,
        items: pattern.segments.map((segment) =>
          segment.kind === 'literal' ? { literal: segment.value } : segment.kind,
        ),
      };
  }
}

function literalsOf(path: string): readonly Item[] {
  return path
    .slice(1)
    .split('/')
    .map((literal) => ({ literal }));
}

function literalOf(item: Item | undefined): string | undefined {
  return typeof item === 'object' ? item.literal : undefined;
}

function takes(item: Item | undefined, segment: string): boolean {
  if (item === undefined) return false;
  if (item === 'rest') return true;
  return item === 'one' ? segment !== '' : item.literal === segment;
}
