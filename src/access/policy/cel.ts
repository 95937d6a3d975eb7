import type { CelInput } from '@bufbuild/cel';
import { checkExpression, MAX_CONTAINERS, MAX_ITEMS, MAX_STRING, MAX_TEXT, MAX_VALUES } from './cel-check.js';
import { celEngine } from './cel-engine.js';
import type { CelCondition, DecisionAttributes } from './model.js';
import { parseInstant } from './scalar.js';

/** An expression that may stand in a policy, or why not. */
export type CompiledCel =
  | { readonly ok: true; readonly condition: CelCondition }
  | { readonly ok: false; readonly message: string; readonly fix: string };

/** The longest expression, in characters. */
const MAX_LENGTH = 4096;
/** How deep brackets may stand in each other: what reads and runs expressions goes down as deep. */
const MAX_DEPTH = 40;
/** How deep the attributes of one request may be nested; beyond this and their other bounds nothing can be said. */
const MAX_NESTING = 16;

/**
 * Checks an expression over `subject`, `resource`, `action` and `environment`, and makes it ready to run. What it can
 * cost is bounded: by its length, by a static estimate, and by the size of the attributes that it runs over.
 */
export function compileCel(text: string): CompiledCel {
  if (text.length > MAX_LENGTH) {
    return refused(`has ${text.length} characters`, `write at most ${MAX_LENGTH}`);
  }
  if (nesting(text) > MAX_DEPTH) return refused('is nested too deep', `nest at most ${MAX_DEPTH} brackets`);
  const { cel, environment } = celEngine();
  try {
    const parsed = cel.parse(text);
    const problem = checkExpression(parsed.expr);
    if (problem !== undefined) return refused(problem.message, problem.fix);
    const run = cel.plan(environment, parsed);
    return { ok: true, condition: { text, evaluate: (attributes) => evaluate(run, attributes) } };
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message.slice(0, 300) : 'it cannot be parsed';
    return refused(`this is no CEL expression: ${reason}`, 'see github.com/google/cel-spec for the language');
  }
}

const refused = (message: string, fix: string): CompiledCel => ({ ok: false, message, fix });

/** Brackets in texts count too: a bound, not a parser. */
function nesting(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (const character of text) {
    if ('([{'.includes(character)) deepest = Math.max(deepest, ++depth);
    else if (')]}'.includes(character)) depth = Math.max(0, depth - 1);
  }
  return deepest;
}

function evaluate(
  run: (context: Record<string, CelInput>) => unknown,
  attributes: DecisionAttributes,
): boolean | undefined {
  try {
    const budget: Budget = { values: MAX_VALUES, characters: MAX_TEXT, containers: MAX_CONTAINERS };
    const variables = {
      subject: converted(attributes.subject, budget, 0),
      resource: converted(attributes.resource, budget, 0),
      action: converted(attributes.action, budget, 0),
      environment: converted(withTimestamp(attributes.environment), budget, 0),
    };
    const result = run(variables as Record<string, CelInput>);
    return celEngine().cel.isCelError(result) || typeof result !== 'boolean' ? undefined : result;
  } catch {
    return undefined;
  }
}

function withTimestamp(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { time } = fields;
  const instant = typeof time === 'string' ? parseInstant(time) : undefined;
  return instant === undefined ? fields : { ...fields, time: celEngine().timestampFromMs(instant) };
}

class TooLarge extends Error {}

/** What is left of what the attributes of one request may have. */
interface Budget {
  values: number;
  characters: number;
  containers: number;
}

/** JSON as CEL takes it: whole numbers are ints; what is null is left out, so that `has` says what is there. */
function converted(value: unknown, budget: Budget, depth: number): unknown {
  if (--budget.values < 0 || depth > MAX_NESTING) throw new TooLarge();
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value === 'string') {
    budget.characters -= value.length;
    if (value.length > MAX_STRING || budget.characters < 0) throw new TooLarge();
  }
  if (typeof value !== 'object' || value === null || '$typeName' in value) return value;
  if (--budget.containers < 0) throw new TooLarge();
  if (Array.isArray(value)) {
    if (value.length > MAX_ITEMS) throw new TooLarge();
    return value.map((item) => converted(item, budget, depth + 1));
  }
  const entries = Object.entries(value).filter(([, field]) => field !== null && field !== undefined);
  if (entries.length > MAX_ITEMS) throw new TooLarge();
  return new Map(entries.map(([key, field]) => [key, converted(field, budget, depth + 1)]));
}
