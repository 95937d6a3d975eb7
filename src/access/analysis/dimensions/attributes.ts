import { scalarOrder } from '../attribute-texts.js';
import type { AttributeMatch } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import type { Leaf, Space } from '../space.js';
import { pathKey, structuredVariable, type StructuredVariable } from './structured.js';

/** Attributes of which the parts of a request that they are made of are known. */
export interface AttributeDimensions {
  matches(match: AttributeMatch): Leaf;
}

/** What attributes are made of besides what an application says itself. */
export interface AttributeParts {
  /** Where the request is an application's. */
  readonly application: Node;
  /** Where a token is there. */
  readonly token: Node;
  readonly claim: (path: readonly string[]) => StructuredVariable | undefined;
  readonly methods: Texts;
  readonly actions: Texts;
  readonly types: Texts;
  readonly sources: Texts;
}

/** Where a part is a text. */
export type Texts = readonly (readonly [text: string, where: Node])[];

/** What an attribute is, split by cases; missing in all others. */
interface Value {
  readonly scalars: Texts;
  readonly list: Node;
  /** Where it is, or lists, a text. */
  readonly holds: (text: string) => Node;
  readonly object: Node;
}

const NOTHING: Value = { scalars: [], list: 0, holds: () => 0, object: 0 };

export function attributeDimensions(
  space: Space,
  matches: readonly AttributeMatch[],
  texts: readonly string[],
  parts: AttributeParts,
): AttributeDimensions {
  const paths = new Map<string, readonly string[]>();
  for (const { path, other } of matches) {
    for (const one of [path, ...(other === undefined ? [] : [other])]) paths.set(pathKey(one), one);
  }
  const builder = new ValueBuilder(space, matches, texts, parts);
  const values = new Map([...paths].map(([key, path]) => [key, builder.valueOf(path)]));
  const valueAt = (path: readonly string[]): Value => values.get(pathKey(path)) ?? NOTHING;
  return {
    matches: (match) =>
      attributeHolds(
        space,
        match,
        valueAt(match.path),
        match.other === undefined ? undefined : valueAt(match.other),
      ),
  };
}

function attributeHolds(
  { diagram }: Space,
  match: AttributeMatch,
  value: Value,
  other: Value | undefined,
): Leaf {
  const { operator, values } = match;
  const present = diagram.or(value.list, value.object, ...value.scalars.map(([, where]) => where));
  if (operator === 'Exists') return { yes: present, possible: present };
  if (operator === 'DoesNotExist') return { yes: diagram.not(present), possible: diagram.not(present) };
  if (operator === 'In' || operator === 'NotIn') {
    const among = diagram.or(...values.map(value.holds));
    const apart = diagram.minus(present, diagram.or(among, value.object));
    return operator === 'In'
      ? { yes: among, possible: diagram.not(apart) }
      : { yes: apart, possible: diagram.not(among) };
  }
  const right: Texts = other === undefined ? values.slice(0, 1).map((text) => [text, 1]) : other.scalars;
  const yes: Node[] = [];
  const no: Node[] = [];
  for (const [a, whereA] of value.scalars) {
    for (const [b, whereB] of right) {
      const holds = scalarOrder(operator, a, b);
      if (holds !== undefined) (holds ? yes : no).push(diagram.and(whereA, whereB));
    }
  }
  // Lists, objects and what has no order are unknown, as what is missing.
  return { yes: diagram.or(...yes), possible: diagram.not(diagram.or(...no)) };
}

/** Puts attributes together as the evaluator's decisionAttributes does. */
class ValueBuilder {
  readonly #space: Space;
  readonly #matches: readonly AttributeMatch[];
  readonly #texts: readonly string[];
  readonly #parts: AttributeParts;
  /** Where an application names the subject. */
  readonly #subject: Node;

