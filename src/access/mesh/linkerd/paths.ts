import type { PathPattern } from '../../policy/model.js';

/*
 * Paths as Linkerd's routes match them. A request goes to the one route whose path matches the most characters
 * (linkerd2-proxy, linkerd/http/route/src/http/match/path.rs): of an exact path or a regular expression that is the whole
 * path, of a prefix its own length. What ties is decided by the age of the objects, so nothing here relies on ties.
 */

/** A pattern by its segments: the path "/" is one empty segment. */
interface Shape {
  /** undefined stands for one segment that is not empty. */
  readonly segments: readonly (string | undefined)[];
  /** What may follow: nothing, any number of segments, or at least one (which may be empty). */
  readonly tail: 'none' | 'any' | 'some';
}

function shapeOf(pattern: PathPattern): Shape {
  switch (pattern.kind) {
    case 'exact':
      return { segments: pattern.path.slice(1).split('/'), tail: 'none' };
    case 'prefix':
      return { segments: pattern.path === '/' ? [] : pattern.path.slice(1).split('/'), tail: 'any' };
    case 'template': {
      const { segments } = pattern;
      const rest = segments.at(-1)?.kind === 'rest';
      return {
        segments: (rest ? segments.slice(0, -1) : segments).map((segment) =>
          segment.kind === 'literal' ? segment.value : undefined,
        ),
        tail: rest ? 'some' : 'none',
      };
    }
  }
}

/** Whether some path may match both. */
export function overlaps(a: PathPattern, b: PathPattern): boolean {
  const [short, long] = [shapeOf(a), shapeOf(b)].sort((x, y) => x.segments.length - y.segments.length);
  if (short === undefined || long === undefined) return false;
  const meet = short.segments.every((segment, index) => {
    const other = long.segments[index];
    if (segment === undefined) return other !== '';
    return other === undefined ? segment !== '' : segment === other;
  });
  if (!meet) return false;
  if (short.segments.length < long.segments.length) return short.tail !== 'none';
  if (short.tail === 'none') return long.tail !== 'some';
  return long.tail !== 'none' || short.tail !== 'some';
}

/** Whether every path that matches `inner` matches `outer`. */
export function contains(outer: PathPattern, inner: PathPattern): boolean {
  const whole = shapeOf(outer);
  const part = shapeOf(inner);
  if (whole.segments.length > part.segments.length) return false;
  const meet = whole.segments.every((segment, index) => {
    const other = part.segments[index];
    return segment === undefined ? other !== '' : segment === other;
  });
  if (!meet) return false;
  const longer = part.segments.length > whole.segments.length;
  if (whole.tail === 'none') return !longer && part.tail === 'none';
  return whole.tail === 'any' || longer || part.tail === 'some' || whole.segments.length === 0;
}

/** Whether a route of `a` is always chosen before one of `b`, wherever both match. */
export function beats(a: PathPattern, b: PathPattern): boolean {
  if (b.kind !== 'prefix') return false;
  if (a.kind === 'prefix') return a.path.length > b.path.length;
  return !contains(a, { kind: 'exact', path: b.path });
}

/** One segment: canonical characters and encodings, and not dots alone. */
const CHARACTER =
  "(?:[A-Za-z0-9_~!$&'()*+,=:@-]|%(?:2[0-46-9A-C]|3[AC-F]|40|5[BDE]|60|7[B-D]|[89A-F][0-9A-F]))";
const SEGMENT = String.raw`(?:\.*${CHARACTER})+\.*`;

/**
 * Paths that are never let through, since programs on the way could read them in two ways, and spellings that are not the
 * canonical one, which an exact path would not match. Every one of them is longer than the prefixes it lies under, so the
 * route of this expression is chosen before those of prefixes.
 */
export const UNREADABLE = String.raw`^(?:[^/].*|.*(?:[^A-Za-z0-9._~!$&'()*+,=:@/%-]|//|/\.\.?(?:/|$)|%(?:[^2-9A-F]|.[^0-9A-F]|.?$|2[DEF]|3[0-9B]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AEF]|25[0-9A-Fa-f]{2})).*)$`;

/** The longest value that the CRD of HTTPRoute takes. */
const MAX_VALUE = 1024;

/** A match on a path, as HTTPRoute says it; undefined when it cannot be said. */
export function pathMatch(
  pattern: PathPattern,
): { readonly type: string; readonly value: string } | undefined {
  const match = anyLength(pattern);
  return match.value.length > MAX_VALUE ? undefined : match;
}

function anyLength(pattern: PathPattern): { readonly type: string; readonly value: string } {
  switch (pattern.kind) {
    case 'exact':
      return { type: 'Exact', value: pattern.path };
    case 'prefix':
      return { type: 'PathPrefix', value: pattern.path };
    case 'template': {
      const { segments, tail } = shapeOf(pattern);
      const head = segments
        .map((segment) => `/${segment === undefined ? SEGMENT : escape(segment)}`)
        .join('');
      const rest = tail === 'some' ? `/(?:${SEGMENT}(?:/${SEGMENT})*/?)?` : '';
      return { type: 'RegularExpression', value: `^${head}${rest}$` };
    }
  }
}

function escape(text: string): string {
  return text.replaceAll(/[.$()*+?^|[\]{}\\]/g, String.raw`\$&`);
}
