import type { SpiffeId } from '../../identity/spiffe/id.js';
import { matchesHost, type NormalHttp } from './http.js';
import type { NetworkOperation, Operation, Principal, Source, Validity } from './model.js';
import { matchesPath } from './path.js';

/** A request, checked and in canonical form. */
export interface Facts {
  readonly source: SpiffeId | undefined;
  /** Namespace of `/ns/<namespace>/…`, if the source has such a path. */
  readonly sourceNamespace: string | undefined;
  readonly port: number | undefined;
  readonly http: NormalHttp | undefined;
  readonly time: number;
}

/**
 * Whether a field matches; `unknown` when the enforcement point does not see it. An Allow rule needs `yes`; a Deny
 * rule needs only that `no` cannot be said, so that what is not seen never opens anything.
 */
export type Match = 'yes' | 'no' | 'unknown';

const of = (holds: boolean): Match => (holds ? 'yes' : 'no');

/** The namespace of a path `/ns/<namespace>/<more>`, from the start and by whole segments. */
export function namespaceOf(path: string): string | undefined {
  if (!path.startsWith('/ns/')) return undefined;
  const end = path.indexOf('/', 4);
  return end < 0 ? undefined : path.slice(4, end);
}

export function matchesPrincipal(principal: Principal, facts: Facts): boolean {
  const { source } = facts;
  if (principal.kind === 'anyone') return true;
  if (source === undefined) return false;
  switch (principal.kind) {
    case 'authenticated':
      return true;
    case 'spiffeId':
      return source.uri === principal.uri;
    case 'identity':
      return principal.uris.includes(source.uri);
    case 'trustDomain':
      return source.trustDomain === principal.trustDomain;
    case 'namespace':
      return source.trustDomain === principal.trustDomain && facts.sourceNamespace === principal.namespace;
    case 'serviceAccount':
      return (
        source.trustDomain === principal.trustDomain &&
        source.path === `/ns/${principal.namespace}/sa/${principal.serviceAccount}`
      );
  }
}

export function matchesSource(source: Source, facts: Facts): boolean {
  return (
    source.any.some((principal) => matchesPrincipal(principal, facts)) &&
    !source.except.some(({ any }) => any.some((principal) => matchesPrincipal(principal, facts)))
  );
}

export function inValidity(validity: Validity | undefined, time: number): boolean {
  if (validity === undefined) return true;
  return (
    (validity.from === undefined || time >= validity.from) &&
    (validity.until === undefined || time < validity.until)
  );
}

export function matchesPorts(
  ports: ReadonlySet<number> | readonly number[] | undefined,
  facts: Facts,
): Match {
  if (ports === undefined) return 'yes';
  if (facts.port === undefined) return 'unknown';
  return of(ports instanceof Set ? ports.has(facts.port) : [...ports].includes(facts.port));
}

export function matchesMethods({ methods }: NetworkOperation, { http }: Facts): Match {
  if (methods === undefined) return 'yes';
  return http === undefined ? 'unknown' : of(methods.includes(http.method));
}

export function matchesHosts({ hosts }: NetworkOperation, { http }: Facts): Match {
  if (hosts === undefined) return 'yes';
  const host = http?.host;
  return host === undefined ? 'unknown' : of(hosts.some((pattern) => matchesHost(pattern, host)));
}

export function matchesPaths({ paths }: NetworkOperation, { http }: Facts): Match {
  if (paths === undefined) return 'yes';
  return http === undefined ? 'unknown' : of(paths.some((pattern) => matchesPath(pattern, http.path)));
}

/** Whether one operation is met, as the effect asks. */
export function meetsOperation(operation: Operation, facts: Facts, effect: 'Allow' | 'Deny'): boolean {
  if (operation.kind === 'action') return false;
  const enough = (match: Match): boolean => match === 'yes' || (effect === 'Deny' && match === 'unknown');
  return (
    enough(matchesMethods(operation, facts)) &&
    enough(matchesPaths(operation, facts)) &&
    enough(matchesPorts(operation.ports, facts)) &&
    enough(matchesHosts(operation, facts))
  );
}
