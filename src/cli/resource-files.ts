import { resolve } from 'node:path';
import { silentLogger } from '../lib/logger.js';
import { openFolderStore, type FolderStore } from '../store/folder/folder-store.js';
import { openTextStore } from '../store/folder/text-store.js';
import { readUserFile } from './files.js';
import type { CliIo } from './io.js';

/** How a command says what it reads resources from. */
export const RESOURCES = 'a folder or file of resources; - for standard input';

/** The same of a command that asks the cluster otherwise. */
export const RESOURCES_OR_CLUSTER = `${RESOURCES}; the cluster is asked unless said`;

/**
 * Opens the resources that a user named: a folder, a file, or `-` for standard input.
 *
 * @throws SignetError what reading a file, or opening a folder throws
 */
export async function openResources({ clock }: CliIo, path: string): Promise<FolderStore> {
  if (path === '-') return openTextStore('stdin', readUserFile(path), 'none');
  return openFolderStore({ path: resolve(path), clock, logger: silentLogger, nodeName: 'none' });
}
