import { Command } from 'commander';
import { evaluate } from '../../access/policy/evaluate.js';
import { addRequestOptions, requestOf, type RequestFlags } from '../access-request.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
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
    .description('Say whether a request is allowed, by which rule, and why. Exit code 1 when it is denied.')
    .argument('<path>', 'a folder or file of resources');
  return addRequestOptions(command)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action((path: string, options: ExplainOptions) => explain(io, path, options));
}

async function explain(io: CliIo, path: string, options: ExplainOptions): Promise<void> {
  const source = await openAccessSource(io, path, options);
  const request = requestOf(options, source.inventory, instantOf(io, options.at));
  const decision = evaluate(source.policies, request);
  answer(io, options.output, decision, () =>
    [
      `${decision.allowed ? 'ALLOWED' : 'DENIED'}: ${decision.reason}`,
      ...decision.audit.map(
        ({ reason, changesAnswer }) => `audit: ${reason}${changesAnswer ? ' (another answer)' : ''}`,
      ),
    ].join('\n'),
  );
  if (!decision.allowed) throw new ExitWith(EXIT.negative);
}
