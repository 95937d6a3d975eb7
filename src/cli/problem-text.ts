import type { FileProblem } from '../store/folder/problems.js';

/** `file:line:column: object path: message; fix`: the form that editors jump to. */
export function problemText(problem: FileProblem): string {
  const { file, line, column, object, path, message, fix } = problem;
  const where = [object, path === '' ? undefined : path].filter((part) => part !== undefined).join(' ');
  return `${file}:${line}:${column}: ${where === '' ? '' : `${where}: `}${message}${fix === undefined ? '' : `; ${fix}`}`;
}
