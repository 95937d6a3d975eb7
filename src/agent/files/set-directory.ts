import {
  chmodSync,
  closeSync,
  fchmodSync,
  fchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock, Timer } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';

/** A file of a set, as it stands there. */
export interface LiveFile {
  /** Differs when the content does. */
  readonly version: string;
  /** When the content must not be there any more, in milliseconds since the epoch; Infinity for never. */
  readonly expiresAt: number;
  /** The same in monotonic milliseconds, which hold however the wall clock is set; Infinity for never, or when not known. */
  readonly endsAt: number;
}

/** A file of the next set. */
export interface NewFile extends LiveFile {
  /** Relative to the volume, `/` between its parts. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Left out when the present set has this version already. */
  readonly content?: Uint8Array;
}

/** The link to the set that counts; named as the kubelet's, whose volumes programs know. */
const CURRENT = '..data';
const NEXT = '..data_tmp';
/** In a set, when its files expire: for the process that comes after this one. */
const EXPIRY_FILE = '.expires';
/** Of what another process wrote: not known, so it is written anew. */
const FOREIGN_VERSION = '';

/**
 * How long the set before the present one stays, in milliseconds: whoever has opened it, or resolved `..data`, reads a
 * whole set to its end.
 */
export const PREVIOUS_SET_MS = 10_000;

/**
 * A directory whose files change all at once, as the kubelet changes those of a Secret: each set is a directory of its
 * own, the link `..data` says which one counts, and the names that programs open are links through it. One rename
 * changes all, and whatever a process was killed in, the next one finds the old set or the new one, whole.
 *
 * Everything is synchronous: volumes are in memory (tmpfs), where a call costs microseconds and waits for nothing. Nothing
 * is forced to a disk for the same reason. What is no link of ours (sockets) is not touched.
 */
export class SetDirectory {
  readonly #path: string;
  readonly #group: number | undefined;
  readonly #clock: Clock;
  /** The directory's name of the set that counts. */
  #name: string | undefined;
  #live: ReadonlyMap<string, LiveFile>;
  #previous: { readonly name: string; readonly timer: Timer } | undefined;

  /**
   * Takes over what is there, without what a killed process left half done.
   *
   * @param group the group that files get; the process's own unless given
   */
  constructor(path: string, group: number | undefined, clock: Clock) {
    this.#path = path;
    this.#group = group;
    this.#clock = clock;
    this.#name = this.#readCurrent();
    this.#live = this.#name === undefined ? new Map() : readExpiry(join(path, this.#name));
    this.#sweep();
    this.#removeLinks();
  }

  /** The files that are there. */
  get live(): ReadonlyMap<string, LiveFile> {
    return this.#live;
  }

  /** Whether the file is there with this version. */
  has(path: string, version: string): boolean {
    return this.#readCurrent() === this.#name && this.#live.get(path)?.version === version;
  }

