import type { InventoryNamespace } from '../mesh/inventory.js';
import type { LabelRequirement, Target } from '../policy/model.js';
import { labelsMatch } from '../policy/selector.js';

/**
 * Whether every workload that one target selects is selected by another too; ports apart. Where that cannot be told
 * without knowing all workloads that may come, the answer is no.
 */
export function selectsWithin(
  inner: Target,
  outer: Target,
  namespaces: ReadonlyMap<string, InventoryNamespace>,
): boolean {
  return (
    listWithin(inner.namespaceNames, outer.namespaceNames) &&
    listWithin(inner.serviceAccounts, outer.serviceAccounts) &&
    labelsImplied(inner.pods, outer.pods) &&
    (labelsImplied(inner.namespaces, outer.namespaces) ||
      // What a namespace's labels are is known where it exists.
      inner.namespaceNames?.every((name) =>
        labelsMatch(outer.namespaces, namespaces.get(name)?.labels ?? {}),
      ) === true)
  );
}

function listWithin(inner: readonly string[] | undefined, outer: readonly string[] | undefined): boolean {
  if (outer === undefined) return true;
  return inner?.every((name) => outer.includes(name)) === true;
}

/** Whether labels that meet one list of requirements meet the other. */
export function labelsImplied(
  given: readonly LabelRequirement[],
  asked: readonly LabelRequirement[],
): boolean {
  return asked.every((want) => given.some((have) => have.key === want.key && implies(have, want)));
}

function implies(have: LabelRequirement, want: LabelRequirement): boolean {
  switch (have.kind) {
    case 'in':
      if (want.kind === 'in') return [...have.values].every((value) => want.values.has(value));
      if (want.kind === 'notIn') return ![...have.values].some((value) => want.values.has(value));
      return want.kind === 'exists';
    case 'notIn':
      return want.kind === 'notIn' && [...want.values].every((value) => have.values.has(value));
    case 'exists':
      return want.kind === 'exists';
    case 'absent':
      return want.kind === 'absent' || want.kind === 'notIn';
  }
}
