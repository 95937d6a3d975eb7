import type { parse } from '@bufbuild/cel';
import { celEngine } from './cel-engine.js';
import { functionNamed, type CelTypeName } from './cel-functions.js';

type Expr = ReturnType<typeof parse>['expr'];

export interface CelProblem {
  readonly message: string;
  readonly fix: string;
}

class Refused extends Error {
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
}

/** The longest list or map, and text, that an expression runs over; cel.ts holds requests to it. */
export const MAX_ITEMS = 256;
export const MAX_STRING = 8192;
/** How many values, and characters in all texts, the attributes of one request have in all. */
export const MAX_VALUES = 4096;
export const MAX_TEXT = 65_536;
/** How many of these values are lists or objects. */
export const MAX_CONTAINERS = 256;
/**
 * Steps that an expression may take at most, by a static estimate; a step is some hundred nanoseconds. Going through a list
 * and looking up each item in another one is less, doing so twice is more.
 */
const MAX_COST = 45_000;
const MAX_PATTERN = 256;

const VARIABLES = ['subject', 'resource', 'action', 'environment'];

/** What is known of a part of the expression before it runs. */
interface Part {
  readonly type: CelTypeName;
  /** Steps that working it out takes at most. */
  readonly cost: number;
  /** Items or characters that it may have. */
  readonly size: number;
  /** What its items are, when it is a list. */
  readonly items?: CelTypeName;
}

type Scope = ReadonlyMap<string, Part>;

/** What is wrong with an expression that was parsed: names, functions, types, result, cost. */
export function checkExpression(expr: Expr): CelProblem | undefined {
  try {
    const { type, cost } = check(expr, new Map());
    if (type !== 'bool' && type !== 'dyn') {
      return { message: `gives ${type}, not true or false`, fix: 'write a comparison' };
    }
    return cost > MAX_COST ? tooDear(cost) : undefined;
  } catch (thrown) {
    if (thrown instanceof Refused) return { message: thrown.message, fix: thrown.fix };
    throw thrown;
  }
}

function tooDear(cost: number): CelProblem {
  return {
    message: `could take ${cost.toExponential(1)} steps on lists of ${MAX_ITEMS} items; ${MAX_COST} are allowed`,
    fix: 'do not go through lists inside of lists',
  };
}

function check(expr: Expr, scope: Scope): Part {
  const { exprKind } = expr;
  // eslint-disable-next-line @typescript-eslint/switch-exhaustiveness-check -- what a later library adds is refused
  switch (exprKind.case) {
    case 'constExpr':
      return constant(exprKind.value.constantKind);
    case 'identExpr':
      return identifier(exprKind.value.name, scope);
    case 'selectExpr':
      return select(exprKind.value, scope);
    case 'callExpr':
      return call(exprKind.value, scope);
    case 'listExpr': {
      const parts = exprKind.value.elements.map((element) => check(element, scope));
      const types = new Set(parts.map(({ type }) => type));
      const [only = 'dyn'] = types;
      return { type: 'list', cost: sum(parts), size: parts.length, items: types.size === 1 ? only : 'dyn' };
    }
    case 'structExpr': {
      if (exprKind.value.messageName !== '') {
        throw new Refused(`there is no message ${exprKind.value.messageName}`, 'write a map: {"key": value}');
      }
      const parts = exprKind.value.entries.flatMap((entry) => [
        ...(entry.keyKind.case === 'mapKey' ? [check(entry.keyKind.value, scope)] : []),
        check(needed(entry.value), scope),
      ]);
      return { type: 'map', cost: sum(parts), size: parts.length };
    }
    case 'comprehensionExpr':
      return comprehension(exprKind.value, scope);
    default:
      throw new Refused('holds something that is not understood', 'write it otherwise');
  }
}

function select(
  { operand: of, field, testOnly }: Extract<Expr['exprKind'], { case: 'selectExpr' }>['value'],
  scope: Scope,
): Part {
  const operand = check(needed(of), scope);
  if (operand.type !== 'dyn' && operand.type !== 'map') {
    throw new Refused(`${operand.type} has no field ${field}`, 'select from an object');
  }
  if (testOnly) return { type: 'bool', cost: operand.cost + 1, size: 1 };
  if (isEnvironment(of) && field === 'time') return { type: 'timestamp', cost: 2, size: 1 };
  return { type: 'dyn', cost: operand.cost + 1, size: operand.size };
}

