import { parseSpiffeId } from '../../identity/spiffe/id.js';
import type { Inventory, InventoryWorkload } from '../mesh/inventory.js';
import { isMethod } from '../policy/http.js';
import type { OperationInput, PathInput, PolicyInput, RuleInput, TargetInput } from '../policy/input.js';
import { exactPattern, normalisePath } from '../policy/path.js';
import { labelsMatch } from '../policy/selector.js';
import { patternsOf } from './generalize.js';
import type { Observation } from './observations.js';

export interface SuggestedPolicy extends PolicyInput {
  readonly apiVersion: 'signet.dev/v1alpha1';
  readonly kind: 'AccessPolicy';
}

/** An access that no suggested policy allows, and why. */
export interface Uncovered {
  readonly observation: Observation;
  readonly reason: string;
  /** How often the like was seen. */
  readonly count: number;
}

export interface Suggestion {
  readonly policies: readonly SuggestedPolicy[];
  readonly uncovered: readonly Uncovered[];
  /** Kinds of uncovered accesses beyond those that are listed. */
  readonly moreUncovered: number;
  /** What to look at before the policies are applied. */
  readonly notes: readonly string[];
}

export interface SuggestOptions {
  /** From how many paths on that differ only in ids one template is made of them; absent: never. */
  readonly generalizeFrom?: number;
  /** Whether accesses that were denied are to be allowed: false unless said. */
  readonly includeDenied?: boolean;
  /** Different accesses that are remembered: 200,000 unless said. */
  readonly maxAccesses?: number;
}

const MAX_UNCOVERED = 200;
/** Entries that one list of a policy may have. */
const MAX_ENTRIES = 1000;

/**
 * The least policies that allow what was seen: one for each workload, in which callers with the same accesses share a rule.
 * Nothing is allowed that is not a combination of caller, port, method and path that was seen, but for paths that a
 * template stands for. What cannot be said so narrowly is listed instead of being allowed.
 */
export function suggestPolicies(
  observations: Iterable<Observation>,
  inventory: Inventory,
  options: SuggestOptions = {},
): Suggestion {
  const workloads = new Map(inventory.workloads.map((one) => [`${one.namespace}/${one.name}`, one]));
  const targets = new Map<InventoryWorkload, Map<string, SourceAccess>>();
  const uncovered = new UncoveredList();
  let left = options.maxAccesses ?? 200_000;
  for (const observation of observations) {
    const workload = workloads.get(observation.target);
    const { source } = observation;
    const reason = refusal(observation, workload, options);
    if (reason !== undefined || workload === undefined || source === undefined) {
      uncovered.add(observation, reason ?? 'it cannot be said');
      continue;
    }
    const access = targets.get(workload)?.get(source) ?? { open: new Set(), paths: new Map() };
    if (isKnown(access, observation)) continue;
    if (left-- <= 0) {
      uncovered.add(observation, 'too many different accesses were seen; give the log in parts');
      continue;
    }
    note(access, observation);
    targets.set(workload, (targets.get(workload) ?? new Map<string, SourceAccess>()).set(source, access));
  }
  const notes: string[] = [];
  const policies = [...targets]
    .sort(([a], [b]) => (nameOf(a) < nameOf(b) ? -1 : 1))
    .map(([workload, sources]) => policyFor(workload, sources, inventory, { options, notes }));
  return { policies, ...uncovered.result(), notes };
}

/** What one caller did on one workload. */
interface SourceAccess {
  /** Ports on which HTTP was not seen. */
  readonly open: Set<number>;
  /** Paths under `port method`. */
  readonly paths: Map<string, Set<string>>;
}

