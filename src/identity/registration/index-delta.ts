import type { RegistrationDelta } from './outcome.js';
import type { IdentityRef, Registration } from './registration.js';

/** Gathers what one change changed. */
export class DeltaBuilder {
  readonly #changed: Registration[] = [];
  readonly #removed: Registration[] = [];
  readonly #outcomes = new Set<IdentityRef>();

  /** Notes the step from one state of a registration to the next; the same object is no step. */
  step(before: Registration | undefined, after: Registration | undefined): void {
    if (before === after) return;
    // To the old node it is gone, whatever it became.
    if (before !== undefined && before.nodeName !== after?.nodeName) this.#removed.push(before);
    if (after !== undefined) this.#changed.push(after);
  }

  outcome(ref: IdentityRef): void {
    this.#outcomes.add(ref);
  }

  build(): RegistrationDelta {
    return { changed: this.#changed, removed: this.#removed, outcomes: [...this.#outcomes] };
  }
}
