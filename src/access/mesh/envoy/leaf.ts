import { all, any, NEVER, ALWAYS, type Predicate } from './predicate.js';

/**
 * One condition of a rule, as Envoy can say it. Never too wide: `surely` holds only where the policy says "yes" (what
 * an Allow rule needs), `possibly` holds wherever it does not say "no" (what a Deny rule needs).
 */
export interface Leaf {
  readonly surely: Predicate;
  readonly possibly: Predicate;
  /** Why it is not exact: sentences without a stop. */
  readonly reasons: readonly string[];
  /** On which condition it is exact. */
  readonly notes?: readonly string[];
}

/** Said exactly. */
export const exact = (predicate: Predicate): Leaf => ({
  surely: predicate,
  possibly: predicate,
  reasons: [],
});

/** Said exactly, but what is not known makes a difference. */
export const between = (surely: Predicate, possibly: Predicate): Leaf => ({ surely, possibly, reasons: [] });

/** Cannot be said. */
export const unsaid = (reason: string): Leaf => ({ surely: NEVER, possibly: ALWAYS, reasons: [reason] });

export const allOf = (leaves: readonly Leaf[]): Leaf => ({
  surely: all(leaves.map(({ surely }) => surely)),
  possibly: all(leaves.map(({ possibly }) => possibly)),
  ...textsOf(leaves),
});

export const oneOf = (leaves: readonly Leaf[]): Leaf => ({
  surely: any(leaves.map(({ surely }) => surely)),
  possibly: any(leaves.map(({ possibly }) => possibly)),
  ...textsOf(leaves),
});

function textsOf(leaves: readonly Leaf[]): Pick<Leaf, 'reasons' | 'notes'> {
  return {
    reasons: leaves.flatMap(({ reasons }) => reasons),
    notes: leaves.flatMap(({ notes = [] }) => notes),
  };
}
