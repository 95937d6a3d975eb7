import type { FieldPath } from '../../resources/problem.js';
import { isSignetKind } from '../../resources/kinds.js';
import { SIGNET_KINDS } from '../../resources/kinds.js';
import type { AnyObject, ObjectProblem } from '../../resources/validate-together.js';
import { validateTogether } from '../../resources/validate-together.js';
import type { StoreChange, StoredObject } from '../store.js';
import type { FileState } from './file-state.js';
import { EMPTY_FILE, readFileState } from './file-state.js';
import type { Claims } from './object-table.js';
import { ObjectTable, idOf } from './object-table.js';
import type { FileProblem, FilePlace } from './problems.js';
import {
  placeOf,
  problemsBetween,
  problemsOfContests,
  problemsOfFile,
  problemsOfRepeats,
  sortProblems,
} from './problems.js';

/** What the files of a folder say, put together. Does no I/O: it is told what a file holds, or that it is gone. */
export class FolderContent {
  readonly #nodeName: string;
  readonly #table = new ObjectTable();
  readonly #files = new Map<string, FileState>();
  /** Of files that have any. */
  readonly #fileProblems = new Map<string, readonly FileProblem[]>();
  #together: readonly ObjectProblem[] = [];
  #togetherStale = false;

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  list(kind: string): readonly StoredObject[] {
    return this.#table.list(kind);
  }

  get(kind: string, key: string): StoredObject | undefined {
    return this.#table.get(kind, key);
  }

  /** Where an object, or a field of it, stands in the files. Undefined when there is no such object. */
  placeOf(kind: string, key: string, path: FieldPath): FilePlace | undefined {
    const id = `${kind} ${key}`;
    const file = this.#table.fileOf(id);
    return file === undefined ? undefined : { file, ...placeOf(this.#files.get(file), id, path) };
  }

  /** Whether something of this file is in force. */
  has(path: string): boolean {
    return this.#files.has(path);
  }

  /** Reads a file's text against what the file held; changes nothing yet. Undefined: the file is gone. */
  read(path: string, text: string | undefined): FileState {
    const previous = this.#files.get(path) ?? EMPTY_FILE;
    if (text === undefined) return { ...EMPTY_FILE, suspect: previous.documents.length > 0 };
    return readFileState(previous, text, {
      json: path.toLowerCase().endsWith('.json'),
      nodeName: this.#nodeName,
    });
  }

  /** Puts in force what was read. Returns what changed for readers. */
  accept(path: string, state: FileState): StoreChange[] {
    if (state.documents.length === 0) this.#files.delete(path);
    else this.#files.set(path, state);
    const problems = [...problemsOfFile(path, state), ...problemsOfRepeats(path, state)];
    if (problems.length === 0) this.#fileProblems.delete(path);
    else this.#fileProblems.set(path, problems);
    const changes = this.#table.apply(path, claimsOf(state));
    this.#togetherStale ||= changes.some(({ kind }) => isSignetKind(kind));
    return changes;
  }

  /** Everything that is wrong now. `isUnsettled` names files that are being written: their contests may pass. */
  problems(isUnsettled: (path: string) => boolean, others: readonly FileProblem[]): FileProblem[] {
    if (this.#togetherStale) {
      this.#together = validateTogether(Object.keys(SIGNET_KINDS).flatMap((kind) => this.#table.list(kind)));
      this.#togetherStale = false;
    }
    const contests = this.#table
      .contests()
      .filter(({ winner, losers }) => !isUnsettled(winner) && !losers.some(isUnsettled));
    return sortProblems([
      ...others,
      ...[...this.#fileProblems.values()].flat(),
      ...problemsOfContests(contests, this.#files),
      ...problemsBetween(this.#together, (object) => this.#fileOf(object), this.#files),
    ]);
  }

  #fileOf(object: AnyObject): string | undefined {
    return this.#table.fileOf(idOf(object));
  }
}

function claimsOf(state: FileState): Claims {
  const claims = new Map<string, StoredObject>();
  for (const { inForce } of state.documents) {
    for (const { objects } of inForce) {
      for (const object of objects) {
        const id = idOf(object);
        // The first of two is in force; the second is a problem.
        if (!claims.has(id)) claims.set(id, object);
      }
    }
  }
  return claims;
}
