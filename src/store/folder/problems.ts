import type { AnyObject, ObjectProblem } from '../../resources/validate-together.js';
import { formatPath } from '../../resources/problem.js';
import { locate } from './documents.js';
import type { DocumentProblem, FileState } from './file-state.js';
import type { Contest } from './object-table.js';
import { comparePaths, idOf } from './object-table.js';

/** A place in a file. */
export interface FilePlace {
  /** Under the path that was given. */
  readonly file: string;
  /** Both count from 1; 1:1 for the whole file. */
  readonly line: number;
  readonly column: number;
}

/** Something wrong in a file of the folder. */
export interface FileProblem extends FilePlace {
  readonly severity: 'error' | 'warning';
  /** `Kind namespace/name`, where it is known. */
  readonly object?: string;
  /** `spec.rules[0].from`; empty for the object or file as a whole. */
  readonly path: string;
  readonly message: string;
  readonly fix?: string;
}

/** More are counted, not listed. */
export const MAX_PROBLEMS = 1000;

/** The problems that were found while a file was read. */
export function problemsOfFile(file: string, state: FileState): FileProblem[] {
  return state.documents.flatMap(({ startLine, problems }) =>
    problems.map((problem) => asFileProblem(file, problem, startLine)),
  );
}

function asFileProblem(file: string, problem: DocumentProblem, startLine: number): FileProblem {
  return { ...problem, file, line: startLine + problem.line - 1, path: formatPath(problem.path) };
}

/** A problem of a whole file. */
export function wholeFileProblem(file: string, severity: 'error' | 'warning', message: string): FileProblem {
  return { file, line: 1, column: 1, severity, path: '', message };
}

/** Objects that two files declare. */
export function problemsOfContests(
  contests: readonly Contest[],
  files: ReadonlyMap<string, FileState>,
): FileProblem[] {
  return contests.flatMap(({ id, winner, losers }) =>
    losers.map((file) => duplicateProblem(file, files.get(file), id, winner)),
  );
}

/** An object that is declared again. `winner` is the file whose object is in force. */
function duplicateProblem(
  file: string,
  state: FileState | undefined,
  id: string,
  winner: string,
): FileProblem {
  const { line, column } = placeOf(state, id, ['metadata', 'name']);
  return {
    file,
    line,
    column,
    severity: 'error',
    object: id,
    path: 'metadata.name',
    message: `${id} is declared in ${winner} too, and that one is in force`,
    fix: 'remove one of the two',
  };
}

/** Objects that a file declares twice itself. */
export function problemsOfRepeats(file: string, state: FileState): FileProblem[] {
  const seen = new Set<string>();
  const problems: FileProblem[] = [];
  for (const document of state.documents) {
    for (const { id, objects, place } of document.inForce) {
      if (objects.length === 0) continue;
      if (seen.has(id)) {
        const { line, column } =
          document.text === undefined
            ? { line: document.startLine, column: 1 }
            : locate({ ...document, text: document.text }, place.value, [
                ...place.prefix,
                'metadata',
                'name',
              ]);
        problems.push({
          file,
          line,
          column,
          severity: 'error',
          object: id,
          path: 'metadata.name',
          message: `${id} is declared twice in this file; the first is in force`,
          fix: 'remove one of the two',
        });
      }
      seen.add(id);
    }
  }
  return problems;
}

/** Problems between objects, put where the object stands. */
export function problemsBetween(
  problems: readonly ObjectProblem[],
  fileOf: (object: AnyObject) => string | undefined,
  files: ReadonlyMap<string, FileState>,
): FileProblem[] {
  return problems.flatMap(({ object, problem }) => {
    const file = fileOf(object);
    if (file === undefined) return [];
    const id = idOf(object);
    const { line, column } = placeOf(files.get(file), id, problem.path);
    return [{ ...problem, file, line, column, object: id, path: formatPath(problem.path) }];
  });
}

/** Where an object of a file, or a field of it, stands; the nearest field above where it is missing. */
export function placeOf(
  state: FileState | undefined,
  id: string,
  path: readonly (string | number)[],
): { line: number; column: number } {
  for (const document of state?.documents ?? []) {
    const found = document.inForce.find((one) => one.id === id);
    if (found === undefined) continue;
    if (document.text === undefined) return { line: document.startLine, column: 1 };
    const { value, prefix } = found.place;
    return locate({ ...document, text: document.text }, value, [...prefix, ...path]);
  }
  return { line: 1, column: 1 };
}

/** In reading order, bounded. */
export function sortProblems(problems: readonly FileProblem[]): FileProblem[] {
  const sorted = [...problems].sort(
    (a, b) => comparePaths(a.file, b.file) || a.line - b.line || a.column - b.column,
  );
  const extra = sorted.length - MAX_PROBLEMS;
  if (extra <= 0) return sorted;
  const kept = sorted.slice(0, MAX_PROBLEMS);
  kept.push(wholeFileProblem(kept.at(-1)?.file ?? '', 'error', `${extra} more problems are not listed`));
  return kept;
}
