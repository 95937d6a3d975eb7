/**
 * Images for the pods of docs/workloads, under the names that the pages have: the pages' programs, compiled here, and programs
 * of this machine (nginx, PostgreSQL, curl), which is Debian. No registry is asked for an image.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { copyFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { writeImage, type ImageEntry } from '../../../scripts/image/archive.mjs';
import { baseEntries, libraryEntries } from '../../../scripts/image/base.mjs';
import { applicationEntries, HOME, NODE } from '../../../scripts/image/files.mjs';
import { debianPackages, goBuildStatic } from '../../rig/tools.js';
import { blockOf } from './pages.js';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const BUSYBOX = '/bin/busybox';

/** Writes one image into a file. `work` is a folder to build in, which is the image's alone. */
export type ImageWriter = (file: string, name: string, work: string) => Promise<void>;

interface Content {
  readonly entrypoint?: readonly string[];
  readonly env?: readonly string[];
  readonly entries: readonly ImageEntry[];
  /** Programs and libraries whose own libraries are needed. */
  readonly programs?: readonly string[];
}

/** Writes an image with these files, the libraries of these programs, and what any image has. */
export function write(
  file: string,
  name: string,
  { entrypoint, env = [], entries, programs = [] }: Content,
): void {
  const own = new Set(entries.map(({ path }) => path));
  const base = [...baseEntries(), ...libraryEntries(programs)].filter(({ path }) => !own.has(path));
  const config = { ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }), Env: [PATH, ...env] };
  writeImage(file, { name, architecture, config, entries: [...base, ...entries] });
}

/** A program of this machine, in the image where it is here, or elsewhere. */
export const program = (source: string, path = source.slice(1)): ImageEntry => ({
  path,
  mode: 0o755,
  source: realpathSync(source),
});

/** A shell and its tools. */
async function shell(): Promise<readonly ImageEntry[]> {
  const applets = (await run(BUSYBOX, ['--list'])).stdout.trim().split('\n');
  const links = applets.filter((applet) => applet !== 'busybox');
  return [
    program(BUSYBOX),
    ...links.map((applet) => ({ path: `bin/${applet}`, mode: 0o777, target: 'busybox' })),
  ];
}

/** All files below a folder, in the image below `path`; symbolic links stay links. */
export function tree(folder: string, path: string, wanted: (file: string) => boolean): readonly ImageEntry[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true });
  return files.flatMap((file): readonly ImageEntry[] => {
    const source = join(file.parentPath, file.name);
    const inside = source.slice(folder.length + 1);
    if (!wanted(inside)) return [];
    const entry = { path: `${path}/${inside}`, mode: 0o777 };
    if (file.isSymbolicLink()) return [{ ...entry, target: readlinkSync(source) }];
    return file.isFile() ? [{ ...entry, mode: 0o644 | (statSync(source).mode & 0o111), source }] : [];
  });
}

/** The program of docs/workloads/go.md, against the modules of the rig's own client. */
export const writeGo: ImageWriter = async (file, name, work) => {
  for (const one of ['go.mod', 'go.sum'])
    await copyFile(join(root, 'test', 'rig', 'go', one), join(work, one));
  await writeFile(join(work, 'main.go'), blockOf('workloads/go.md', 'go'));
  const binary = join(work, 'whoami');
  await goBuildStatic(work, '.', binary);
  write(file, name, { entrypoint: ['/whoami'], entries: [program(binary, 'whoami')] });
};

/** The program of docs/workloads/node.md, with this repository as the package `signet`. */
export const writeNode: ImageWriter = async (file, name, work) => {
  const script = join(work, 'whoami.mjs');
  await writeFile(script, blockOf('workloads/node.md', 'js'));
  const application = applicationEntries(root, architecture);
  const addons = application.filter(({ path }) => path.endsWith('.node')).map(({ source = '' }) => source);
  write(file, name, {
    entrypoint: [`/${NODE}`, '/app/whoami.mjs'],
    programs: [process.execPath, ...addons],
    entries: [
      { path: NODE, mode: 0o755, source: process.execPath },
      { path: 'app/whoami.mjs', mode: 0o644, source: script },
      { path: 'app/node_modules/signet', mode: 0o777, target: `/${HOME}` },
      ...application,
    ],
  });
};

export const writeBusybox: ImageWriter = async (file, name) => {
  write(file, name, { entries: await shell() });
};

export const writeNginx: ImageWriter = async (file, name) => {
  await debianPackages(['nginx'], 'node');
  const nginx = '/usr/sbin/nginx';
  write(file, name, { programs: [nginx], entries: [program(nginx), ...(await shell())] });
};

export const writeCurl: ImageWriter = async (file, name) => {
  await debianPackages(['curl'], 'node');
  const curl = '/usr/bin/curl';
  write(file, name, { entrypoint: [curl], programs: [curl], entries: [program(curl)] });
};

/** What the official image's start does, as far as the page needs it: makes the database, and runs the SQL of a folder in it. */
const POSTGRES_START = `#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -n "$POSTGRES_PASSWORD" ] || { echo 'no POSTGRES_PASSWORD'; exit 1; }
  echo "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username=postgres --pwfile=/tmp/password --locale=C
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  postgres=$1
  shift
  pg_ctl -D "$PGDATA" -o "$* -c listen_addresses=" -w start
  for file in /docker-entrypoint-initdb.d/*.sql; do psql -v ON_ERROR_STOP=1 -U postgres -f "$file"; done
  pg_ctl -D "$PGDATA" -m fast -w stop
  set -- "$postgres" "$@"
fi
exec "$@"
`;

/** PostgreSQL of this machine, its files where the package has them. */
export const writePostgres: ImageWriter = async (file, name) => {
  const home = '/usr/lib/postgresql';
  if (!existsSync(home)) await debianPackages(['postgresql'], 'node');
  const version = readdirSync(home).sort((a, b) => Number(b) - Number(a))[0] ?? '';
  const [bin, lib] = [join(home, version, 'bin'), join(home, version, 'lib')];
  const share = `/usr/share/postgresql/${version}`;
  const programs = ['postgres', 'initdb', 'pg_ctl', 'psql'].map((one) => join(bin, one));
  const modules = ['plpgsql.so', 'dict_snowball.so'].map((one) => join(lib, one));
  const text = (path: string, content: string, mode = 0o644): ImageEntry => ({
    path,
    mode,
    content: Buffer.from(content),
  });
  write(file, name, {
    programs,
    entries: [
      text('etc/passwd', 'root:x:0:0::/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n'),
      text('etc/group', 'root:x:0:\npostgres:x:999:\n'),
      text('usr/local/bin/docker-entrypoint.sh', POSTGRES_START, 0o755),
      { path: 'run/postgresql', mode: 0o1777 },
      ...[...programs, ...modules].map((one) => program(one)),
      ...programs.map((one) => ({
        path: `usr/local/bin/${one.slice(bin.length + 1)}`,
        mode: 0o777,
        target: one,
      })),
      ...tree(share, share.slice(1), (one) => !one.startsWith('man') && !one.startsWith('extension/postgis')),
      ...(await shell()),
    ],
  });
};
