import type { StateContent, StateRecord } from '../../src/identity/keys/state-record.js';

/** A record that tests look into, and change behind the back of those who use it. */
export class MemoryRecord implements StateRecord {
  content: StateContent | undefined;
  /** Called in the middle of each update: what another process does at that moment. */
  meanwhile: (() => void) | undefined;
  /** Set to make the record unreachable. */
  failure: Error | undefined;
  updates = 0;

  read(): Promise<StateContent | undefined> {
    return this.failure === undefined ? Promise.resolve(this.content) : Promise.reject(this.failure);
  }

  async update(change: (content: StateContent | undefined) => StateContent): Promise<void> {
    for (;;) {
      const before = await this.read();
      const after = change(before);
      const { meanwhile } = this;
      this.meanwhile = undefined;
      meanwhile?.();
      if (this.content !== before) continue;
      this.content = after;
      this.updates += 1;
      return;
    }
  }
}
