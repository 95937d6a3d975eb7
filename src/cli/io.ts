import type { Clock } from '../lib/clock.js';

/** What a command touches of the world around it; given by main, so a test can look at all of it. */
export interface CliIo {
  readonly clock: Clock;
  readonly environment: Readonly<Record<string, string | undefined>>;
  stdout(text: string): void;
  stderr(text: string): void;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

/** Exit codes, documented in docs/reference/cli.md. */
export const EXIT = {
  ok: 0,
  /** The command did its work and the answer is no: a verification failed, a file has problems. */
  negative: 1,
  /** The command was called wrongly. */
  usage: 2,
  /** The command could not do its work; the message says why. */
  failed: 3,
} as const;

/** Thrown by a command that has already printed its answer and wants another exit code than 0. */
export class ExitWith extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}
