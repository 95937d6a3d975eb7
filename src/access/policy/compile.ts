import type { PolicyInput } from './input.js';
import type { Operation, Policy, PolicyRef, Rule, Source, Target, Tier, Validity } from './model.js';
import { readOperation } from './operations.js';
import { readSource, type PrincipalResolver } from './principals.js';
import {
  MAX_LIST,
  ProblemReport,
  readList,
  readObject,
  readPorts,
  readTexts,
  readWord,
  shown,
} from './read.js';
import { compileRoles, readGrants, type RoleTable } from './roles.js';
import { readConditions } from './conditions.js';
import { parseInstant } from './scalar.js';
import { readSelector } from './selector.js';

/**
 * A policy resource as a policy of the model.
 *
 * Never throws for what a policy says: what is wrong is in `problems`, and a policy with problems opens nothing. If
 * even its target cannot be read, it stands for every workload that it could have meant: its namespace, or the cluster.
 */
export function compilePolicy(
  input: PolicyInput,
  resolver: PrincipalResolver,
  roles: RoleTable = compileRoles([]),
): Policy {
  const report = new ProblemReport();
  const given =
    readObject(input, 'policy', ['apiVersion', 'kind', 'metadata', 'spec', 'status'], report) ?? {};
  const ref = readRef(given, report);
  const cluster = ref.kind === 'ClusterAccessPolicy';
  const known = ['target', 'rules', 'mode', 'validity', ...(cluster ? ['tier'] : [])];
  const spec = readObject(given['spec'], 'spec', known, report) ?? {};
  const tier = readTier(cluster, spec['tier'], report);
  // A misspelt mode must not turn an enforced policy into one that only watches.
  const mode = readWord(spec['mode'], 'spec.mode', ['Enforce', 'Audit'], 'Enforce', report) ?? 'Enforce';
  const target = readTarget(spec['target'], ref, report);
  const validity = readValidity(spec['validity'], report);
  const rules = readRules(spec['rules'], { ref, resolver, roles }, report);
  return {
    ref,
    tier,
    mode,
    target,
    ...(validity === undefined ? {} : { validity }),
    rules: report.problems.length > 0 ? [] : rules,
    ...(report.problems.length > 0 ? { problems: report.problems } : {}),
  };
}

function readRef(input: Readonly<Record<string, unknown>>, report: ProblemReport): PolicyRef {
  const kind = input['kind'] === 'ClusterAccessPolicy' ? 'ClusterAccessPolicy' : 'AccessPolicy';
  if (input['kind'] !== kind) {
    report.add('kind', `${shown(input['kind'])} is neither AccessPolicy nor ClusterAccessPolicy`);
  }
  const metadata = readMetadata(input['metadata']);
  if (metadata.name === '') report.add('metadata.name', 'must name the policy');
  const namespace = kind === 'ClusterAccessPolicy' ? '' : metadata.namespace;
  return { kind, namespace, name: metadata.name };
}

function readMetadata(value: unknown): { readonly name: string; readonly namespace: string } {
  const { name, namespace } = (value ?? {}) as { readonly name?: unknown; readonly namespace?: unknown };
  return {
    name: typeof name === 'string' ? name : '',
    namespace: typeof namespace === 'string' && namespace !== '' ? namespace : 'default',
  };
}

function readTier(cluster: boolean, value: unknown, report: ProblemReport): Tier {
  if (!cluster) return 'Namespaced';
  // Unreadable, it counts as the tier that nothing overrides.
  return readWord(value, 'spec.tier', ['Admin', 'Baseline'], undefined, report) ?? 'Admin';
}

function readTarget(value: unknown, ref: PolicyRef, report: ProblemReport): Target {
  const cluster = ref.kind === 'ClusterAccessPolicy';
  const everything: Target = {
    ...(cluster ? {} : { namespaceNames: [ref.namespace] }),
    namespaces: [],
    pods: [],
  };
  const known = [
    'podSelector',
    'serviceAccountNames',
    'ports',
    ...(cluster ? ['namespaces', 'namespaceSelector'] : []),
  ];
  const own = new ProblemReport();
  const record = readObject(value, 'spec.target', known, own);
  const target =
    record === undefined ? everything : { ...everything, ...readTargetFields(record, cluster, own) };
  report.problems.push(...own.problems);
  return own.problems.length > 0 ? everything : target;
}

