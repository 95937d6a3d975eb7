import type { Inventory } from '../mesh/inventory.js';
import {
  policyName,
  type NetworkOperation,
  type PathPattern,
  type Policy,
  type Rule,
  type TargetWorkload,
} from '../policy/model.js';
import { describePath } from '../policy/path.js';
import { createPolicySet, type PolicySet } from '../policy/policy-set.js';
import { closes } from '../policy/target-policies.js';
import { diffPolicySets } from './diff.js';
import { finding, LINT_RULES, type Finding } from './lint-rules.js';
import { lintPrincipal, meant, principalsOf, type Where } from './lint-principals.js';
import { lintRegions } from './lint-regions.js';

export interface LintOptions {
  /** Now, milliseconds since the epoch. */
  readonly time: number;
  /** A policy that ends within this many milliseconds is reported: a week unless said. */
  readonly expiringWithin?: number;
  /** Foreign trust domains whose bundles are held; not checked when absent. */
  readonly trustDomains?: readonly string[];
  /** Issuers whose tokens are accepted; not checked when absent. */
  readonly issuers?: readonly string[];
  /** AccessRoles that exist, with those that each includes, and the names of those that policies grant. */
  readonly roles?: readonly { readonly name: string; readonly includes?: readonly string[] }[];
  readonly grantedRoles?: readonly string[];
}

const WEEK = 7 * 86_400_000;

/** Everything that LINT_RULES know about a set of policies, by policy. */
export function lintPolicies(set: PolicySet, inventory: Inventory, options: LintOptions): readonly Finding[] {
  const findings = set.policies.flatMap((policy) => [
    ...(policy.problems ?? []).map(({ field, message }) =>
      finding(LINT_RULES.broken, `${field}: ${message}`, { policy: policy.ref, field }),
    ),
    ...lintTarget(policy, inventory),
    ...lintValidity(policy, options),
    ...policy.rules.flatMap((rule) => lintRule(policy, rule, inventory, options)),
    ...lintAudit(policy, set, inventory, options),
  ]);
  return [
    ...findings,
    ...lintRegions(set, inventory, options.time),
    ...lintPaths(set),
    ...lintWorkloads(set, inventory),
    ...lintRoles(set, options),
  ];
}

function lintTarget(policy: Policy, inventory: Inventory): readonly Finding[] {
  if (inventory.selected(policy.target).length > 0) return [];
  const known = inventory.namespaces.map(({ name }) => name);
  const missing = policy.target.namespaceNames?.find((name) => !known.includes(name));
  const message =
    missing === undefined
      ? 'no workload has the labels and service account that the target asks for'
      : `there is no namespace ${missing}${meant(missing, known)}`;
  return [finding(LINT_RULES.selectsNothing, message, { policy: policy.ref, field: 'spec.target' })];
}

function lintValidity({ ref, validity, mode }: Policy, options: LintOptions): readonly Finding[] {
  const until = validity?.until;
  if (until === undefined || mode === 'Audit') return [];
  const where = { policy: ref, field: 'spec.validity.until' };
  const at = new Date(until).toISOString();
  if (until <= options.time) return [finding(LINT_RULES.over, `the policy is over since ${at}`, where)];
  if (until - options.time > (options.expiringWithin ?? WEEK)) return [];
  return [finding(LINT_RULES.expiring, `the policy ends at ${at}`, where)];
}

function lintRule(
  policy: Policy,
  rule: Rule,
  inventory: Inventory,
  options: LintOptions,
): readonly Finding[] {
  const where = { policy: policy.ref, rule: rule.name };
  const issuers = rule.when?.token?.issuers ?? [];
  const strange =
    options.issuers === undefined ? [] : issuers.filter((one) => !options.issuers?.includes(one));
  return [
    ...principalsOf(rule).flatMap((principal) =>
      lintPrincipal(principal, inventory, options.trustDomains, where),
    ),
    ...strange.map((issuer) =>
      finding(
        LINT_RULES.unknownIssuer,
        `no issuer ${issuer} is trusted${meant(issuer, options.issuers ?? [])}`,
        {
          ...where,
          field: 'when.token.issuers',
        },
      ),
    ),
    ...lintAnyone(rule, where),
  ];
}

const READING = ['GET', 'HEAD', 'OPTIONS'];

