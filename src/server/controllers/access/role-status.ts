import type { PolicyProblem } from '../../../access/policy/model.js';
import type { PolicyInput } from '../../../access/policy/input.js';
import type { ResolvedRole, RoleTable } from '../../../access/policy/roles.js';
import type { AccessRoleStatus } from '../../../resources/policy.js';
import { readyCondition, some, type Verdict } from './conditions.js';

/** Everything that a role's status tells. */
export interface RoleFacts {
  readonly generation: number;
  readonly resolved: ResolvedRole;
  readonly problems: readonly PolicyProblem[];
  /** How many policies grant it, by themselves or through another role. */
  readonly policies: number;
}

/** The status of a role. */
export function roleStatus(
  { generation, resolved, problems, policies }: RoleFacts,
  previous: AccessRoleStatus | undefined,
  now: number,
): AccessRoleStatus {
  const permissions = resolved.ok ? resolved.operations.length : 0;
  return {
    conditions: [readyCondition(judge(resolved, problems), generation, previous?.conditions, now)],
    permissions,
    policies,
  };
}

function judge(resolved: ResolvedRole, problems: readonly PolicyProblem[]): Verdict {
  if (problems.length > 0) {
    const texts = problems.map(({ field, message }) => `${field}: ${message}`);
    return { status: 'False', reason: 'Invalid', message: `${some(texts, 4)}; nothing is allowed by it` };
  }
  if (!resolved.ok)
    return {
      status: 'False',
      reason: 'Invalid',
      message: `spec.includes: ${resolved.reason}; nothing is allowed by it`,
    };
  if (resolved.missing.length > 0)
    return {
      status: 'False',
      reason: 'RoleMissing',
      message: `spec.includes: there is no AccessRole ${some(resolved.missing, 4)}; declare it, or take it out`,
    };
  const count = resolved.operations.length;
  return {
    status: 'True',
    reason: 'Resolved',
    message: `it permits ${count} ${count === 1 ? 'operation' : 'operations'}, with those of the roles that it includes`,
  };
}

/** Names of the roles that a policy's rules grant, each with where it stands. */
export function grantsOf(input: PolicyInput): readonly { readonly name: string; readonly field: string }[] {
  const { rules } = (input as { readonly spec?: { readonly rules?: unknown } }).spec ?? {};
  return entries(rules).flatMap(([rule, index]) =>
    entries(rule['roles']).flatMap(([grant, at]) => {
      const { name } = grant;
      return typeof name === 'string' ? [{ name, field: `spec.rules[${index}].roles[${at}]` }] : [];
    }),
  );
}

/** What keeps the roles that a policy grants from being all that they are to be. */
export function roleProblems(input: PolicyInput, roles: RoleTable): readonly string[] {
  return grantsOf(input).flatMap(({ name, field }) => {
    const role = roles.resolve(name);
    if (!role.ok) return [`${field}: ${role.reason}; nothing is allowed by it`];
    if (role.missing.length === 0) return [];
    return [`${field}: there is no AccessRole ${role.missing.join(', ')}; declare it, or take it out`];
  });
}

/** How many policies grant each role, by themselves or through another. */
export function roleUse(inputs: Iterable<PolicyInput>, roles: RoleTable): ReadonlyMap<string, number> {
  const use = new Map<string, number>();
  for (const input of inputs) {
    const reached = new Set(grantsOf(input).flatMap(({ name }) => roles.resolve(name).through));
    for (const name of reached) use.set(name, (use.get(name) ?? 0) + 1);
  }
  return use;
}

/** Nothing is trusted to be as the schema says. */
function entries(value: unknown): readonly (readonly [Readonly<Record<string, unknown>>, number])[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown, index) =>
    typeof entry === 'object' && entry !== null
      ? [[entry as Readonly<Record<string, unknown>>, index] as const]
      : [],
  );
}