  /**
   * Replaces all files. When it throws (no space left, as a rule), everything is as it was before.
   *
   * @throws the file system's error, SignetError `VolumeNameTaken`
   */
  publish(files: readonly NewFile[]): void {
    this.#dropPrevious();
    const before = this.#readCurrent();
    // Another process was here, so what is known of the files does not hold.
    const ours = before === this.#name ? before : undefined;
    const name = this.#makeSet(files, ours);
    try {
      for (const top of topNames(files.map(({ path }) => path))) this.#makeLink(top);
      rmSync(join(this.#path, NEXT), { force: true });
      symlinkSync(name, join(this.#path, NEXT));
      renameSync(join(this.#path, NEXT), join(this.#path, CURRENT));
    } catch (error) {
      rmSync(join(this.#path, NEXT), { force: true });
      this.#removeSet(name);
      this.#removeLinks();
      throw error;
    }
    this.#name = name;
    this.#live = new Map(
      files.map(({ path, version, expiresAt, endsAt }) => [path, { version, expiresAt, endsAt }]),
    );
    if (before !== undefined) this.#previous = { name: before, timer: this.#dropLater() };
    this.#removeLinks();
    this.#sweep();
  }

  /** Removes files, from the set before too, at once. Needs no space. Returns their paths. */
  withdraw(gone: (path: string, file: LiveFile) => boolean): readonly string[] {
    const found = [...this.#live].filter(([path, file]) => gone(path, file)).map(([path]) => path);
    if (found.length === 0) return [];
    if (found.length === this.#live.size) {
      this.clear();
      return found;
    }
    this.#dropPrevious();
    const name = this.#readCurrent();
    if (name !== undefined) for (const path of found) rmSync(join(this.#path, name, path), { force: true });
    this.#live = new Map([...this.#live].filter(([path]) => !found.includes(path)));
    this.#removeLinks();
    return found;
  }

  /** Removes all files at once. Needs no space. */
  clear(): void {
    this.#dropPrevious();
    rmSync(join(this.#path, CURRENT), { force: true });
    this.#name = undefined;
    this.#live = new Map();
    this.#sweep();
    this.#removeLinks();
  }

  /** Leaves the present set, and nothing else. */
  close(): void {
    this.#dropPrevious();
  }

  /** Writes a set that does not count yet; what the present one (`from`) has already is shared with it. */
  #makeSet(files: readonly NewFile[], from: string | undefined): string {
    const name = mkdtempSync(join(this.#path, `..${stamp(this.#clock.now())}.`)).slice(this.#path.length + 1);
    const root = join(this.#path, name);
    try {
      for (const file of files) {
        const target = join(root, file.path);
        const parent = dirname(target);
        // Whoever may read what is in it: that is for the files' modes to say.
        if (parent !== root && mkdirSync(parent, { recursive: true }) !== undefined)
          openUp(root, dirname(file.path));
        if (file.content !== undefined) this.#write(target, file.content, file.mode);
        else if (from !== undefined) linkSync(join(this.#path, from, file.path), target);
        else
          throw new SignetError('VolumeSetLost', `the content of ${file.path} is gone and must be made anew`);
      }
      writeFileSync(join(root, EXPIRY_FILE), expiryOf(files), { mode: 0o400 });
      chmodSync(root, 0o755);
    } catch (error) {
      this.#removeSet(name);
      throw error;
    }
    return name;
  }

  #write(path: string, content: Uint8Array, mode: number): void {
    const file = openSync(path, 'wx', 0o600);
    try {
      writeFileSync(file, content);
      if (this.#group !== undefined) fchownSync(file, -1, this.#group);
      fchmodSync(file, mode);
    } finally {
      closeSync(file);
    }
  }

  /** The name that programs open. Until the set counts, it leads nowhere, or to the old file of that name. */
  #makeLink(name: string): void {
    const path = join(this.#path, name);
    const target = `${CURRENT}/${name}`;
    try {
      symlinkSync(target, path);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      if (!lstatSync(path).isSymbolicLink() || readlinkSync(path) !== target)
        throw new SignetError('VolumeNameTaken', `${name} is there already and is not a file of the volume`);
    }
  }

  /** Removes links to what is not in the present set. */
  #removeLinks(): void {
    const wanted = topNames(this.#live.keys());
    for (const entry of readdirSync(this.#path, { withFileTypes: true })) {
      if (!entry.isSymbolicLink() || wanted.has(entry.name)) continue;
      const path = join(this.#path, entry.name);
      if (readlinkSync(path) === `${CURRENT}/${entry.name}`) unlinkSync(path);
    }
  }

  /** Removes sets that do not count, and links half made. */
  #sweep(): void {
    rmSync(join(this.#path, NEXT), { force: true });
    for (const entry of readdirSync(this.#path, { withFileTypes: true }))
      if (
        entry.isDirectory() &&
        entry.name.startsWith('..') &&
        entry.name !== this.#name &&
        entry.name !== this.#previous?.name
      )
        this.#removeSet(entry.name);
  }

  #removeSet(name: string): void {
    rmSync(join(this.#path, name), { recursive: true, force: true });
  }

  #dropLater(): Timer {
    return this.#clock.after(PREVIOUS_SET_MS, () => this.#dropPrevious());
  }

  #dropPrevious(): void {
    const previous = this.#previous;
    if (previous === undefined) return;
    this.#previous = undefined;
    previous.timer.cancel();
    this.#removeSet(previous.name);
  }

  /** The set that counts, whoever made it. */
  #readCurrent(): string | undefined {
    try {
      const name = readlinkSync(join(this.#path, CURRENT));
      // Never follow a link out of the volume.
      return name.startsWith('..') && !name.includes('/') && name.length > 2 ? name : undefined;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }
}

/** The part before the first `/` of each path. */
export function topNames(paths: Iterable<string>): ReadonlySet<string> {
  const names = new Set<string>();
  for (const path of paths) names.add(path.split('/', 1)[0] ?? path);
  return names;
}

/** Opens a directory of a set, and those above it, to readers, whatever the process's umask is. */
function openUp(root: string, path: string): void {
  for (let at = path; at !== '.'; at = dirname(at)) chmodSync(join(root, at), 0o755);
}

function expiryOf(files: readonly NewFile[]): string {
  return JSON.stringify(
    files.map(({ path, expiresAt }) => [path, expiresAt === Infinity ? null : expiresAt] as const),
  );
}

/** What another process left; what it does not tell of has expired. */
function readExpiry(set: string): ReadonlyMap<string, LiveFile> {
  try {
    const entries = JSON.parse(readFileSync(join(set, EXPIRY_FILE), 'utf8')) as unknown;
    if (!Array.isArray(entries)) throw new SyntaxError('no list');
    return new Map(
      (entries as [unknown, unknown][]).map(([path, expiresAt]) => [
        String(path),
        {
          version: FOREIGN_VERSION,
          expiresAt: expiresAt === null ? Infinity : Number(expiresAt) || 0,
          endsAt: Infinity,
        },
      ]),
    );
  } catch {
    return new Map([['', { version: FOREIGN_VERSION, expiresAt: 0, endsAt: Infinity }]]);
  }
}

/** UTC, as the kubelet names its sets. */
function stamp(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '_');
}

/** Not `instanceof Error`: errors of Node come from another realm in tests. */
export function hasCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}