function lintAnyone({ effect, from, to, when }: Rule, where: Where): readonly Finding[] {
  if (effect === 'Deny' || when?.token !== undefined) return [];
  const open = from.some(
    ({ any, ipBlocks }) => ipBlocks === undefined && any.some(({ kind }) => kind === 'anyone'),
  );
  if (!open) return [];
  const writes = (operation: NetworkOperation): boolean =>
    operation.grantedBy?.claim === undefined &&
    operation.methods?.every((method) => READING.includes(method)) !== true;
  const network = to?.filter((operation) => operation.kind === 'network');
  if (network?.some(writes) === false) return [];
  return [
    finding(LINT_RULES.anyoneWrites, 'callers without identity or token may change something', {
      ...where,
      field: 'to',
    }),
  ];
}

/** What would change if an audited policy were enforced. */
function lintAudit(
  policy: Policy,
  set: PolicySet,
  inventory: Inventory,
  { time }: LintOptions,
): readonly Finding[] {
  if (policy.mode !== 'Audit' || policy.problems !== undefined) return [];
  // The workloads that exist are what somebody who enforces it will see first.
  const universe = { namespaces: inventory.namespaces, workloads: inventory.selected(policy.target) };
  const { defaultAction } = set;
  const enforced = set.policies.map((one): Policy => (one === policy ? { ...one, mode: 'Enforce' } : one));
  const after = createPolicySet(enforced, { defaultAction });
  const { gained, lost } = diffPolicySets(set, after, universe, { from: time, limit: 1, limitPerTarget: 1 });
  return [...gained, ...lost].map(({ description, after: answer }) =>
    finding(LINT_RULES.auditDiffers, `would ${answer.allowed ? 'allow' : 'deny'} ${description}`, {
      policy: policy.ref,
    }),
  );
}

/** Patterns for one target that differ only in case or in a slash at the end. */
function lintPaths(set: PolicySet): readonly Finding[] {
  const findings: Finding[] = [];
  for (const policy of set.policies) {
    const seen = new Map<string, { readonly pattern: PathPattern; readonly text: string }>();
    for (const rule of policy.rules) {
      const paths = (rule.to ?? []).flatMap((operation) =>
        operation.kind === 'network' ? (operation.paths ?? []) : [],
      );
      for (const pattern of paths) {
        const text = describePath(pattern);
        const folded = `${pattern.kind} ${text.toLowerCase().replace(/(.)\/$/, '$1')}`;
        const known = seen.get(folded);
        if (known === undefined) seen.set(folded, { pattern, text });
        else if (known.text !== text) {
          findings.push(
            finding(LINT_RULES.similarPaths, `${text} and ${known.text} are different paths`, {
              policy: policy.ref,
              rule: rule.name,
              field: 'to.http.paths',
            }),
          );
        }
      }
    }
  }
  return findings;
}

function lintWorkloads(set: PolicySet, inventory: Inventory): readonly Finding[] {
  if (set.defaultAction === 'Deny') return [];
  return inventory.workloads.flatMap((workload) => {
    const closing = set.concerning(workload).filter((policy) => policy.mode === 'Enforce' && closes(policy));
    if (closing.some(({ target }) => target.ports === undefined)) return [];
    const closed = new Set(closing.flatMap(({ target }) => target.ports ?? []));
    const open = workload.ports.filter(({ port }) => !closed.has(port)).map(({ port }) => port);
    if (closed.size > 0 && open.length === 0) return [];
    const where = closed.size === 0 ? '' : ` on port ${open.join(', ')}`;
    return [finding(LINT_RULES.unprotected, `${nameOf(workload)} takes requests of everybody${where}`)];
  });
}

function nameOf({ namespace, name }: TargetWorkload): string {
  return `${namespace}/${name}`;
}

function lintRoles(set: PolicySet, { roles, grantedRoles }: LintOptions): readonly Finding[] {
  if (roles === undefined) return [];
  const used = new Set([
    ...(grantedRoles ?? []),
    ...set.policies.flatMap((policy) =>
      policy.rules.flatMap(({ to }) => (to ?? []).flatMap(({ grantedBy }) => grantedBy?.role ?? [])),
    ),
  ]);
  const includes = new Map(roles.map((role) => [role.name, role.includes ?? []]));
  // A set that grows while it is walked: roles that are included are visited too.
  for (const name of used) for (const inner of includes.get(name) ?? []) used.add(inner);
  return roles
    .filter(({ name }) => !used.has(name))
    .map(({ name }) => finding(LINT_RULES.unusedRole, `nothing grants the role ${name}`));
}

/** `policy namespace/name, rule "r": message`. */
export function describeFinding({ id, severity, policy, rule, message }: Finding): string {
  const where =
    policy === undefined ? '' : `${policyName(policy)}${rule === undefined ? '' : `, rule "${rule}"`}: `;
  return `${severity} ${id} ${where}${message}`;
}
