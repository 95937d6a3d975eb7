import { Command } from 'commander';
import { diffPolicySets, type AccessClass, type PolicyDiff } from '../../access/analysis/diff.js';
import type { Decision } from '../../access/policy/evaluate.js';
import {
  instantOf,
  openAccessSource,
  openChangedCluster,
  timeOption,
  trustDomainOption,
  type AccessSource,
  type SourceOptions,
} from '../access-source.js';
import { addClusterOptions } from '../cluster.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer } from '../output.js';
import { openForReport, reportOption, writeSarif, type ReportFormat } from '../report.js';
import { DIFF_RULES, type ReportRule } from '../report-rules.js';
import { RESOURCES } from '../resource-files.js';
import type { ReportedFinding } from '../sarif.js';

interface DiffOptions extends SourceOptions {
  readonly output: ReportFormat;
  readonly at?: string;
}

/** `signet diff`. */
export function diffCommand(io: CliIo): Command {
  const command = new Command('diff')
    .description(
      'Say which accesses a change opens and closes, each with a request to try. Exit code 1 when there are any, or when ' +
        'it cannot be said for sure.',
    )
    .argument('<before>', `${RESOURCES}; alone, it is what changes in the cluster`)
    .argument('[after]', 'the same after the change');
  return addClusterOptions(command)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(reportOption())
    .action((before: string, after: string | undefined, options: DiffOptions) =>
      diff(io, after === undefined ? undefined : before, after ?? before, options),
    );
}

async function diff(
  io: CliIo,
  before: string | undefined,
  after: string,
  options: DiffOptions,
): Promise<void> {
  const [old, changed] = await openBoth(io, before, after, options);
  const result = diffPolicySets(old.policies, changed.policies, changed.inventory, {
    from: instantOf(io, options.at),
  });
  if (options.output === 'sarif')
    writeSarif(io, { ...about(after, options), findings: reported(result, changed), done: true });
  else answer(io, options.output, result, () => describe(result));
  if (result.equal !== true) throw new ExitWith(EXIT.negative);
}

const about = (root: string, { output: format }: DiffOptions) => ({
  ...{ format, root, rules: Object.values(DIFF_RULES) },
});

/** Without a former state it is that of the cluster, which what is said then changes. */
async function openBoth(
  io: CliIo,
  before: string | undefined,
  after: string,
  options: DiffOptions,
): Promise<readonly [AccessSource, AccessSource]> {
  if (before === undefined) {
    const both = await openChangedCluster(io, after, options);
    return [both.before, both.after];
  }
  const old = await openForReport(io, about(before, options), () => openAccessSource(io, before, options));
  return [old, await openForReport(io, about(after, options), () => openAccessSource(io, after, options))];
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
