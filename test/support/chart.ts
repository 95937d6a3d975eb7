import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { helm } from '../rig/node-parts.js';

/** The chart of this repository. */
export const CHART = join(import.meta.dirname, '../../charts/signet');
const VALUES = join(import.meta.dirname, '../chart/values');

/** How a run of helm ended. */
export interface HelmRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs helm to its end, with no settings of this machine's user. */
export async function runHelm(args: readonly string[], kubeconfig = '/dev/null'): Promise<HelmRun> {
  const environment = { PATH: process.env['PATH'], HOME: '/nonexistent', KUBECONFIG: kubeconfig };
  const child = spawn(await helm(), args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close') as Promise<[number | null]>;
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { code, stdout, stderr };
}

/** A release of the chart: what it is called, and where it is. */
export interface Release {
  readonly name: string;
  readonly namespace: string;
}

/** The release whose names are plain. */
export const USUAL: Release = { name: 'signet', namespace: 'signet-system' };
/** One beside it. */
export const SECOND: Release = { name: 'second', namespace: 'signet-too' };

/** The manifests of an installation as `signet` in `signet-system`. Throws with what helm says. */
export async function render(...args: readonly string[]): Promise<string> {
  return renderAs(USUAL, ...args);
}

/** The manifests of another release. Throws with what helm says. */
export async function renderAs({ name, namespace }: Release, ...args: readonly string[]): Promise<string> {
  const command = ['template', name, CHART, '--namespace', namespace, '--kube-version', '1.37.0'];
  const { code, stdout, stderr } = await runHelm([...command, ...args]);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

/** The sets of values that the tests hold the chart against: name → file. */
export async function valueSets(): Promise<ReadonlyMap<string, string>> {
  const files = (await readdir(VALUES)).sort();
  return new Map(files.map((file) => [basename(file, '.yaml'), join(VALUES, file)]));
}
