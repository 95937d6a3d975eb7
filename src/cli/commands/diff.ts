import { Command } from 'commander';
import { diffPolicySets, type AccessClass, type PolicyDiff } from '../../access/analysis/diff.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';

interface DiffOptions {
  readonly output: OutputFormat;
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
    .argument('<before>', 'a folder or file of resources')
    .argument('<after>', 'the same after the change')
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((before: string, after: string, options: DiffOptions) => diff(io, [before, after], options));
}

async function diff(
  io: CliIo,
  [before, after]: readonly [string, string],
  options: DiffOptions,
): Promise<void> {
  const old = await openAccessSource(io, before, options);
  const changed = await openAccessSource(io, after, options);
  const result = diffPolicySets(old.policies, changed.policies, changed.inventory, {
    from: instantOf(io, options.at),
  });
  answer(io, options.output, result, () => describe(result));
  if (result.equal !== true) throw new ExitWith(EXIT.negative);
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
