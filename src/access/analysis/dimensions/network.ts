import { matchesHost } from '../../policy/http.js';
import type { NetworkOperation } from '../../policy/model.js';
import { describePath } from '../../policy/path.js';
import { pathClasses } from '../path-classes.js';
import type { Node } from '../diagram.js';
import type { Texts } from './attributes.js';
import { fresh, type Dimension, type Leaf, type Space, type ValueClass } from '../space.js';

/** Port, method, host and path of network requests. */
export interface NetworkDimensions {
  readonly port: Dimension;
  /** Where the port is known. */
  readonly portSeen: Node;
  readonly httpSeen: Node;
  /** Where the method is one, where HTTP is seen. */
  readonly methodTexts: Texts;
  ports(ports: readonly number[] | undefined): Leaf;
  methods(methods: readonly string[] | undefined): Leaf;
  hosts(hosts: readonly string[] | undefined): Leaf;
  paths(paths: NetworkOperation['paths']): Leaf;
}

export interface NetworkAtoms {
  readonly ports: ReadonlySet<number>;
  readonly operations: readonly NetworkOperation[];
  readonly always: Leaf;
  /** Methods that are told apart besides those of the operations. */
  readonly methods: readonly string[];
}

export function networkDimensions(
  space: Space,
  { ports, operations, always, methods }: NetworkAtoms,
): NetworkDimensions {
  const port = portDimension(space, ports);
  const http = space.add('http', 'HTTP', [
    { words: 'seen', put: (draft) => void (draft.httpSeen = true) },
    { words: 'not seen', unseen: true, odd: 1, put: (draft) => void (draft.httpSeen = false) },
  ]);
  const httpSeen = space.where(http, (index) => index === 0);
  const method = methodDimension(space, [
    ...operations.flatMap((operation) => operation.methods ?? []),
    ...methods,
  ]);
  const hosts = hostDimension(space, operations);
  const paths = pathDimension(space, operations);
  const portSeen = space.where(port.dimension, (index) => index < port.known);
  return {
    port: port.dimension,
    methodTexts: method.values.map((text, at) => [
      text,
      space.diagram.and(
        httpSeen,
        space.where(method.dimension, (index) => index === at),
      ),
    ]),
    portSeen,
    httpSeen,
    ports: (asked) =>
      asked === undefined
        ? always
        : space.onlyWhere(portSeen, space.known(port.dimension, port.among(asked))),
    methods: (asked) =>
      asked === undefined
        ? always
        : space.onlyWhere(httpSeen, space.known(method.dimension, method.among(asked))),
    hosts: (asked) => (asked === undefined ? always : space.onlyWhere(httpSeen, hosts(asked))),
    paths: (asked) => (asked === undefined ? always : space.onlyWhere(httpSeen, paths(asked))),
  };
}

interface Named<T> {
  readonly dimension: Dimension;
  /** How many classes stand for a known value. */
  readonly known: number;
  readonly values: readonly T[];
  among(values: readonly T[]): (index: number) => boolean;
}

function portDimension(space: Space, ports: ReadonlySet<number>): Named<number> {
  const named = [...ports].sort((a, b) => a - b);
  let other = 8080;
  while (ports.has(other)) other = other === 65535 ? 1 : other + 1;
  const values = [...named, other];
  const dimension = space.add('port', 'port', [
    ...values.map((value, index): ValueClass => ({
      words: index < named.length ? String(value) : 'any other',
      ...(index < named.length ? {} : { rest: true }),
      put: (draft) => void (draft.port = value),
    })),
    { words: 'not known', unseen: true, odd: 1, put: (draft) => void (draft.port = undefined) },
  ]);
  return {
    dimension,
    known: values.length,
    values,
    among: (asked) => (index) => index < named.length && asked.includes(values[index] ?? 0),
  };
}

