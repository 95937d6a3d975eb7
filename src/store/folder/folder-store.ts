import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Watched } from '../../lib/watched.js';
import { WatchedValue } from '../../lib/watched.js';
import type { FieldPath } from '../../resources/problem.js';
import type { Store, StoreChange, StoredObject } from '../store.js';
import { FolderContent } from './folder-content.js';
import type { FilePlace, FileProblem } from './problems.js';
import { wholeFileProblem } from './problems.js';
import { readText } from './read-text.js';
import { comparePaths } from './object-table.js';
import type { FolderLimits, ScanProblem, ScanResult } from './scan.js';
import { DEFAULT_LIMITS, codeOf, scanFolder } from './scan.js';
import { StatusTable } from './status-table.js';
import type { FolderEvent, FolderWatcher } from './watcher.js';
import { createFolderWatcher } from './watcher.js';

/** How often everything is looked at again though nothing was heard. */
const RESCAN_MS = 30_000;
/** The same where the kernel cannot tell us of changes. */
const BLIND_RESCAN_MS = 1_000;
/** How long a file that looks half-written may rest before it is believed. */
const SETTLE_MS = 50;
/** A writer that never rests is believed after this. */
const LONGEST_SETTLE_MS = 1_000;

export interface FolderStoreOptions {
  /** A folder, or one file. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The node on which the folder's pods run. */
  readonly nodeName: string;
  readonly limits?: Partial<FolderLimits>;
}

/** A store over a folder of YAML and JSON files, which are read again when they change. */
export interface FolderStore extends Store {
  /** What is wrong in the files, in reading order; at most a thousand. */
  readonly problems: Watched<readonly FileProblem[]>;
  /**
   * Where an object of Signet's own kinds, or a field of it, stands (the nearest field above where it is missing); of
   * other kinds where its document begins. Undefined when there is no such object.
   */
  placeOf(kind: string, key: string, path: FieldPath): FilePlace | undefined;
  /** Ends watching. What was read stays readable. */
  close(): void;
}

/**
 * Opens a folder of manifests (or one file) and reads it once; resolves when everything is read.
 *
 * Objects with errors are left out, or stay as they were while they were last right; `problems` says which and why. A
 * broken file never keeps the others from being read.
 *
 * @throws SignetError `FolderUnreadable` when the path itself cannot be read.
 */
export async function openFolderStore(options: FolderStoreOptions): Promise<FolderStore> {
  const store = new FolderStoreImpl(options);
  try {
    await store.open();
  } catch (thrown) {
    store.close();
    const code = codeOf(thrown);
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
    throw new SignetError(
      'FolderUnreadable',
      `${options.path} ${reason}; name a folder of YAML files, or one file`,
      {
        cause: thrown,
      },
    );
  }
  return store;
}

/** A file that looks half-written. */
interface Settling {
  readonly timer: Timer;
  /** Monotonic time by which it is believed in any case. */
  readonly deadline: number;
}

class FolderStoreImpl implements FolderStore {
  readonly synced = new WatchedValue(false);
  readonly problems = new WatchedValue<readonly FileProblem[]>([]);
  readonly #options: FolderStoreOptions;
  readonly #limits: FolderLimits;
  readonly #content: FolderContent;
  readonly #statuses = new StatusTable();
  readonly #watcher: FolderWatcher;
  readonly #subscribers = new Set<(changes: readonly StoreChange[]) => void>();
  /** Files that were found, with the stamp under which each was last read. */
  readonly #stamps = new Map<string, string>();
  /** Why files could not be read at all. */
  readonly #unread = new Map<string, string>();
  readonly #settling = new Map<string, Settling>();
  #scanProblems: readonly ScanProblem[] = [];
  /** Files to read, with whether they had their time to settle. */
  #dirty = new Map<string, boolean>();
  #rescanDue = true;
  #working = false;
  #rescanTimer: Timer | undefined;
  #closed = false;

  constructor(options: FolderStoreOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#content = new FolderContent(options.nodeName);
    this.#watcher = createFolderWatcher(options.path, (event) => this.#hear(event), options.logger);
  }

  async open(): Promise<void> {
    await this.#work();
    this.synced.set(true);
    this.#armRescan();
    this.#wake();
  }

  list(kind: string): readonly StoredObject[] {
    return this.#content.list(kind);
  }

  get(kind: string, key: string): StoredObject | undefined {
    return this.#content.get(kind, key);
  }

  placeOf(kind: string, key: string, path: FieldPath): FilePlace | undefined {
    return this.#content.placeOf(kind, key, path);
  }

  subscribe(onChanges: (changes: readonly StoreChange[]) => void): () => void {
    // A wrapper of its own, so the same function may subscribe twice.
    const subscriber = (changes: readonly StoreChange[]): void => onChanges(changes);
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }

  writeStatus(kind: string, key: string, status: unknown): Promise<void> {
    // An object that is just gone has taken its status with it.
    if (this.#content.get(kind, key) !== undefined) this.#statuses.write(kind, key, status);
    return Promise.resolve();
  }

  status(kind: string, key: string): unknown {
    return this.#statuses.read(kind, key);
  }

  close(): void {
    this.#closed = true;
    this.#watcher.close();
    this.#rescanTimer?.cancel();
    for (const { timer } of this.#settling.values()) timer.cancel();
    this.#settling.clear();
    this.#subscribers.clear();
  }

  #hear(event: FolderEvent): void {
    // A file that no scan has found may be a link that leads out: a scan is to judge that.
    if (event.kind === 'file' && this.#stamps.has(event.path)) this.#dirty.set(event.path, false);
    else this.#rescanDue = true;
    this.#wake();
  }

  #armRescan(): void {
    if (this.#closed) return;
    const delay = this.#watcher.complete ? RESCAN_MS : BLIND_RESCAN_MS;
    this.#rescanTimer = this.#options.clock.after(delay, () => {
      this.#rescanDue = true;
      this.#wake();
      this.#armRescan();
    });
  }

