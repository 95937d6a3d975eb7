import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

/** A program that runs until it is ended, and never longer than this process. */
export interface Daemon {
  readonly pid: number;
  /** How it ended, e.g. `1` or `SIGKILL`; undefined while it runs. */
  ended(): string | undefined;
  /** The last of what it has said. */
  log(): Promise<string>;
  signal(name: NodeJS.Signals): void;
  /** Ends it and waits until it has. */
  stop(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
}

/**
 * Starts it; what it says is appended to `logFile`, so that it never waits for a reader. The kernel kills it when this process
 * dies in whatever way, even when it is stopped (SIGSTOP) at that time.
 */
export function startDaemon(file: string, args: readonly string[], logFile: string): Daemon {
  const log = openSync(logFile, 'a');
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  let ended: string | undefined;
  const end = new Promise<void>((resolve) => {
    const over = (how: string): void => {
      ended ??= how;
      resolve();
    };
    child.on('error', (error) => over(`${error.message}; setpriv is in util-linux`));
    child.on('exit', (code, signal) => over(String(code ?? signal)));
  });
  return {
    pid: child.pid ?? -1,
    ended: () => ended,
    log: async () => (await readFile(logFile, 'utf8')).slice(-4000),
    signal(name): void {
      child.kill(name);
    },
    async stop(signal = 'SIGKILL'): Promise<void> {
      child.kill(signal);
      if (signal !== 'SIGKILL') child.kill('SIGCONT'); // a stopped program sees no other signal
      await end;
    },
  };
}
