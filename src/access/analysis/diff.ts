import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { evaluate, type Decision } from '../policy/evaluate.js';
import { policyName, type AccessRequest, type Policy } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import { ZoneClock } from '../policy/time-window.js';
import { FALSE, TooComplexError, type Cube, type Node } from './diagram.js';
import { createDraft, finishDraft } from './draft.js';
import { opaqueNames } from './opaque.js';
import { TargetSpace, type SpaceOptions } from './target-space.js';
import { differingTargets, type TargetClass, type Universe } from './targets.js';
import { describeCube, sentence, type ClassPart } from './words.js';

/** A class of requests of one workload, or of several that policies do not tell apart. */
interface RequestClass {
  /** Workloads that exist, `namespace/name`; none when it is about workloads that may come. */
  readonly workloads: readonly string[];
  /** What they have in common; a dimension that is not said may be anything. */
  readonly parts: readonly ClassPart[];
  /** All of it in one line. */
  readonly description: string;
}

/** Requests that one set allows and the other denies. */
export interface AccessClass extends RequestClass {
  /**
   * How much the enforcement point sees of them: everything, the connection alone (no HTTP, no token), or something
   * else. What is seen in full is not repeated for the others.
   */
  readonly seen: Seen;
  /** One of them. `evaluate` was asked: the sets answer it differently. */
  readonly witness: AccessRequest;
  readonly before: Decision;
  readonly after: Decision;
}

export type Seen = 'everything' | 'connection' | 'part';

/** Requests of which it cannot be said whether the sets answer them alike. */
export interface UnknownClass extends RequestClass {
  /** Why, in words. */
  readonly reason: string;
  /** The rules whose CEL or attribute conditions decide, `policy: rule`. */
  readonly rules: readonly string[];
}

export interface PolicyDiff {
  /** True when no request whatever is answered differently; undefined when that cannot be said. */
  readonly equal: boolean | undefined;
  /** Denied before, allowed after. */
  readonly gained: readonly AccessClass[];
  /** Allowed before, denied after. */
  readonly lost: readonly AccessClass[];
  readonly unknown: readonly UnknownClass[];
  /** How many classes were found beyond those that are listed. */
  readonly more: { readonly gained: number; readonly lost: number; readonly unknown: number };
}

export interface DiffOptions {
  /** Requests from this instant on are compared, milliseconds since the epoch. */
  readonly from: number;
  /** At most this many classes of each kind: 100 unless said. */
  readonly limit?: number;
  /** At most this many of one target: 10 unless said. */
  readonly limitPerTarget?: number;
  /** Of one target's diagram, before it is given up and said to be unknown. */
  readonly maxNodes?: number;
}

/**
 * What a change opens and closes: every class of requests that the two sets answer differently, each with a witness.
 *
 * Exact for the whole language but CEL: every target that could exist is looked at, and every request to it, also those of
 * which an enforcement point does not see everything. A CEL expression is the same as itself and nothing else is known of
 * it; where the answer hangs on one, a witness is tried, and the class is `unknown` when that does not settle it.
 */
export function diffPolicySets(
  before: PolicySet,
  after: PolicySet,
  universe: Universe,
  options: DiffOptions,
): PolicyDiff {
  const { classes, incomplete } = differingTargets(before, after, universe);
  const collector = new Collector(options.limit ?? 100, options.limitPerTarget ?? 10);
  const knownIds = universe.workloads.flatMap(({ spiffeIds }) => spiffeIds);
  const settings: SpaceOptions = {
    from: options.from,
    clock: new ZoneClock(),
    knownIds: [...new Set(knownIds)].map((uri) => parseSpiffeId(uri)),
    ...(options.maxNodes === undefined ? {} : { maxNodes: options.maxNodes }),
  };
  for (const target of classes) {
    try {
      compareTarget({ before, after }, target, settings, collector);
    } catch (error) {
      if (!(error instanceof TooComplexError)) throw error;
      collector.unknown.add({ ...about(target, []), reason: error.message, rules: [] });
    }
  }
  for (const namespace of incomplete) {
    collector.unknown.add({
      workloads: [],
      parts: [],
      description: `workloads that may come in namespace ${namespace}`,
      reason:
        'the selectors of its policies combine in too many ways; the workloads that exist were all compared',
      rules: [],
    });
  }
  return collector.result();
}

/** Whether two sets answer every request alike; undefined when that hangs on a CEL expression. */
export function equivalent(
  before: PolicySet,
  after: PolicySet,
  universe: Universe,
  options: DiffOptions,
): boolean | undefined {
  return diffPolicySets(before, after, universe, options).equal;
}

interface Sets {
  readonly before: PolicySet;
  readonly after: PolicySet;
}

/** A list that is cut, and knows by how much. */
class Bounded<T> {
  readonly items: T[] = [];
  total = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get full(): boolean {
    return this.items.length >= this.#limit;
  }

  add(item: T): void {
    this.total++;
    if (!this.full) this.items.push(item);
  }

  get more(): number {
    return this.total - this.items.length;
  }
}

class Collector {
  readonly gained: Bounded<AccessClass>;
  readonly lost: Bounded<AccessClass>;
  readonly unknown: Bounded<UnknownClass>;
  readonly perTarget: number;

  constructor(limit: number, perTarget: number) {
    this.gained = new Bounded(limit);
    this.lost = new Bounded(limit);
    this.unknown = new Bounded(limit);
    this.perTarget = perTarget;
  }

