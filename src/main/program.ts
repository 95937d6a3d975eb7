import type { Command } from 'commander';
import type { CliIo } from '../cli/io.js';
import { commandShell } from '../cli/shell.js';

type LoadCommand = (io: CliIo, version: string) => Promise<Command>;

/** Processes that run for long, on every node or beside one another: what they load and never use, they hold for good. */
const LONG_RUNNING: ReadonlyMap<string, LoadCommand> = new Map<string, LoadCommand>([
  ['agent', async (io, version) => (await import('./agent-command.js')).agentCommand(io, version)],
  ['server', async (io, version) => (await import('./server-command.js')).serverCommand(io, version)],
]);

/** The program for a command line: all of it, unless its first word says that only one command of it can be meant. */
export async function programFor(argv: readonly string[], io: CliIo, version: string): Promise<Command> {
  const load = LONG_RUNNING.get(argv[0] ?? '');
  if (load !== undefined) return commandShell(io, version, [await load(io, version)]);
  const [{ buildProgram }, { servingCommands }] = await Promise.all([
    import('../cli/program.js'),
    import('./commands.js'),
  ]);
  return buildProgram(io, version, servingCommands(io, version));
}
