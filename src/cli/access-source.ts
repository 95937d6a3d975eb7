import { resolve } from 'node:path';
import { readAccessView, type AccessView } from '../cluster/access-view.js';
import { findTrustDomain, trustDomainSettings } from '../cluster/trust-domain.js';
import { silentLogger } from '../lib/logger.js';
import { openFolderStore } from '../store/folder/folder-store.js';
import type { StoredObject } from '../store/store.js';
import { Option } from 'commander';
import { SignetError } from '../lib/errors.js';
import type { CliIo } from './io.js';
import { problemText } from './problem-text.js';

/** Policies and workloads as they stand in files, with every object that was read. */
export interface AccessSource extends AccessView {
  objects(kind: string): readonly StoredObject[];
}

/** `--trust-domain`, for files without a TrustDomain. */
export function trustDomainOption(): Option {
  return new Option('--trust-domain <name>', 'the trust domain, where the files hold no TrustDomain');
}

/** `--at`, for policies that depend on the time. */
export function timeOption(): Option {
  return new Option(
    '--at <instant>',
    'the time that is asked about, e.g. 2026-01-31T09:00:00Z; now unless said',
  );
}

/**
 * Reads a folder or file of resources. What is wrong with them is told on standard error; an object with an error takes
 * no part, and an answer from the others could be a wrong one, so errors end the command.
 *
 * @throws SignetError `ResourcesInvalid`, and what opening a folder throws
 */
export async function openAccessSource(
  io: CliIo,
  path: string,
  options: { readonly trustDomain?: string },
): Promise<AccessSource> {
  const store = await openFolderStore({
    path: resolve(path),
    clock: io.clock,
    logger: silentLogger,
    nodeName: 'none',
  });
  try {
    const problems = store.problems.value;
    for (const problem of problems) io.stderr(`${problem.severity}: ${problemText(problem)}\n`);
    const errors = problems.filter(({ severity }) => severity === 'error').length;
    if (errors > 0) {
      throw new SignetError(
        'ResourcesInvalid',
        `${path} has ${errors} ${errors === 1 ? 'error' : 'errors'}; mend ${errors === 1 ? 'it' : 'them'} first, see above`,
      );
    }
    const resource = findTrustDomain(store);
    const settings = trustDomainSettings({
      ...(resource === undefined ? {} : { resource }),
      ...(options.trustDomain === undefined ? {} : { flag: options.trustDomain }),
    });
    const kinds = new Map<string, readonly StoredObject[]>();
    const view = readAccessView(store, settings);
    for (const kind of ['PolicyTest', 'TrustDomain']) kinds.set(kind, store.list(kind));
    return { ...view, objects: (kind) => kinds.get(kind) ?? [] };
  } finally {
    store.close();
  }
}

/** The instant that `--at` names, in milliseconds; now unless said. */
export function instantOf(io: CliIo, at: string | undefined): number {
  if (at === undefined) return io.clock.now();
  const time = /^\d{4}-\d{2}-\d{2}T/.test(at) ? Date.parse(at) : Number.NaN;
  if (Number.isNaN(time)) {
    throw new SignetError('TimeInvalid', `--at ${at} is no instant; write one such as 2026-01-31T09:00:00Z`);
  }
  return time;
}