const sum = (parts: readonly Part[]): number => parts.reduce((total, { cost }) => total + cost, 1);

function needed(expr: Expr | undefined): Expr {
  if (expr === undefined) throw new Refused('is not complete', 'write the missing part');
  return expr;
}

function isEnvironment(expr: Expr | undefined): boolean {
  return expr?.exprKind.case === 'identExpr' && expr.exprKind.value.name === 'environment';
}

function constant(kind: Extract<Expr['exprKind'], { case: 'constExpr' }>['value']['constantKind']): Part {
  // eslint-disable-next-line @typescript-eslint/switch-exhaustiveness-check -- no text of an expression gives the others
  switch (kind.case) {
    case 'boolValue':
      return { type: 'bool', cost: 1, size: 1 };
    case 'int64Value':
      return { type: 'int', cost: 1, size: 1 };
    case 'uint64Value':
      return { type: 'uint', cost: 1, size: 1 };
    case 'doubleValue':
      return { type: 'double', cost: 1, size: 1 };
    case 'stringValue':
      return { type: 'string', cost: 1, size: kind.value.length };
    case 'bytesValue':
      return { type: 'bytes', cost: 1, size: kind.value.length };
    case 'nullValue':
      return { type: 'null', cost: 1, size: 1 };
    default:
      throw new Refused('holds a constant that is not understood', 'write it otherwise');
  }
}

function identifier(name: string, scope: Scope): Part {
  const bound = scope.get(name);
  if (bound !== undefined) return bound;
  if (VARIABLES.includes(name)) return { type: 'map', cost: 1, size: MAX_ITEMS };
  throw new Refused(`there is no variable ${JSON.stringify(name)}`, `use ${VARIABLES.join(', ')}`);
}

function comprehension(
  {
    iterVar,
    accuVar,
    iterRange,
    accuInit,
    loopStep,
    loopCondition,
    result,
  }: Extract<Expr['exprKind'], { case: 'comprehensionExpr' }>['value'],
  scope: Scope,
): Part {
  if (VARIABLES.includes(iterVar)) {
    throw new Refused(`${iterVar} is bound a second time`, 'take another name inside the list');
  }
  const range = check(needed(iterRange), scope);
  if (!['list', 'map', 'dyn'].includes(range.type)) {
    throw new Refused(`${range.type} has no items to go through`, 'go through a list or a map');
  }
  // Items have as many values and characters as the attributes have in all, on average, which is what a loop comes to.
  const item: Part = { type: range.items ?? 'dyn', cost: 1, size: ITEM_SIZE };
  const init = check(needed(accuInit), scope);
  // What is gathered is a list of as many items at most; while it grows, its parts are of any type.
  const gathered: Part = { ...init, size: Math.max(init.size, range.size), items: 'dyn' };
  const inner = new Map([...scope, [iterVar, item] as const, [accuVar, gathered] as const]);
  const step = check(needed(loopStep), inner);
  const condition = check(needed(loopCondition), inner);
  const end = check(needed(result), new Map([...scope, [accuVar, gathered] as const]));
  const cost = range.cost + init.cost + end.cost + range.size * (step.cost + condition.cost);
  if (cost > MAX_COST) {
    const { message, fix } = tooDear(cost);
    throw new Refused(message, fix);
  }
  return { type: end.type, cost, size: gathered.size, items: 'dyn' };
}

function call(
  { function: name, target, args }: Extract<Expr['exprKind'], { case: 'callExpr' }>['value'],
  scope: Scope,
): Part {
  const parts = [...(target === undefined ? [] : [target]), ...args].map((part) => check(part, scope));
  const known = functionNamed(name, target !== undefined);
  if (typeof known === 'string') throw new Refused(`${name} cannot be used here`, known);
  if (known === undefined) {
    throw new Refused(
      `there is no ${target === undefined ? 'function' : 'method'} ${name}`,
      'check its name',
    );
  }
  const types = parts.map(({ type }) => type);
  const overload = known.find(
    ({ takes }) =>
      takes.length === types.length &&
      takes.every((wanted, index) => wanted === 'dyn' || types[index] === 'dyn' || wanted === types[index]),
  );
  if (overload === undefined) {
    throw new Refused(
      `${name} does not go with ${types.join(' and ') || 'nothing'}`,
      'compare what is alike',
    );
  }
  if (name === 'matches') checkPattern(args[args.length - 1]);
  // Which overload it will be is open while a type is.
  const open = types.includes('dyn') && known.some(({ gives }) => gives !== overload.gives);
  const cost = sum(parts) + Math.ceil(work(name, parts));
  return {
    type: open ? 'dyn' : overload.gives,
    cost,
    size: resultSize(name, parts),
    ...itemsOf(name, parts),
  };
}

