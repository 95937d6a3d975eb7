import type { FSWatcher } from 'node:fs';
import { watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Logger } from '../../lib/logger.js';
import { codeOf, isManifestName } from './scan.js';

/** What the watcher saw: this file may have changed, or anything may. */
export type FolderEvent = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'rescan' };

export interface FolderWatcher {
  /**
   * Watches exactly these directories from now on; each with what tells it from another that took its place. Returns
   * whether a new one is watched, in which something may have happened before that.
   */
  follow(directories: ReadonlyMap<string, string>): boolean;
  /** True while every directory is watched; otherwise a rescan is the only way to learn of changes. */
  readonly complete: boolean;
  close(): void;
}

/**
 * Watches directories one by one: the kernel then names the file that changed, and renames (how editors and ConfigMaps
 * replace files) are seen too. `root` is the path that was given: a folder, or one file.
 */
export function createFolderWatcher(
  root: string,
  onEvent: (event: FolderEvent) => void,
  logger: Logger,
): FolderWatcher {
  const watchers = new Map<string, { readonly watcher: FSWatcher; readonly identity: string }>();
  const failed = new Set<string>();
  const parent = dirname(root);
  const rootName = basename(root);

  const heard = (directory: string, type: string, name: string | null): void => {
    if (directory === parent && root !== parent) {
      // The parent may be as busy as /tmp: only the root's own name matters there.
      if (name === null || name === rootName || name === '..data') onEvent({ kind: 'rescan' });
      return;
    }
    if (name === null) onEvent({ kind: 'rescan' });
    else if (isManifestName(name)) onEvent({ kind: 'file', path: join(directory, name) });
    // A folder or link came, went or was swapped. Writes to other files are nobody's business.
    else if (type === 'rename' && !isEditorsOwn(name)) onEvent({ kind: 'rescan' });
  };

  const start = (directory: string, identity: string): void => {
    try {
      const watcher = watch(directory, { persistent: false }, (type, name) => heard(directory, type, name));
      watcher.on('error', () => {
        // The directory is gone, or its file system gave up on it.
        watcher.close();
        watchers.delete(directory);
        onEvent({ kind: 'rescan' });
      });
      watchers.set(directory, { watcher, identity });
      failed.delete(directory);
    } catch (thrown) {
      if (codeOf(thrown) === 'ENOENT') return;
      if (failed.size === 0) {
        logger.warn('cannot watch a folder; its changes are found by rescans only', {
          directory,
          reason: codeOf(thrown),
        });
      }
      failed.add(directory);
    }
  };

  return {
    follow(directories) {
      for (const [directory, { watcher, identity }] of watchers) {
        if (directories.get(directory) === identity) continue;
        watcher.close();
        watchers.delete(directory);
      }
      for (const directory of failed) if (!directories.has(directory)) failed.delete(directory);
      const before = watchers.size;
      for (const [directory, identity] of directories) {
        if (!watchers.has(directory)) start(directory, identity);
      }
      return watchers.size > before;
    },
    get complete() {
      return failed.size === 0;
    },
    close() {
      for (const { watcher } of watchers.values()) watcher.close();
      watchers.clear();
    },
  };
}

/** Swap, backup and probe files of editors; `..data` of a ConfigMap is not among them. */
function isEditorsOwn(name: string): boolean {
  return name.endsWith('~') || name === '4913' || (/^\.[^.]/.test(name) && /\.(sw[a-z]|tmp)$/.test(name));
}
