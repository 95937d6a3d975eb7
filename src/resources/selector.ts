import type { LabelSelector, LabelSelectorRequirement } from './meta.js';
import { isLabelKey, isLabelValue } from './names.js';

/** Whether a selector selects something with these labels, by Kubernetes' rules; an empty selector selects all. */
export function labelSelectorMatches(
  selector: LabelSelector,
  labels: Readonly<Record<string, string>>,
): boolean {
  const { matchLabels, matchExpressions } = selector;
  if (matchLabels !== undefined) {
    for (const key of Object.keys(matchLabels)) {
      if (!Object.hasOwn(labels, key) || labels[key] !== matchLabels[key]) return false;
    }
  }
  return (
    matchExpressions === undefined || matchExpressions.every((requirement) => meets(requirement, labels))
  );
}

function meets(
  { key, operator, values = [] }: LabelSelectorRequirement,
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      // As in Kubernetes: a label that is missing is not in any list.
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    default:
      // An operator of a later version selects nothing rather than everything.
      return false;
  }
}

/** What is wrong with a selector that has not gone through a schema, in one sentence; undefined when it is right. */
export function labelSelectorProblem(selector: LabelSelector): string | undefined {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (!isLabelKey(key)) return `matchLabels: "${key}" is no label key`;
    if (!isLabelValue(value)) return `matchLabels: "${value}" is no label value`;
  }
  for (const requirement of selector.matchExpressions ?? []) {
    const problem = requirementProblem(requirement);
    if (problem !== undefined) return `matchExpressions: ${problem}`;
  }
  return undefined;
}

function requirementProblem({ key, operator, values }: LabelSelectorRequirement): string | undefined {
  if (!isLabelKey(key)) return `"${key}" is no label key`;
  if (!['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(operator)) {
    return `operator "${operator}" is none of In, NotIn, Exists, DoesNotExist`;
  }
  const needsValues = operator === 'In' || operator === 'NotIn';
  if (needsValues !== (values !== undefined && values.length > 0)) {
    return `${operator} on "${key}" ${needsValues ? 'needs values' : 'takes no values'}`;
  }
  const wrong = values?.find((value) => !isLabelValue(value));
  return wrong === undefined ? undefined : `"${wrong}" is no label value`;
}
