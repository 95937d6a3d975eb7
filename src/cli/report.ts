import { Option } from 'commander';
import { ResourcesInvalidError, type AccessSource } from './access-source.js';
import type { CliIo } from './io.js';
import { answer, type OutputFormat } from './output.js';
import { fileFindings, sarifLog, type Report } from './sarif.js';

/** `--output` of commands whose findings have a place in a file. */
export type ReportFormat = OutputFormat | 'sarif';

/** `--output text|json|yaml|sarif`. */
export function reportOption(): Option {
  return new Option('-o, --output <format>', 'how the answer is written; sarif (2.1.0) is for code scanning')
    .choices(['text', 'json', 'yaml', 'sarif'])
    .default('text');
}

/** Writes a SARIF log. */
export function writeSarif(io: CliIo, report: Report): void {
  answer(io, 'json', sarifLog(report), () => '');
}

/**
 * Opens a source for a command that reports about it. Where the files have errors, a SARIF log says which before the
 * command fails, so that they are shown at their lines too.
 */
export async function openForReport(
  io: CliIo,
  { format, root, rules }: Pick<Report, 'root' | 'rules'> & { readonly format: string },
  open: () => Promise<AccessSource>,
): Promise<AccessSource> {
  try {
    return await open();
  } catch (thrown) {
    if (format === 'sarif' && thrown instanceof ResourcesInvalidError)
      writeSarif(io, { rules, findings: fileFindings(thrown.problems), done: false, root });
    throw thrown;
  }
}
