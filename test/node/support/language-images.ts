/**
 * Images of the programs of docs/workloads in Java, Python and Rust. They need those languages' tools and their public registries
 * of packages, and take minutes, so they are made when asked for: `SIGNET_RIG_LANGUAGES=java,python,rust`.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ImageEntry } from '../../../scripts/image/archive.mjs';
import { javaClient } from '../../rig/rig.js';
import { blockOf } from './pages.js';
import { program, tree, write, type ImageWriter } from './program-images.js';

const run = promisify(execFile);

const LANGUAGES = ['java', 'python', 'rust'] as const;
type Language = (typeof LANGUAGES)[number];

/** Which of them the environment asks for. */
export function languages(): ReadonlySet<Language> {
  const named = (process.env['SIGNET_RIG_LANGUAGES'] ?? '').split(',');
  return new Set(LANGUAGES.filter((one) => named.includes(one)));
}

/** Where the image has its Java program. */
export const JAVA_COMMAND = ['/opt/java/bin/java', '-cp', '/app:/app/lib/*', 'WhoAmI'] as const;
/** What java-spiffe, gRPC and the JDK's web server need of the JDK. */
const JAVA_MODULES = [
  'java.base',
  'java.logging',
  'java.management',
  'java.naming',
  'java.sql',
  'java.xml',
  'jdk.crypto.ec',
  'jdk.httpserver',
  'jdk.unsupported',
];

/** What libraries inside jars want of the C library's package, beside the C library itself. */
function oldLibraries(): readonly ImageEntry[] {
  const folder = `/lib/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
  return ['libdl.so.2', 'libpthread.so.0', 'librt.so.1', 'libm.so.6'].map((one) =>
    program(join(folder, one)),
  );
}

/** The program of docs/workloads/java.md on a runtime made by jlink, with the jars of the rig's own client. */
export const writeJava: ImageWriter = async (file, name, work) => {
  const command = await javaClient();
  const jars = dirname(command[command.indexOf('-cp') + 1]?.split(':')[1] ?? '');
  const [lib, classes, runtime] = [join(work, 'lib'), join(work, 'classes'), join(work, 'java')];
  await cp(jars, lib, { recursive: true });
  const artifact = '-Dartifact=io.spiffe:java-spiffe-provider:0.8.17';
  await run('mvn', ['-q', '-B', 'dependency:copy', artifact, `-DoutputDirectory=${lib}`]);
  const source = join(work, 'WhoAmI.java');
  await writeFile(source, blockOf('workloads/java.md', 'java'));
  await run('javac', ['--release', '17', '-cp', join(lib, '*'), '-d', classes, source]);
  const options = ['--strip-debug', '--no-header-files', '--no-man-pages', '--output', runtime];
  await run('jlink', ['--add-modules', JAVA_MODULES.join(','), ...options]);
  const files = tree(runtime, 'opt/java', () => true);
  const libraries = files.filter(({ path }) => path.endsWith('.so')).map(({ source: one = '' }) => one);
  write(file, name, {
    entrypoint: JAVA_COMMAND,
    programs: [join(runtime, 'bin', 'java'), ...libraries],
    entries: [
      ...files,
      ...oldLibraries(),
      ...tree(lib, 'app/lib', () => true),
      ...tree(classes, 'app', () => true),
    ],
  });
};

/** The program of docs/workloads/python.md on this machine's CPython, with `spiffe` from PyPI. */
export const writePython: ImageWriter = async (file, name, work) => {
  const packages = join(work, 'packages');
  const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--only-binary', ':all:'];
  await run('python3', [...pip, '--target', packages, 'spiffe==0.3.2']);
  const script = join(work, 'whoami.py');
  await writeFile(script, blockOf('workloads/python.md', 'python'));
  const about = 'import sys; print(sys.base_prefix, f"{sys.version_info[0]}.{sys.version_info[1]}")';
  const [prefix = '', version = ''] = (await run('python3', ['-c', about])).stdout.trim().split(' ');
  const home = `lib/python${version}`;
  const isWanted = (one: string): boolean =>
    !/(^|\/)(__pycache__|test|site-packages|idlelib)(\/|$)/.test(one);
  const files = [
    ...tree(join(prefix, home), `usr/local/${home}`, isWanted),
    ...tree(packages, 'app/packages', (one) => !one.includes('__pycache__')),
  ];
  const python = join(prefix, 'bin', `python${version}`);
  const libraries = files.filter(({ path }) => path.endsWith('.so')).map(({ source = '' }) => source);
  write(file, name, {
    entrypoint: ['/usr/local/bin/python3', '/app/whoami.py'],
    env: ['PYTHONPATH=/app/packages'],
    programs: [python, ...libraries],
    entries: [
      program(python, 'usr/local/bin/python3'),
      { path: 'app/whoami.py', mode: 0o644, source: script },
      ...files,
    ],
  });
};

/** The program of docs/workloads/rust.md. */
export const writeRust: ImageWriter = async (file, name, work) => {
  const head = '[package]\nname = "whoami"\nversion = "1.0.0"\nedition = "2021"\n\n';
  await mkdir(join(work, 'src'));
  await writeFile(join(work, 'Cargo.toml'), head + blockOf('workloads/rust.md', 'toml'));
  await writeFile(join(work, 'src', 'main.rs'), blockOf('workloads/rust.md', 'rust'));
  await run('cargo', ['build', '-q'], { cwd: work });
  const binary = join(work, 'target', 'debug', 'whoami');
  write(file, name, { entrypoint: ['/whoami'], programs: [binary], entries: [program(binary, 'whoami')] });
};
