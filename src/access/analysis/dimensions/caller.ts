import type { LabelRequirement } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import { certain, fresh, type Leaf, type Space, type ValueClass } from '../space.js';

/** What is known of the calling pod: its labels, its images, whether it is privileged. */
export interface CallerDimensions {
  readonly seen: Node;
  labels(requirements: readonly LabelRequirement[]): Leaf;
}

export function callerDimensions(space: Space, requirements: readonly LabelRequirement[]): CallerDimensions {
  const root = space.add('caller', 'calling pod', [
    { words: 'known', put: (draft) => void (draft.sourceSeen = true) },
    { words: 'not known', unseen: true, odd: 0.5, put: (draft) => void (draft.sourceSeen = false) },
  ]);
  const seen = space.where(root, (index) => index === 0);
  const byKey = new Map<string, Set<string>>();
  for (const requirement of requirements) {
    const values = byKey.get(requirement.key) ?? new Set();
    byKey.set(requirement.key, values);
    if ('values' in requirement) for (const value of requirement.values) values.add(value);
  }
  const labels = new Map([...byKey].map(([key, values]) => [key, labelDimension(space, key, values)]));
  return {
    seen,
    labels: (asked) =>
      space.onlyWhere(
        seen,
        certain(space.diagram.and(...asked.map((one) => labels.get(one.key)?.(one) ?? 0))),
      ),
  };
}

function labelDimension(
  space: Space,
  key: string,
  named: ReadonlySet<string>,
): (requirement: LabelRequirement) => Node {
  const values = [...named, fresh('other', named)];
  const dimension = space.add('caller', `label ${key} of the calling pod`, [
    { words: 'absent', put: () => undefined },
    ...values.map((value, index): ValueClass => ({
      words: index < named.size ? value : 'any other',
      ...(index < named.size ? {} : { rest: true }),
      put: (draft) => void draft.sourceLabels.set(key, value),
    })),
  ]);
  return (requirement) =>
    space.where(dimension, (index) => {
      const value = index === 0 ? undefined : values[index - 1];
      switch (requirement.kind) {
        case 'in':
          return value !== undefined && requirement.values.has(value);
        case 'notIn':
          return value === undefined || !requirement.values.has(value);
        case 'exists':
          return value !== undefined;
        case 'absent':
          return value === undefined;
      }
    });
}
