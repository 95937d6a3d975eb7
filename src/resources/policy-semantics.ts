import { compileCel } from '../access/policy/cel.js';
import { normaliseHostPattern } from '../access/policy/http.js';
import { isTimeZone } from '../access/policy/time-window.js';
import { exactPattern, prefixPattern, templatePattern } from '../access/policy/path.js';
import { parseIpBlock } from '../lib/ip-address.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import { durationProblems } from './duration-bounds.js';
import { error, quote } from './names.js';
import type {
  AccessPolicySpec,
  AccessRequestSpec,
  AccessRoleSpec,
  AccessTarget,
  ClusterAccessPolicySpec,
  ClusterAccessTarget,
  HttpMatch,
  Operation,
  PathMatch,
  Principal,
  SimplePrincipal,
  TimeWindow,
  When,
} from './policy.js';
import type { FieldPath, Problem } from './problem.js';
import { selectorProblems } from './selector-semantics.js';

/** What is wrong with a policy beyond its form. */
export function policyProblems(spec: AccessPolicySpec | ClusterAccessPolicySpec): Problem[] {
  return [
    ...targetProblems(spec.target, ['spec', 'target']),
    ...spec.rules.flatMap((rule, index) => {
      const path = ['spec', 'rules', index];
      return [
        ...fromProblems(rule.from, [...path, 'from']),
        ...operationsProblems(rule.to, [...path, 'to']),
        ...whenProblems(rule.when, [...path, 'when']),
      ];
    }),
  ];
}

/** What is wrong with a role beyond its form. */
export function accessRoleProblems(spec: AccessRoleSpec): Problem[] {
  return operationsProblems(spec.permissions, ['spec', 'permissions']);
}

/** What is wrong with a request for access beyond its form. */
export function accessRequestProblems(spec: AccessRequestSpec): Problem[] {
  return [
    ...targetProblems(spec.target, ['spec', 'target']),
    ...fromProblems(spec.from, ['spec', 'from']),
    ...operationsProblems(spec.to, ['spec', 'to']),
    ...whenProblems(spec.when, ['spec', 'when']),
    ...durationProblems(spec.duration, ['spec', 'duration'], 'request'),
  ];
}

function targetProblems(target: AccessTarget | ClusterAccessTarget, path: FieldPath): Problem[] {
  const namespaces = 'namespaceSelector' in target ? target.namespaceSelector : undefined;
  return [
    ...selectorProblems(target.podSelector, [...path, 'podSelector']),
    ...selectorProblems(namespaces, [...path, 'namespaceSelector']),
  ];
}

function fromProblems(from: readonly Principal[], path: FieldPath): Problem[] {
  return from.flatMap((principal, index) => [
    ...principalProblems(principal, [...path, index]),
    ...(principal.except ?? []).flatMap((except, at) =>
      principalProblems(except, [...path, index, 'except', at]),
    ),
  ]);
}

function principalProblems(principal: SimplePrincipal, path: FieldPath): Problem[] {
  return [
    ...(principal.spiffeIDs ?? []).flatMap((id, index) =>
      spiffeIdProblems(id, [...path, 'spiffeIDs', index]),
    ),
    ...selectorProblems(principal.namespaceSelector, [...path, 'namespaceSelector']),
    ...(principal.ipBlocks ?? []).flatMap((block, index) => {
      const parsed = parseIpBlock(block);
      return parsed.ok ? [] : [error([...path, 'ipBlocks', index], parsed.message, parsed.fix)];
    }),
  ];
}

function spiffeIdProblems(id: string, path: FieldPath): Problem[] {
  try {
    return parseSpiffeId(id).path === ''
      ? [
          error(
            path,
            `${quote(id)} is a trust domain and no workload`,
            'write trustDomains to name all of its workloads',
          ),
        ]
      : [];
  } catch (thrown) {
    return [error(path, thrown instanceof Error ? thrown.message : String(thrown))];
  }
}

function operationsProblems(operations: readonly Operation[] | undefined, path: FieldPath): Problem[] {
  return (operations ?? []).flatMap(({ http }, index) =>
    http === undefined ? [] : httpProblems(http, [...path, index, 'http']),
  );
}

function httpProblems(http: HttpMatch, path: FieldPath): Problem[] {
  return [
    ...(http.hosts ?? []).flatMap((host, index) =>
      normaliseHostPattern(host) === undefined
        ? [
            error(
              [...path, 'hosts', index],
              `${quote(host)} is no host`,
              'write a host name without scheme and port',
            ),
          ]
        : [],
    ),
    ...(http.paths ?? []).flatMap((match, index) => pathProblems(match, [...path, 'paths', index])),
  ];
}

function pathProblems(match: PathMatch, path: FieldPath): Problem[] {
  const { exact, prefix, template } = match;
  if (exact !== undefined) return said(exactPattern(exact), [...path, 'exact']);
  if (prefix !== undefined) return said(prefixPattern(prefix), [...path, 'prefix']);
  return template === undefined ? [] : said(templatePattern(template), [...path, 'template']);
}

function said(parsed: { readonly ok: boolean; readonly reason?: string }, path: FieldPath): Problem[] {
  return parsed.ok ? [] : [error(path, parsed.reason ?? 'is not understood')];
}

function whenProblems(when: When | undefined, path: FieldPath): Problem[] {
  if (when === undefined) return [];
  const cel = when.cel === undefined ? undefined : compileCel(when.cel);
  return [
    ...windowsProblems(when.during, [...path, 'during']),
    ...windowsProblems(when.outside, [...path, 'outside']),
    ...selectorProblems(when.sourceLabels, [...path, 'sourceLabels']),
    ...selectorProblems(when.targetLabels, [...path, 'targetLabels']),
    ...(cel === undefined || cel.ok ? [] : [error([...path, 'cel'], cel.message, cel.fix)]),
    ...durationProblems(when.token?.maxAuthAge, [...path, 'token', 'maxAuthAge'], 'request'),
  ];
}

function windowsProblems(windows: readonly TimeWindow[] | undefined, path: FieldPath): Problem[] {
  return (windows ?? []).flatMap(({ timeZone }, index) =>
    isTimeZone(timeZone)
      ? []
      : [
          error(
            [...path, index, 'timeZone'],
            `there is no time zone ${quote(timeZone)}`,
            'write an IANA name: "Europe/Berlin", "UTC"',
          ),
        ],
  );
}
