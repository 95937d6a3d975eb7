import { problemText } from '../cli/problem-text.js';
import type { Logger } from '../lib/logger.js';
import type { Watched } from '../lib/watched.js';
import type { FileProblem } from '../store/folder/problems.js';

/** Logs each problem of the folder once, when it comes; and when all are mended. Returns what ends it. */
export function reportProblems(problems: Watched<readonly FileProblem[]>, logger: Logger): () => void {
  let known = new Set<string>();
  const report = (now: readonly FileProblem[]): void => {
    const texts = new Set<string>();
    for (const problem of now) {
      const text = problemText(problem);
      texts.add(text);
      if (!known.has(text)) logger[problem.severity === 'error' ? 'error' : 'warn'](text);
    }
    if (known.size > 0 && texts.size === 0) logger.info('the resource files have no problems any more');
    known = texts;
  };
  report(problems.value);
  return problems.watch(report);
}