  result(): PolicyDiff {
    const { gained, lost, unknown } = this;
    const equal = gained.total + lost.total > 0 ? false : unknown.total > 0 ? undefined : true;
    return {
      equal,
      gained: gained.items,
      lost: lost.items,
      unknown: unknown.items,
      more: { gained: gained.more, lost: lost.more, unknown: unknown.more },
    };
  }
}

function compareTarget(sets: Sets, target: TargetClass, options: SpaceOptions, collector: Collector): void {
  const requests = new TargetSpace(target.target, [...target.before, ...target.after], options);
  const { diagram, possible } = requests;
  const allowed = [
    diagram.and(possible, requests.decision(target.before, sets.before.defaultAction)),
    diagram.and(possible, requests.decision(target.after, sets.after.defaultAction)),
  ] as const;
  const directions = [
    [diagram.minus(allowed[1], allowed[0]), collector.gained],
    [diagram.minus(allowed[0], allowed[1]), collector.lost],
  ] as const;
  for (const [node, bounded] of directions) {
    if (node === FALSE) continue;
    for (const [seen, part] of stages(requests, node)) {
      const certain = diagram.forAll(part, (variable) => variable >= requests.firstOpaque);
      report({ sets, target, requests, seen, bounded, collector }, certain);
      report({ sets, target, requests, seen, bounded, collector }, diagram.minus(part, certain));
    }
  }
}

/** What is seen in full; then connections, and then all else, as far as they do not follow from what came before. */
function stages(requests: TargetSpace, node: Node): readonly (readonly [Seen, Node])[] {
  const { diagram, views } = requests;
  const fieldOf = (variable: number): string => requests.space.dimensions[variable]?.field ?? '';
  const beyond = (part: Node, kept: ReadonlySet<string>): Node =>
    diagram.exists(part, (variable) => !kept.has(fieldOf(variable)));
  const full = diagram.and(node, views.full);
  const connection = diagram.minus(
    diagram.and(node, views.connection),
    beyond(full, new Set(['time', 'source', 'port', 'address'])),
  );
  const shown = beyond(diagram.or(full, connection), new Set(['source']));
  const rest = diagram.minus(node, diagram.or(views.full, views.connection, shown));
  return [
    ['everything', full],
    ['connection', connection],
    ['part', rest],
  ];
}

interface Report {
  readonly sets: Sets;
  readonly target: TargetClass;
  readonly requests: TargetSpace;
  readonly seen: Seen;
  readonly bounded: Bounded<AccessClass>;
  readonly collector: Collector;
}

/** Cubes that are looked at to find the plainest ones. */
const MAX_SORTED = 500;

function report({ sets, target, requests, seen, bounded, collector }: Report, node: Node): void {
  if (node === FALSE) return;
  const { diagram, space } = requests;
  const total = diagram.countCubes(node);
  const cubes: Cube[] = [];
  for (const cube of diagram.cubes(node)) {
    if (cubes.push(cube) >= MAX_SORTED) break;
  }
  const plainest = cubes
    .map((cube) => ({ cube, odd: space.oddity(cube) }))
    .sort((a, b) => a.odd - b.odd)
    .slice(0, collector.perTarget);
  for (const { cube } of plainest) {
    const found = confirm(sets, target, requests, cube);
    const described = about(target, describeCube(space, cube));
    if (found === undefined) collector.unknown.add({ ...described, ...whyUnknown(target, requests, cube) });
    else bounded.add({ ...described, seen, ...found });
  }
  bounded.total += total - plainest.length;
}

/** Asks the evaluator: nothing is reported that it does not answer differently. */
function confirm(
  sets: Sets,
  target: TargetClass,
  requests: TargetSpace,
  cube: Cube,
): Pick<AccessClass, 'witness' | 'before' | 'after'> | undefined {
  const draft = requests.space.witness(cube, createDraft(0));
  const witness = finishDraft(draft, target.target);
  const before = evaluate(sets.before, witness);
  const after = evaluate(sets.after, witness);
  return before.allowed === after.allowed ? undefined : { witness, before, after };
}

function whyUnknown(
  { before, after }: TargetClass,
  requests: TargetSpace,
  cube: Cube,
): Pick<UnknownClass, 'reason' | 'rules'> {
  const texts = new Set(
    cube.flatMap(([variable]) =>
      variable >= requests.firstOpaque ? (requests.space.dimensions[variable]?.name ?? []) : [],
    ),
  );
  const rules = [...before, ...after].flatMap((policy) => opaqueRules(policy, texts));
  const reason =
    rules.length === 0
      ? 'no request of this class could be made for which the answers differ'
      : 'it hangs on CEL or attribute conditions, of which only the text is compared';
  return { reason, rules: [...new Set(rules)] };
}

function opaqueRules({ ref, rules }: Policy, names: ReadonlySet<string>): readonly string[] {
  return rules
    .filter(({ when }) => when !== undefined && opaqueNames(when).some((name) => names.has(name)))
    .map((rule) => `${policyName(ref)}: ${rule.name}`);
}

function about({ target, workloads }: TargetClass, parts: readonly ClassPart[]): RequestClass {
  const [first, ...others] = workloads;
  const who =
    first === undefined
      ? `${target.name} in namespace ${target.namespace} (none exists yet)`
      : others.length === 0
        ? first
        : `${first} and ${others.length} more workloads`;
  return { workloads, parts, description: `to ${who}: ${sentence(parts)}` };
}
