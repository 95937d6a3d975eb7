import { SignetError } from '../../lib/errors.js';
import type { StateRecord } from '../keys/state-record.js';
import { conflictOf, JournalError, type Journal, type JournalState } from './journal.js';
import { decodeJournal, encodeJournal, MAX_JOURNAL_BYTES } from './journal-codec.js';

/** How the journal is kept in a record. */
export interface RecordJournalOptions {
  readonly record: StateRecord;
  /** What the record is, for people: `Secret signet-system/signet-ca`. */
  readonly name: string;
  /**
   * Says why there must be a journal although there is none (somebody has seen what it held), or undefined. Without it a
   * deleted record would silently become a new CA that nobody trusts.
   */
  readonly evidence: () => string | undefined;
}

const ENTRY = 'journal.json';

/**
 * The journal in a record that processes share. A save holds only if nobody saved meanwhile, so of two that rotate at the
 * same time one gets `JournalConflict`, whatever they believe about who leads.
 */
export function recordJournal({ record, name, evidence }: RecordJournalOptions): Journal {
  const decode = (data: Uint8Array | undefined): JournalState | undefined => {
    if (data === undefined) return undefined;
    try {
      if (data.length > MAX_JOURNAL_BYTES) throw new Error(`it has ${data.length} bytes`);
      return decodeJournal(data);
    } catch (error) {
      throw new JournalError(
        'JournalDamaged',
        `${ENTRY} in ${name} cannot be read: ${SignetError.from(error).message}. Restore the ${name} from a backup`,
        { cause: error },
      );
    }
  };
  const requireNone = (): void => {
    const why = evidence();
    if (why === undefined) return;
    throw new JournalError(
      'JournalMissing',
      `${name} holds no ${ENTRY}, but there were authorities: ${why}. Restore it from a backup; new authorities would be trusted by nobody who trusts the former ones`,
    );
  };
  return {
    async load() {
      const content = await attempt('read', name, () => record.read());
      const state = decode(content?.get(ENTRY));
      if (state === undefined) requireNone();
      return state;
    },
    async save(state, expectedVersion) {
      const data = encodeJournal(state);
      await attempt('write', name, () =>
        record.update((content) => {
          const present = decode(content?.get(ENTRY));
          if (present === undefined) requireNone();
          const conflict = conflictOf(state, expectedVersion, present?.version ?? 0);
          if (conflict !== undefined) throw conflict;
          return new Map([...(content ?? []), [ENTRY, data]]);
        }),
      );
    },
    close: () => Promise.resolve(),
  };
}

async function attempt<T>(what: string, name: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof JournalError) throw error;
    throw new JournalError('JournalIo', `cannot ${what} ${name}: ${SignetError.from(error).message}`, {
      cause: error,
    });
  }
}
