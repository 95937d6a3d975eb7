import { afterAll, describe, expect, it, jest } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { buildProgram } from '../../src/cli/program.js';
import { commandShell } from '../../src/cli/shell.js';
import { systemClock } from '../../src/lib/clock.js';
import { servingCommands } from '../../src/main/commands.js';
import { programFor } from '../../src/main/program.js';
import { run } from './support/process.js';
import { newScope } from './support/scope.js';
import { signet, signetCommand } from './support/signet.js';

jest.setTimeout(60_000);

/* A process that runs for long loads its own command alone, and nobody can tell by what it says. */

const io = {
  ...{ clock: systemClock, environment: {}, signal: new AbortController().signal },
  stdout: () => undefined,
  stderr: () => undefined,
};
const named = (program: Command, name: string): Command => {
  const found = program.commands.find((command) => command.name() === name);
  if (found === undefined) throw new Error(`no command ${name}`);
  return found;
};
const whole = (): Command => buildProgram(io, '1.2.3', servingCommands(io, '1.2.3'));

describe('a long-running command', () => {
  const scope = newScope();
  afterAll(() => scope.end());

  it.each(['agent', 'server'])(
    '%s is the only one that its process has, with the same help',
    async (name) => {
      const program = await programFor([name, '--help'], io, '1.2.3');
      expect(program.commands.map((command) => command.name())).toEqual([name]);
      expect(named(program, name).helpInformation()).toBe(named(whole(), name).helpInformation());
      expect(program.version()).toBe('1.2.3');
    },
  );

  it.each([[], ['--help'], ['help', 'agent'], ['dev'], ['status'], ['agents'], ['constructor']])(
    'is one of all commands in a process for %j',
    async (...argv) => {
      const program = await programFor(argv, io, '1.2.3');
      expect(program.helpInformation()).toBe(whole().helpInformation());
    },
  );

  it.each(['agent', 'server'])('%s answers --help, --version and wrong usage as before', async (name) => {
    const version = await signet(scope, ['--version']);
    const [help, helpCommand, same, wrong] = await Promise.all([
      signet(scope, [name, '--help']),
      signet(scope, ['help', name]),
      signet(scope, [name, '--version']),
      signet(scope, [name, '--no-such-flag']),
    ]);
    expect(help.exit.code).toBe(0);
    expect(help.lines.length).toBeGreaterThan(10);
    expect(help.lines).toEqual(helpCommand.lines);
    expect(same).toMatchObject({ exit: { code: 0 }, lines: version.lines });
    expect(wrong.exit.code).toBe(2);
    expect(wrong.stderr).toBe(
      "error: unknown option '--no-such-flag'\n(run with --help to see what it takes)\n",
    );
  });

  it('agent loads no command line, no Kubernetes and no YAML', async () => {
    const watch = join(scope.folder(), 'watch.mjs');
    writeFileSync(
      watch,
      `import { registerHooks } from 'node:module';
       registerHooks({ load(url, context, next) { console.error('loaded ' + url); return next(url, context); } });`,
    );
    const [node, ...rest] = signetCommand(['agent', '--http-address', '192.0.2.1:1']);
    const command = (more: readonly string[]): readonly [string, ...string[]] => [node, ...more, ...rest];
    // It fails when all is loaded: this address (RFC 5737) is nowhere.
    const { stderr, exit } = await run(scope, command(['--import', watch]));
    const loaded = stderr.split('\n').filter((line) => line.startsWith('loaded '));
    expect(exit.code).toBe(3);
    expect(loaded.some((url) => url.endsWith('/dist/main/agent.js'))).toBe(true);
    expect(
      loaded.filter((url) =>
        /\/dist\/(cli\/commands|server|store)\/|\/node_modules\/(@kubernetes|yaml|jose)\//.test(url),
      ),
    ).toEqual([]);
  });
});

describe('the shell of a command line', () => {
  it('hands its way of writing down to each command', () => {
    const command = new Command('x').addCommand(new Command('y'));
    const program = commandShell(io, '1', [command]);
    expect(named(command, 'y').configureOutput()).toEqual(program.configureOutput());
  });
});