  /** Has the work done that has come up, after the other events of this turn: one save is one read. */
  #wake(): void {
    if (this.#working || this.#closed || !this.synced.value || !this.#hasWork()) return;
    this.#working = true;
    setImmediate(() => {
      this.#work()
        .catch((thrown: unknown) => {
          this.#options.logger.error('reading the folder failed', {
            reason: SignetError.from(thrown).message,
          });
        })
        .finally(() => {
          this.#working = false;
          this.#wake();
        });
    });
  }

  #hasWork(): boolean {
    return this.#rescanDue || this.#dirty.size > 0;
  }

  async #work(): Promise<void> {
    while (!this.#closed && this.#hasWork()) {
      if (this.#rescanDue) {
        this.#rescanDue = false;
        await this.#lookAround();
      }
      const dirty = [...this.#dirty].sort(([a], [b]) => comparePaths(a, b));
      this.#dirty = new Map();
      for (const [path, settled] of dirty) await this.#refresh(path, settled);
    }
    if (!this.#closed) this.#judge();
  }

  /** Finds out which files have changed, by their stamps alone. */
  async #lookAround(): Promise<void> {
    const scan = (): Promise<ScanResult> => scanFolder(this.#options.path, this.#limits);
    let found: ScanResult;
    try {
      found = await scan();
      if (this.#closed) return;
      // Something may have happened in a new directory before it was watched.
      if (this.#watcher.follow(found.directories)) found = await scan();
    } catch (thrown) {
      if (!this.synced.value) throw thrown;
      // A folder that is gone is an accident (an unmounted disk), not the wish to revoke everything.
      const message = `cannot be read (${codeOf(thrown)}); what it held stays in force`;
      this.#scanProblems = [{ path: this.#options.path, severity: 'error', message }];
      return;
    }
    this.#scanProblems = found.problems;
    for (const path of this.#stamps.keys()) if (!found.files.has(path)) this.#dirty.set(path, false);
    for (const [path, { stamp }] of found.files) {
      const known = this.#stamps.get(path);
      if (known === stamp) continue;
      if (known === undefined) this.#stamps.set(path, '');
      this.#dirty.set(path, false);
    }
  }

  /** Reads one file again. `settled`: whatever is there now is meant. */
  async #refresh(path: string, settled: boolean): Promise<void> {
    const read = await readText(this.#options.path, path, this.#limits);
    if (this.#closed) return;
    const believe = settled || !this.synced.value;
    if (read.kind === 'failed') {
      this.#stamps.set(path, read.stamp);
      if (!believe && this.#waitFor(path)) return;
      this.#endWait(path);
      this.#unread.set(path, read.message + (this.#content.has(path) ? '; what it held stays in force' : ''));
      return;
    }
    if (read.kind === 'text') this.#stamps.set(path, read.stamp);
    const state = this.#content.read(path, read.kind === 'text' ? read.text : undefined);
    if (state.suspect && !believe && this.#waitFor(path)) return;
    this.#endWait(path);
    this.#unread.delete(path);
    if (read.kind === 'gone') this.#stamps.delete(path);
    this.#publish(this.#content.accept(path, state));
  }

  /** Gives a file that looks half-written time to be finished. False when it has had its time. */
  #waitFor(path: string): boolean {
    const { clock } = this.#options;
    const waiting = this.#settling.get(path);
    waiting?.timer.cancel();
    const deadline = waiting?.deadline ?? clock.monotonic() + LONGEST_SETTLE_MS;
    if (clock.monotonic() >= deadline) return false;
    const timer = clock.after(SETTLE_MS, () => {
      this.#dirty.set(path, true);
      this.#wake();
    });
    this.#settling.set(path, { timer, deadline });
    return true;
  }

  #endWait(path: string): void {
    this.#settling.get(path)?.timer.cancel();
    this.#settling.delete(path);
  }

  #publish(changes: readonly StoreChange[]): void {
    if (changes.length === 0) return;
    for (const { kind, key, after } of changes) if (after === undefined) this.#statuses.drop(kind, key);
    for (const subscriber of [...this.#subscribers]) {
      if (!this.#subscribers.has(subscriber)) continue;
      try {
        subscriber(changes);
      } catch (thrown) {
        // One reader's fault is not the others'.
        this.#options.logger.error('a reader of the folder failed', {
          reason: SignetError.from(thrown).message,
        });
      }
    }
  }

  /** Says what is wrong, after everything is in force. */
  #judge(): void {
    const others = [
      ...this.#scanProblems.map(({ path, severity, message }) => wholeFileProblem(path, severity, message)),
      ...[...this.#unread].map(([path, message]) => wholeFileProblem(path, 'error', message)),
    ];
    const problems = this.#content.problems((path) => this.#settling.has(path), others);
    if (!isDeepStrictEqual(problems, this.problems.value)) this.problems.set(problems);
  }
}
