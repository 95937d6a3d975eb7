import type { RoleInput } from './input.js';
import type { Operation, PolicyProblem, RoleOrigin } from './model.js';
import { readOperation } from './operations.js';
import { claimPath, readClaimName } from './claims.js';
import { ProblemReport, readList, readObject, readTexts, shown } from './read.js';

/** What a role permits, with the roles that it includes; or why nobody can say. */
export type ResolvedRole = {
  /** Every role that was looked at, whether there is one or not: nothing else can change the answer. */
  readonly through: readonly string[];
} & (
  | { readonly ok: true; readonly operations: readonly Operation[]; readonly missing: readonly string[] }
  | { readonly ok: false; readonly reason: string }
);

/** The AccessRoles that rules may grant. */
export interface RoleTable {
  /** What is wrong with the roles themselves, by name. */
  readonly problems: ReadonlyMap<string, readonly PolicyProblem[]>;
  resolve(name: string): ResolvedRole;
}

interface Role {
  readonly operations: readonly Operation[];
  readonly includes: readonly string[];
  readonly problems: readonly PolicyProblem[];
}

/** Reads roles; includes are resolved when a rule asks for them, once. */
export function compileRoles(inputs: readonly RoleInput[]): RoleTable {
  const roles = new Map<string, Role>();
  for (const input of inputs) {
    const name = roleName(input);
    const role = readRole(input);
    const known = roles.get(name);
    // Two roles of one name: neither may be taken for the other.
    roles.set(
      name,
      known === undefined
        ? role
        : { ...role, problems: [{ field: 'metadata.name', message: `${shown(name)} stands twice` }] },
    );
  }
  const resolved = new Map<string, ResolvedRole>();
  const problems = new Map(
    [...roles].filter(([, role]) => role.problems.length > 0).map(([name, role]) => [name, role.problems]),
  );
  return {
    problems,
    resolve(name) {
      let role = resolved.get(name);
      if (role === undefined) resolved.set(name, (role = resolveRole(name, roles)));
      return role;
    },
  };
}

function roleName(input: unknown): string {
  const metadata = (input as { readonly metadata?: unknown } | null)?.metadata;
  const name = (metadata as { readonly name?: unknown } | null | undefined)?.name;
  return typeof name === 'string' ? name : '';
}

function readRole(input: unknown): Role {
  const report = new ProblemReport();
  const spec = (input as { readonly spec?: unknown } | null)?.spec;
  const record = readObject(spec, 'spec', ['description', 'permissions', 'includes'], report) ?? {};
  const list = readList(record['permissions'], 'spec.permissions', report) ?? [];
  const operations = list.flatMap(
    (entry, index) => readOperation(entry, `spec.permissions[${index}]`, report) ?? [],
  );
  const includes = readTexts(record['includes'], 'spec.includes', report, (text) => text) ?? [];
  return { operations, includes, problems: report.problems };
}

function resolveRole(name: string, roles: ReadonlyMap<string, Role>): ResolvedRole {
  const missing = new Set<string>();
  const through = new Set<string>();
  const operations: Operation[] = [];
  const done = new Set<string>();
  const open = new Set<string>();
  /** What is wrong, if anything. A role is done once all that it includes is. */
  const visit = (at: string): string | undefined => {
    if (done.has(at)) return undefined;
    if (open.has(at)) return `role ${shown(at)} includes itself`;
    through.add(at);
    const role = roles.get(at);
    if (role === undefined) {
      missing.add(at);
      return undefined;
    }
    const [problem] = role.problems;
    if (problem !== undefined) return `role ${shown(at)}: ${problem.field} ${problem.message}`;
    // Deeper than anybody means it, and than the stack of a program should be trusted with.
    if (open.size >= 64) return `role ${shown(name)} includes roles more than 64 deep`;
    open.add(at);
    operations.push(...role.operations);
    for (const next of role.includes) {
      const wrong = visit(next);
      if (wrong !== undefined) return wrong;
    }
    open.delete(at);
    done.add(at);
    return undefined;
  };
  const wrong = visit(name);
  return wrong === undefined
    ? { through: [...through], ok: true, operations, missing: [...missing] }
    : { through: [...through], ok: false, reason: wrong };
}

/**
 * The operations that a rule's `roles` grant. What cannot be resolved is not granted by an Allow rule, and is a problem
 * of a Deny rule, which would keep out too few.
 */
export function readGrants(
  value: unknown,
  field: string,
  effect: 'Allow' | 'Deny',
  table: RoleTable,
  report: ProblemReport,
): readonly Operation[] | undefined {
  const list = readList(value, field, report);
  return list?.flatMap((entry, index) => {
    const at = `${field}[${index}]`;
    const record = readObject(entry, at, ['name', 'claim', 'value'], report);
    if (record === undefined) return [];
    const name = record['name'];
    if (typeof name !== 'string' || name === '') {
      report.add(`${at}.name`, 'must name an AccessRole');
      return [];
    }
    const grantedBy = readOrigin(name, record, at, report);
    const role = table.resolve(name);
    if (effect === 'Deny') {
      if (!role.ok) report.add(at, role.reason);
      else if (role.missing.length > 0) {
        report.add(at, `there is no AccessRole ${role.missing.map(shown).join(', ')}; declare it`);
      }
    }
    return role.ok ? role.operations.map((operation) => ({ ...operation, grantedBy })) : [];
  });
}

function readOrigin(
  role: string,
  record: Readonly<Record<string, unknown>>,
  field: string,
  report: ProblemReport,
): RoleOrigin {
  const { claim, value } = record;
  if (claim === undefined) {
    if (value !== undefined) report.add(`${field}.value`, 'says what a claim calls the role; say claim too');
    return { role };
  }
  const name = readClaimName(claim, `${field}.claim`, report);
  if (value !== undefined && (typeof value !== 'string' || value === '')) {
    report.add(`${field}.value`, 'must be a text that is not empty');
  }
  if (name === undefined) return { role };
  const path = claimPath(name);
  return { role, claim: { path, operator: 'In', values: [typeof value === 'string' ? value : role] } };
}
