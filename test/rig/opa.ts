/** The real OPA: checks, tests, evaluates and packs policies. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as rig from './rig.js';

/** How a run of `opa` ended. */
export interface OpaRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `opa` with these arguments to its end. */
export async function runOpa(args: readonly string[], stdin = ''): Promise<OpaRun> {
  const child = spawn(await rig.opa(), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const out = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (out.stderr += text));
  child.stdin.on('error', () => undefined); // it may end before it has read all
  child.stdin.end(stdin);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...out }));
  });
}

/** Where policies and data come from: Rego, JSON and YAML files and folders, or bundles (folders or archives). */
export interface OpaSources {
  readonly data?: readonly string[];
  readonly bundles?: readonly string[];
}

/**
 * Evaluates a query, e.g. `data.signet.allow`, with each input, all in one process: tens of thousands a second. The values
 * in the order of the inputs; undefined where the query is. Throws on a compile or evaluation error.
 */
export async function opaEval(
  sources: OpaSources,
  query: string,
  inputs: readonly unknown[],
): Promise<readonly unknown[]> {
  const batch = `[[i, v] | some i, one in input; v := ${query} with input as one]`;
  const { code, stdout, stderr } = await runOpa(
    ['eval', '--format', 'json', ...sourceFlags(sources), '--stdin-input', batch],
    JSON.stringify(inputs),
  );
  if (code !== 0) throw new Error(`opa eval ended with ${code}: ${stderr}${stdout}`);
  const { result } = JSON.parse(stdout) as {
    readonly result?: readonly { readonly expressions: readonly { readonly value: unknown }[] }[];
  };
  const pairs = new Map(result?.[0]?.expressions[0]?.value as readonly (readonly [number, unknown])[]);
  return inputs.map((_, index) => pairs.get(index));
}

function sourceFlags({ data = [], bundles = [] }: OpaSources): readonly string[] {
  return [...data.flatMap((path) => ['--data', path]), ...bundles.flatMap((path) => ['--bundle', path])];
}

/** What `opa check --strict` has against these files or folders; nothing when they are fine. */
export async function opaCheck(paths: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runOpa(['check', '--strict', ...paths]);
  return code === 0 ? '' : `${stderr}${stdout}`;
}

/** Packs a folder into a bundle, signed by a private key (PEM file) with an algorithm of JWA, e.g. ES256. */
export async function opaBuildSigned(
  folder: string,
  output: string,
  key: { readonly file: string; readonly algorithm: string },
): Promise<void> {
  const signing = ['--signing-key', key.file, '--signing-alg', key.algorithm];
  const { code, stdout, stderr } = await runOpa([
    'build',
    '--bundle',
    folder,
    ...signing,
    '--output',
    output,
  ]);
  if (code !== 0) throw new Error(`opa build ended with ${code}: ${stderr}${stdout}`);
}

/** What OPA has against a signed bundle by this public key (PEM file); nothing when its signature and every file are good. */
export async function opaVerify(
  bundle: string,
  key: { readonly file: string; readonly algorithm: string },
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'opa-'));
  try {
    // To build from a bundle, OPA must first verify it; what is built is of no interest.
    const verify = ['--verification-key', key.file, '--signing-alg', key.algorithm];
    const { code, stdout, stderr } = await runOpa([
      'build',
      ...['--bundle', bundle, ...verify, '--output', join(folder, 'bundle.tar.gz')],
    ]);
    return code === 0 ? '' : `${stderr}${stdout}`;
  } finally {
    await rm(folder, { recursive: true });
  }
}
