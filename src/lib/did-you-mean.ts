/** Longer texts are no slips of the pen. */
const MAX_COMPARED = 64;

/**
 * The candidate that `written` was probably meant to be, or undefined when none is close: differences of case first,
 * then at most one slip (a letter added, left out, exchanged or swapped with its neighbour) in four letters.
 */
export function didYouMean(written: string, candidates: Iterable<string>): string | undefined {
  if (written.length > MAX_COMPARED) return undefined;
  const folded = written.toLowerCase();
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    if (candidate.length > MAX_COMPARED || candidate === written) continue;
    const allowed = Math.max(1, Math.floor(Math.max(written.length, candidate.length) / 4));
    const found = distance(folded, candidate.toLowerCase());
    if (found <= allowed && found < bestDistance && found < candidate.length) {
      best = candidate;
      bestDistance = found;
    }
  }
  return best;
}

/** Optimal string alignment: Levenshtein's distance with swaps of neighbours. */
function distance(a: string, b: string): number {
  let twoBack: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(change, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, (twoBack[j - 2] ?? 0) + 1);
      }
      row.push(least);
    }
    twoBack = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
