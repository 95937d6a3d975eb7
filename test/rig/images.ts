/** Images that pods of tests run, each of one layer, made without a container builder or a registry. */
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { writeImage, type ImageEntry } from '../../scripts/image/archive.mjs';
import { baseEntries, libraryEntries } from '../../scripts/image/base.mjs';
import * as rig from './rig.js';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Names of images that tests may load. A tag other than `latest` lets the kubelet take what is there. */
export const IMAGES = {
  signet: 'rig.local/signet:test',
  busybox: 'rig.local/busybox:test',
  spiffeClient: 'rig.local/spiffe-client:test',
  envoy: 'rig.local/envoy:test',
} as const;

/** Writes an image that starts one program, at `/<name of the file>`, with the libraries it needs. */
export function writeProgramImage(file: string, name: string, program: string): void {
  const path = program.slice(program.lastIndexOf('/') + 1);
  const entries = [...baseEntries(), ...libraryEntries([program]), { path, mode: 0o755, source: program }];
  // Who says `envoy` as the command, as injected side-cars do, is to find it.
  const config = { Entrypoint: [`/${path}`], Env: ['PATH=/'] };
  writeImage(file, { name, architecture: architecture(), config, entries });
}

/** A shell and its tools; sleeps unless told what to do. */
export async function writeBusyboxImage(file: string, busybox = '/bin/busybox'): Promise<void> {
  const applets = (await run(busybox, ['--list'])).stdout.trim().split('\n');
  const links: ImageEntry[] = applets
    .filter((applet) => applet !== 'busybox')
    .map((applet) => ({ path: `bin/${applet}`, mode: 0o777, target: 'busybox' }));
  const entries = [...baseEntries(), { path: 'bin/busybox', mode: 0o755, source: busybox }, ...links];
  const config = { Entrypoint: ['/bin/sh', '-c'], Cmd: ['sleep 1000000'] };
  writeImage(file, { name: IMAGES.busybox, architecture: architecture(), config, entries });
}

/** go-spiffe as a program: see test/rig/go. */
export async function writeSpiffeClientImage(file: string): Promise<void> {
  writeProgramImage(file, IMAGES.spiffeClient, await rig.spiffeClient());
}

export async function writeEnvoyImage(file: string): Promise<void> {
  writeProgramImage(file, IMAGES.envoy, await rig.envoy());
}

/** Signet itself, of the present `dist/`: throws when that is older than `src/`. */
export async function writeSignetImage(file: string): Promise<void> {
  const script = join(root, 'scripts', 'image.mjs');
  await run(process.execPath, [script, '--out', file, '--name', IMAGES.signet]);
}

function architecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}
