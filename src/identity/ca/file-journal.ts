import { join } from 'node:path';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { FileOps } from '../keys/files.js';
import { diskFiles, privateDirectory, reasonOf, temporaryName } from '../keys/files.js';
import type { Journal, JournalState } from './journal.js';
import { conflictOf, JournalError } from './journal.js';
import { decodeJournal, encodeJournal, MAX_JOURNAL_BYTES } from './journal-codec.js';
import type { ProcessTable } from './processes.js';
import { linuxProcesses } from './processes.js';
import { lockState } from './state-lock.js';

/** How the journal is kept in files. */
export interface FileJournalOptions {
  /** The state directory; made with mode 0700 when missing, refused when others can reach it. */
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The machine's files and processes unless a test says otherwise. */
  readonly files?: FileOps;
  readonly processes?: ProcessTable;
}

const MAIN = 'journal.json';
const COPY = 'journal.copy.json';

type Reading =
  | { readonly state: JournalState }
  | { readonly damage: string }
  /** No such file. */
  | undefined;

/**
 * Opens the journal of a state directory, and locks the directory against a second process until {@link Journal.close}.
 *
 * The state lies in two files with the same content. Both are on the disk before a save resolves, so damage to one
 * never loses a revocation. A save writes both aside first (a full disk shows here, when nothing has changed yet) and
 * then renames the main one, which is the moment at which the new state is in force, and the copy.
 *
 * @throws JournalError `StateLocked`, KeyStoreError `StateUnsafe`
 */
export async function openFileJournal(options: FileJournalOptions): Promise<Journal> {
  const { directory, logger, clock, random } = options;
  const files = options.files ?? diskFiles;
  const processes = options.processes ?? linuxProcesses;
  await privateDirectory(directory);
  const lock = await attempt('lock', () => lockState({ directory, files, clock, random, processes }));
  const at = (name: string): string => join(directory, name);

  const read = async (name: string): Promise<Reading> => {
    const data = await attempt(`read ${name}`, () => files.read(at(name), MAX_JOURNAL_BYTES));
    if (data === undefined) return undefined;
    try {
      return { state: decodeJournal(data) };
    } catch (error) {
      return { damage: `${at(name)}: ${reasonOf(error)}` };
    }
  };

  const write = (state: JournalState): Promise<void> =>
    attempt('write the journal', async () => {
      const data = encodeJournal(state);
      const names = [MAIN, COPY];
      try {
        for (const name of names) {
          await files.remove(at(temporaryName(name)));
          await files.create(at(temporaryName(name)), data);
        }
        for (const name of names) await files.rename(at(temporaryName(name)), at(name));
      } catch (error) {
        for (const name of names) await files.remove(at(temporaryName(name))).catch(() => undefined);
        throw error;
      }
      await files.syncDirectory(directory);
    });

  /** The state in the copy, once the main file is of no use: it may lack the last change. */
  const recover = async (copy: Reading, damage: string): Promise<JournalState> => {
    if (copy === undefined || !('state' in copy)) {
      throw new JournalError(
        'JournalDamaged',
        `the CA's journal cannot be read and has no good copy (${[damage, copy?.damage].filter(Boolean).join('; ')}). Restore ${at(MAIN)} from a backup`,
      );
    }
    const { state } = copy;
    // What was lost may have been published under the next sequence, so that number is not used for other content.
    const recovered = {
      ...state,
      version: state.version + 2,
      set: { ...state.set, sequence: state.set.sequence + 2 },
    };
    await write(recovered);
    logger.warn('the CA journal was damaged and has been recovered from its copy', {
      damage,
      version: recovered.version,
      bundleSequence: recovered.set.sequence,
    });
    return recovered;
  };

  const load = async (): Promise<JournalState | undefined> => {
    const [main, copy] = [await read(MAIN), await read(COPY)];
    if (main === undefined && copy === undefined) return undefined;
    if (main === undefined) return recover(copy, `${at(MAIN)} is missing`);
    if ('damage' in main) return recover(copy, main.damage);
    if (copy === undefined || !('state' in copy) || copy.state.version !== main.state.version) {
      // A crash between two renames, or a damaged copy: there are two whole files again before anything builds on one.
      await write(main.state);
      if (copy !== undefined && 'damage' in copy)
        logger.warn('the copy of the CA journal was damaged', { damage: copy.damage });
    }
    return main.state;
  };

  let version: number | undefined;
  return {
    async load() {
      const state = await load();
      version = state?.version ?? 0;
      return state;
    },
    async save(state, expectedVersion) {
      version ??= (await load())?.version ?? 0;
      const conflict = conflictOf(state, expectedVersion, version);
      if (conflict !== undefined) throw conflict;
      // Unknown until the write has succeeded.
      version = undefined;
      await write(state);
      version = state.version;
    },
    close: () => lock.release(),
  };
}

async function attempt<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof SignetError) throw error;
    throw new JournalError('JournalIo', `cannot ${what}: ${reasonOf(error)}`, { cause: error });
  }
}
