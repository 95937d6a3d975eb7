import { evaluate, type DecidedBy, type Decision } from '../policy/evaluate.js';
import { policyName, type Effect, type PolicyProblem, type PolicyRef } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import { isRecord, ProblemReport, readObject, readWord, shown } from '../policy/read.js';
import { readRequest, readTime, type RequestSurroundings } from './request.js';

/** A PolicyTest as it stands in a file: requests with the answers that are expected. Nothing of it is trusted. */
export interface PolicyTestInput {
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: unknown;
}

/** What became of one expectation. */
export interface TestResult {
  /** `namespace/name` of the PolicyTest. */
  readonly file: string;
  readonly name: string;
  readonly passed: boolean;
  /** What was asked and answered, or why the test could not be run. */
  readonly message: string;
  readonly expected?: Effect;
  readonly decision?: Decision;
  readonly problems?: readonly PolicyProblem[];
}

/** Which rules decided at least one of the tests. */
export interface RuleCoverage {
  readonly rules: number;
  readonly covered: number;
  /** `policy/rule` of the enforced rules that no test has decided by. */
  readonly uncovered: readonly string[];
}

export interface TestReport {
  readonly results: readonly TestResult[];
  readonly coverage: RuleCoverage;
}

/** Runs the tests of files against a set of policies. A test that cannot be read fails. */
export function runPolicyTests(
  tests: readonly PolicyTestInput[],
  set: PolicySet,
  surroundings: RequestSurroundings,
): TestReport {
  const covered = new Set<string>();
  const results = tests.flatMap((test) => runOne(test, set, surroundings, covered));
  const rules = set.policies
    .filter(({ mode }) => mode === 'Enforce')
    .flatMap(({ ref, rules: own }) => own.map((rule) => ruleId(ref, rule.name)));
  return {
    results,
    coverage: {
      rules: rules.length,
      covered: rules.filter((id) => covered.has(id)).length,
      uncovered: rules.filter((id) => !covered.has(id)),
    },
  };
}

/** The stable name of a rule: `namespace/policy/rule`, or `policy/rule` for a cluster-wide policy. */
export function ruleId(ref: PolicyRef, rule: string): string {
  return `${policyName(ref)}/${rule}`;
}

function runOne(
  test: PolicyTestInput,
  set: PolicySet,
  surroundings: RequestSurroundings,
  covered: Set<string>,
): readonly TestResult[] {
  const file = `${test.metadata.namespace ?? 'default'}/${test.metadata.name}`;
  const report = new ProblemReport();
  const spec = readObject(test.spec, 'spec', ['defaults', 'time', 'tests'], report);
  const cases = spec?.['tests'];
  if (spec !== undefined && (!Array.isArray(cases) || cases.length === 0)) {
    report.add('spec.tests', 'must be a list of tests; an empty one tests nothing');
  }
  const time = readTime(spec?.['time'], 'spec.time', report) ?? surroundings.time;
  const defaults = isRecord(spec?.['defaults']) ? spec['defaults'] : {};
  if (report.problems.length > 0) return [broken(file, '(all)', report)];
  return (cases as readonly unknown[]).map((entry, index) =>
    runCase(entry, {
      file,
      field: `spec.tests[${index}]`,
      defaults,
      set,
      covered,
      surroundings: { ...surroundings, time },
    }),
  );
}

interface CaseContext {
  readonly file: string;
  readonly field: string;
  readonly defaults: Readonly<Record<string, unknown>>;
  readonly set: PolicySet;
  readonly covered: Set<string>;
  readonly surroundings: RequestSurroundings;
}

function runCase(entry: unknown, context: CaseContext): TestResult {
  const { file, field, set, covered } = context;
  const report = new ProblemReport();
  const record = readObject(entry, field, ['name', 'request', 'expect', 'decidedBy'], report) ?? {};
  const written = record['name'];
  const name = typeof written === 'string' && written !== '' ? written : field;
  const expected = readWord(record['expect'], `${field}.expect`, ['Allow', 'Deny'], undefined, report);
  const rule = record['decidedBy'];
  if (rule !== undefined && typeof rule !== 'string') {
    report.add(`${field}.decidedBy`, 'must name a rule, namespace/policy/rule, or a policy');
  }
  const asked = withDefaults(record['request'], context.defaults);
  const request = readRequest(asked, `${field}.request`, context.surroundings, report);
  if (report.problems.length > 0 || request === undefined || expected === undefined) {
    return broken(file, name, report);
  }
  const decision = evaluate(set, request);
  if (decision.decidedBy.kind === 'rule') covered.add(deciderName(decision.decidedBy));
  return { file, name, expected, decision, ...compare(decision, expected, rule) };
}

function compare(
  decision: Decision,
  expected: Effect,
  rule: unknown,
): Pick<TestResult, 'passed' | 'message'> {
  const answer: Effect = decision.allowed ? 'Allow' : 'Deny';
  const by = deciderName(decision.decidedBy);
  if (answer !== expected)
    return { passed: false, message: `expected ${expected}, got ${answer}: ${decision.reason}` };
  if (rule !== undefined && rule !== by) {
    const message = `${answer} as expected, but decided by ${by} instead of ${shown(rule)}: ${decision.reason}`;
    return { passed: false, message };
  }
  return { passed: true, message: `${answer} as expected: ${decision.reason}` };
}

/** What decided, as tests name it. */
function deciderName(by: DecidedBy): string {
  if (by.kind === 'rule') return ruleId(by.policy, by.rule);
  return by.kind === 'policy' ? policyName(by.policy) : by.kind;
}

function broken(file: string, name: string, report: ProblemReport): TestResult {
  const message = report.problems.map(({ field, message: text }) => `${field} ${text}`).join('; ');
  return { file, name, passed: false, message: `cannot be run: ${message}`, problems: report.problems };
}

/** Fields that the request does not say are those of the defaults; who is asked for is one field of several names. */
function withDefaults(request: unknown, defaults: Readonly<Record<string, unknown>>): unknown {
  if (!isRecord(request)) return request ?? defaults;
  const rest: Record<string, unknown> = { ...defaults };
  for (const alternatives of [
    ['from', 'source'],
    ['to', 'target'],
    ['http', 'grpc'],
  ]) {
    if (alternatives.some((name) => name in request))
      for (const name of alternatives) Reflect.deleteProperty(rest, name);
  }
  return { ...rest, ...request };
}
