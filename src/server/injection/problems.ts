/** What is wrong with a pod that asks for an identity. */
export interface Problem {
  /** e.g. `metadata.annotations["signet.dev/inject-files"]`. */
  readonly field: string;
  /** What is wrong with it, and how to mend it. */
  readonly message: string;
}

/** The field of an annotation. */
export function annotationField(name: string): string {
  return `metadata.annotations[${JSON.stringify(name)}]`;
}

/** A value of somebody's, cut to what a message may hold. */
export function shown(value: string): string {
  return JSON.stringify(value.length <= 100 ? value : `${value.slice(0, 99)}…`);
}
