import { WatchedValue } from '../../lib/watched.js';
import { FolderContent } from './folder-content.js';
import type { FolderStore } from './folder-store.js';
import { StatusTable } from './status-table.js';

/**
 * A store over one text, such as standard input: what a folder with that one file would hold, and it never changes.
 * Problems name it `name`.
 */
export function openTextStore(name: string, text: string, nodeName: string): FolderStore {
  const content = new FolderContent(nodeName);
  content.accept(name, content.read(name, text));
  const statuses = new StatusTable();
  return {
    synced: new WatchedValue(true),
    problems: new WatchedValue(content.problems(() => false, [])),
    list: (kind) => content.list(kind),
    get: (kind, key) => content.get(kind, key),
    placeOf: (kind, key, path) => content.placeOf(kind, key, path),
    subscribe: () => () => undefined,
    writeStatus(kind, key, status) {
      statuses.write(kind, key, status);
      return Promise.resolve();
    },
    status: (kind, key) => statuses.read(kind, key),
    close: () => undefined,
  };
}
