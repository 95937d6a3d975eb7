/** Something that could not be carried over, or that reads differently here. */
export interface ImportNote {
  /** `Kind namespace/name`. */
  readonly object: string;
  /** Path of the field, e.g. `spec.ingress[0].ports[1]`. */
  readonly field: string;
  /** An error is about something that is missing from the result, which is narrower by it. */
  readonly severity: 'error' | 'warning';
  readonly message: string;
}

/** Policies that say what the objects say, or less; and what is missing. */
export interface ImportResult {
  readonly policies: readonly object[];
  readonly notes: readonly ImportNote[];
}
