import { Command, CommanderError } from 'commander';
import { SignetError } from '../lib/errors.js';
import { EXIT, ExitWith, type CliIo } from './io.js';

/**
 * The command line with these commands: how it is named, how it writes, and how it fails. It knows no command itself, so
 * that a process that is one of them loads nothing of the others. Use {@link runProgram} to run it.
 */
export function commandShell(io: CliIo, version: string, commands: readonly Command[]): Command {
  const program = new Command('signet')
    .description('Identities (SPIFFE SVIDs) and access policy for workloads.')
    .version(version, '--version', 'print the version')
    .helpCommand(true)
    .showHelpAfterError('(run with --help to see what it takes)')
    .configureOutput({ writeOut: (text) => io.stdout(text), writeErr: (text) => io.stderr(text) });
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
    io.stderr(`error: ${error.message} [${error.code}]${requestOf(error)}\n`);
    return EXIT.failed;
  }
}

/**
 * What the server's log calls the call that failed, if it was one: that of an RpcError, told by its form, since most commands
 * need no gRPC library.
 */
function requestOf(error: unknown): string {
  let cause = error;
  // Chains of causes are short; one that is a ring ends, too.
  for (let depth = 0; depth < 8 && cause instanceof Error; depth += 1) {
    if ('requestId' in cause && typeof cause.requestId === 'string') return ` (request ${cause.requestId})`;
    ({ cause } = cause);
  }
  return '';
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwInsteadOfExit(child);
}
