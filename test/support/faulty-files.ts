import { writeFile } from 'node:fs/promises';
import type { FileOps } from '../../src/identity/keys/files.js';
import { diskFiles } from '../../src/identity/keys/files.js';

/** Real files without the waiting for the disk: a process that dies takes nothing out of the kernel's cache. */
export const unsyncedFiles: FileOps = {
  ...diskFiles,
  create: (path, data) => writeFile(path, data, { mode: 0o600, flag: 'wx' }),
  syncDirectory: () => Promise.resolve(),
};

/**
 * Where a process dies: after its n-th change of the disk (which is before the next), or in the midst of writing its
 * n-th file. Counted from 0.
 */
export interface CrashPlan {
  readonly at: number;
  readonly when: 'after' | 'torn';
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
  const die = (): never => {
    crashed = true;
    throw new Crash(`the process dies at ${plan.at}`);
  };
  const change = async (act: () => Promise<void>): Promise<void> => {
    guard();
    await act();
    if (plan.when === 'after' && changes++ === plan.at) die();
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
      change(async () => {
        if (plan.when === 'torn' && changes++ === plan.at) {
          await writeFile(path, data.subarray(0, data.length / 2), { mode: 0o600 });
          die();
        }
        await unsyncedFiles.create(path, data);
      }),
    rename: (from, to) => change(() => diskFiles.rename(from, to)),
    remove: (path) => change(() => diskFiles.remove(path)),
    syncDirectory: (path) => change(() => unsyncedFiles.syncDirectory(path)),
  };
}

/** Real files on a disk that can be full: half of what does not fit is left behind, as real disks do. */
export function fullableFiles(): FileOps & { full: boolean } {
  const files = {
    ...unsyncedFiles,
    full: false,
    async create(path: string, data: Uint8Array): Promise<void> {
      if (!files.full) return unsyncedFiles.create(path, data);
      await writeFile(path, data.subarray(0, data.length / 2), { mode: 0o600 });
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    },
  };
  return files;
}
