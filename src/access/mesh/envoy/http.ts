import { MAX_PATH_LENGTH } from '../../policy/path.js';
import type { NetworkOperation, PathPattern, TemplateSegment, ValueMatch } from '../../policy/model.js';
import { allOf, between, exact, oneOf, unsaid, type Leaf } from './leaf.js';
import {
  all,
  any,
  equals,
  header,
  isPresent,
  literal,
  longerThan,
  matches,
  MAX_PROGRAM,
  not,
  PATH,
  startsWith,
  textTest,
  type Predicate,
} from './predicate.js';

const METHOD = header(':method');
const AUTHORITY = header(':authority');
/** The longest value that is found in a list of values by an expression. */
const MAX_MEMBER = MAX_PROGRAM - 40;
const QUERY_END = '(?:\\?\\C*)?';

export const methodLeaf = (methods: readonly string[]): Leaf =>
  exact(any(methods.map((method) => equals(METHOD, method))));

/**
 * Hosts without case, with or without a port and a final dot; a host that is none is refused before. Without a host, no
 * pattern says no.
 */
export function hostLeaf(hosts: readonly string[]): Leaf {
  const known = any(hosts.flatMap(hostPredicates));
  return between(known, any([known, not(isPresent(AUTHORITY))]));
}

function hostPredicates(host: string): readonly Predicate[] {
  const test = (how: 'exact' | 'prefix' | 'suffix' | 'contains', text: string): Predicate =>
    textTest(AUTHORITY, { [how]: text, ignore_case: true });
  if (host.startsWith('*.')) {
    const end = host.slice(1);
    return [
      test('suffix', end),
      test('suffix', `${end}.`),
      test('contains', `${end}:`),
      test('contains', `${end}.:`),
    ];
  }
  return [
    test('exact', host),
    test('exact', `${host}.`),
    test('prefix', `${host}:`),
    test('prefix', `${host}.:`),
  ];
}

/** The text that every path that matches starts with. */
export function pathKey(pattern: PathPattern): string {
  if (pattern.kind !== 'template') return pattern.path;
  const first = pattern.segments.findIndex(({ kind }) => kind !== 'literal');
  const fixed = pattern.segments.slice(0, first < 0 ? undefined : first);
  const text = fixed.map((segment) => `/${segment.kind === 'literal' ? segment.value : ''}`).join('');
  return first < 0 ? text : `${text}/`;
}

/** Whether a canonical path matches. */
export function pathLeaf(pattern: PathPattern): Leaf {
  switch (pattern.kind) {
    case 'exact':
      return exact(any([equals(PATH, pattern.path), startsWith(PATH, `${pattern.path}?`)]));
    case 'prefix':
      if (pattern.path === '/') return exact(startsWith(PATH, '/'));
      return exact(
        any([
          equals(PATH, pattern.path),
          startsWith(PATH, `${pattern.path}/`),
          startsWith(PATH, `${pattern.path}?`),
        ]),
      );
    case 'template':
      return templateLeaf(pattern.text, pattern.segments);
  }
}

function templateLeaf(text: string, segments: readonly TemplateSegment[]): Leaf {
  const regex = `${segments.map(segmentRegex).join('')}${QUERY_END}`;
  // A character is an instruction, a variable some more; Envoy refuses configuration whose program is too long.
  const size = segments.reduce(
    (sum, segment) => sum + (segment.kind === 'literal' ? segment.value.length + 1 : 12),
    20,
  );
  if (size <= MAX_PROGRAM) return exact(matches(PATH, regex));
  return unsaid(`the path template ${text} is too long for Envoy, which compiles no expression that long`);
}

function segmentRegex(segment: TemplateSegment): string {
  switch (segment.kind) {
    case 'literal':
      return `/${literal(segment.value)}`;
    case 'one':
      return '/[^/?]+';
    case 'rest':
      return '/[^?]*';
  }
}

/**
 * A header. Its lines come joined by ","; where one member of such a list has the value, it is not known whether the
 * whole has it.
 */
export function headerLeaf({ name, operator, values }: ValueMatch): Leaf {
  const input = header(name);
  const there = matches(input, '\\C*');
  const whole = any(values.map((value) => equals(input, value)));
  const long = values.filter((value) => value.length > MAX_MEMBER);
  const member = any(
    values
      .filter((value) => !value.includes(','))
      .map((value) =>
        value.length > MAX_MEMBER
          ? all([textTest(input, { contains: ',' }), textTest(input, { contains: value.trim() })])
          : matches(input, `(?:\\C*,)?[\\t ]*${literal(value.trim())}[\\t ]*(?:,\\C*)?`),
      ),
  );
  const reasons =
    long.length === 0
      ? []
      : [
          `header ${name}: a list that holds more than a value of ${long[0]?.length ?? 0} characters counts as holding it`,
        ];
  switch (operator) {
    case 'In':
      return { surely: whole, possibly: any([whole, member]), reasons };
    case 'NotIn':
      return { surely: all([not(whole), not(member)]), possibly: not(whole), reasons };
    case 'Exists':
      return exact(there);
    case 'DoesNotExist':
      return exact(not(there));
  }
}