const ITEM_SIZE = MAX_VALUES / MAX_ITEMS;
const NUMBERS: ReadonlySet<CelTypeName> = new Set(['int', 'uint', 'double', 'timestamp', 'duration']);
const ARITHMETIC = new Set(['_-_', '_*_', '_/_', '_%_', '-_']);

function resultSize(name: string, parts: readonly Part[]): number {
  // What is added to a number is one.
  if (ARITHMETIC.has(name) || (name === '_+_' && parts.some(({ type }) => NUMBERS.has(type)))) return 1;
  if (name === '_+_') return parts.reduce((total, { size }) => total + size, 0);
  return name === '_?_:_' || name === '_[_]' ? Math.max(...parts.map(({ size }) => size)) : MAX_ITEMS;
}

/** The steps that a function takes beyond being called, measured with attributes that are as large as they may be. */
function work(name: string, parts: readonly Part[]): number {
  const [first, second] = parts;
  if (first === undefined) return 0;
  switch (name) {
    case '_==_':
    case '_!=_':
      // Values of two types, or lists of two lengths, differ at once.
      return Math.min(...parts.map(valueSteps));
    case '@in':
      return (second?.size ?? 0) * 0.45;
    case '_+_':
      if (parts.some(({ type }) => NUMBERS.has(type))) return 0;
      return parts.reduce((total, { type, size }) => total + (isScalar(type) ? 1 : size / 4), 0);
    case 'contains':
      return characters(first) / 32;
    case 'size':
      return countSteps(first);
    case 'matches':
      return 20 + characters(first) / 2;
    case 'timestamp':
    case 'duration':
      return 20;
    default:
      return 0;
  }
}

const isScalar = (type: CelTypeName): boolean => !['dyn', 'list', 'map'].includes(type);

/** Of counting the characters of a text; other things know their size. */
const countSteps = (part: Part): number =>
  part.type === 'list' || part.type === 'map' ? 0 : characters(part) / 16;

/** Of looking at every part of a value. */
const valueSteps = ({ type, size }: Part): number => (isScalar(type) ? 1 : size * 0.7);

/** How long a text is at most, or on average where it is one of many. */
function characters({ type, size }: Part): number {
  if (type === 'string' && size < MAX_ITEMS) return size;
  return size > ITEM_SIZE ? MAX_STRING : MAX_TEXT / MAX_ITEMS;
}

function itemsOf(name: string, parts: readonly Part[]): Pick<Part, 'items'> {
  const types = new Set(parts.map(({ items }) => items ?? 'dyn'));
  const [only] = types;
  return name === '_+_' && types.size === 1 && only !== undefined ? { items: only } : {};
}

/** The library's expressions are RE2, which takes time in proportion to the text; what remains is to bound them. */
function checkPattern(pattern: Expr | undefined): void {
  const kind = pattern?.exprKind.case === 'constExpr' ? pattern.exprKind.value.constantKind : undefined;
  if (kind?.case !== 'stringValue') {
    throw new Refused('matches takes no pattern that is worked out', 'write the pattern as a text');
  }
  if (kind.value.length > MAX_PATTERN || /\{\d{3,}|\{\d*,\d{3,}/.test(kind.value)) {
    throw new Refused('the pattern of matches is too long', `write ${MAX_PATTERN} characters at most`);
  }
  const { cel, environment } = celEngine();
  const tried = cel.plan(environment, cel.parse(`"".matches(${JSON.stringify(kind.value)})`))();
  if (cel.isCelError(tried)) {
    throw new Refused(`${JSON.stringify(kind.value)} is no RE2 pattern`, 'leave out what RE2 does not know');
  }
}
