import { Command } from 'commander';
import { describeFinding, lintPolicies } from '../../access/analysis/lint.js';
import type { Finding } from '../../access/analysis/lint-rules.js';
import { policyName } from '../../access/policy/model.js';
import {
  instantOf,
  openAccessSource,
  timeOption,
  trustDomainOption,
  type AccessSource,
  type SourceOptions,
} from '../access-source.js';
import { addClusterOptions, CLUSTER_ROOT } from '../cluster.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer } from '../output.js';
import { openForReport, reportOption, writeSarif, type ReportFormat } from '../report.js';
import { LINT_REPORT_RULES } from '../report-rules.js';
import { RESOURCES_OR_CLUSTER } from '../resource-files.js';
import { fileFindings, type ReportedFinding } from '../sarif.js';

interface LintOptions extends SourceOptions {
  readonly output: ReportFormat;
  readonly at?: string;
}

/** `signet lint`. */
export function lintCommand(io: CliIo): Command {
  const command = new Command('lint')
    .description(
      'Say what is wrong or doubtful in the policies of a folder or file. Exit code 1 when there is an error.',
    )
    .argument('[path]', RESOURCES_OR_CLUSTER);
  return addClusterOptions(command)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(reportOption())
    .action((path: string | undefined, options: LintOptions) => lint(io, path, options));
}

async function lint(io: CliIo, path: string | undefined, options: LintOptions): Promise<void> {
  const { output } = options;
  const about = { format: output, root: path ?? CLUSTER_ROOT, rules: LINT_REPORT_RULES };
  const source = await openForReport(io, about, () => openAccessSource(io, path, options));
  const findings = lintPolicies(source.policies, source.inventory, {
    time: instantOf(io, options.at),
    issuers: source.issuers.map(({ issuer }) => issuer),
  });
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  if (output === 'sarif') {
    const all = [...fileFindings(source.warnings), ...findings.map((finding) => reported(finding, source))];
    writeSarif(io, { ...about, findings: all, done: true });
  } else {
    answer(io, output, { findings }, () =>
      [...findings.map(describeFinding), `${findings.length} findings, ${errors} of them errors`].join('\n'),
    );
  }
  if (errors > 0) throw new ExitWith(EXIT.negative);
}

function reported(
  { id, severity, policy, rule, field, message, fix }: Finding,
  { placeOf }: AccessSource,
): ReportedFinding {
  const text = fix === undefined ? message : `${message}. ${fix}`;
  if (policy === undefined) return { rule: { id }, severity, message: text };
  const place = placeOf(policy, rule, field);
  return {
    rule: { id },
    severity,
    message: text,
    ...(place === undefined ? {} : { place }),
    subject: [policyName(policy), rule, field].filter((part) => part !== undefined).join('/'),
  };
}
