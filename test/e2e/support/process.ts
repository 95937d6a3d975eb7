import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Scope } from './scope.js';

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
  readonly cwd?: string;
}

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child process whose stdout is lines; all it ever said is kept, so a wait cannot miss a line that came before it. */
export interface Program {
  readonly pid: number;
  readonly lines: readonly string[];
  stderr(): string;
  readonly exited: Promise<Exit>;
  hasExited(): boolean;
  /** The first line at or after `from` that `accept` turns into something; fails when the process ends without it. */
  line<T>(accept: (line: string) => T | undefined, options?: { from?: number; limitMs?: number }): Promise<T>;
  write(text: string): void;
  /** Ends its stdin. */
  finish(): void;
  kill(signal?: NodeJS.Signals): Promise<Exit>;
}

/** Starts a program that the scope kills at its end. */
export function start(
  scope: Scope,
  command: readonly [string, ...string[]],
  options: StartOptions = {},
): Program {
  const [file, ...args] = command;
  const child: ChildProcess = spawn(file, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  let rest = '';
  let log = '';
  let exit: Exit | undefined;
  const wake = (): void => {
    for (const look of [...waiting]) look();
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
    wake();
  });
  child.stderr?.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-200_000)));
  child.stdin?.on('error', () => undefined); // it may end before it has read all
  const exited = new Promise<Exit>((resolve) => {
    const done = (value: Exit): void => {
      exit ??= value;
      resolve(exit);
      wake();
    };
    child.on('error', (error) => {
      log += String(error);
      done({ code: null, signal: null });
    });
    child.on('close', (code, signal) => done({ code, signal }));
  });
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> => {
    if (exit === undefined) child.kill(signal);
    return exited;
  };
  scope.onEnd(async () => {
    await kill();
  });
  return {
    pid: child.pid ?? -1,
    lines,
    stderr: () => log,
    exited,
    hasExited: () => exit !== undefined,
    line: (accept, { from = 0, limitMs = 20_000 } = {}) =>
      new Promise((resolve, reject) => {
        let next = from;
        const settle = (act: () => void): void => {
          waiting.delete(look);
          clearTimeout(timer);
          act();
        };
        const look = (): void => {
          for (; next < lines.length; next++) {
            const found = accept(lines[next] ?? '');
            if (found !== undefined) {
              settle(() => resolve(found));
              return;
            }
          }
          if (exit !== undefined) fail(`ended (${exit.code ?? exit.signal}) before`);
        };
        const fail = (why: string): void =>
          settle(() =>
            reject(
              new Error(
                `${file} ${why} the awaited line.\nstdout:\n${tail(lines)}\nstderr:\n${log.slice(-4000)}`,
              ),
            ),
          );
        const timer = setTimeout(() => fail(`had not said within ${limitMs} ms`), limitMs);
        waiting.add(look);
        look();
      }),
    write: (text) => child.stdin?.write(text),
    finish: () => child.stdin?.end(),
    kill,
  };
}

/** The last lines, each cut: they may hold whole certificates. */
function tail(lines: readonly string[]): string {
  return lines
    .slice(-8)
    .map((line) => (line.length > 400 ? `${line.slice(0, 400)} …` : line))
    .join('\n');
}

/** Runs a program to its end. */
export async function run(
  scope: Scope,
  command: readonly [string, ...string[]],
  options: StartOptions = {},
): Promise<{ exit: Exit; lines: readonly string[]; stderr: string }> {
  const program = start(scope, command, options);
  program.finish();
  const exit = await program.exited;
  return { exit, lines: program.lines, stderr: program.stderr() };
}

/** CPU time that a process has used, user and system, in milliseconds. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command's name is in parentheses and may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticksPerSecond = 100; // USER_HZ, the same on every Linux architecture that Node runs on
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

/** Resident memory of a process in MiB. */
export function rssMiB(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) / 1024;
}

/** How many file descriptors a process has open. */
export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** How many file descriptors a process may open. */
export function fileLimit(pid: number): number {
  const match = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'));
  return match?.[1] === 'unlimited' ? Infinity : Number(match?.[1]);
}
