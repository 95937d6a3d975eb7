import { Command } from 'commander';
import { diffPolicySets, type AccessClass, type PolicyDiff } from '../../access/analysis/diff.js';
import type { Decision } from '../../access/policy/evaluate.js';
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
import { DIFF_RULES, type ReportRule } from '../report-rules.js';
import { RESOURCES } from '../resource-files.js';
import type { ReportedFinding } from '../sarif.js';

interface DiffOptions {
  readonly output: ReportFormat;
  readonly trustDomain?: string;
  readonly at?: string;
}

/** `signet diff`. */
export function diffCommand(io: CliIo): Command {
  return new Command('diff')
    .description(
      'Say which accesses a change opens and closes, each with a request to try. Exit code 1 when there are any, or when ' +
        'it cannot be said for sure.',
    )
    .argument('<before>', RESOURCES)
    .argument('<after>', 'the same after the change')
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(reportOption())
    .action((before: string, after: string, options: DiffOptions) => diff(io, [before, after], options));
}

async function diff(
  io: CliIo,
  [before, after]: readonly [string, string],
  options: DiffOptions,
): Promise<void> {
  const about = (root: string) => ({ format: options.output, root, rules: Object.values(DIFF_RULES) });
  const old = await openForReport(io, about(before), () => openAccessSource(io, before, options));
  const changed = await openForReport(io, about(after), () => openAccessSource(io, after, options));
  const result = diffPolicySets(old.policies, changed.policies, changed.inventory, {
    from: instantOf(io, options.at),
  });
  if (options.output === 'sarif')
    writeSarif(io, { ...about(after), findings: reported(result, changed), done: true });
  else answer(io, options.output, result, () => describe(result));
  if (result.equal !== true) throw new ExitWith(EXIT.negative);
}

/** Each at the rule or policy that decides after the change, where there is one. */
function reported({ gained, lost, unknown }: PolicyDiff, source: AccessSource): readonly ReportedFinding[] {
  const found =
    (rule: ReportRule) =>
    (change: AccessClass): ReportedFinding => {
      const { description, before, after } = change;
      const message = `${description}. Before: ${before.reason}. After: ${after.reason}`;
      return { rule, message, subject: description, ...placeOfDecider(after, source) };
    };
  return [
    ...gained.map(found(DIFF_RULES.gained)),
    ...lost.map(found(DIFF_RULES.lost)),
    ...unknown.map(({ description, reason }) => ({
      rule: DIFF_RULES.unknown,
      message: `${description}: ${reason}`,
      subject: description,
    })),
  ];
}

function placeOfDecider({ decidedBy }: Decision, { placeOf }: AccessSource): Pick<ReportedFinding, 'place'> {
  if (decidedBy.kind !== 'rule' && decidedBy.kind !== 'policy') return {};
  const place = placeOf(decidedBy.policy, decidedBy.kind === 'rule' ? decidedBy.rule : undefined);
  return place === undefined ? {} : { place };
}

function describe({ equal, gained, lost, unknown, more }: PolicyDiff): string {
  const lines = (list: readonly AccessClass[], sign: string): readonly string[] =>
    list.flatMap(({ description, before, after }) => [
      `${sign} ${description}`,
      `    before: ${before.reason}`,
      `    after:  ${after.reason}`,
    ]);
  const counts = more.gained + more.lost + more.unknown;
  return [
    ...lines(gained, '+'),
    ...lines(lost, '-'),
    ...unknown.map(({ description, reason }) => `? ${description}: ${reason}`),
    ...(counts === 0 ? [] : [`and ${counts} more`]),
    equal === true
      ? 'no access changes'
      : `${gained.length} gained, ${lost.length} lost, ${unknown.length} unknown`,
  ].join('\n');
}