function methodDimension(space: Space, methods: readonly string[]): Named<string> {
  const named = new Set(methods);
  const values = [...named, named.has('GET') ? fresh('OTHER', named) : 'GET'];
  const dimension = space.add(
    'method',
    'method',
    values.map((value, index) => ({
      words: index < named.size ? value : 'any other',
      ...(index < named.size ? {} : { rest: true }),
      put: (draft) => void (draft.method = value),
    })),
  );
  return {
    dimension,
    known: values.length,
    values,
    among: (asked) => (index) => index < named.size && asked.includes(values[index] ?? ''),
  };
}

/** Hosts that are named, one more under each wildcard, one under none, and none at all. */
function hostDimension(
  space: Space,
  operations: readonly NetworkOperation[],
): (patterns: readonly string[]) => Leaf {
  const patterns = new Set(operations.flatMap(({ hosts }) => hosts ?? []));
  const exact = [...patterns].filter((pattern) => !pattern.startsWith('*.'));
  const taken = new Set(exact);
  const under = [...patterns]
    .filter((pattern) => pattern.startsWith('*.'))
    .map((pattern) => {
      let host = `other${pattern.slice(1)}`;
      for (let at = 2; taken.has(host); at++) host = `other-${at}${pattern.slice(1)}`;
      return { host, words: `any other ${pattern}` };
    });
  const hosts = [
    ...exact.map((host) => ({ host, words: host })),
    ...under,
    { host: fresh('other', taken), words: 'any other', rest: true },
  ];
  const dimension = space.add('host', 'host', [
    ...hosts.map((entry): ValueClass => ({
      words: entry.words,
      ...('rest' in entry ? { rest: true } : {}),
      put: (draft) => void (draft.host = entry.host),
    })),
    { words: 'none', odd: 1, put: (draft) => void (draft.host = undefined) },
  ]);
  const seen = space.where(dimension, (index) => index < hosts.length);
  return (asked) =>
    space.onlyWhere(
      seen,
      space.known(dimension, (index) => {
        const host = hosts[index]?.host;
        return host !== undefined && asked.some((pattern) => matchesHost(pattern, host));
      }),
    );
}

function pathDimension(
  space: Space,
  operations: readonly NetworkOperation[],
): (patterns: NonNullable<NetworkOperation['paths']>) => Leaf {
  const distinct = new Map(
    operations.flatMap(({ paths }) => paths ?? []).map((pattern) => [patternKey(pattern), pattern]),
  );
  const patterns = [...distinct.values()];
  const indexOf = new Map([...distinct.keys()].map((key, index) => [key, index]));
  const classes = pathClasses(patterns);
  const dimension = space.add(
    'path',
    'path',
    classes.map(({ path, matching }) => ({
      words: pathWords(
        path,
        [...matching].flatMap((index) => patterns[index] ?? []),
      ),
      ...(matching.size === 0 ? { rest: true } : {}),
      put: (draft) => void (draft.path = path),
    })),
  );
  return (asked) => {
    const indexes = asked.map((pattern) => indexOf.get(patternKey(pattern)) ?? -1);
    return space.known(dimension, (index) =>
      indexes.some((pattern) => classes[index]?.matching.has(pattern) === true),
    );
  };
}

function patternKey(pattern: NonNullable<NetworkOperation['paths']>[number]): string {
  if (pattern.kind !== 'template') return `${pattern.kind} ${pattern.path}`;
  // Names of variables do not matter.
  const segments = pattern.segments.map((segment) =>
    segment.kind === 'literal' ? `=${segment.value}` : segment.kind,
  );
  return `template ${segments.join('/')}`;
}

/** What a class of paths is, in words: by the pattern that says most. */
function pathWords(path: string, matching: NonNullable<NetworkOperation['paths']>): string {
  if (matching.length === 0) return 'any other';
  const exact = matching.find(({ kind }) => kind === 'exact');
  if (exact !== undefined) return describePath(exact);
  if (matching.length === 1) return matching.map(describePath).join('');
  return `such as ${path} (${matching.map(describePath).join(', ')})`;
}
