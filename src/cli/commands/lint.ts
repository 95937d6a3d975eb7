import { Command } from 'commander';
import { describeFinding, lintPolicies } from '../../access/analysis/lint.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';

interface LintOptions {
  readonly output: OutputFormat;
  readonly trustDomain?: string;
  readonly at?: string;
}

/** `signet lint`. */
export function lintCommand(io: CliIo): Command {
  return new Command('lint')
    .description(
      'Say what is wrong or doubtful in the policies of a folder or file. Exit code 1 when there is an error.',
    )
    .argument('<path>')
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((path: string, options: LintOptions) => lint(io, path, options));
}

async function lint(io: CliIo, path: string, options: LintOptions): Promise<void> {
  const { policies, inventory, issuers } = await openAccessSource(io, path, options);
  const findings = lintPolicies(policies, inventory, {
    time: instantOf(io, options.at),
    issuers: issuers.map(({ issuer }) => issuer),
  });
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  answer(io, options.output, { findings }, () =>
    [...findings.map(describeFinding), `${findings.length} findings, ${errors} of them errors`].join('\n'),
  );
  if (errors > 0) throw new ExitWith(EXIT.negative);
}
