import type { EffectivePorts, EffectiveRule } from '../../policy/effective.js';
import type { PathPattern } from '../../policy/model.js';
import type { AdmissionAbility, Grant } from '../admission.js';
import type { Inventory } from '../inventory.js';
import {
  admitByRules,
  denyWithoutConditions,
  hasNoConditions,
  isPlain,
  type Counting,
  type PortOperation,
} from '../layers.js';
import type { VerdictBook } from '../verdict-book.js';
import { beats, contains, overlaps, pathMatch } from './paths.js';

/** Methods that HTTPRoute knows. */
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'];

/** Requests of one method under one pattern, and who may make them. */
export interface Cell {
  readonly method: string;
  readonly path: PathPattern;
  readonly grants: readonly Grant[];
}

export interface CellQuestion {
  readonly group: EffectivePorts;
  readonly ability: AdmissionAbility;
  readonly inventory: Inventory;
  readonly book: VerdictBook;
}

const EVERYTHING: PathPattern = { kind: 'prefix', path: '/' };

/**
 * What each kind of request needs, where HTTP is seen.
 *
 * A request gets the authorizations of one cell: of the one that matches most, and of any of those that tie. So a rule
 * counts in a cell only if it allows the whole of it; and a denial counts unless it has a cell of its own which is chosen
 * before this one wherever both match.
 */
export function httpCells(
  { group, ability, inventory, book }: CellQuestion,
  probes?: { readonly paths: readonly string[]; readonly grant: Grant },
): readonly Cell[] {
  const allow = rulesOf(group, 'allow').filter((rule) => hasNoConditions(rule, book));
  const deny = rulesOf(group, 'deny');
  for (const rule of allow) for (const operation of rule.to ?? []) noteAllowed(rule, operation, book);
  for (const rule of deny) {
    denyWithoutConditions(rule, book);
    for (const operation of rule.to ?? []) noteDenied(rule, operation, book);
  }
  const extra = (probes?.paths ?? []).map((path): PathPattern => ({ kind: 'exact', path }));
  const patterns = patternsOf([...allow, ...deny], extra, group, book);
  const named = new Set([
    ...(probes === undefined ? [] : ['GET']),
    ...[...allow, ...deny].flatMap(({ to }) => (to ?? []).flatMap(({ methods }) => methods ?? [])),
  ]);
  const unnamed = METHODS.filter((method) => !named.has(method));
  // Methods that no rule names are all alike.
  const kinds = [...METHODS.filter((method) => named.has(method)).map((method) => [method]), unnamed];
  return kinds.flatMap((methods) => {
    const [method] = methods;
    if (method === undefined) return [];
    const cells = patterns.map((path) => {
      const counting: Counting = {
        allowed: (rule) =>
          allow.includes(rule) && allowedPatterns(rule, method).some((one) => contains(one, path)),
        denied: (rule) =>
          deniedPatterns(rule, method).some((one) => overlaps(one, path) && !decidesFirst(one, path)),
      };
      const { grants } = admitByRules(group, counting, ability, inventory, book);
      const isProbed =
        method === 'GET' && path.kind === 'exact' && probes?.paths.includes(path.path) === true;
      return { method, path, grants: isProbed ? [...grants, probes.grant] : grants };
    });
    const kept = cells.filter(
      (cell) =>
        cell.grants.length > 0 ||
        cells.some(
          (other) =>
            other.grants.length > 0 && overlaps(cell.path, other.path) && beats(cell.path, other.path),
        ),
    );
    noteTies(kept, allow, method, book);
    noteWideDenials(kept, deny, method, book);
    return methods.flatMap((one) => kept.map((cell) => ({ ...cell, method: one })));
  });
}

function rulesOf(group: EffectivePorts, effect: 'allow' | 'deny'): readonly EffectiveRule[] {
  return [...group[effect], ...(group.baseline?.[effect] ?? [])];
}

