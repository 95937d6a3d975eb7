import { SignetError } from '../../lib/errors.js';
import type { AuthoritySet } from './authority-set.js';

/** Codes of {@link JournalError}; stable. */
export type JournalErrorCode =
  /** What is stored is truncated, changed or of an unknown format, and there is no good copy. */
  | 'JournalDamaged'
  /** There are keys, but the journal that says what they are is gone. */
  | 'JournalMissing'
  /** Somebody else has saved meanwhile: load again. */
  | 'JournalConflict'
  /** The journal could not be read or written; the cause says why. */
  | 'JournalIo'
  /** The journal belongs to another trust domain. */
  | 'JournalForeign'
  /** Another process uses the state. */
  | 'StateLocked';

/** Why the CA's state could not be read or kept. */
export class JournalError extends SignetError {
  override readonly code: JournalErrorCode;

  constructor(code: JournalErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.code = code;
  }
}

/** What the CA must not forget: its authorities (never their keys). */
export interface JournalState {
  /** Grows by one with each save; 1 is the first. */
  readonly version: number;
  readonly trustDomain: string;
  readonly set: AuthoritySet;
}

/** Where the CA's state lives. */
export interface Journal {
  /** The newest state that was saved, or undefined when none ever was. Rejects with JournalError. */
  load(): Promise<JournalState | undefined>;
  /**
   * Saves the state whose version is `expectedVersion + 1`, if the present one is `expectedVersion` (0 = none); durable
   * when it resolves. Rejects `JournalConflict` otherwise. After any other rejection, {@link load} tells whether the
   * old state or the new one is in force.
   */
  save(state: JournalState, expectedVersion: number): Promise<void>;
  /** Lets go of what the journal holds, its lock above all. */
  close(): Promise<void>;
}

/** A journal that ends with the process. */
export function memoryJournal(): Journal {
  let present: JournalState | undefined;
  return {
    load: () => Promise.resolve(present),
    save(state, expectedVersion) {
      const conflict = conflictOf(state, expectedVersion, present?.version ?? 0);
      if (conflict !== undefined) return Promise.reject(conflict);
      present = state;
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}

/** The error of a save that does not follow on the present version, if it does not. */
export function conflictOf(
  state: JournalState,
  expectedVersion: number,
  presentVersion: number,
): JournalError | undefined {
  if (expectedVersion === presentVersion && state.version === expectedVersion + 1) return undefined;
  return new JournalError(
    'JournalConflict',
    `the CA's journal is at version ${presentVersion}, not ${expectedVersion}: another process has saved; load it again`,
  );
}
