import { Command, InvalidArgumentError } from 'commander';
import {
  ruleId,
  runPolicyTests,
  type PolicyTestInput,
  type TestReport,
  type TestResult,
} from '../../access/testing/policy-test.js';
import {
  instantOf,
  openAccessSource,
  timeOption,
  trustDomainOption,
  type AccessSource,
} from '../access-source.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer } from '../output.js';
import { openForReport, reportOption, writeSarif, type ReportFormat } from '../report.js';
import { TEST_RULES } from '../report-rules.js';
import { RESOURCES } from '../resource-files.js';
import { fileFindings, type ReportedFinding } from '../sarif.js';

interface TestOptions {
  readonly output: ReportFormat;
  readonly trustDomain?: string;
  readonly at?: string;
  readonly minCoverage: number;
}

/** `signet test`. */
export function testCommand(io: CliIo): Command {
  return new Command('test')
    .description(
      'Run the PolicyTests of a folder or file against its policies. Exit code 1 when one fails, when there is none, or ' +
        'when fewer rules decided than --min-coverage asks for.',
    )
    .argument('<path>', RESOURCES)
    .option('--min-coverage <percent>', 'how many of the rules must have decided a test', percent, 0)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(reportOption())
    .action((path: string, options: TestOptions) => test(io, path, options));
}

async function test(io: CliIo, path: string, options: TestOptions): Promise<void> {
  const about = { format: options.output, root: path, rules: Object.values(TEST_RULES) };
  const source = await openForReport(io, about, () => openAccessSource(io, path, options));
  const report = runPolicyTests(
    source.policyTests as unknown as readonly PolicyTestInput[],
    source.policies,
    { inventory: source.inventory, time: instantOf(io, options.at) },
  );
  const failed = report.results.filter(({ passed }) => !passed).length;
  if (options.output === 'sarif') {
    const findings = [...fileFindings(source.warnings), ...reported(report, source)];
    writeSarif(io, { ...about, findings, done: true });
  } else {
    answer(io, options.output, { passed: failed === 0, ...report }, () => describe(report, failed));
  }
  const { rules, covered } = report.coverage;
  const enough = rules === 0 || (covered * 100) / rules >= options.minCoverage;
  if (failed > 0 || report.results.length === 0 || !enough) throw new ExitWith(EXIT.negative);
}

function describe({ results, coverage }: TestReport, failed: number): string {
  const lines = results.map(
    ({ file, name, passed, message }) => `${passed ? 'ok  ' : 'FAIL'} ${file}: ${name}: ${message}`,
  );
  const uncovered = coverage.uncovered.map((rule) => `     no test is decided by ${rule}`);
  const total =
    results.length === 0
      ? 'no PolicyTest was found'
      : `${results.length - failed} of ${results.length} passed; ${coverage.covered} of ${coverage.rules} rules decided one`;
  return [...lines, ...uncovered, total].join('\n');
}

/** Tests that fail, and rules that none is decided by, each where it stands. */
function reported(
  { results, coverage }: TestReport,
  { policies, policyTests, placeOf, placeOfTest }: AccessSource,
): readonly ReportedFinding[] {
  const failed = results
    .filter(({ passed }) => !passed)
    .map(({ file, name, message }): ReportedFinding => {
      const place = placeOfTest(file, indexOf(name, file, policyTests));
      const found = { rule: TEST_RULES.failed, message: `${name}: ${message}`, subject: `${file}/${name}` };
      return place === undefined ? found : { ...found, place };
    });
  const uncovered = new Set(coverage.uncovered);
  const rules = policies.policies.flatMap(({ ref, rules: own }) => own.map(({ name }) => ({ ref, name })));
  return [
    ...failed,
    ...rules
      .map(({ ref, name }) => ({ ref, name, id: ruleId(ref, name) }))
      .filter(({ id }) => uncovered.has(id))
      .map(({ ref, name, id }): ReportedFinding => {
        const place = placeOf(ref, name);
        const found = { rule: TEST_RULES.uncovered, message: `no test is decided by ${id}`, subject: id };
        return place === undefined ? found : { ...found, place };
      }),
  ];
}

/** Which of its file's tests one is: by its name, or by the field that stands for the name that it has not. */
function indexOf(
  name: TestResult['name'],
  file: string,
  tests: AccessSource['policyTests'],
): number | undefined {
  const unnamed = /^spec\.tests\[(\d+)\]$/.exec(name);
  if (unnamed !== null) return Number(unnamed[1]);
  const test = tests.find(({ metadata }) => `${metadata.namespace ?? 'default'}/${metadata.name}` === file);
  // Nothing of a PolicyTest is trusted: what cannot be read fails, and stands where its file begins.
  const { spec } = (test ?? {}) as { readonly spec?: { readonly tests?: unknown } | null };
  const list = Array.isArray(spec?.tests) ? (spec.tests as readonly unknown[]) : [];
  const index = list.findIndex((one) => (one as { readonly name?: unknown } | null)?.name === name);
  return index < 0 ? undefined : index;
}

function percent(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 100))
    throw new InvalidArgumentError('Write a number from 0 to 100.');
  return value;
}
