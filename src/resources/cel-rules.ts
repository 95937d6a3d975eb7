import { celEnv, isCelError, parse, plan } from '@bufbuild/cel';
import type { CelInput } from '@bufbuild/cel';
import type { CelRule } from './schema.js';

/** What a rule said of a value. */
export type RuleVerdict = 'holds' | 'broken' | { readonly failed: string };

type Program = (self: unknown) => RuleVerdict;

/** Words of CEL: the API server writes a field of such a name with two underscores around it. */
const RESERVED = new Set(
  'as break const continue else false for function if import in let loop namespace null package return true var void while'.split(
    ' ',
  ),
);

const environment = celEnv();
/** Rules are constants of the schemas, parsed when first needed. */
const programs = new WeakMap<CelRule, Program>();

/** Whether a rule speaks of what an object was before a change: only the API server can judge that. */
export function isTransitionRule(rule: CelRule): boolean {
  return /\boldSelf\b/.test(rule.rule);
}

/** Evaluates a rule of a schema over the value at its place, as the API server would. */
export function checkRule(rule: CelRule, self: unknown): RuleVerdict {
  let program = programs.get(rule);
  if (program === undefined) {
    program = compile(rule);
    programs.set(rule, program);
  }
  return program(self);
}

function compile(rule: CelRule): Program {
  const run = plan(environment, parse(rule.rule));
  return (self) => {
    const result = run({ self: escaped(self) as CelInput });
    if (isCelError(result)) return { failed: result.message };
    return result === true ? 'holds' : result === false ? 'broken' : { failed: 'the rule gives no boolean' };
  };
}

/** The value under the names that rules use for fields. */
function escaped(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(escaped);
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, field]) => [RESERVED.has(key) ? `__${key}__` : key, escaped(field)]),
  );
}
