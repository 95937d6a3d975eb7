import type { LabelSelector } from './meta.js';
import { checkLabels } from './names.js';
import type { FieldPath, Problem } from './problem.js';

/** What is wrong with the labels of a selector whose form is right; nothing for undefined. */
export function selectorProblems(selector: LabelSelector | undefined, path: FieldPath): Problem[] {
  return checkLabels(selector?.matchLabels, [...path, 'matchLabels']);
}
