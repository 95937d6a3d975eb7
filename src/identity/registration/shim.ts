import type { LabelSelector } from '../../resources/meta.js';
export function labelSelectorProblem(selector: LabelSelector): string | undefined {
  for (const { operator, values } of selector.matchExpressions ?? []) {
    if (!['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(operator)) return `operator ${operator}`;
    if ((operator === 'In' || operator === 'NotIn') !== (values !== undefined && values.length > 0))
      return 'values';
  }
  return undefined;
}
export function labelSelectorMatches(s: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [k, v] of Object.entries(s.matchLabels ?? {}))
    if (!Object.hasOwn(labels, k) || labels[k] !== v) return false;
  for (const { key, operator, values } of s.matchExpressions ?? []) {
    const has = Object.hasOwn(labels, key);
    const inn = has && (values ?? []).includes(labels[key] ?? '');
    if (operator === 'In' && !inn) return false;
    if (operator === 'NotIn' && inn) return false;
    if (operator === 'Exists' && !has) return false;
    if (operator === 'DoesNotExist' && has) return false;
  }
  return true;
}
export function parseDuration(text: string): number {
  const m = /^(\d+)(h|m|s)$/.exec(text);
  if (!m) throw new Error(`"${text}" is no duration`);
  return Number(m[1]) * (m[2] === 'h' ? 3600 : m[2] === 'm' ? 60 : 1);
}
