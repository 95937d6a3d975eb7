import { Command } from 'commander';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { allCrds, crdFor, kinds } from '../../resources/crd.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';
import { problemText } from '../problem-text.js';
import { reportOption, writeSarif, type ReportFormat } from '../report.js';
import { openResources, RESOURCES } from '../resource-files.js';
import { fileFindings } from '../sarif.js';

/** `signet resources validate|crds`. */
export function resourcesCommand(io: CliIo): Command {
  const resources = new Command('resources').description(
    'Check resource files; print the custom resource definitions.',
  );
  resources
    .command('validate')
    .description(
      'Check the resources in a folder or file. Exit code 1 when there are errors; warnings alone are fine.',
    )
    .argument('<path>', RESOURCES)
    .addOption(reportOption())
    .action((path: string, options: { output: ReportFormat }) => validate(io, path, options.output));
  resources
    .command('crds')
    .description('Print the CustomResourceDefinitions, to be applied with kubectl.')
    .option('--directory <directory>', 'write one YAML file per kind there instead')
    .addOption(outputOption())
    .action((options: { directory?: string; output: OutputFormat }) => {
      const crds = allCrds();
      if (options.directory === undefined) {
        // A List, which kubectl takes as it takes the YAML documents of the other forms.
        if (options.output === 'json')
          answer(io, 'json', { apiVersion: 'v1', kind: 'List', items: kinds.map(crdFor) }, () => '');
        else io.stdout(crds.map(({ content }) => content).join('---\n'));
        return;
      }
      mkdirSync(options.directory, { recursive: true });
      for (const { file, content } of crds) writeFileSync(join(options.directory, file), content);
    });
  return resources;
}

async function validate(io: CliIo, path: string, output: ReportFormat): Promise<void> {
  const store = await openResources(io, path);
  const problems = store.problems.value;
  store.close();
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  if (output === 'sarif') {
    writeSarif(io, { rules: [], findings: fileFindings(problems), done: true, root: path });
  } else {
    answer(io, output, { valid: errors === 0, problems }, () =>
      [
        ...problems.map((problem) => `${problem.severity}: ${problemText(problem)}`),
        `${errors} errors, ${problems.length - errors} warnings`,
      ].join('\n'),
    );
  }
  if (errors > 0) throw new ExitWith(EXIT.negative);
}
