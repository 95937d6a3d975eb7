import { Command, CommanderError } from 'commander';
import { SignetError } from '../lib/errors.js';
import { agentsCommand } from './commands/agents.js';
import { bundleCommand } from './commands/bundle.js';
import { caCommand } from './commands/ca.js';
import { diffCommand } from './commands/diff.js';
import { explainCommand } from './commands/explain.js';
import { graphCommand } from './commands/graph.js';
import { importCommand } from './commands/import.js';
import { jwtCommand } from './commands/jwt.js';
import { lintCommand } from './commands/lint.js';
import { logsCommand } from './commands/logs.js';
import { renderCommand } from './commands/render.js';
import { resourcesCommand } from './commands/resources.js';
import { statusCommand } from './commands/status.js';
import { suggestCommand } from './commands/suggest.js';
import { svidCommand } from './commands/svid.js';
import { testCommand } from './commands/test.js';
import { EXIT, ExitWith, type CliIo } from './io.js';

const EXAMPLES = `
Examples:
  # Run a server and an agent for the pods in a folder of YAML
  signet dev examples/payments

  # Get the X.509-SVID of the workload behind a socket
  SPIFFE_ENDPOINT_SOCKET=unix:///path/to/api.sock signet svid fetch

  # See the authorities, and rotate them
  signet ca show --state DIR
  signet ca rotate --state DIR

  # Check resource files before they are applied
  signet resources validate examples/payments

  # Ask who may do what, and write it as the rules of a mesh
  signet explain examples/payments --from payments/order-service --to payments/payment-service --method GET --path /api
  signet render examples/payments --mesh istio

  # Look at a cluster, as kubectl reaches it
  signet status
  signet logs --follow --to payments/

Exit codes: 0 done, 1 the answer is no (verification failed, files have problems), 2 wrong usage, 3 could not be done.`;

/**
 * The command line. `extra` are commands that main composes (they start servers, which the CLI knows nothing of).
 * Use {@link runProgram} to run it.
 */
export function buildProgram(io: CliIo, version: string, extra: readonly Command[] = []): Command {
  const program = new Command('signet')
    .description('Identities (SPIFFE SVIDs) and access policy for workloads.')
    .version(version, '--version', 'print the version')
    .helpCommand(true)
    .showHelpAfterError('(run with --help to see what it takes)')
    .configureOutput({ writeOut: (text) => io.stdout(text), writeErr: (text) => io.stderr(text) })
    .addHelpText('after', EXAMPLES);
  const commands = [
    ...extra,
    svidCommand(io),
    jwtCommand(io),
    bundleCommand(io),
    caCommand(io),
    resourcesCommand(io),
    explainCommand(io),
    testCommand(io),
    lintCommand(io),
    diffCommand(io),
    graphCommand(io),
    renderCommand(io),
    importCommand(io),
    suggestCommand(io),
    statusCommand(io),
    agentsCommand(io),
    logsCommand(io),
  ];
  for (const command of commands) program.addCommand(inherit(command, program));
  return program;
}

/** Subcommands made elsewhere take over how the program writes and fails. */
function inherit(command: Command, from: Command): Command {
  command.copyInheritedSettings(from);
  for (const child of command.commands) inherit(child, command);
  return command;
}

/** Runs the program; resolves with the exit code. Never throws. */
export async function runProgram(program: Command, argv: readonly string[], io: CliIo): Promise<number> {
  throwInsteadOfExit(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return EXIT.ok;
  } catch (thrown) {
    if (thrown instanceof ExitWith) return thrown.exitCode;
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (io.signal.aborted) return EXIT.ok;
    const error = SignetError.from(thrown);
    io.stderr(`error: ${error.message} [${error.code}]\n`);
    return EXIT.failed;
  }
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwInsteadOfExit(child);
}
