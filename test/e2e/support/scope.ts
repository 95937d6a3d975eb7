import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a test opened and must end, whatever happened: processes, connections, folders. Ended in reverse order. */
export interface Scope {
  onEnd(end: () => void | Promise<void>): void;
  /** A new folder, mode 0700, removed at the end. Its path is short: a unix socket's path has 107 bytes at most. */
  folder(): string;
  end(): Promise<void>;
}

export function newScope(): Scope {
  const ends: (() => void | Promise<void>)[] = [];
  return {
    onEnd: (end) => ends.push(end),
    folder(): string {
      const path = mkdtempSync(join(tmpdir(), 'sg-'));
      ends.push(() => rmSync(path, { recursive: true, force: true }));
      return path;
    },
    async end(): Promise<void> {
      for (const end of ends.splice(0).reverse()) await end();
    },
  };
}
