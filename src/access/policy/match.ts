import type { SpiffeId } from '../../identity/spiffe/id.js';
import { imageIsUnder, namesDigest } from '../../lib/image-reference.js';
import { blockHolds } from '../../lib/ip-address.js';
import { matchesAttribute } from './attributes.js';
import { matchesToken, matchesTokenClaim } from './claims.js';
import type { Facts } from './facts.js';
import { matchesHost } from './http.js';
import type {
  ActionOperation,
  Conditions,
  LabelRequirement,
  NetworkOperation,
  Operation,
  PostureMatch,
  Principal,
  Source,
  SourceMatch,
  SourceWorkload,
  Validity,
} from './model.js';
import { matchesPath } from './path.js';
import { labelsMatch } from './selector.js';
import { allOf, anyOf, both, not, of, type Match } from './three-valued.js';
import { isOpen, ZoneClock } from './time-window.js';
import { matchesHeaders, matchesQuery } from './values.js';

export { namespaceOf } from './spiffe-namespace.js';
export type { Match } from './three-valued.js';

/** A cache of what clocks show, and nothing else. */
const zones = new ZoneClock();

export function matchesPrincipal(
  principal: Principal,
  facts: { readonly source: SpiffeId | undefined; readonly sourceNamespace: string | undefined },
): boolean {
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

function matchesOne({ any, ipBlocks }: SourceMatch, facts: Facts): Match {
  if (!any.some((principal) => matchesPrincipal(principal, facts))) return 'no';
  if (ipBlocks === undefined) return 'yes';
  const { ip } = facts;
  return ip === undefined ? 'unknown' : of(ipBlocks.some((block) => blockHolds(block, ip)));
}

/** An exception that is not sure is none for a Deny rule, and one for an Allow rule. */
export function matchesSource(source: Source, facts: Facts): Match {
  const match = matchesOne(source, facts);
  if (match === 'no' || source.except.length === 0) return match;
  return both(match, not(anyOf(source.except, (except) => matchesOne(except, facts))));
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

export function matchesHeaderFields({ headers }: NetworkOperation, facts: Facts): Match {
  return headers === undefined ? 'yes' : matchesHeaders(headers, facts.request.http?.headers);
}

export function matchesParameters({ query }: NetworkOperation, facts: Facts): Match {
  if (query === undefined) return 'yes';
  return facts.http === undefined ? 'unknown' : matchesQuery(query, facts.query);
}

export function matchesGrant({ grantedBy }: Operation, facts: Facts): Match {
  return grantedBy?.claim === undefined ? 'yes' : matchesTokenClaim(grantedBy.claim, facts.request.token);
}

const NETWORK = [
  matchesMethods,
  matchesPaths,
  ({ ports }: NetworkOperation, facts: Facts): Match => matchesPorts(ports, facts),
  matchesHosts,
  matchesHeaderFields,
  matchesParameters,
  matchesGrant,
];

/** Whether one operation is met. Those of the network never match what an application asks, nor the other way round. */
export function matchesOperation(operation: Operation, facts: Facts): Match {
  const { application } = facts.request;
  if (operation.kind === 'action') {
    if (application === undefined) return 'no';
    return both(of(isAsked(operation, application)), matchesGrant(operation, facts));
  }
  return application === undefined ? allOf(NETWORK, (field) => field(operation, facts)) : 'no';
}

function isAsked(
  { actions, resources }: ActionOperation,
  { action, resource }: NonNullable<Facts['request']['application']>,
): boolean {
  return (
    (actions === undefined || actions.includes(action.name)) &&
    (resources === undefined ||
      resources.some(
        ({ type, ids }) => type === resource.type && (ids === undefined || ids.includes(resource.id)),
      ))
  );
}

type Leaf<K extends keyof Conditions> = (wanted: NonNullable<Conditions[K]>, facts: Facts) => Match;

const LEAVES: { readonly [K in keyof Conditions]-?: Leaf<K> } = {
  token: (token, { request, time }) => matchesToken(token, request.token, time),
  during: (windows, { time }) => of(windows.some((window) => isOpen(window, time, zones))),
  outside: (windows, { time }) => of(!windows.some((window) => isOpen(window, time, zones))),
  sourceLabels: (labels, { request }) => matchesLabels(labels, request.sourceWorkload),
  targetLabels: (labels, { request }) => of(labelsMatch(labels, request.target.labels)),
  sourcePosture: (posture, { request }) => matchesPosture(posture, request.sourceWorkload),
  attributes: (list, facts) => allOf(list, (attribute) => matchesAttribute(attribute, facts.attributes)),
  cel: (condition, facts) => {
    const result = condition.evaluate(facts.attributes);
    return result === undefined ? 'unknown' : of(result);
  },
};

/** One condition of a rule, by the name of its field; yes when the rule does not have it. */
export function matchesCondition(name: keyof Conditions, when: Conditions, facts: Facts): Match {
  const wanted = when[name];
  // The leaf and the value are of one name, which the type of a union cannot say.
  return wanted === undefined ? 'yes' : (LEAVES[name] as Leaf<typeof name>)(wanted, facts);
}

/** What is cheap to say comes first. */
export const CONDITIONS = [
  'during',
  'outside',
  'targetLabels',
  'sourceLabels',
  'sourcePosture',
  'token',
  'attributes',
  'cel',
] as const satisfies readonly (keyof Conditions)[];

export function matchesConditions(when: Conditions | undefined, facts: Facts): Match {
  if (when === undefined) return 'yes';
  return allOf(CONDITIONS, (name) =>
    when[name] === undefined ? 'yes' : matchesCondition(name, when, facts),
  );
}

function matchesLabels(
  requirements: readonly LabelRequirement[],
  workload: SourceWorkload | undefined,
): Match {
  return workload === undefined ? 'unknown' : of(labelsMatch(requirements, workload.labels));
}

function matchesPosture(posture: PostureMatch, workload: SourceWorkload | undefined): Match {
  if (workload === undefined) return 'unknown';
  const { images, privileged } = workload;
  const unprivileged =
    posture.noPrivileged !== true ? 'yes' : privileged === undefined ? 'unknown' : of(!privileged);
  return both(unprivileged, matchesImages(posture, images));
}

/** Images of which none is known say nothing. */
function matchesImages(
  { imageDigests, allowedImages }: PostureMatch,
  images: SourceWorkload['images'],
): Match {
  if (imageDigests !== true && allowedImages === undefined) return 'yes';
  if (images === undefined || images.length === 0) return 'unknown';
  return of(
    images.every(
      (image) =>
        (imageDigests !== true || namesDigest(image)) &&
        (allowedImages === undefined || allowedImages.some((allowed) => imageIsUnder(image, allowed))),
    ),
  );
}
