import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';

export interface RunOptions {
  /** What the machine must have, for the message when it has not. */
  readonly why: string;
  /** The name under which SIGNET_RIG_SKIP skips it. */
  readonly skip: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a build step to its end; its stdout. What it said becomes part of the error when it fails. */
export function run(command: string, args: readonly string[], options: RunOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // On first use, other tests run meanwhile: they come first.
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
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

const GO = 'Go 1.26 or newer';

/**
 * Compiles a package of the Go module in `folder` to `output`. The flags are the same for all: packages that several parts
 * share are then compiled once.
 */
export async function goBuild(folder: string, goPackage: string, output: string): Promise<void> {
  await checkGo();
  await go(folder, ['build', '-buildvcs=false', '-ldflags=-s -w', '-o', output, goPackage]);
}

/**
 * The same for programs of a cluster: static (unless C is in them), so that they run under any root file system, and without the paths of this
 * machine. `variables` are strings of packages to set, by `package.name`; `tags` are build constraints to meet.
 */
export async function goBuildStatic(
  folder: string,
  goPackage: string,
  output: string,
  variables: Readonly<Record<string, string>> = {},
  { tags = [], cgo = false }: { readonly tags?: readonly string[]; readonly cgo?: boolean } = {},
): Promise<void> {
  await checkGo();
  const set = Object.entries(variables).map(([name, value]) => `-X ${name}=${value}`);
  const flags = ['-trimpath', '-buildvcs=false', `-ldflags=${['-s', '-w', ...set].join(' ')}`];
  const constraints = tags.length === 0 ? [] : [`-tags=${tags.join(' ')}`];
  const env = { CGO_ENABLED: cgo ? '1' : '0' };
  await go(folder, ['build', ...flags, ...constraints, '-o', output, goPackage], env);
}

/** Sees to Debian packages: installs those that are missing as root, says which they are to others. */
export async function debianPackages(names: readonly string[], skip: string): Promise<void> {
  const why = `Debian 12 or newer with its packages ${names.join(', ')}`;
  const said = await run('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\\n'], { why, skip });
  const there = new Set(said.split('\n').filter((line) => line.endsWith(' installed')));
  const missing = names.filter((name) => !there.has(`${name} installed`));
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    throw new Error(`Debian packages are missing: as root, apt-get install ${missing.join(' ')}`);
  }
  const options = { why, skip, env: { DEBIAN_FRONTEND: 'noninteractive' } };
  await run('apt-get', ['update', '-qq'], options);
  await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], options);
}

/** The version of a module that go.mod in `folder` pins, e.g. `v1.37.2`. */
export async function goModuleVersion(folder: string, path: string): Promise<string> {
  return (await go(folder, ['list', '-m', '-f', '{{.Version}}', path])).trim();
}

async function checkGo(): Promise<void> {
  const version = (await run('go', ['env', 'GOVERSION'], { why: GO, skip: 'go' })).trim();
  const [, major, minor] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
  if (Number(major) < 1 || (Number(major) === 1 && Number(minor) < 26)) {
    throw new Error(`the test rig needs ${GO}; \`go\` on PATH is ${version}`);
  }
}

/** Where the files of a module are that go.mod in `folder` names, downloaded now if need be. */
export async function goModule(folder: string, path: string): Promise<string> {
  const answer = await go(folder, ['mod', 'download', '-json', path]);
  return (JSON.parse(answer) as { readonly Dir: string }).Dir;
}

function go(
  folder: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  return run('go', args, {
    why: GO,
    skip: 'go',
    cwd: folder,
    env: { GOWORK: 'off', GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'local', ...env },
  });
}
