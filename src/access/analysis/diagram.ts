import { SignetError } from '../../lib/errors.js';

/** A function of the variables to true or false: equal functions of one diagram are one number. */
export type Node = number;

export const FALSE: Node = 0;
export const TRUE: Node = 1;

/** More nodes than this are given up on. */
const DEFAULT_MAX_NODES = 1_000_000;
/** Nodes of large domains have many edges, so these are bounded too. */
const EDGES_PER_NODE = 20;
/** Results that are remembered: less than a Map can hold. */
const MAX_MEMO = 8_000_000;
/** Two nodes make one key of the memo: below 2^53. */
const KEY_BASE = 2 ** 26;

/** One value set per variable that is not free, as a path through a diagram has it. */
export type Cube = readonly (readonly [variable: number, values: readonly number[]])[];

/**
 * Reduced ordered decision diagrams over variables of finite domains (Bryant 1986, with more than two edges per node).
 * Nodes are shared, so that two functions are equal exactly when they are the same node.
 */
export class Diagram {
  readonly #sizes: number[] = [];
  readonly #variables: number[] = [Infinity, Infinity];
  readonly #children: (readonly Node[])[] = [[], []];
  readonly #unique = new Map<string, Node>();
  readonly #and = new Map<number, Node>();
  readonly #not = new Map<Node, Node>();
  readonly #counts = new Map<Node, number>();
  readonly #maxNodes: number;
  #edges = 0;

  constructor(maxNodes = DEFAULT_MAX_NODES) {
    this.#maxNodes = Math.min(maxNodes, KEY_BASE);
  }

  /** A new variable with `size` values, after all others in the order. */
  variable(size: number): number {
    return this.#sizes.push(size) - 1;
  }

