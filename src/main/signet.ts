import { readFileSync } from 'node:fs';
import type { CliIo } from '../cli/io.js';
import { runProgram } from '../cli/shell.js';
import { systemClock } from '../lib/clock.js';
import { programFor } from './program.js';

/** The program `signet`: wires the command line to this process. */
async function main(): Promise<void> {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    // A second signal kills: whoever presses ^C twice does not want to wait for the drain.
    process.once(name, () => stop.abort(new Error(`stopped by ${name}`)));
  }
  // `signet … | head` closes our stdout: that is the reader's choice, not a crash.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
  });
  const io: CliIo = {
    clock: systemClock,
    environment: process.env,
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
    signal: stop.signal,
  };
  // Timers of the clock keep no process alive. A command that waits for one, and for nothing else, is not at its end yet.
  setInterval(() => undefined, 2 ** 31 - 1);
  const packageFile = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string };
  const argv = process.argv.slice(2);
  process.exitCode = await runProgram(await programFor(argv, io, version), argv, io);
  // Idle sockets of a client must not hold the process; what was to be written is written by now or on its way.
  const flushed = new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
  await flushed;
  process.exit();
}

await main();
