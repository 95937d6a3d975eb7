import { parseSpiffeId } from '../../identity/spiffe/id.js';
import type { Inventory, InventoryWorkload } from '../mesh/inventory.js';
import { namespaceOf } from '../policy/match.js';
import { policyName } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import { ZoneClock } from '../policy/time-window.js';
import { FALSE, TooComplexError, type Node } from './diagram.js';
import type { Field } from './space.js';
import { TargetSpace } from './target-space.js';
import { describeCube, sentence } from './words.js';

export type GraphLevel = 'workload' | 'identity' | 'namespace';

export interface GraphNode {
  /** `workload payments/api`, `identity spiffe://…`, `anyone`. */
  readonly id: string;
  readonly kind: 'workload' | 'identity' | 'namespace' | 'external' | 'everybody';
  readonly label: string;
  /** The cluster that it is drawn in. */
  readonly namespace?: string;
}

/** One may reach the other. */
export interface GraphEdge {
  readonly from: string;
  readonly to: string;
  /** What is allowed, in words, one entry for each alternative; `everything` when nothing narrows it. */
  readonly operations: readonly string[];
  /** Alternatives that are left out of `operations`. */
  readonly more: number;
  /** The Allow rules that open it, `policy: rule`; none where the default does. */
  readonly rules: readonly string[];
  /** What else has to hold at times: `token`, `time`, `header`, … */
  readonly conditions: readonly string[];
}

export interface AccessGraph {
  readonly level: GraphLevel;
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  /** Edges beyond the limit. */
  readonly more: number;
  /** Workloads whose policies are too complex, so that edges to them are missing. */
  readonly incomplete: readonly string[];
}

export interface GraphOptions {
  /** The instant that is shown, milliseconds since the epoch. */
  readonly time: number;
  readonly level?: GraphLevel;
  /** 5,000 unless said. */
  readonly maxEdges?: number;
}

/** Alternatives that one edge lists. */
const MAX_OPERATIONS = 12;
const OPERATION: ReadonlySet<Field> = new Set(['port', 'method', 'host', 'path', 'action', 'resource']);

const ANYONE: GraphNode = { id: 'anyone', kind: 'everybody', label: 'anyone, without identity' };
const OTHERS: GraphNode = { id: 'others', kind: 'everybody', label: 'any other identity' };

/**
 * Who can reach what, as the policies together say at one instant: denies are taken off, defaults are in. Edges come from
 * the decision itself, not from the text of rules.
 */
export function accessGraph(set: PolicySet, inventory: Inventory, options: GraphOptions): AccessGraph {
  const level = options.level ?? 'workload';
  const graph = new GraphBuilder(level, options.maxEdges ?? 5000);
  for (const workload of inventory.workloads) graph.node(workloadNode(workload, level));
  const incomplete: string[] = [];
  const clock = new ZoneClock();
  const held = new Set(inventory.workloads.flatMap(({ spiffeIds }) => spiffeIds));
  const knownIds = [...held].map((uri) => parseSpiffeId(uri));
  for (const workload of inventory.workloads) {
    try {
      const policies = set.concerning(workload).filter(({ mode }) => mode === 'Enforce');
      const space = new TargetSpace(workload, policies, { from: options.time, clock, knownIds });
      const allowed = space.decision(policies, set.defaultAction);
      edgesTo(workload, { space, allowed, policies: space.regions(policies) }, inventory, graph);
    } catch (error) {
      if (!(error instanceof TooComplexError)) throw error;
      incomplete.push(`${workload.namespace}/${workload.name}`);
    }
  }
  return { level, ...graph.result(), incomplete };
}

interface Decided {
  readonly space: TargetSpace;
  readonly allowed: Node;
  readonly policies: ReturnType<TargetSpace['regions']>;
}

function edgesTo(
  workload: InventoryWorkload,
  { space, allowed, policies }: Decided,
  inventory: Inventory,
  graph: GraphBuilder,
): void {
  const { diagram } = space;
  const { dimension } = space.source;
  const to = workloadNode(workload, graph.level);
  const now = diagram.and(allowed, space.views.full, diagram.is(space.time.variable, 0));
  const from = (index: number): Node =>
    diagram.exists(
      diagram.and(now, diagram.is(dimension.variable, index)),
      (variable) => variable === dimension.variable,
    );
  const rest = from(dimension.classes.findIndex((value) => value.rest === true));
  const add = (source: GraphNode, index: number, node: Node): void => {
    const rules = policies.filter(
      ({ rule, region }) =>
        rule.effect === 'Allow' && diagram.and(now, region, diagram.is(dimension.variable, index)) !== FALSE,
    );
    graph.edge(source, to, describeAccess(space, node), rules);
  };
  const holders = callers(space, inventory, graph.level);
  for (const [index, value] of dimension.classes.entries()) {
    const node = from(index);
    if (node === FALSE) continue;
    const last = index === dimension.classes.length - 1;
    if (last) add(ANYONE, index, node);
    else if (value.rest === true) add(OTHERS, index, node);
    else if (node !== rest) {
      for (const source of holders.get(index) ?? [externalNode(value.words)]) add(source, index, node);
    }
  }
}