function readTargetFields(
  record: Readonly<Record<string, unknown>>,
  cluster: boolean,
  report: ProblemReport,
): Partial<Target> & Pick<Target, 'pods' | 'namespaces'> {
  const name = (text: string): string => text;
  const field = 'spec.target';
  const pods = readSelector(record['podSelector'], `${field}.podSelector`, report);
  const ports = readPorts(record['ports'], `${field}.ports`, report);
  const accounts = readTexts(record['serviceAccountNames'], `${field}.serviceAccountNames`, report, name);
  const names = cluster ? readTexts(record['namespaces'], `${field}.namespaces`, report, name) : undefined;
  return {
    pods,
    namespaces: readSelector(record['namespaceSelector'], `${field}.namespaceSelector`, report),
    ...(ports === undefined ? {} : { ports }),
    ...(accounts === undefined ? {} : { serviceAccounts: accounts }),
    ...(names === undefined ? {} : { namespaceNames: names }),
  };
}

function readValidity(value: unknown, report: ProblemReport): Validity | undefined {
  if (value === undefined) return undefined;
  const record = readObject(value, 'spec.validity', ['from', 'until'], report);
  if (record === undefined) return undefined;
  const instant = (name: string): number | undefined => {
    const text = record[name];
    if (text === undefined) return undefined;
    const time = typeof text === 'string' ? parseInstant(text) : undefined;
    if (time !== undefined) return time;
    report.add(`spec.validity.${name}`, `${shown(text)} is no time; write e.g. 2026-01-31T18:00:00Z`);
    return undefined;
  };
  const from = instant('from');
  const until = instant('until');
  if (from !== undefined && until !== undefined && until <= from) {
    report.add('spec.validity', '"until" is not after "from", so the policy would never hold');
  }
  return { ...(from === undefined ? {} : { from }), ...(until === undefined ? {} : { until }) };
}

/** What the rules of a policy are read by. */
interface RuleContext {
  readonly ref: PolicyRef;
  readonly resolver: PrincipalResolver;
  readonly roles: RoleTable;
}

function readRules(value: unknown, context: RuleContext, report: ProblemReport): readonly Rule[] {
  if (!Array.isArray(value)) {
    report.add('spec.rules', 'must be a list; an empty one allows nobody');
    return [];
  }
  if (value.length > MAX_LIST) {
    report.add('spec.rules', `has ${value.length} rules; ${MAX_LIST} are allowed`);
    return [];
  }
  const names = new Set<string>();
  const rules: Rule[] = [];
  for (const [index, entry] of (value as readonly unknown[]).entries()) {
    const rule = readRule(entry, `spec.rules[${index}]`, context, report);
    if (rule === undefined) continue;
    if (names.has(rule.name)) report.add(`spec.rules[${index}].name`, `${shown(rule.name)} stands twice`);
    names.add(rule.name);
    rules.push(rule);
  }
  return rules;
}

function readRule(
  value: unknown,
  field: string,
  { ref, resolver, roles }: RuleContext,
  report: ProblemReport,
): Rule | undefined {
  const record = readObject(value, field, ['name', 'effect', 'from', 'to', 'roles', 'when'], report);
  if (record === undefined) return undefined;
  const name = record['name'];
  if (typeof name !== 'string' || name === '') {
    report.add(`${field}.name`, 'must name the rule');
    return undefined;
  }
  const effect = readWord(record['effect'], `${field}.effect`, ['Allow', 'Deny'], 'Allow', report);
  if (effect === undefined) return undefined;
  const namespace = ref.kind === 'ClusterAccessPolicy' ? undefined : ref.namespace;
  const place = { namespace, mustResolve: effect === 'Deny' };
  const entries = readList(record['from'], `${field}.from`, report);
  if (entries === undefined) {
    if (record['from'] === undefined)
      report.add(`${field}.from`, 'must say who; "anyone: true" is everybody');
    return undefined;
  }
  const from: Source[] = entries.flatMap(
    (entry, index) => readSource(entry, `${field}.from[${index}]`, place, resolver, report) ?? [],
  );
  const operations = readList(record['to'], `${field}.to`, report);
  const to: Operation[] | undefined = operations?.flatMap(
    (entry, index) => readOperation(entry, `${field}.to[${index}]`, report) ?? [],
  );
  const granted = readGrants(record['roles'], `${field}.roles`, effect, roles, report);
  const when = readConditions(record['when'], `${field}.when`, report);
  // Roles that permit nothing leave a rule that matches nothing, never one that matches everything.
  const permitted =
    to === undefined && granted === undefined ? undefined : [...(to ?? []), ...(granted ?? [])];
  return {
    name,
    effect,
    from,
    ...(permitted === undefined ? {} : { to: permitted }),
    ...(when === undefined ? {} : { when }),
  };
}
