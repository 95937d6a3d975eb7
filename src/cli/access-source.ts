import { Option } from 'commander';
import { resolve } from 'node:path';
import type { RenderedIssuer } from '../access/mesh/renderer.js';
import { parseInstant } from '../access/policy/scalar.js';
import { readAccessView, type AccessView } from '../cluster/access-view.js';
import { findTrustDomain, trustDomainSettings } from '../cluster/trust-domain.js';
import { SignetError } from '../lib/errors.js';
import { silentLogger } from '../lib/logger.js';
import { openFolderStore } from '../store/folder/folder-store.js';
import type { StoredObject } from '../store/store.js';
import type { CliIo } from './io.js';
import { problemText } from './problem-text.js';

/** Policies and workloads as they stand in files. */
export interface AccessSource extends AccessView {
  readonly policyTests: readonly StoredObject[];
  /** Of end-user tokens, as the TrustDomain names them. */
  readonly issuers: readonly RenderedIssuer[];
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
    const issuers = settings.tokenIssuers.flatMap(({ issuer, audiences, jwksUri, jwks }) =>
      issuer === undefined
        ? []
        : [
            {
              issuer,
              audiences,
              ...(jwksUri === undefined ? {} : { jwksUri }),
              ...(jwks === undefined ? {} : { jwks }),
            },
          ],
    );
    return { ...readAccessView(store, settings), policyTests: store.list('PolicyTest'), issuers };
  } finally {
    store.close();
  }
}

/** The instant that `--at` names, in milliseconds; now unless said. */
export function instantOf(io: CliIo, at: string | undefined): number {
  if (at === undefined) return io.clock.now();
  const time = parseInstant(at);
  if (time === undefined) {
    throw new SignetError('TimeInvalid', `--at ${at} is no instant; write one such as 2026-01-31T09:00:00Z`);
  }
  return time;
}
