import { writeFile } from 'node:fs/promises';
import type { FileOps } from '../../src/identity/keys/files.js';
import { diskFiles } from '../../src/identity/keys/files.js';

/** Where a process dies: at its n-th change of the disk, before it, after it, or in the midst of writing a file. */
export interface CrashPlan {
  /** Counted from 0. */
  readonly at: number;
  readonly when: 'before' | 'after' | 'torn';
}

/** Thrown by all file operations of a process that is dead. */
export class Crash extends Error {}

/** Real files, under a process that dies as planned: from then on it can do nothing, reading included. */
export function crashingFiles(plan: CrashPlan): FileOps & { readonly crashed: boolean } {
  let changes = 0;
  let crashed = false;
  const guard = (): void => {
    if (crashed) throw new Crash('the process is dead');
  };
  const change = async (act: () => Promise<void>, tear?: () => Promise<void>): Promise<void> => {
    guard();
    const last = changes++ === plan.at;
    if (!last) return act();
    if (plan.when === 'after') await act();
    if (plan.when === 'torn') await tear?.();
    crashed = true;
    throw new Crash(`the process dies at change ${plan.at}`);
  };
  return {
    get crashed() {
      return crashed;
    },
    async read(path, maxBytes) {
      guard();
      return diskFiles.read(path, maxBytes);
    },
    async list(path) {
      guard();
      return diskFiles.list(path);
    },
    create: (path, data) =>
      change(
        () => diskFiles.create(path, data),
        () => writeFile(path, data.subarray(0, data.length / 2), { mode: 0o600 }),
      ),
    rename: (from, to) => change(() => diskFiles.rename(from, to)),
    remove: (path) => change(() => diskFiles.remove(path)),
    syncDirectory: (path) => change(() => diskFiles.syncDirectory(path)),
  };
}

/** Real files on a disk that can be full: half of what does not fit is left behind, as real disks do. */
export function fullableFiles(): FileOps & { full: boolean } {
  const files = {
    ...diskFiles,
    full: false,
    async create(path: string, data: Uint8Array): Promise<void> {
      if (!files.full) return diskFiles.create(path, data);
      await writeFile(path, data.subarray(0, data.length / 2), { mode: 0o600 });
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    },
  };
  return files;
}
