import { Command } from 'commander';
import { parseAllDocuments } from 'yaml';
import { importIstio } from '../../access/import/istio.js';
import { importNetworkPolicies } from '../../access/import/networkpolicy.js';
import type { ImportResult } from '../../access/import/result.js';
import { SignetError } from '../../lib/errors.js';
import { readUserFile, yamlFiles } from '../files.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { objectsOption, objectsText } from '../output.js';

const FILES = 'YAML files, or folders of them; - for standard input';

/** `signet import istio|networkpolicy`. */
export function importCommand(io: CliIo): Command {
  const command = new Command('import').description(
    'Write policies of another language as AccessPolicies, and on standard error what could not be carried. ' +
      'The result never allows more. Exit code 1 when something is missing from it.',
  );
  command
    .command('istio')
    .description('AuthorizationPolicies and PeerAuthentications of Istio.')
    .argument('<path...>', FILES)
    .requiredOption('--trust-domain <name>', 'the trust domain of the mesh')
    .option('--trust-domain-alias <name...>', 'trustDomainAliases of the mesh')
    .option('--root-namespace <namespace>', "Istio's root namespace; istio-system unless said")
    .addOption(objectsOption())
    .action((paths: readonly string[], options: IstioFlags) =>
      tell(
        io,
        options.output,
        importIstio(readObjects(paths), {
          trustDomain: options.trustDomain,
          ...(options.trustDomainAlias === undefined ? {} : { trustDomainAliases: options.trustDomainAlias }),
          ...(options.rootNamespace === undefined ? {} : { rootNamespace: options.rootNamespace }),
        }),
      ),
    );
  command
    .command('networkpolicy')
    .description('NetworkPolicies of Kubernetes.')
    .argument('<path...>', FILES)
    .addOption(objectsOption())
    .action((paths: readonly string[], { output }: ImportFlags) =>
      tell(io, output, importNetworkPolicies(readObjects(paths))),
    );
  return command;
}

interface ImportFlags {
  readonly output: 'yaml' | 'json';
}

interface IstioFlags extends ImportFlags {
  readonly trustDomain: string;
  readonly trustDomainAlias?: readonly string[];
  readonly rootNamespace?: string;
}

function tell(io: CliIo, output: ImportFlags['output'], { policies, notes }: ImportResult): void {
  io.stdout(objectsText(output, policies));
  for (const { severity, object, field, message } of notes) {
    io.stderr(`${severity}: ${object} ${field}: ${message}\n`);
  }
  if (notes.some(({ severity }) => severity === 'error')) throw new ExitWith(EXIT.negative);
}

/** The objects of YAML files, those of Lists one by one. */
function readObjects(paths: readonly string[]): readonly unknown[] {
  return paths.flatMap(yamlFiles).flatMap((file) =>
    parseAllDocuments(readUserFile(file)).flatMap((document) => {
      const [problem] = document.errors;
      if (problem !== undefined) throw new SignetError('YamlInvalid', `${file}: ${problem.message}`);
      const value = document.toJS() as { readonly kind?: unknown; readonly items?: unknown } | null;
      if (value === null) return [];
      return String(value.kind).endsWith('List') && Array.isArray(value.items)
        ? (value.items as readonly unknown[])
        : [value];
    }),
  );
}
