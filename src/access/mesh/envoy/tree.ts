import { appendTo } from '../../../lib/append-to.js';
import type { PathPattern } from '../../policy/model.js';
import { pathKey, pathLeaf } from './http.js';
import {
  all,
  any,
  isPresent,
  PATH,
  predicateJson,
  typed,
  URI_SAN,
  type Json,
  type Predicate,
} from './predicate.js';
import type { Entry } from './rules.js';

/** What happens on a match: an action, or a further matcher. When that matches nothing, what comes next goes on. */
export type OnMatch = Json;

/** An answer, with the name that Envoy reports. */
export const answer = (name: string, action: 'ALLOW' | 'DENY'): OnMatch => ({
  action: {
    name: 'envoy.filters.rbac.action',
    typed_config: typed('envoy.config.rbac.v3.Action', { name, action }),
  },
});

/** More than so many paths are looked up; fewer are tried one by one. */
const FEW_PATHS = 4;

/** Looks a value up; what is not there, or has a further matcher that does not match, goes on with `next`. */
export function lookup(
  input: Json,
  how: 'exact_match_map' | 'prefix_match_map',
  map: ReadonlyMap<string, OnMatch>,
  next?: OnMatch,
): OnMatch | undefined {
  if (map.size === 0) return next;
  return {
    matcher: {
      matcher_tree: { input, [how]: { map: Object.fromEntries(map) } },
      ...(next === undefined ? {} : { on_no_match: next }),
    },
  };
}

/** The first of these whose predicate holds. */
export function firstOf(
  entries: readonly (readonly [Predicate, OnMatch])[],
  next?: OnMatch,
): OnMatch | undefined {
  const possible = entries.filter(([{ kind }]) => kind !== 'never');
  const certain = possible.findIndex(([{ kind }]) => kind === 'always');
  const tried = certain < 0 ? possible : possible.slice(0, certain);
  const last = certain < 0 ? next : possible[certain]?.[1];
  if (tried.length === 0) return last;
  return {
    matcher: {
      matcher_list: {
        matchers: tried.map(([predicate, onMatch]) => ({
          predicate: predicateJson(predicate),
          on_match: onMatch,
        })),
      },
      ...(last === undefined ? {} : { on_no_match: last }),
    },
  };
}

/**
 * All rules of one effect: the peer's SPIFFE ID is looked up, first as a whole, then by its namespace and trust domain,
 * then come the rules for everybody. So the time does not grow with rules for others.
 */
export function rulesNode(
  entries: readonly Entry[],
  action: 'ALLOW' | 'DENY',
  next: OnMatch | undefined,
): OnMatch | undefined {
  const byUri = new Map<string, Entry[]>();
  const byPrefix = new Map<string, Entry[]>();
  const everybody: Entry[] = [];
  for (const entry of entries) {
    const { key } = entry;
    if (key.kind === 'uri') appendTo(byUri, key.uri, entry);
    else if (key.kind === 'prefix') appendTo(byPrefix, key.prefix, entry);
    else if (key.kind === 'anyone') everybody.push(entry);
    else everybody.push({ ...entry, when: all([isPresent(URI_SAN), entry.when]) });
  }
  const rest = pathsNode(everybody, action, next);
  const prefixes = lookup(URI_SAN, 'prefix_match_map', nodes(byPrefix, action), rest);
  return lookup(URI_SAN, 'exact_match_map', nodes(byUri, action), prefixes);
}

function nodes(
  map: ReadonlyMap<string, readonly Entry[]>,
  action: 'ALLOW' | 'DENY',
): ReadonlyMap<string, OnMatch> {
  return new Map(
    [...map].flatMap(([key, entries]) => {
      const node = pathsNode(entries, action, undefined);
      return node === undefined ? [] : [[key, node] as const];
    }),
  );
}

/** Rules of one caller: those with paths are looked up by them, when they are many. */
function pathsNode(
  entries: readonly Entry[],
  action: 'ALLOW' | 'DENY',
  next: OnMatch | undefined,
): OnMatch | undefined {
  const pathed = entries.flatMap((entry) => (entry.paths ?? []).map((path) => ({ entry, path })));
  if (pathed.length <= FEW_PATHS) return listNode(entries, action, next);
  const byKey = new Map<string, Entry[]>();
  for (const { entry, path } of pathed) appendTo(byKey, pathKey(path), { ...entry, paths: [path] });
  const map = new Map(
    [...byKey].flatMap(([key, list]) => {
      const node = listNode(list, action, undefined);
      return node === undefined ? [] : [[key, node] as const];
    }),
  );
  const others = entries.filter(({ paths }) => paths === undefined);
  return lookup(PATH, 'prefix_match_map', map, listNode(others, action, next));
}

function listNode(
  entries: readonly Entry[],
  action: 'ALLOW' | 'DENY',
  next: OnMatch | undefined,
): OnMatch | undefined {
  return firstOf(
    entries.map(({ name, when, paths }) => [all([when, ...pathPredicates(paths)]), answer(name, action)]),
    next,
  );
}

const pathPredicates = (paths: readonly PathPattern[] | undefined): readonly Predicate[] =>
  paths === undefined ? [] : [any(paths.map((path) => pathLeaf(path).surely))];
