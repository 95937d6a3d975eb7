import { Command, InvalidArgumentError } from 'commander';
import { parseObservation, type LineOptions, type Observation } from '../../access/analysis/observations.js';
import { suggestPolicies, type Suggestion } from '../../access/analysis/suggest.js';
import { openAccessSource, trustDomainOption } from '../access-source.js';
import { readUserFile } from '../files.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { objectsOption, objectsText } from '../output.js';
import { RESOURCES } from '../resource-files.js';

interface SuggestFlags {
  readonly output: 'yaml' | 'json';
  readonly log: string;
  readonly target?: string;
  readonly port?: number;
  readonly generalize?: number;
  readonly includeDenied?: true;
  readonly trustDomain?: string;
}

/** `signet suggest`. */
export function suggestCommand(io: CliIo): Command {
  return new Command('suggest')
    .description(
      'Print the least policies that allow the accesses of a log, and on standard error what they leave out. ' +
        'Exit code 1 when a line cannot be read or an access is left out.',
    )
    .argument('<path>', `the workloads: ${RESOURCES}`)
    .requiredOption(
      '--log <file>',
      "accesses: JSON lines of ours (source, target, port, http, allowed), or Envoy's access log; - for standard input",
    )
    .option('--target <workload>', "whose log it is, namespace/name, where lines do not say (Envoy's)")
    .option('--port <port>', 'the port that was called, where lines do not say', count)
    .option(
      '--generalize <paths>',
      'from how many paths on that differ in ids alone one template is made',
      count,
    )
    .option('--include-denied', 'allow also what was denied when it was seen')
    .addOption(trustDomainOption())
    .addOption(objectsOption())
    .action((path: string, flags: SuggestFlags) => suggest(io, path, flags));
}

async function suggest(io: CliIo, path: string, flags: SuggestFlags): Promise<void> {
  const { inventory } = await openAccessSource(io, path, flags);
  const { observations, unread } = readLog(io, flags);
  const suggestion = suggestPolicies(observations, inventory, {
    ...(flags.generalize === undefined ? {} : { generalizeFrom: flags.generalize }),
    ...(flags.includeDenied === undefined ? {} : { includeDenied: flags.includeDenied }),
  });
  io.stdout(objectsText(flags.output, suggestion.policies));
  for (const line of remarks(suggestion)) io.stderr(`${line}\n`);
  if (unread > 0 || suggestion.uncovered.length > 0) throw new ExitWith(EXIT.negative);
}

function readLog(
  io: CliIo,
  { log, target, port }: SuggestFlags,
): { readonly observations: readonly Observation[]; readonly unread: number } {
  const options: LineOptions = {
    ...(target === undefined ? {} : { target }),
    ...(port === undefined ? {} : { port }),
  };
  const observations: Observation[] = [];
  let unread = 0;
  for (const [index, text] of readUserFile(log).split('\n').entries()) {
    const parsed = parseObservation(text, index + 1, options);
    if (parsed.kind === 'observation') observations.push(parsed.observation);
    if (parsed.kind !== 'problem') continue;
    unread++;
    io.stderr(`error: ${log}:${parsed.problem.line}: ${parsed.problem.message}\n`);
  }
  return { observations, unread };
}

function remarks({ uncovered, moreUncovered, notes }: Suggestion): readonly string[] {
  return [
    ...notes.map((note) => `note: ${note}`),
    ...uncovered.map(
      ({ observation: { source, target, port }, reason, count: times }) =>
        `left out: ${source ?? 'a caller without identity'} to ${target}:${port} (${times} times): ${reason}`,
    ),
    ...(moreUncovered === 0 ? [] : [`and ${moreUncovered} more are left out`]),
  ];
}

function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65_535)
    throw new InvalidArgumentError('Write a number from 1 to 65535.');
  return value;
}
