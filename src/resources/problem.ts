/** The way to a field: keys and indices. */
export type FieldPath = readonly (string | number)[];

/** Something wrong with an object. */
export interface Problem {
  /** An object with an error is not put in force; a warning changes nothing. */
  readonly severity: 'error' | 'warning';
  /** Where in the object; empty for the object as a whole. */
  readonly path: FieldPath;
  /** What is wrong, with the value where it helps. */
  readonly message: string;
  /** What to write instead, where that is known. */
  readonly fix?: string;
}

const PLAIN_FIELD = /^[A-Za-z_][A-Za-z0-9_-]*$/;

/** A path as Kubernetes writes it: `spec.rules[0].from`, `metadata.labels["app.kubernetes.io/name"]`. */
export function formatPath(path: FieldPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (PLAIN_FIELD.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}
