import { Option } from 'commander';
import type { RenderedIssuer } from '../access/mesh/renderer.js';
import type { PolicyRef } from '../access/policy/model.js';
import { parseInstant } from '../access/policy/scalar.js';
import { readAccessView, type AccessView } from '../cluster/access-view.js';
import { renderedIssuers } from '../cluster/issuers.js';
import { meshSettings, type MeshSettings } from '../cluster/mesh-settings.js';
import { findTrustDomain, trustDomainSettings } from '../cluster/trust-domain.js';
import { SignetError } from '../lib/errors.js';
import { SIGNET_KINDS } from '../resources/kinds.js';
import type { FieldPath } from '../resources/problem.js';
import type { FolderStore } from '../store/folder/folder-store.js';
import type { FilePlace, FileProblem } from '../store/folder/problems.js';
import { fixedStore } from '../store/fixed-store.js';
import { CLUSTER_KINDS } from '../store/kubernetes/read-cluster.js';
import type { Store, StoredObject } from '../store/store.js';
import { readCurrentCluster, type ClusterFlags } from './cluster.js';
import type { CliIo } from './io.js';
import { problemText } from './problem-text.js';
import { openResources } from './resource-files.js';

/** Policies and workloads as they stand in files, or in a cluster. */
export interface AccessSource extends AccessView {
  readonly policyTests: readonly StoredObject[];
  /** Of end-user tokens, as the TrustDomain names them. */
  readonly issuers: readonly RenderedIssuer[];
  /** How meshes are installed, as the TrustDomain says. */
  readonly meshes: MeshSettings;
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

/** Where resources are read from, beside a path. */
export interface SourceOptions extends ClusterFlags {
  readonly trustDomain?: string;
}

/**
 * Reads a folder or file of resources; `-` is standard input, and without a path the cluster is read. What is wrong with
 * files is told on standard error; an object with an error takes no part, and an answer from the others could be a wrong
 * one, so errors end the command.
 *
 * @throws SignetError `ResourcesInvalid`; what opening a folder, or reading the cluster throws
 */
export async function openAccessSource(
  io: CliIo,
  path: string | undefined,
  options: SourceOptions,
): Promise<AccessSource> {
  if (path === undefined) return clusterSource(await readCurrentCluster(io, options), options);
  const store = await openResources(io, path);
  try {
    return { ...viewOf(store, options), ...placesIn(store), warnings: checked(io, path, store) };
  } finally {
    store.close();
  }
}

/**
 * The cluster as it would be with the resources of a folder or file: those of Signet's kinds, in the place of the ones of
 * the same name. Workloads are those of the cluster.
 *
 * @throws as openAccessSource
 */
export async function openChangedCluster(
  io: CliIo,
  path: string,
  options: SourceOptions,
): Promise<{ readonly before: AccessSource; readonly after: AccessSource }> {
  const store = await openResources(io, path);
  try {
    const warnings = checked(io, path, store);
    const cluster = await readCurrentCluster(io, options);
    const changed = fixedStore([
      ...CLUSTER_KINDS.flatMap((kind) => cluster.list(kind)),
      ...Object.keys(SIGNET_KINDS).flatMap((kind) => store.list(kind)),
    ]);
    const after = { ...viewOf(changed, options), ...placesIn(store), warnings };
    return { before: clusterSource(cluster, options), after };
  } finally {
    store.close();
  }
}

function clusterSource(store: Store, options: SourceOptions): AccessSource {
  return {
    ...viewOf(store, options),
    placeOf: () => undefined,
    placeOfTest: () => undefined,
    warnings: [],
  };
}

/** Tells what is wrong; with an error there is no source. */
function checked(io: CliIo, path: string, store: FolderStore): readonly FileProblem[] {
  const problems = store.problems.value;
  for (const problem of problems) io.stderr(`${problem.severity}: ${problemText(problem)}\n`);
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  if (errors === 0) return problems;
  throw new ResourcesInvalidError(
    `${path === '-' ? 'standard input' : path} has ${errors} ${errors === 1 ? 'error' : 'errors'}; mend ${errors === 1 ? 'it' : 'them'} first, see above`,
    problems,
  );
}

function viewOf(
  store: Store,
  { trustDomain }: SourceOptions,
): Pick<AccessSource, 'policies' | 'inventory' | 'policyTests' | 'issuers' | 'meshes'> {
  const resource = findTrustDomain(store);
  const settings = trustDomainSettings({
    ...(resource === undefined ? {} : { resource }),
    ...(trustDomain === undefined ? {} : { flag: trustDomain }),
  });
  return {
    ...readAccessView(store, settings),
    policyTests: store.list('PolicyTest'),
    issuers: renderedIssuers(settings.tokenIssuers),
    meshes: meshSettings(settings.meshOptions),
  };
}

function placesIn(store: FolderStore): Pick<AccessSource, 'placeOf' | 'placeOfTest'> {
  return {
    placeOf: (policy, rule, field) => placeOfPolicy(store, policy, rule, field),
    placeOfTest: (key, index) =>
      store.placeOf('PolicyTest', key, index === undefined ? [] : ['spec', 'tests', index]),
  };
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