  /** True for the values of a variable that `holds` says. */
  where(variable: number, holds: (value: number) => boolean): Node {
    const size = this.#sizes[variable] ?? 0;
    return this.#node(
      variable,
      Array.from({ length: size }, (_, value) => (holds(value) ? TRUE : FALSE)),
    );
  }

  is(variable: number, value: number): Node {
    return this.where(variable, (each) => each === value);
  }

  and(...nodes: readonly Node[]): Node {
    return this.#fold(nodes, TRUE);
  }

  or(...nodes: readonly Node[]): Node {
    return this.not(
      this.#fold(
        nodes.map((node) => this.not(node)),
        TRUE,
      ),
    );
  }

  not(node: Node): Node {
    if (node <= TRUE) return TRUE - node;
    const known = this.#not.get(node);
    if (known !== undefined) return known;
    const result = this.#node(
      this.#variable(node),
      this.#kids(node).map((child) => this.not(child)),
    );
    this.#not.set(node, result);
    this.#not.set(result, node);
    return result;
  }

  /** `a` and not `b`. */
  minus(a: Node, b: Node): Node {
    return this.and(a, this.not(b));
  }

  /** Whether every assignment of `a` is one of `b`. */
  implies(a: Node, b: Node): boolean {
    return this.minus(a, b) === FALSE;
  }

  /** True where some values of the variables that `over` says make it true. */
  exists(node: Node, over: (variable: number) => boolean): Node {
    const memo = new Map<Node, Node>();
    const walk = (at: Node): Node => {
      if (at <= TRUE) return at;
      const known = memo.get(at);
      if (known !== undefined) return known;
      const kids = this.#kids(at).map(walk);
      const variable = this.#variable(at);
      const result = over(variable) ? this.or(...kids) : this.#node(variable, kids);
      memo.set(at, result);
      return result;
    };
    return walk(node);
  }

  /** True where all values of the variables that `over` says make it true. */
  forAll(node: Node, over: (variable: number) => boolean): Node {
    return this.not(this.exists(this.not(node), over));
  }

  /** The variables on which a function depends. */
  support(node: Node): ReadonlySet<number> {
    const seen = new Set<Node>();
    const variables = new Set<number>();
    const walk = (at: Node): void => {
      if (at <= TRUE || seen.has(at)) return;
      seen.add(at);
      variables.add(this.#variable(at));
      for (const child of this.#kids(at)) walk(child);
    };
    walk(node);
    return variables;
  }

  /** Disjoint cubes that together are the function, in a stable order. */
  *cubes(node: Node): Generator<Cube> {
    if (node === FALSE) return;
    if (node === TRUE) {
      yield [];
      return;
    }
    for (const [child, values] of this.#branches(node)) {
      for (const rest of this.cubes(child)) yield [[this.#variable(node), values], ...rest];
    }
  }

  /** How many cubes there are. */
  countCubes(node: Node): number {
    if (node <= TRUE) return node;
    const known = this.#counts.get(node);
    if (known !== undefined) return known;
    let count = 0;
    for (const [child] of this.#branches(node)) count += this.countCubes(child);
    this.#counts.set(node, count);
    return count;
  }

  /** The edges of a node, those to one child together. */
  #branches(node: Node): ReadonlyMap<Node, readonly number[]> {
    const branches = new Map<Node, number[]>();
    for (const [value, child] of this.#kids(node).entries()) {
      if (child === FALSE) continue;
      const values = branches.get(child);
      if (values === undefined) branches.set(child, [value]);
      else values.push(value);
    }
    return branches;
  }

  /** Joined pairwise: then no large intermediate result meets every operand. */
  #fold(nodes: readonly Node[], neutral: Node): Node {
    let level = nodes.filter((node) => node !== neutral);
    if (level.includes(TRUE - neutral)) return TRUE - neutral;
    while (level.length > 1) {
      const next: Node[] = [];
      for (let at = 0; at < level.length; at += 2) {
        const [a, b] = [level[at] ?? neutral, level[at + 1] ?? neutral];
        next.push(this.#both(a, b));
      }
      level = next;
    }
    return level[0] ?? neutral;
  }

  #both(a: Node, b: Node): Node {
    if (a === b || b === TRUE) return a;
    if (a === TRUE) return b;
    if (a === FALSE || b === FALSE) return FALSE;
    const [low, high] = a < b ? [a, b] : [b, a];
    const key = low * KEY_BASE + high;
    const known = this.#and.get(key);
    if (known !== undefined) return known;
    const [va, vb] = [this.#variable(a), this.#variable(b)];
    const variable = Math.min(va, vb);
    const [as, bs] = [this.#kids(a), this.#kids(b)];
    const result = this.#node(
      variable,
      Array.from({ length: this.#sizes[variable] ?? 0 }, (_, value) =>
        this.#both(va === variable ? (as[value] ?? FALSE) : a, vb === variable ? (bs[value] ?? FALSE) : b),
      ),
    );
    if (this.#and.size >= MAX_MEMO) throw new TooComplexError();
    this.#and.set(key, result);
    return result;
  }

  #node(variable: number, children: readonly Node[]): Node {
    const [first] = children;
    if (first === undefined) return FALSE;
    if (children.every((child) => child === first)) return first;
    const key = `${variable}:${children.join(',')}`;
    const known = this.#unique.get(key);
    if (known !== undefined) return known;
    this.#edges += children.length;
    if (this.#variables.length >= this.#maxNodes || this.#edges >= this.#maxNodes * EDGES_PER_NODE) {
      throw new TooComplexError();
    }
    const node = this.#variables.push(variable) - 1;
    this.#children.push(children);
    this.#unique.set(key, node);
    return node;
  }

  #variable(node: Node): number {
    return this.#variables[node] ?? Infinity;
  }

  #kids(node: Node): readonly Node[] {
    return this.#children[node] ?? [];
  }
}

/** The rules of one target say more than can be compared exactly. */
export class TooComplexError extends SignetError {
  constructor() {
    super('TooComplex', 'the rules of one target combine in too many ways to be compared exactly');
  }
}