function refusal(
  { source, http, allowed }: Observation,
  workload: InventoryWorkload | undefined,
  { includeDenied }: SuggestOptions,
): string | undefined {
  if (allowed === false && includeDenied !== true) return 'it was denied';
  if (workload === undefined) return 'there is no such workload';
  if (source === undefined) {
    return 'the caller had no identity, and a rule for it ("anyone: true") would be for everybody';
  }
  try {
    parseSpiffeId(source);
  } catch {
    return 'the source is no valid SPIFFE ID';
  }
  if (http === undefined) return undefined;
  if (!isMethod(http.method)) return 'the method is not written in upper-case letters';
  const path = normalisePath(http.path);
  if (!path.ok) return `it is refused whatever the policies say: ${path.reason}`;
  const pattern = exactPattern(path.path);
  return pattern.ok ? undefined : `no pattern says its path: ${pattern.reason}`;
}

function keyOf(port: number, method: string): string {
  return `${port} ${method}`;
}

/** The canonical path of an access that was not refused. */
function pathOf({ path }: NonNullable<Observation['http']>): string {
  const normal = normalisePath(path);
  return normal.ok ? normal.path : path;
}

function isKnown({ open, paths }: SourceAccess, { port, http }: Observation): boolean {
  if (http === undefined) return open.has(port);
  return paths.get(keyOf(port, http.method))?.has(pathOf(http)) === true;
}

function note({ open, paths }: SourceAccess, { port, http }: Observation): void {
  if (http === undefined) {
    open.add(port);
    return;
  }
  const key = keyOf(port, http.method);
  paths.set(key, (paths.get(key) ?? new Set<string>()).add(pathOf(http)));
}

interface Making {
  readonly options: SuggestOptions;
  readonly notes: string[];
}

function policyFor(
  workload: InventoryWorkload,
  sources: ReadonlyMap<string, SourceAccess>,
  inventory: Inventory,
  { options, notes }: Making,
): SuggestedPolicy {
  const { target, others } = selectorFor(workload, inventory);
  if (others.length > 0) {
    notes.push(
      `the policy for ${nameOf(workload)} also selects ${others.join(', ')}: no label tells them apart`,
    );
  }
  const open = [...sources.values()].flatMap((access) => [...access.open]);
  if (open.length > 0) {
    const ports = [...new Set(open)].sort((a, b) => a - b).join(', ');
    notes.push(
      `on port ${ports} of ${nameOf(workload)} HTTP was not seen, so all that is asked there is allowed`,
    );
  }
  const bySaying = new Map<string, { readonly uris: string[]; readonly to: readonly OperationInput[] }>();
  for (const [uri, access] of [...sources].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const to = operationsOf(access, options.generalizeFrom);
    const key = JSON.stringify(to);
    const known = bySaying.get(key);
    if (known === undefined) bySaying.set(key, { uris: [uri], to });
    else known.uris.push(uri);
  }
  const names = new Set<string>();
  const rules = [...bySaying.values()].flatMap(({ uris, to }) =>
    chunks(uris).flatMap((spiffeIDs) =>
      chunks(to).map((part): RuleInput => ({
        name: ruleName(spiffeIDs, names),
        from: [{ spiffeIDs }],
        to: part,
      })),
    ),
  );
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name: `${workload.name}-observed`, namespace: workload.namespace },
    spec: { target, rules },
  };
}

