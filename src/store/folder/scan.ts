import type { BigIntStats } from 'node:fs';
import { opendir, realpath, stat } from 'node:fs/promises';
import { dirname, extname, join, relative, sep } from 'node:path';

/** What is read of a folder at most. */
export interface FolderLimits {
  readonly maxFiles: number;
  readonly maxFileBytes: number;
  readonly maxDepth: number;
  readonly maxDirectories: number;
}

export const DEFAULT_LIMITS: FolderLimits = {
  maxFiles: 20_000,
  maxFileBytes: 64 * 1024 * 1024,
  maxDepth: 16,
  maxDirectories: 4_096,
};

/** A file that is to be read. */
export interface FoundFile {
  /** As the user knows it: under the path that was given. */
  readonly path: string;
  /** Changes whenever the content may have. */
  readonly stamp: string;
  readonly size: number;
}

/** Something that is left out of a scan, and why. */
export interface ScanProblem {
  readonly path: string;
  readonly severity: 'error' | 'warning';
  readonly message: string;
}

export interface ScanResult {
  /** By path, each real file once. */
  readonly files: ReadonlyMap<string, FoundFile>;
  /** Directories to watch, with what tells a directory from another that took its place. */
  readonly directories: ReadonlyMap<string, string>;
  readonly problems: readonly ScanProblem[];
}

/** Whether a file of this name holds resources. */
export function isManifestName(name: string): boolean {
  return !name.startsWith('.') && ['.yaml', '.yml', '.json'].includes(extname(name).toLowerCase());
}

function identityOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}`;
}

/** Tells two contents of a file apart without reading them. */
export function stampOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`;
}

/**
 * Finds the manifests of a folder, or takes the one file. Names that begin with a dot are passed over (editors' swap
 * files, `.git`, the `..data` directories of mounted ConfigMaps); symbolic links are followed as long as they stay
 * inside the folder, each real file and directory once.
 */
export async function scanFolder(root: string, limits: FolderLimits): Promise<ScanResult> {
  const scan = new Scan(limits);
  const realRoot = await realpath(root);
  const stats = await stat(realRoot, { bigint: true });
  // A link that is swapped (git-sync, a mounted ConfigMap) changes the directory it stands in.
  const parent = await stat(dirname(root), { bigint: true });
  scan.directories.set(dirname(root), identityOf(parent));
  if (stats.isDirectory()) await scan.directory({ path: root, real: realRoot, stats, depth: 0 }, realRoot);
  else scan.add(root, realRoot, stats);
  return scan;
}

interface FoundDirectory {
  readonly path: string;
  readonly real: string;
  readonly stats: BigIntStats;
  readonly depth: number;
}

class Scan implements ScanResult {
  readonly files = new Map<string, FoundFile>();
  readonly directories = new Map<string, string>();
  readonly problems: ScanProblem[] = [];
  readonly #limits: FolderLimits;
  readonly #seen = new Set<string>();

  constructor(limits: FolderLimits) {
    this.#limits = limits;
  }

  async directory({ path, real, stats, depth }: FoundDirectory, realRoot: string): Promise<void> {
    if (this.#seen.has(real)) return;
    this.#seen.add(real);
    if (depth > this.#limits.maxDepth) {
      this.#leaveOut(path, `lies more than ${this.#limits.maxDepth} folders deep and is not read`);
      return;
    }
    if (this.directories.size >= this.#limits.maxDirectories) {
      this.#leaveOut(path, `is not read: at most ${this.#limits.maxDirectories} folders are`);
      return;
    }
    this.directories.set(path, identityOf(stats));
    const names: string[] = [];
    // Bounded while it is read: a directory may hold millions of names.
    const most = this.#limits.maxFiles + this.#limits.maxDirectories;
    for await (const { name } of await opendir(path)) {
      if (name.startsWith('.')) continue;
      if (names.length >= most) {
        this.#leaveOut(path, `holds more than ${most} names; the rest is not read`);
        break;
      }
      names.push(name);
    }
    for (const name of names.sort()) await this.#entry(join(path, name), realRoot, depth);
  }

  async #entry(path: string, realRoot: string, depth: number): Promise<void> {
    let real: string;
    let stats: BigIntStats;
    try {
      real = await realpath(path);
      stats = await stat(real, { bigint: true });
    } catch (thrown) {
      // Gone since it was listed, or a link to nothing. Only a manifest is missed.
      if (isManifestName(path.slice(path.lastIndexOf(sep) + 1)) && codeOf(thrown) !== 'ENOENT') {
        this.#leaveOut(path, `cannot be read: ${codeOf(thrown)}`, 'error');
      }
      return;
    }
    if (!isInside(realRoot, real)) {
      this.#leaveOut(path, 'is a link that leads out of the folder and is not followed');
    } else if (stats.isDirectory()) {
      await this.directory({ path, real, stats, depth: depth + 1 }, realRoot).catch((thrown: unknown) => {
        this.#leaveOut(path, `cannot be read: ${codeOf(thrown)}`, 'error');
      });
    } else if (stats.isFile() && isManifestName(path.slice(path.lastIndexOf(sep) + 1))) {
      this.add(path, real, stats);
    }
  }

  add(path: string, real: string, stats: BigIntStats): void {
    if (this.#seen.has(real)) return;
    this.#seen.add(real);
    if (this.files.size >= this.#limits.maxFiles) {
      // Said once, not for each file.
      if (!this.problems.some(({ message }) => message.startsWith('is not read: at most'))) {
        this.#leaveOut(path, `is not read: at most ${this.#limits.maxFiles} files are`, 'error');
      }
      return;
    }
    this.files.set(path, { path, stamp: stampOf(stats), size: Number(stats.size) });
  }

  #leaveOut(path: string, message: string, severity: 'error' | 'warning' = 'warning'): void {
    this.problems.push({ path, severity, message });
  }
}

/** Whether a real path lies in the folder (or is it). */
export function isInside(realRoot: string, real: string): boolean {
  const way = relative(realRoot, real);
  return way === '' || (!way.startsWith(`..${sep}`) && way !== '..' && !way.startsWith(sep));
}

/** The errno name of a failed system call, or what was thrown in words. */
export function codeOf(thrown: unknown): string {
  // By shape: errors of the file system may come from another realm.
  if (typeof thrown === 'object' && thrown !== null && 'code' in thrown) return String(thrown.code);
  return String(thrown);
}