  constructor(
    space: Space,
    matches: readonly AttributeMatch[],
    texts: readonly string[],
    parts: AttributeParts,
  ) {
    this.#space = space;
    this.#matches = matches;
    this.#texts = texts;
    this.#parts = parts;
    const given = space.add('attribute', 'subject', [
      { words: 'named by the application', put: (draft) => void (draft.subject ??= { id: 'other' }) },
      { words: 'not named', odd: 0.1, put: (draft) => void (draft.subject = undefined) },
    ]);
    this.#subject = space.diagram.and(
      parts.application,
      space.where(given, (index) => index === 0),
    );
  }

  valueOf(path: readonly string[]): Value {
    const [root, name = ''] = path;
    const { application, methods, actions, types } = this.#parts;
    const network = this.#space.diagram.not(application);
    if (root === 'action' && name === 'name') {
      return this.#plain([...this.#where(network, methods), ...this.#where(application, actions)]);
    }
    if (root === 'resource' && name === 'type') {
      return this.#plain([['workload', network], ...this.#where(application, types)]);
    }
    if (root !== 'subject') return this.#only(application, this.#said(path));
    return name === 'id' ? this.#id() : this.#subjectOf(path);
  }

  /** What the application says; what its token says where it says nothing, or where the network asks. */
  #subjectOf(path: readonly string[]): Value {
    const { diagram } = this.#space;
    const own = this.#said(path);
    const said = this.#only(this.#subject, own);
    const claim = this.#parts.claim(path.slice(1));
    if (claim === undefined) return said;
    const hidden = diagram.and(this.#subject, own.present);
    const claimed = this.#only(diagram.minus(this.#parts.token, hidden), claim);
    return {
      scalars: [...said.scalars, ...claimed.scalars],
      list: diagram.or(said.list, claimed.list),
      holds: (text) => diagram.or(said.holds(text), claimed.holds(text)),
      object: diagram.or(said.object, claimed.object),
    };
  }

  /** The application's subject, else the user of the token, else the caller. */
  #id(): Value {
    const { diagram } = this.#space;
    const { token, claim, sources } = this.#parts;
    const values = [...this.#texts, 'other'];
    const named = this.#space.add(
      'attribute',
      'subject id',
      [...new Set(values)].map((text) => ({
        words: text,
        put: (draft) => {
          if (draft.subject !== undefined) draft.subject = { id: text };
        },
      })),
    );
    const given: Texts = named.classes.map(({ words }, at) => [
      words,
      this.#space.where(named, (index) => index === at),
    ]);
    const sub = claim(['sub']);
    const user = diagram.minus(diagram.and(token, sub?.present ?? 0), this.#subject);
    const nobody = diagram.not(diagram.or(this.#subject, user));
    return this.#plain([
      ...this.#where(this.#subject, given),
      ...this.#where(user, [...(sub?.scalars ?? [])]),
      ...this.#where(nobody, sources),
    ]);
  }

  /** A value that the application gives. */
  #said(path: readonly string[]): StructuredVariable {
    const listed = this.#matches
      .filter((match) => pathKey(match.path) === pathKey(path) && ['In', 'NotIn'].includes(match.operator))
      .flatMap(({ values }) => values);
    return structuredVariable(this.#space, {
      field: 'attribute',
      name: path.join('.'),
      path,
      named: this.#texts,
      listed,
      object: true,
      drafts: ({ attributes }) => attributes,
    });
  }

  #only(where: Node, variable: StructuredVariable): Value {
    const { diagram } = this.#space;
    return {
      scalars: this.#where(where, [...variable.scalars]),
      list: diagram.and(where, variable.list),
      holds: (text) => diagram.and(where, variable.holds(text)),
      object: diagram.and(where, variable.object),
    };
  }

  #where(where: Node, texts: Texts): Texts {
    return texts.map(([text, node]) => [text, this.#space.diagram.and(where, node)]);
  }

  #plain(scalars: Texts): Value {
    const { diagram } = this.#space;
    return {
      scalars,
      list: 0,
      holds: (asked) => diagram.or(...scalars.flatMap(([text, where]) => (text === asked ? [where] : []))),
      object: 0,
    };
  }
}
