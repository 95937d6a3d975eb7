/** Types of CEL; `dyn` is one that is known when the expression runs. */
export type CelTypeName =
  | 'bool'
  | 'int'
  | 'uint'
  | 'double'
  | 'string'
  | 'bytes'
  | 'null'
  | 'list'
  | 'map'
  | 'timestamp'
  | 'duration'
  | 'type'
  | 'dyn';

interface Overload {
  /** The target of a method comes first. */
  readonly takes: readonly CelTypeName[];
  readonly gives: CelTypeName;
}

const NUMBERS = ['int', 'uint', 'double'] as const;
const ORDERED = ['bool', 'string', 'bytes', 'timestamp', 'duration'] as const;

const overload = (gives: CelTypeName, ...takes: readonly CelTypeName[]): Overload => ({ takes, gives });
const alike = (types: readonly CelTypeName[]): Overload[] => types.map((type) => overload(type, type, type));

const ORDERING = [
  ...ORDERED.map((type) => overload('bool', type, type)),
  ...NUMBERS.flatMap((left) => NUMBERS.map((right) => overload('bool', left, right))),
];

/** Of the same kind, or numbers: two texts of which one is a number are never equal, so that is a mistake. */
const EQUALITY = [
  ...ORDERING,
  ...(['null', 'list', 'map', 'type'] as const).map((type) => overload('bool', type, type)),
  // Any value may be compared with null.
  overload('bool', 'dyn', 'null'),
  overload('bool', 'null', 'dyn'),
];

const size = [
  overload('int', 'string'),
  overload('int', 'bytes'),
  overload('int', 'list'),
  overload('int', 'map'),
];
const casts = (gives: CelTypeName, ...from: readonly CelTypeName[]): Overload[] =>
  from.map((type) => overload(gives, type));
const text = [overload('bool', 'string', 'string')];

const FUNCTIONS: Readonly<Record<string, readonly Overload[]>> = {
  '!_': [overload('bool', 'bool')],
  '-_': [overload('int', 'int'), overload('double', 'double')],
  '_&&_': [overload('bool', 'bool', 'bool')],
  '_||_': [overload('bool', 'bool', 'bool')],
  '@not_strictly_false': [overload('bool', 'bool')],
  '_?_:_': [overload('dyn', 'bool', 'dyn', 'dyn')],
  '_==_': EQUALITY,
  '_!=_': EQUALITY,
  '_<_': ORDERING,
  '_<=_': ORDERING,
  '_>_': ORDERING,
  '_>=_': ORDERING,
  '_+_': [
    ...alike([...NUMBERS, 'duration', 'string', 'bytes', 'list']),
    overload('timestamp', 'timestamp', 'duration'),
    overload('timestamp', 'duration', 'timestamp'),
  ],
  '_-_': [
    ...alike([...NUMBERS, 'duration']),
    overload('duration', 'timestamp', 'timestamp'),
    overload('timestamp', 'timestamp', 'duration'),
  ],
  '_*_': alike(NUMBERS),
  '_/_': alike(NUMBERS),
  '_%_': alike(['int', 'uint']),
  '_[_]': [overload('dyn', 'list', 'int'), overload('dyn', 'map', 'dyn')],
  '@in': [overload('bool', 'dyn', 'list'), overload('bool', 'dyn', 'map')],
  size,
  int: casts('int', 'int', 'uint', 'double', 'string', 'timestamp', 'duration'),
  uint: casts('uint', 'uint', 'int', 'double', 'string'),
  double: casts('double', 'double', 'int', 'uint', 'string'),
  bool: casts('bool', 'bool', 'string'),
  bytes: casts('bytes', 'bytes', 'string'),
  string: casts('string', 'string', 'bool', ...NUMBERS, 'bytes', 'timestamp', 'duration'),
  timestamp: casts('timestamp', 'timestamp', 'string', 'int'),
  duration: casts('duration', 'duration', 'string', 'int'),
  type: [overload('type', 'dyn')],
  dyn: [overload('dyn', 'dyn')],
};

const METHODS: Readonly<Record<string, readonly Overload[]>> = {
  size,
  contains: text,
  startsWith: text,
  endsWith: text,
  matches: text,
  getSeconds: [overload('int', 'duration')],
  getMinutes: [overload('int', 'duration')],
  getHours: [overload('int', 'duration')],
};

/** These read a clock through the zone of the machine, which a policy must not depend on. */
const CLOCK = /^get(?:FullYear|Month|Date|DayOf(?:Month|Week|Year)|Milliseconds)$/;

/** The overloads of a function or method; undefined when there is none, a text that says what to use in its place. */
export function functionNamed(name: string, method: boolean): readonly Overload[] | string | undefined {
  if (method && CLOCK.test(name)) return 'use when.during or when.outside for hours and days';
  const table = method ? METHODS : FUNCTIONS;
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
