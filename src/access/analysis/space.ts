import type { Cube, Diagram, Node } from './diagram.js';
import type { Draft } from './draft.js';

/** The fields of a request, in the order in which they are described. */
export const FIELDS = [
  'source',
  'address',
  'port',
  'http',
  'method',
  'host',
  'path',
  'header',
  'query',
  'action',
  'resource',
  'token',
  'caller',
  'attribute',
  'time',
  'condition',
] as const;
export type Field = (typeof FIELDS)[number];

/** Requests that no policy tells apart in one dimension, with one of them. */
export interface ValueClass {
  /** After the field's name: `GET`, `any other`. */
  readonly words: string;
  /** What is left when all others are taken away: then it is said as "any but …". */
  readonly rest?: boolean;
  /** The enforcement point does not see the value. */
  readonly unseen?: boolean;
  /** How unusual such a request is: plain ones are shown first, and stand in where a dimension does not matter. */
  readonly odd?: number;
  /** Puts the value into a request. */
  put(draft: Draft): void;
}

/** One dimension of the space of requests. */
export interface Dimension {
  readonly field: Field;
  /** For people: `port`, `header x-team`. */
  readonly name: string;
  readonly variable: number;
  readonly classes: readonly ValueClass[];
}

/** A condition with three values: `yes` where it holds, `possible` where that cannot be ruled out. */
export interface Leaf {
  readonly yes: Node;
  readonly possible: Node;
}

/** The requests to one target, split in every dimension into classes that its policies cannot tell apart. */
export class Space {
  readonly diagram: Diagram;
  readonly dimensions: Dimension[] = [];

  constructor(diagram: Diagram) {
    this.diagram = diagram;
  }

  add(field: Field, name: string, classes: readonly ValueClass[]): Dimension {
    const dimension = { field, name, classes, variable: this.diagram.variable(classes.length) };
    this.dimensions.push(dimension);
    return dimension;
  }

  /** True for the classes that `holds` says. */
  where({ variable, classes }: Dimension, holds: (index: number, value: ValueClass) => boolean): Node {
    return this.diagram.where(variable, (index) => {
      const value = classes[index];
      return value !== undefined && holds(index, value);
    });
  }

  /** A condition that is known for every class of a dimension. */
  known(dimension: Dimension, holds: (index: number) => boolean): Leaf {
    return certain(this.where(dimension, holds));
  }

  all(...leaves: readonly Leaf[]): Leaf {
    return {
      yes: this.diagram.and(...leaves.map(({ yes }) => yes)),
      possible: this.diagram.and(...leaves.map(({ possible }) => possible)),
    };
  }

  some(...leaves: readonly Leaf[]): Leaf {
    return {
      yes: this.diagram.or(...leaves.map(({ yes }) => yes)),
      possible: this.diagram.or(...leaves.map(({ possible }) => possible)),
    };
  }

  not({ yes, possible }: Leaf): Leaf {
    return { yes: this.diagram.not(possible), possible: this.diagram.not(yes) };
  }

  /** As the leaf says where `seen`, unknown elsewhere. */
  onlyWhere(seen: Node, { yes, possible }: Leaf): Leaf {
    return {
      yes: this.diagram.and(seen, yes),
      possible: this.diagram.or(this.diagram.not(seen), possible),
    };
  }

  /** Fills a draft with a request of a cube, the plainest where the cube leaves it open. */
  witness(cube: Cube, draft: Draft): Draft {
    const chosen = new Map(cube);
    for (const { variable, classes } of this.dimensions) {
      const values = chosen.get(variable) ?? classes.keys();
      let best: ValueClass | undefined;
      for (const value of values) {
        const candidate = classes[value];
        if (candidate === undefined) continue;
        if (best === undefined || (candidate.odd ?? 0) < (best.odd ?? 0)) best = candidate;
      }
      best?.put(draft);
    }
    return draft;
  }

  /** How unusual the plainest request of a cube is. */
  oddity(cube: Cube): number {
    let sum = 0;
    for (const [variable, values] of cube) {
      const classes = this.dimensions[variable]?.classes ?? [];
      sum += Math.min(...values.map((value) => classes[value]?.odd ?? 0));
    }
    return sum;
  }
}

/** A condition that is never unknown. */
export function certain(node: Node): Leaf {
  return { yes: node, possible: node };
}

/** A text that none of those has, made of a stem. */
export function fresh(stem: string, taken: { has(text: string): boolean }): string {
  let text = stem;
  for (let at = 2; taken.has(text); at++) text = `${stem}-${at}`;
  return text;
}
