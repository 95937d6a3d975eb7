/** What can be said of a condition; undefined when it is not known. */
export type Truth = boolean | undefined;

/** All hold: false when one surely does not, and not known when one is not known. */
export function every<T>(items: readonly T[], holds: (item: T) => Truth): Truth {
  const answers = items.map(holds);
  if (answers.includes(false)) return false;
  return answers.includes(undefined) ? undefined : true;
}

/** One holds: true when one surely does, and not known when one is not known. */
export function some<T>(items: readonly T[], holds: (item: T) => Truth): Truth {
  return negated(every(items, (item) => negated(holds(item))));
}

export function negated(truth: Truth): Truth {
  return truth === undefined ? undefined : !truth;
}

/** What is said must hold; what is not said holds. */
export function said<T>(value: T | undefined, holds: (value: T) => Truth): Truth {
  return value === undefined ? true : holds(value);
}

/** A text, number or boolean as the text that it is in JSON, without quotes. */
export function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? JSON.stringify(value) : undefined;
}

/** A list as it is, anything else as a list of one. */
export function listOf(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? (value as readonly unknown[]) : [value];
}

/** What lies in nested objects; null counts as nothing. */
export function dig(value: unknown, steps: readonly string[]): unknown {
  const [step, ...rest] = steps;
  if (step === undefined) return value ?? undefined;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const found = Object.entries(value).find(([key]) => key === step);
  return found === undefined ? undefined : dig(found[1], rest);
}
