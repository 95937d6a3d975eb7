import { Command } from 'commander';
import { explain } from '../../access/policy/explain.js';
import { addRequestOptions, requestOf, type RequestFlags } from '../access-request.js';
import {
  instantOf,
  openAccessSource,
  timeOption,
  trustDomainOption,
  type SourceOptions,
} from '../access-source.js';
import { addClusterOptions } from '../cluster.js';
import { explanationText } from '../explain-text.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';
import { RESOURCES_OR_CLUSTER } from '../resource-files.js';

interface ExplainOptions extends RequestFlags, SourceOptions {
  readonly output: OutputFormat;
  readonly at?: string;
}

/** `signet explain`. */
export function explainCommand(io: CliIo): Command {
  const command = new Command('explain')
    .description(
      'Say whether a request is allowed, by which rule, and why: every step of the decision, and what each rule asks for that the request has not. Exit code 1 when it is denied.',
    )
    .argument('[path]', RESOURCES_OR_CLUSTER);
  return addClusterOptions(addRequestOptions(command))
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((path: string | undefined, options: ExplainOptions) => explainRequest(io, path, options));
}

async function explainRequest(io: CliIo, path: string | undefined, options: ExplainOptions): Promise<void> {
  const source = await openAccessSource(io, path, options);
  const request = requestOf(options, source.inventory, instantOf(io, options.at));
  const explanation = explain(source.policies, request);
  answer(io, options.output, explanation, () => explanationText(explanation, request));
  if (!explanation.allowed) throw new ExitWith(EXIT.negative);
}
