import type { DeltaBuilder } from './index-delta.js';
import {
  compareIdentities,
  hintConflict,
  isRegistration,
  isSame,
  type ReadyIdentity,
  register,
} from './grants.js';
import type { Failure } from './outcome.js';
import { processSelectorsOverlap } from './process.js';
import type { ProcessSelector, Registration } from './registration.js';

interface ProcessEntry {
  readonly identity: ReadyIdentity;
  readonly selector: ProcessSelector;
  /** Earlier identities with the same hint that some process could have too. */
  readonly blockers: Set<ReadyIdentity>;
  result: Registration | Failure | undefined;
}

/**
 * Registrations of identities for processes. No process is known here, so two identities with one hint collide when
 * some process could match both; the later by name fails.
 */
export class ProcessRegistrations {
  readonly #trustDomain: string;
  readonly #entries = new Map<string, ProcessEntry>();
  readonly #byHint = new Map<string, Set<ProcessEntry>>();

  constructor(trustDomain: string) {
    this.#trustDomain = trustDomain;
  }

  /** Puts `identity` in the place of the one of this name; undefined takes that away. */
  replace(name: string, identity: ReadyIdentity | undefined, delta: DeltaBuilder): void {
    const before = this.#entries.get(name);
    const touched = new Set<ProcessEntry>();
    if (before !== undefined) this.#detach(before, touched);
    const after = identity === undefined ? undefined : this.#attach(name, identity, touched);
    if (after !== undefined) {
      after.result = keepSame(before?.result, this.#decide(after));
      delta.outcome(after.identity.rules.ref);
    }
    delta.step(registrationOf(before?.result), registrationOf(after?.result));
    for (const entry of touched) {
      const next = keepSame(entry.result, this.#decide(entry));
      if (next === entry.result) continue;
      delta.step(registrationOf(entry.result), registrationOf(next));
      delta.outcome(entry.identity.rules.ref);
      entry.result = next;
    }
  }

  /** What the identity of this name came to. */
  result(name: string): Registration | Failure | undefined {
    return this.#entries.get(name)?.result;
  }

  *registrations(): Iterable<Registration> {
    for (const { result } of this.#entries.values())
      if (result !== undefined && isRegistration(result)) yield result;
  }

  *identities(): Iterable<ReadyIdentity> {
    for (const { identity } of this.#entries.values()) yield identity;
  }

  #attach(name: string, identity: ReadyIdentity, touched: Set<ProcessEntry>): ProcessEntry {
    const selector = identity.rules.process ?? {};
    const entry: ProcessEntry = { identity, selector, blockers: new Set(), result: undefined };
    this.#entries.set(name, entry);
    const { hint } = identity.rules;
    if (hint === '' || identity.problem !== undefined) return entry;
    let group = this.#byHint.get(hint);
    if (group === undefined) this.#byHint.set(hint, (group = new Set()));
    for (const other of group) {
      if (!processSelectorsOverlap(selector, other.selector)) continue;
      if (compareIdentities(other.identity.rules.ref, identity.rules.ref) < 0)
        entry.blockers.add(other.identity);
      else {
        other.blockers.add(identity);
        touched.add(other);
      }
    }
    group.add(entry);
    return entry;
  }

  #detach(entry: ProcessEntry, touched: Set<ProcessEntry>): void {
    this.#entries.delete(entry.identity.rules.ref.name);
    const { hint } = entry.identity.rules;
    const group = this.#byHint.get(hint);
    if (group?.delete(entry) !== true) return;
    if (group.size === 0) this.#byHint.delete(hint);
    for (const other of group) if (other.blockers.delete(entry.identity)) touched.add(other);
  }

  #decide({ identity, selector, blockers }: ProcessEntry): Registration | Failure {
    if (identity.problem !== undefined) return identity.problem;
    const first = [...blockers].map(({ rules }) => rules.ref).sort(compareIdentities)[0];
    if (first !== undefined) return hintConflict(first, identity.rules.hint);
    return register(identity, { kind: 'process', selector }, '', { trustDomain: this.#trustDomain });
  }
}

function registrationOf(result: Registration | Failure | undefined): Registration | undefined {
  return result !== undefined && isRegistration(result) ? result : undefined;
}

/** The old result where the new one is the same: readers hold it already. */
function keepSame(
  before: Registration | Failure | undefined,
  after: Registration | Failure,
): Registration | Failure {
  if (before === undefined) return after;
  if (isRegistration(after)) return isRegistration(before) && isSame(before, after) ? before : after;
  const same = !isRegistration(before) && before.reason === after.reason && before.message === after.message;
  return same ? before : after;
}
