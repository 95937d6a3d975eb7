import type { LabelRequirement, Target, TargetWorkload } from './model.js';
import { readList, readObject, readTexts, readWord, shown, type ProblemReport } from './read.js';

/** A metav1.LabelSelector as requirements that must all hold; absent or empty selects everything. */
export function readSelector(value: unknown, field: string, report: ProblemReport): LabelRequirement[] {
  if (value === undefined) return [];
  const selector = readObject(value, field, ['matchLabels', 'matchExpressions'], report);
  if (selector === undefined) return [];
  const requirements: LabelRequirement[] = [];
  const labels = selector['matchLabels'];
  if (labels !== undefined) {
    if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) {
      report.add(`${field}.matchLabels`, 'must be an object');
    } else {
      for (const [key, label] of Object.entries(labels)) {
        if (typeof label === 'string') requirements.push({ kind: 'in', key, values: new Set([label]) });
        else report.add(`${field}.matchLabels.${key}`, `${shown(label)} must be a text; put it in quotes`);
      }
    }
  }
  const expressions = readList(selector['matchExpressions'], `${field}.matchExpressions`, report) ?? [];
  for (const [index, expression] of expressions.entries()) {
    const requirement = readExpression(expression, `${field}.matchExpressions[${index}]`, report);
    if (requirement !== undefined) requirements.push(requirement);
  }
  return requirements;
}

function readExpression(value: unknown, field: string, report: ProblemReport): LabelRequirement | undefined {
  const expression = readObject(value, field, ['key', 'operator', 'values'], report);
  if (expression === undefined) return undefined;
  const key = expression['key'];
  if (typeof key !== 'string' || key === '') {
    report.add(`${field}.key`, 'must be a label key');
    return undefined;
  }
  const operator = readWord(
    expression['operator'],
    `${field}.operator`,
    ['In', 'NotIn', 'Exists', 'DoesNotExist'],
    undefined,
    report,
  );
  if (operator === undefined) return undefined;
  if (operator === 'Exists' || operator === 'DoesNotExist') {
    const values = expression['values'];
    if (values !== undefined && !(Array.isArray(values) && values.length === 0)) {
      report.add(`${field}.values`, `goes only with In and NotIn, not with ${operator}`);
      return undefined;
    }
    return { kind: operator === 'Exists' ? 'exists' : 'absent', key };
  }
  const values = readTexts(expression['values'], `${field}.values`, report, (text) => text);
  if (values === undefined) {
    report.add(`${field}.values`, `must be given with ${operator}`);
    return undefined;
  }
  return { kind: operator === 'In' ? 'in' : 'notIn', key, values: new Set(values) };
}

/** Whether labels meet every requirement. As in Kubernetes, NotIn holds for a label that is not there. */
export function labelsMatch(
  requirements: readonly LabelRequirement[],
  labels: Readonly<Record<string, string>>,
): boolean {
  return requirements.every((requirement) => {
    const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
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

/** Whether a policy's target selects a workload; ports are looked at when a request comes. */
export function selects(target: Target, workload: TargetWorkload): boolean {
  return (
    (target.namespaceNames === undefined || target.namespaceNames.includes(workload.namespace)) &&
    (target.serviceAccounts === undefined || target.serviceAccounts.includes(workload.serviceAccount)) &&
    labelsMatch(target.namespaces, workload.namespaceLabels) &&
    labelsMatch(target.pods, workload.labels)
  );
}
