import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import * as rig from '../../rig/rig.js';
import { start, type Program, type StartOptions } from './process.js';
import type { Scope } from './scope.js';

/** An SVID as the go-spiffe client tells it. */
export interface SeenSvid {
  readonly id: string;
  readonly hint: string;
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly dnsNames: readonly string[] | null;
  /** Authority key ID, hex. */
  readonly authority: string;
  readonly pem: string;
  /** go-spiffe verified the chain against the bundle of the same message. */
  readonly verified: boolean;
  readonly verifyError?: string;
}

/** A JWT-SVID as the go-spiffe client tells it. */
export interface SeenJwt {
  readonly id: string;
  readonly hint: string;
  readonly audience: readonly string[];
  readonly expiry: number;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly token: string;
  readonly verified: boolean;
  readonly verifyError?: string;
}

/** One line of a client; which fields there are depends on the command. */
export interface Line<Svid = SeenSvid> {
  /** Nanoseconds since the epoch, rounded to what a double holds. */
  readonly at: number;
  readonly svids?: readonly Svid[];
  /** Authorities' IDs by trust domain. */
  readonly bundles?: Readonly<Record<string, readonly string[]>>;
  readonly bundlePem?: string;
  readonly error?: string;
  readonly code?: string;
  readonly watchError?: { readonly error: string; readonly code: string };
  readonly [key: string]: unknown;
}

/** A client process whose lines are JSON. */
export interface Client<Svid = SeenSvid> {
  readonly program: Program;
  /** The first line at or after `from` that fits. */
  next(
    what: (line: Line<Svid>) => boolean,
    options?: { from?: number; limitMs?: number },
  ): Promise<Line<Svid>>;
  /** How many lines it has said: a mark for `from`. */
  mark(): number;
}

/** Starts the go-spiffe client, e.g. `startGo(scope, ['x509', 'watch', '-socket', path])`. */
export async function startGo<Svid = SeenSvid>(
  scope: Scope,
  args: readonly string[],
  options?: StartOptions,
): Promise<Client<Svid>> {
  return client(start(scope, [await rig.spiffeClient(), ...args], options));
}

/** Runs it to its end; its last line, an error included. */
export async function runGo<Svid = SeenSvid>(
  scope: Scope,
  args: readonly string[],
  options?: StartOptions,
): Promise<Line<Svid>> {
  return last<Svid>(start(scope, [await rig.spiffeClient(), ...args], options));
}

/** Runs the java-spiffe client to its end; its last line. */
export async function runJava(scope: Scope, args: readonly string[]): Promise<Line> {
  return last(start(scope, [...(await rig.javaClient()), ...args]));
}

export async function startJava(scope: Scope, args: readonly string[]): Promise<Client> {
  return client(start(scope, [...(await rig.javaClient()), ...args]));
}

/** The go-spiffe client as a file that any user may run. */
export async function sharedGoClient(folder: string): Promise<string> {
  const path = join(folder, 'spiffe-client');
  copyFileSync(await rig.spiffeClient(), path);
  return path;
}

export function client<Svid = SeenSvid>(program: Program): Client<Svid> {
  return {
    program,
    next: (what, options) =>
      program.line((text) => {
        const line = JSON.parse(text) as Line<Svid>;
        return what(line) ? line : undefined;
      }, options),
    mark: () => program.lines.length,
  };
}

async function last<Svid>(program: Program): Promise<Line<Svid>> {
  program.finish();
  await program.exited;
  const text = program.lines.at(-1);
  if (text === undefined)
    throw new Error(`the client said nothing; stderr: ${program.stderr().slice(-4000)}`);
  return JSON.parse(text) as Line<Svid>;
}
