import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** One real part that tests need, and how it is built. */
export interface Part {
  readonly name: string;
  /** Files and folders whose content decides whether a built one is still the right one. */
  readonly sources: readonly string[];
  /** Said once before a build, e.g. `about 40 s of CPU`. */
  readonly cost: string;
  /** Builds into `folder`, which is empty; throws an Error that says what is missing. */
  build(folder: string): Promise<void>;
}

/** Where built parts live: `SIGNET_RIG_HOME`, else `~/.cache/signet-rig`. */
export function rigHome(): string {
  return process.env['SIGNET_RIG_HOME'] ?? join(homedir(), '.cache', 'signet-rig');
}

/**
 * The folder of a part, built now if no build of exactly these sources is there. Several processes may ask at once: one
 * builds, the others wait for it. A folder appears under its name only when it is complete, and is never changed again.
 */
export async function built(part: Part): Promise<string> {
  const home = rigHome();
  const folder = join(home, `${part.name}-${await hashOf(part.sources)}`);
  if (await exists(folder)) return folder;
  await mkdir(home, { recursive: true });
  const unlock = await lock(`${folder}.lock`, part.name);
  try {
    if (await exists(folder)) return folder;
    const started = performance.now();
    progress(`building ${part.name} (once per version; ${part.cost})`);
    const scratch = await mkdtemp(join(home, `.${part.name}-`));
    try {
      await part.build(scratch);
      await rename(scratch, folder);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
    progress(`${part.name} is ready after ${((performance.now() - started) / 1000).toFixed(0)} s`);
    return folder;
  } finally {
    await unlock();
  }
}

/** One line on stderr, where it does not mix with what a program answers. */
export function progress(text: string): void {
  process.stderr.write(`rig: ${text}\n`);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Over names and contents, so that a moved file counts too. */
async function hashOf(sources: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const source of sources) {
    for (const file of await filesOf(source)) {
      const content = await readFile(file);
      hash.update(`${relative(source, file)}\0${content.length}\0`).update(content);
    }
  }
  return hash.digest('hex').slice(0, 16);
}

async function filesOf(source: string): Promise<string[]> {
  if ((await stat(source)).isFile()) return [source];
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/**
 * A lock between processes: a file that holds its owner's pid. It is made under another name and linked into place, so
 * nobody sees it empty. The lock of a process that is gone is taken away; should two do that at the same moment, both
 * build, and the second rename finds the folder there.
 */
async function lock(path: string, name: string): Promise<() => Promise<void>> {
  const mine = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  await writeFile(mine, String(process.pid));
  try {
    let told = false;
    for (;;) {
      try {
        await link(mine, path);
        return () => rm(path, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const owner = Number(await readFile(path, 'utf8').catch(() => ''));
      if (owner > 0 && !isAlive(owner)) {
        await rm(path, { force: true });
        continue;
      }
      if (!told) progress(`waiting for process ${owner}, which is building ${name}`);
      told = true;
      await wait(100);
    }
  } finally {
    await rm(mine, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