/** A parameter whose name is not encoded, and whose value can be decoded for sure. */
const PLAIN_PARAMETER = '[^=&%+]*(?:=(?:[^&%]|%[0-7][0-9A-Fa-f])*)?';
/** Every parameter is such a one, so that each can be found by its name as it is written. */
const READABLE = matches(PATH, `[^?]*(?:\\?${PLAIN_PARAMETER}(?:&${PLAIN_PARAMETER})*)?`);

/**
 * A query parameter. Envoy cannot decode, so only names and values that come as they are meant are known for sure.
 */
export function queryLeaf({ name, operator, values }: ValueMatch): Leaf {
  if (!/^[A-Za-z0-9._~-]{1,24}$/.test(name) || values.some((value) => !/^[A-Za-z0-9._~-]{0,40}$/.test(value)))
    return unsaid(
      `Envoy cannot compare query parameter ${name}: its name or a value is percent-encoded or long`,
    );
  const key = literal(name);
  const start = '[^?]*\\?(?:\\C*&)?'; // A "?" may also stand inside of a value.
  const there = matches(PATH, `${start}${key}(?:[=&]\\C*)?`);
  const absent = all([READABLE, not(there)]);
  const present = all([READABLE, there]);
  const other = all([present, not(matches(PATH, `${start}${key}(?:[&=]\\C*)?&${key}(?:[=&]\\C*)?`))]);
  const empty = values.includes('') ? [matches(PATH, `${start}${key}(?:&\\C*)?`)] : [];
  const has = any([
    ...values.map((value) => matches(PATH, `${start}${key}=${literal(value)}(?:&\\C*)?`)),
    ...empty,
  ]);
  // One occurrence that is plainly written, and none of the values.
  const plain = matches(PATH, `${start}${key}(?:=[A-Za-z0-9._~-]*)?(?:&\\C*)?`);
  const surely = {
    In: all([other, has]),
    NotIn: any([absent, all([other, plain, not(has)])]),
    Exists: present,
    DoesNotExist: absent,
  };
  const opposite = { In: 'NotIn', NotIn: 'In', Exists: 'DoesNotExist', DoesNotExist: 'Exists' } as const;
  return {
    surely: surely[operator],
    possibly: not(surely[opposite[operator]]),
    reasons: [
      `Envoy does not decode queries: parameter ${name} is known only when it comes once and nothing of it, and no parameter's name, is percent-encoded`,
    ],
  };
}

/** What an operation says of HTTP, but for its paths. */
export function operationLeaf(operation: Omit<NetworkOperation, 'ports' | 'kind'>): Leaf {
  const { methods, hosts, headers = [], query = [] } = operation;
  return allOf([
    ...(methods === undefined ? [] : [methodLeaf(methods)]),
    ...(hosts === undefined ? [] : [hostLeaf(hosts)]),
    ...headers.map(headerLeaf),
    ...query.map(queryLeaf),
  ]);
}

export const pathsLeaf = (paths: readonly PathPattern[]): Leaf => oneOf(paths.map(pathLeaf));

const ENCODED = '%(?:2[0-46-9A-C]|25|3[AC-F]|40|5[BDE]|60|7[B-D]|[89A-F][0-9A-F])';
const CHARACTERS = `(?:[/A-Za-z0-9._~!$&'()*+,=:@-]|${ENCODED})*${QUERY_END}`;
const SEGMENT = '(?:[^/?.][^/?]*|\\.[^/?.][^/?]*|\\.\\.[^/?]+)';
const SEGMENTS = `/(?:${SEGMENT}/)*${SEGMENT}?${QUERY_END}`;

/** A longer path. Short ones, which are most, are told by an expression: it is faster. */
const LONG_PATH = all([matches(PATH, '\\C{90,}'), longerThan('request', 'path', MAX_PATH_LENGTH)]);
/**
 * A longer host. Its port and final dot count too: they are six characters, and no name in DNS is as long as the limit.
 */
const LONG_HOST = all([matches(AUTHORITY, '\\C{90,}'), longerThan('request', 'host', 253)]);

/**
 * What is refused whatever the policies say, as `evaluate` does: a path that programs could read in two ways (empty and
 * dot segments, encoded slashes, ";", double encoding, …), a path or host that is too long, a method in lower case, a host that is none. Path characters
 * that need no encoding and come encoded are refused here too, unless the canonical-path filter has decoded them.
 */
export const REFUSED_REQUEST: Predicate = any([
  LONG_PATH,
  LONG_HOST,
  not(matches(PATH, CHARACTERS)),
  not(matches(PATH, SEGMENTS)),
  matches(PATH, '[^?]*%25[0-9A-Fa-f]{2}\\C*'),
  not(matches(METHOD, '[A-Z][A-Z0-9_-]{0,31}')),
  not(matches(AUTHORITY, '(?i:(?:[a-z0-9_][a-z0-9._-]*|\\[[0-9a-f:.]{2,45}\\]\\.?)(?::[0-9]{1,5})?|)')),
]);
