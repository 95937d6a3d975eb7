import type { Facts } from './facts.js';
import type { PathPattern, Policy, Rule, Source } from './model.js';

/** A rule with what its policy adds to it. Lower ranks are looked at first. */
export interface RankedRule {
  readonly rank: number;
  readonly policy: Policy;
  readonly rule: Rule;
  /** The policy's target ports. */
  readonly ports: ReadonlySet<number> | undefined;
}

/** A rule, reached by one of its sources. */
export interface IndexedRule {
  readonly ranked: RankedRule;
  readonly source: Source;
  /** Whether the source says nothing more than the principals that it is found under. */
  readonly plain: boolean;
}

/** The rules for one caller, in order of rank. */
export interface RuleList {
  readonly all: readonly IndexedRule[];
  /** Absent where the rules are so few that looking at each is quicker. */
  readonly byPath?: PathIndex;
}

/** Rules by the paths that they are about. A rule may stand in several lists; each list is in order of rank. */
interface PathIndex {
  /** Rules that may match whatever the path is. */
  readonly anyPath: readonly IndexedRule[];
  readonly exact: ReadonlyMap<string, readonly IndexedRule[]>;
  /** By the segments that a path must begin with, `/a/b`; at most {@link MAX_DEPTH} of them. */
  readonly under: ReadonlyMap<string, readonly IndexedRule[]>;
}

/** Up to here a list is looked through. */
const FEW = 8;
/** Bounds how many prefixes of a path are looked up. */
const MAX_DEPTH = 8;

/** Makes a list of rules, which come in order of rank, quick to search. */
export function ruleList(all: readonly IndexedRule[]): RuleList {
  return all.length <= FEW ? { all } : { all, byPath: indexPaths(all) };
}

/** The parts of a list in which every rule is that could match a request, each in order of rank. */
export function candidates({ all, byPath }: RuleList, facts: Facts): readonly (readonly IndexedRule[])[] {
  // A Deny rule about paths that are not seen holds all the same.
  if (byPath === undefined || facts.http === undefined) return [all];
  const { path } = facts.http;
  const found = [byPath.anyPath];
  add(found, byPath.exact.get(path));
  add(found, byPath.under.get(''));
  let slash = 0;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    slash = path.indexOf('/', slash + 1);
    if (slash < 0) {
      add(found, byPath.under.get(path));
      break;
    }
    add(found, byPath.under.get(path.slice(0, slash)));
  }
  return found;
}

function add(lists: (readonly IndexedRule[])[], list: readonly IndexedRule[] | undefined): void {
  if (list !== undefined) lists.push(list);
}

function indexPaths(all: readonly IndexedRule[]): PathIndex {
  const anyPath: IndexedRule[] = [];
  const exact = new Map<string, IndexedRule[]>();
  const under = new Map<string, IndexedRule[]>();
  for (const entry of all) {
    const operations = entry.ranked.rule.to ?? [{ kind: 'network' as const }];
    for (const operation of operations) {
      const paths = operation.kind === 'network' ? operation.paths : undefined;
      if (paths === undefined) append(anyPath, entry);
      for (const pattern of paths ?? []) {
        const [map, key] = pattern.kind === 'exact' ? [exact, pattern.path] : [under, lead(pattern)];
        const list = map.get(key) ?? [];
        map.set(key, list);
        append(list, entry);
      }
    }
  }
  return { anyPath, exact, under };
}

/** A rule stands in a list once, whatever number of its patterns lead there. */
function append(list: IndexedRule[], entry: IndexedRule): void {
  if (list.at(-1) !== entry) list.push(entry);
}

/** The segments that every path begins with that a pattern matches: `/a/b`, or nothing. */
function lead(pattern: Exclude<PathPattern, { readonly kind: 'exact' }>): string {
  const segments = pattern.kind === 'prefix' ? pattern.path.slice(1).split('/') : literals(pattern.segments);
  const known = segments.slice(0, MAX_DEPTH);
  return known.length === 0 || (pattern.kind === 'prefix' && pattern.path === '/')
    ? ''
    : `/${known.join('/')}`;
}

function literals(
  segments: Extract<PathPattern, { readonly kind: 'template' }>['segments'],
): readonly string[] {
  const end = segments.findIndex(({ kind }) => kind !== 'literal');
  return (end < 0 ? segments : segments.slice(0, end)).map((segment) =>
    segment.kind === 'literal' ? segment.value : '',
  );
}
