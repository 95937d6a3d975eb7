/** Named pieces of bytes. */
export type StateContent = ReadonlyMap<string, Uint8Array>;

/**
 * State that several processes share: one record, e.g. a Secret, which changes as a whole. Implemented where there is
 * such a place; owned by those who keep keys and journals in it.
 */
export interface StateRecord {
  /** What it holds now, read anew; undefined when there is none. */
  read(): Promise<StateContent | undefined>;
  /**
   * Changes it: `change` gets what it holds now and returns what it shall hold, or throws to leave it as it is. It may be
   * called again, with newer content, when another process was faster. Durable when it resolves.
   */
  update(change: (content: StateContent | undefined) => StateContent): Promise<void>;
}
