import { isDeepStrictEqual } from 'node:util';

/** Statuses of a folder's objects: in memory only, the files are the user's. */
export class StatusTable {
  readonly #statuses = new Map<string, unknown>();

  write(kind: string, key: string, status: unknown): void {
    const id = `${kind} ${key}`;
    if (!isDeepStrictEqual(this.#statuses.get(id), status)) this.#statuses.set(id, status);
  }

  read(kind: string, key: string): unknown {
    return this.#statuses.get(`${kind} ${key}`);
  }

  drop(kind: string, key: string): void {
    this.#statuses.delete(`${kind} ${key}`);
  }
}