/** Every pattern that some rule names, each once, without those that cannot be said. */
function patternsOf(
  rules: readonly EffectiveRule[],
  extra: readonly PathPattern[],
  { baseline, fallback }: EffectivePorts,
  book: VerdictBook,
): readonly PathPattern[] {
  const found = new Map<string, PathPattern>();
  const put = (pattern: PathPattern): boolean => {
    const match = pathMatch(pattern);
    if (match !== undefined) found.set(JSON.stringify(match), pattern);
    return match !== undefined;
  };
  for (const pattern of extra) put(pattern);
  if (baseline !== undefined && fallback === 'Allow') put(EVERYTHING);
  for (const { policy, rule, to } of rules) {
    for (const pattern of (to ?? [{}]).flatMap(
      (operation: Partial<PortOperation>) => operation.paths ?? [EVERYTHING],
    )) {
      if (!put(pattern)) {
        book.lost(policy, rule, 'to.http.paths: a pattern is too long for HTTPRoute (1024 characters)');
      }
    }
  }
  return [...found.values()];
}

/** The patterns that an Allow rule surely allows for a method. */
function allowedPatterns({ to }: EffectiveRule, method: string): readonly PathPattern[] {
  if (to === undefined) return [EVERYTHING];
  return to
    .filter((operation) => isPlain(operation) && takes(operation, method))
    .flatMap(({ paths }) => paths ?? [EVERYTHING]);
}

/** The patterns that a Deny rule may deny for a method. */
function deniedPatterns({ to }: EffectiveRule, method: string): readonly PathPattern[] {
  if (to === undefined) return [EVERYTHING];
  return to.filter((operation) => takes(operation, method)).flatMap(({ paths }) => paths ?? [EVERYTHING]);
}

const takes = ({ methods }: PortOperation, method: string): boolean =>
  methods === undefined || methods.includes(method);

/** Whether requests under both patterns go to the first one's cell. */
const decidesFirst = (first: PathPattern, path: PathPattern): boolean =>
  pathMatch(first) !== undefined && beats(first, path);

function unsayable({ hosts, headers, query, grantedBy }: PortOperation): readonly string[] {
  return [
    ...(hosts === undefined ? [] : ['to.http.hosts: Linkerd chooses a route by its host before its path']),
    ...(headers === undefined
      ? []
      : ['to.http.headers: of a header with several lines, any may match in Linkerd']),
    ...(query === undefined
      ? []
      : ['to.http.query: of a repeated parameter, any value may match in Linkerd']),
    ...(grantedBy?.claim === undefined ? [] : ['roles.claim: Linkerd reads no tokens']),
  ];
}

function noteDenied({ policy, rule }: EffectiveRule, operation: PortOperation, book: VerdictBook): void {
  for (const reason of unsayable(operation))
    book.lost(policy, rule, `${reason}, so the rule denies without it`);
}

function noteAllowed({ policy, rule }: EffectiveRule, operation: PortOperation, book: VerdictBook): void {
  for (const reason of unsayable(operation))
    book.lost(policy, rule, `${reason}, so the operation is left out`);
  const others = operation.methods?.filter((method) => !METHODS.includes(method)) ?? [];
  if (others.length > 0)
    book.lost(policy, rule, `to.http.methods: HTTPRoute does not know ${others.join(', ')}`);
}

/** A rule loses what goes to the cell of a pattern that it does not allow as a whole. */
function noteTies(
  cells: readonly Cell[],
  allow: readonly EffectiveRule[],
  method: string,
  book: VerdictBook,
): void {
  const grantsOf = (path: PathPattern): string =>
    JSON.stringify(cells.find((cell) => JSON.stringify(cell.path) === JSON.stringify(path))?.grants);
  for (const rule of allow) {
    for (const pattern of allowedPatterns(rule, method)) {
      for (const { path, grants } of cells) {
        if (!overlaps(pattern, path) || contains(pattern, path) || beats(pattern, path)) continue;
        if (JSON.stringify(grants) === grantsOf(pattern)) continue;
        book.lost(
          rule.policy,
          rule.rule,
          'to.http.paths: some requests also match the path of another rule, whose route Linkerd may choose instead; they are denied',
        );
      }
    }
  }
}

/** A Deny rule denies the whole of a cell that it overlaps, when it does not come before it. */
function noteWideDenials(
  cells: readonly Cell[],
  deny: readonly EffectiveRule[],
  method: string,
  book: VerdictBook,
): void {
  for (const rule of deny) {
    for (const pattern of deniedPatterns(rule, method)) {
      if (
        cells.every(
          ({ path }) => !overlaps(pattern, path) || contains(pattern, path) || decidesFirst(pattern, path),
        )
      ) {
        continue;
      }
      book.lost(
        rule.policy,
        rule.rule,
        'to.http.paths: overlaps the path of another rule in part, and then denies the whole of that path',
      );
    }
  }
}