/** The nodes that hold an ID of each class of callers. */
function callers(
  space: TargetSpace,
  inventory: Inventory,
  level: GraphLevel,
): ReadonlyMap<number, readonly GraphNode[]> {
  const found = new Map<number, Map<string, GraphNode>>();
  for (const workload of inventory.workloads) {
    for (const uri of workload.spiffeIds) {
      const index = space.source.classOf(uri);
      const node = level === 'identity' ? identityNode(uri) : workloadNode(workload, level);
      const nodes = found.get(index) ?? new Map<string, GraphNode>();
      found.set(index, nodes.set(node.id, node));
    }
  }
  return new Map([...found].map(([index, nodes]) => [index, [...nodes.values()]]));
}

interface Access {
  readonly operations: readonly string[];
  readonly more: number;
  readonly conditions: readonly string[];
}

function describeAccess(requests: TargetSpace, node: Node): Access {
  const { space, diagram, views } = requests;
  const fieldOf = (variable: number): Field | undefined => space.dimensions[variable]?.field;
  const operations: string[] = [];
  let more = 0;
  for (const half of [views.network, views.application]) {
    const plain = (of: Node): Node =>
      diagram.exists(
        of,
        (variable) =>
          !OPERATION.has(fieldOf(variable) ?? 'time') ||
          (half === views.application && fieldOf(variable) === 'port'),
      );
    const allowed = plain(diagram.and(node, half));
    if (allowed === FALSE) continue;
    if (allowed === plain(half)) {
      operations.push(half === views.network ? 'everything' : 'every action of the application');
      continue;
    }
    more += diagram.countCubes(allowed);
    for (const cube of diagram.cubes(allowed)) {
      if (operations.length >= MAX_OPERATIONS) break;
      operations.push(sentence(describeCube(space, cube)));
      more--;
    }
  }
  // What always holds where everything is seen is no condition: only what still narrows the rest.
  const conditions = [...diagram.support(node)].flatMap((variable) => {
    const field = fieldOf(variable);
    if (field === undefined || OPERATION.has(field) || field === 'http') return [];
    const name = field === 'condition' ? 'CEL or attributes' : field;
    const seen = diagram.where(
      variable,
      (value) => space.dimensions[variable]?.classes[value]?.unseen !== true,
    );
    const narrowed = diagram.exists(node, (other) => other !== variable);
    return narrowed === seen || narrowed === 1 ? [] : [name];
  });
  // Whoever may do everything may do what an application asks for too, and need not hear it twice.
  const said = operations[0] === 'everything' ? ['everything'] : operations;
  return { operations: said, more, conditions: [...new Set(conditions)].sort() };
}

class GraphBuilder {
  readonly level: GraphLevel;
  readonly #maxEdges: number;
  readonly #nodes = new Map<string, GraphNode>();
  readonly #edges = new Map<string, GraphEdge>();
  readonly #left = new Set<string>();

  constructor(level: GraphLevel, maxEdges: number) {
    this.level = level;
    this.#maxEdges = maxEdges;
  }

  node(node: GraphNode): void {
    if (!this.#nodes.has(node.id)) this.#nodes.set(node.id, node);
  }

  edge(from: GraphNode, to: GraphNode, access: Access, rules: Decided['policies']): void {
    const key = JSON.stringify([from.id, to.id]);
    const known = this.#edges.get(key);
    if (known === undefined && this.#edges.size >= this.#maxEdges) {
      this.#left.add(key);
      return;
    }
    this.node(from);
    this.node(to);
    const operations = [...new Set([...(known?.operations ?? []), ...access.operations])];
    const named = rules.map(({ policy, rule }) => `${policyName(policy.ref)}: ${rule.name}`);
    this.#edges.set(key, {
      from: from.id,
      to: to.id,
      operations: operations.slice(0, MAX_OPERATIONS),
      more: (known?.more ?? 0) + access.more + Math.max(0, operations.length - MAX_OPERATIONS),
      rules: [...new Set([...(known?.rules ?? []), ...named])].sort(),
      conditions: [...new Set([...(known?.conditions ?? []), ...access.conditions])].sort(),
    });
  }

  result(): Pick<AccessGraph, 'nodes' | 'edges' | 'more'> {
    const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1);
    return {
      nodes: [...this.#nodes.values()].sort(byId),
      edges: [...this.#edges].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, edge]) => edge),
      more: this.#left.size,
    };
  }
}

function workloadNode(workload: InventoryWorkload, level: GraphLevel): GraphNode {
  const { namespace, name, spiffeIds } = workload;
  const [uri] = spiffeIds;
  if (level === 'namespace') return { id: `namespace ${namespace}`, kind: 'namespace', label: namespace };
  if (level === 'identity' && uri !== undefined) return identityNode(uri);
  return { id: `workload ${namespace}/${name}`, kind: 'workload', label: name, namespace };
}

function identityNode(uri: string): GraphNode {
  const namespace = namespaceOf(parseSpiffeId(uri).path);
  return {
    id: `identity ${uri}`,
    kind: 'identity',
    label: uri,
    ...(namespace === undefined ? {} : { namespace }),
  };
}

/** Who is named, but holds no ID that exists here. */
function externalNode(words: string): GraphNode {
  return { id: `external ${words}`, kind: 'external', label: words };
}
