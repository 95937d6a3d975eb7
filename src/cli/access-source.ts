import { Option } from 'commander';
import type { RenderedIssuer } from '../access/mesh/renderer.js';
import type { PolicyRef } from '../access/policy/model.js';
import { parseInstant } from '../access/policy/scalar.js';
import { readAccessView, type AccessView } from '../cluster/access-view.js';
import { renderedIssuers } from '../cluster/issuers.js';
import { findTrustDomain, trustDomainSettings } from '../cluster/trust-domain.js';
import { SignetError } from '../lib/errors.js';
import type { FieldPath } from '../resources/problem.js';
import type { FolderStore } from '../store/folder/folder-store.js';
import type { FilePlace, FileProblem } from '../store/folder/problems.js';
import type { StoredObject } from '../store/store.js';
import type { CliIo } from './io.js';
import { problemText } from './problem-text.js';
import { openResources } from './resource-files.js';

/** Policies and workloads as they stand in files. */
export interface AccessSource extends AccessView {
  readonly policyTests: readonly StoredObject[];
  /** Of end-user tokens, as the TrustDomain names them. */
  readonly issuers: readonly RenderedIssuer[];
  /** Where a policy, or a field of it, stands; the field as findings write it: within the rule where one is named. */
  placeOf(policy: PolicyRef, rule?: string, field?: string): FilePlace | undefined;
  /** The same of a PolicyTest, by its key, and the index of a test in it. */
  placeOfTest(key: string, index?: number): FilePlace | undefined;
  /** What is doubtful in the files; where something is wrong in them, there is no source. */
  readonly warnings: readonly FileProblem[];
}

/** Files that hold errors, which are listed. */
export class ResourcesInvalidError extends SignetError {
  readonly problems: readonly FileProblem[];

  constructor(message: string, problems: readonly FileProblem[]) {
    super('ResourcesInvalid', message);
    this.problems = problems;
  }
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
 * Reads a folder or file of resources; `-` is standard input. What is wrong with them is told on standard error; an object with an error takes
 * no part, and an answer from the others could be a wrong one, so errors end the command.
 *
 * @throws SignetError `ResourcesInvalid`, and what opening a folder throws
 */
export async function openAccessSource(
  io: CliIo,
  path: string,
  options: { readonly trustDomain?: string },
): Promise<AccessSource> {
  const store = await openResources(io, path);
  try {
    const problems = store.problems.value;
    for (const problem of problems) io.stderr(`${problem.severity}: ${problemText(problem)}\n`);
    const errors = problems.filter(({ severity }) => severity === 'error').length;
    if (errors > 0) {
      throw new ResourcesInvalidError(
        `${path === '-' ? 'standard input' : path} has ${errors} ${errors === 1 ? 'error' : 'errors'}; mend ${errors === 1 ? 'it' : 'them'} first, see above`,
        problems,
      );
    }
    const resource = findTrustDomain(store);
    const settings = trustDomainSettings({
      ...(resource === undefined ? {} : { resource }),
      ...(options.trustDomain === undefined ? {} : { flag: options.trustDomain }),
    });
    return {
      ...readAccessView(store, settings),
      policyTests: store.list('PolicyTest'),
      issuers: renderedIssuers(settings.tokenIssuers),
      placeOf: (policy, rule, field) => placeOfPolicy(store, policy, rule, field),
      placeOfTest: (key, index) =>
        store.placeOf('PolicyTest', key, index === undefined ? [] : ['spec', 'tests', index]),
      warnings: problems,
    };
  } finally {
    store.close();
  }
}

function placeOfPolicy(
  store: FolderStore,
  { kind, namespace, name }: PolicyRef,
  rule: string | undefined,
  field: string | undefined,
): FilePlace | undefined {
  const key = kind === 'ClusterAccessPolicy' ? name : `${namespace}/${name}`;
  const { spec } = (store.get(kind, key) ?? {}) as {
    readonly spec?: { readonly rules?: readonly { readonly name?: string }[] };
  };
  const index = rule === undefined ? -1 : (spec?.rules ?? []).findIndex((one) => one.name === rule);
  const within: FieldPath = index < 0 ? [] : ['spec', 'rules', index];
  return store.placeOf(kind, key, [...within, ...fieldPath(field ?? (index < 0 ? 'metadata.name' : 'name'))]);
}

/** The parts of a field as it is written: `spec.rules[0].from`. */
function fieldPath(field: string): FieldPath {
  return [...field.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, name]) =>
    index === undefined ? (name ?? '') : Number(index),
  );
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
