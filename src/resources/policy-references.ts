import { didYouMean } from '../lib/did-you-mean.js';
import { error, quote, warning } from './names.js';
import type {
  AccessPolicySpec,
  AccessRequestSpec,
  AccessRoleSpec,
  AccessRule,
  IdentityObjectRef,
  Principal,
  RoleGrant,
} from './policy.js';
import type { FieldPath, Problem } from './problem.js';

interface Named {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: unknown;
}

interface NamedProblem {
  readonly object: Named;
  readonly problem: Problem;
}

/** Roles that include what is not there, or themselves. */
export function roleProblems(roles: readonly Named[]): NamedProblem[] {
  const includes = new Map(
    roles.map(({ metadata, spec }) => [metadata.name, (spec as AccessRoleSpec).includes ?? []]),
  );
  return roles.flatMap((object) =>
    (includes.get(object.metadata.name) ?? []).flatMap((name, index) => {
      const path = ['spec', 'includes', index];
      if (!includes.has(name)) return [{ object, problem: missingRole(name, includes.keys(), path) }];
      const way = wayBack(name, object.metadata.name, includes);
      if (way === undefined) return [];
      const message = `the roles include each other in a circle: ${[object.metadata.name, ...way].join(' → ')}`;
      return [{ object, problem: error(path, message, 'remove one of these') }];
    }),
  );
}

/** The shortest way from one role to another by includes. */
function wayBack(
  from: string,
  to: string,
  includes: ReadonlyMap<string, readonly string[]>,
): readonly string[] | undefined {
  const came = new Map<string, string | undefined>([[from, undefined]]);
  const queue = [from];
  for (const role of queue) {
    if (role === to) {
      const way: string[] = [];
      for (let at: string | undefined = role; at !== undefined; at = came.get(at)) way.unshift(at);
      return way;
    }
    for (const next of includes.get(role) ?? []) {
      if (came.has(next)) continue;
      came.set(next, role);
      queue.push(next);
    }
  }
  return undefined;
}

/** Identities and roles that a policy or request names and that nobody declares. */
export function policyReferenceProblems(
  policies: readonly Named[],
  identities: readonly Named[],
  roles: readonly Named[],
): NamedProblem[] {
  const declared = new Set(identities.map(({ kind, metadata }) => referenceKey(kind, metadata)));
  const roleNames = new Set(roles.map(({ metadata }) => metadata.name));
  return policies.flatMap((object) => {
    return rulesOf(object).flatMap(({ part, path }) => [
      ...part.from.flatMap((principal, index) =>
        identityReferences(principal, [...path, 'from', index], object, declared),
      ),
      ...roleReferences(part.roles ?? [], [...path, 'roles'], roleNames).map((problem) => ({
        object,
        problem,
      })),
    ]);
  });
}

/** A request is a rule by itself. */
function rulesOf(object: Named): { part: Pick<AccessRule, 'from' | 'roles'>; path: FieldPath }[] {
  if (object.kind === 'AccessRequest') return [{ part: object.spec as AccessRequestSpec, path: ['spec'] }];
  const { rules } = object.spec as AccessPolicySpec;
  return rules.map((part, index) => ({ part, path: ['spec', 'rules', index] }));
}

function referenceKey(
  kind: string,
  { namespace, name }: { readonly namespace?: string; readonly name: string },
): string {
  return kind === 'ClusterWorkloadIdentity' ? `${kind} ${name}` : `${kind} ${namespace ?? ''}/${name}`;
}

function identityReferences(
  principal: Principal,
  path: FieldPath,
  object: Named,
  declared: ReadonlySet<string>,
): NamedProblem[] {
  const places = [
    { refs: principal.identities ?? [], at: path },
    ...(principal.except ?? []).map((except, index) => ({
      refs: except.identities ?? [],
      at: [...path, 'except', index],
    })),
  ];
  return places.flatMap(({ refs, at }) =>
    refs.flatMap((ref, index) => {
      const problem = identityReference(ref, [...at, 'identities', index, 'name'], object, declared);
      return problem === undefined ? [] : [{ object, problem }];
    }),
  );
}

function identityReference(
  ref: IdentityObjectRef,
  path: FieldPath,
  object: Named,
  declared: ReadonlySet<string>,
): Problem | undefined {
  const kind = ref.kind ?? 'WorkloadIdentity';
  const namespace = ref.namespace ?? object.metadata.namespace ?? '';
  const key = referenceKey(kind, { namespace, name: ref.name });
  if (declared.has(key)) return undefined;
  const prefix = key.slice(0, key.length - ref.name.length);
  const siblings = [...declared]
    .filter((other) => other.startsWith(prefix))
    .map((other) => other.slice(prefix.length));
  const near = didYouMean(ref.name, siblings);
  return warning(
    path,
    `there is no ${kind} ${quote(ref.name)}${kind === 'WorkloadIdentity' ? ` in namespace ${quote(namespace)}` : ''}: nobody can be this caller`,
    near === undefined ? undefined : `did you mean ${near}?`,
  );
}

function roleReferences(
  grants: readonly RoleGrant[],
  path: FieldPath,
  known: ReadonlySet<string>,
): Problem[] {
  return grants.flatMap(({ name }, index) =>
    known.has(name) ? [] : [missingRole(name, known, [...path, index, 'name'])],
  );
}

function missingRole(name: string, known: Iterable<string>, path: FieldPath): Problem {
  const near = didYouMean(name, known);
  const fix = near === undefined ? 'add it, or remove this' : `did you mean ${near}?`;
  return warning(path, `there is no AccessRole ${quote(name)}: it grants nothing`, fix);
}