/** Entries of which each is a product of ports, methods and paths that were all seen together. */
function operationsOf(
  { open, paths }: SourceAccess,
  generalizeFrom: number | undefined,
): readonly OperationInput[] {
  const byPaths = new Map<
    string,
    { readonly patterns: readonly PathInput[]; readonly methods: Map<string, number[]> }
  >();
  for (const [key, seen] of paths) {
    const [port = '', method = ''] = key.split(' ');
    const patterns = patternsOf(seen, generalizeFrom);
    const text = JSON.stringify(patterns);
    const entry = byPaths.get(text) ?? { patterns, methods: new Map<string, number[]>() };
    byPaths.set(text, entry);
    entry.methods.set(
      method,
      [...(entry.methods.get(method) ?? []), Number(port)].sort((a, b) => a - b),
    );
  }
  const operations = [...byPaths.values()].flatMap(({ patterns, methods }) => {
    const byPorts = new Map<string, { readonly ports: readonly number[]; readonly methods: string[] }>();
    for (const [method, ports] of methods) {
      const entry = byPorts.get(ports.join()) ?? { ports, methods: [] };
      byPorts.set(ports.join(), entry);
      entry.methods.push(method);
    }
    return [...byPorts.values()].flatMap(({ ports, methods: together }) =>
      chunks(patterns).map((some): OperationInput => ({
        ports,
        http: { methods: together.sort(), paths: some },
      })),
    );
  });
  const wide = open.size === 0 ? [] : [{ ports: [...open].sort((a, b) => a - b) }];
  return [...wide, ...operations].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

/** The fewest labels that select a workload and no other of its namespace; then its service account too. */
function selectorFor(
  workload: InventoryWorkload,
  inventory: Inventory,
): { readonly target: TargetInput; readonly others: readonly string[] } {
  const neighbours = inventory.workloads.filter(
    (one) => one !== workload && one.namespace === workload.namespace,
  );
  const usual = ['app.kubernetes.io/name', 'app', 'app.kubernetes.io/instance', 'k8s-app'];
  const keys = [
    ...usual.filter((key) => Object.hasOwn(workload.labels, key)),
    ...Object.keys(workload.labels).sort(),
  ];
  const pick = (chosen: readonly string[]): Record<string, string> =>
    Object.fromEntries(chosen.map((key) => [key, workload.labels[key] ?? '']));
  const alike = (labels: Readonly<Record<string, string>>): readonly InventoryWorkload[] =>
    neighbours.filter((one) =>
      labelsMatch(
        Object.entries(labels).map(([key, value]) => ({ kind: 'in', key, values: new Set([value]) })),
        one.labels,
      ),
    );
  for (const key of keys) {
    const labels = pick([key]);
    if (alike(labels).length === 0) return { target: { podSelector: { matchLabels: labels } }, others: [] };
  }
  const all = pick(keys);
  const podSelector = keys.length === 0 ? {} : { podSelector: { matchLabels: all } };
  const rest = alike(all);
  if (rest.length === 0) return { target: podSelector, others: [] };
  const target = { ...podSelector, serviceAccountNames: [workload.serviceAccount] };
  return { target, others: rest.filter((one) => one.serviceAccount === workload.serviceAccount).map(nameOf) };
}

function ruleName(uris: readonly string[], names: Set<string>): string {
  const stem = (uris[0]?.split('/').pop() ?? '').toLowerCase().replaceAll(/[^a-z0-9-]/g, '-') || 'caller';
  let name = stem.slice(0, 50);
  for (let at = 2; names.has(name); at++) name = `${stem.slice(0, 50)}-${at}`;
  names.add(name);
  return name;
}

function chunks<T>(items: readonly T[]): readonly (readonly T[])[] {
  const parts: T[][] = [];
  for (let at = 0; at < items.length; at += MAX_ENTRIES) parts.push(items.slice(at, at + MAX_ENTRIES));
  return parts;
}

function nameOf({ namespace, name }: InventoryWorkload): string {
  return `${namespace}/${name}`;
}

/** What is not covered, each kind once. */
class UncoveredList {
  readonly #found = new Map<
    string,
    { readonly observation: Observation; readonly reason: string; count: number }
  >();
  #more = 0;

  add(observation: Observation, reason: string): void {
    const { source, target, port, http } = observation;
    const key = JSON.stringify([reason, source, target, port, http?.method]);
    const known = this.#found.get(key);
    if (known !== undefined) known.count++;
    else if (this.#found.size < MAX_UNCOVERED) this.#found.set(key, { observation, reason, count: 1 });
    else this.#more++;
  }

  result(): Pick<Suggestion, 'uncovered' | 'moreUncovered'> {
    return { uncovered: [...this.#found.values()], moreUncovered: this.#more };
  }
}
