import type { ProcessFacts, ProcessSelector } from './registration.js';

/** Whether every field that the selector sets matches the kernel's facts. One that sets nothing selects nothing. */
export function processSelectorMatches(selector: ProcessSelector, facts: ProcessFacts): boolean {
  return setsSomething(selector) && processMisses(selector, facts).length === 0;
}

/** What keeps the selector from matching, each as a clause for a person; empty when it matches. */
export function processMisses(selector: ProcessSelector, facts: ProcessFacts): readonly string[] {
  const misses: string[] = [];
  const wants = (
    field: string,
    wanted: number | string | undefined,
    seen: number | string | undefined,
  ): void => {
    if (wanted !== undefined && wanted !== seen)
      misses.push(`${field} is ${seen ?? 'not known'}, it wants ${wanted}`);
  };
  wants('uid', selector.uid, facts.uid);
  wants('gid', selector.gid, facts.gid);
  const supplementary = selector.supplementaryGid;
  if (supplementary !== undefined && !facts.supplementaryGids.includes(supplementary))
    misses.push(
      `supplementary groups are [${facts.supplementaryGids.join(', ')}], it wants ${supplementary}`,
    );
  wants('path', selector.path, facts.path);
  wants('sha256', selector.sha256?.toLowerCase(), facts.sha256?.toLowerCase());
  return misses;
}

/** Whether one process could match both: no field is set in both to different values. */
export function processSelectorsOverlap(one: ProcessSelector, other: ProcessSelector): boolean {
  const apart = (a: number | string | undefined, b: number | string | undefined): boolean =>
    a !== undefined && b !== undefined && a !== b;
  // A process may have many supplementary groups, so two different ones do not keep selectors apart.
  return !(
    apart(one.uid, other.uid) ||
    apart(one.gid, other.gid) ||
    apart(one.path, other.path) ||
    apart(one.sha256?.toLowerCase(), other.sha256?.toLowerCase())
  );
}

function setsSomething(selector: ProcessSelector): boolean {
  return (
    selector.uid !== undefined ||
    selector.gid !== undefined ||
    selector.supplementaryGid !== undefined ||
    selector.path !== undefined ||
    selector.sha256 !== undefined
  );
}

/** What is wrong with a process selector, as a sentence with the fix; undefined when nothing is. */
export function processSelectorProblem(selector: ProcessSelector): string | undefined {
  if (!setsSomething(selector))
    return 'spec.processSelector sets no field, so it would select every process; set uid, gid, supplementaryGid, path or sha256';
  for (const field of ['uid', 'gid', 'supplementaryGid'] as const) {
    const value: unknown = selector[field];
    if (value === undefined) continue;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
      return `spec.processSelector.${field} must be a whole number from 0 to 4294967295`;
  }
  const { path, sha256 } = selector;
  if (path !== undefined && (typeof path !== 'string' || !path.startsWith('/') || path.length > 4096))
    return 'spec.processSelector.path must be an absolute path of at most 4096 characters';
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256))
    return 'spec.processSelector.sha256 must be the 64 hexadecimal digits of a SHA-256';
  return undefined;
}
