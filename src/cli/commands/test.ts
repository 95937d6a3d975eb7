import { Command, InvalidArgumentError } from 'commander';
import { runPolicyTests, type PolicyTestInput, type TestReport } from '../../access/testing/policy-test.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';

interface TestOptions {
  readonly output: OutputFormat;
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
    .argument('<path>')
    .option('--min-coverage <percent>', 'how many of the rules must have decided a test', percent, 0)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((path: string, options: TestOptions) => test(io, path, options));
}

async function test(io: CliIo, path: string, options: TestOptions): Promise<void> {
  const source = await openAccessSource(io, path, options);
  const report = runPolicyTests(
    source.policyTests as unknown as readonly PolicyTestInput[],
    source.policies,
    { inventory: source.inventory, time: instantOf(io, options.at) },
  );
  const failed = report.results.filter(({ passed }) => !passed).length;
  answer(io, options.output, { passed: failed === 0, ...report }, () => describe(report, failed));
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

function percent(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 100))
    throw new InvalidArgumentError('Write a number from 0 to 100.');
  return value;
}
