import { Command } from 'commander';
import { explain } from '../../access/policy/explain.js';
import { addRequestOptions, requestOf, type RequestFlags } from '../access-request.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
import { explanationText } from '../explain-text.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';

interface ExplainOptions extends RequestFlags {
  readonly output: OutputFormat;
  readonly trustDomain?: string;
  readonly at?: string;
}

/** `signet explain`. */
export function explainCommand(io: CliIo): Command {
  const command = new Command('explain')
    .description(
      'Say whether a request is allowed, by which rule, and why: every step of the decision, and what each rule asks for that the request has not. Exit code 1 when it is denied.',
    )
    .argument('<path>', 'a folder or file of resources');
  return addRequestOptions(command)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((path: string, options: ExplainOptions) => explainRequest(io, path, options));
}

async function explainRequest(io: CliIo, path: string, options: ExplainOptions): Promise<void> {
  const source = await openAccessSource(io, path, options);
  const request = requestOf(options, source.inventory, instantOf(io, options.at));
  const explanation = explain(source.policies, request);
  answer(io, options.output, explanation, () => explanationText(explanation, request));
  if (!explanation.allowed) throw new ExitWith(EXIT.negative);
}
