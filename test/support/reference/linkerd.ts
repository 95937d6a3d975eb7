/**
 * Linkerd's decision on objects, since Linkerd cannot run here. Written from its sources, not from our renderer:
 * linkerd/linkerd2 at b24cd405 (`controller:` is policy-controller/, `k8s:` is policy-controller/k8s/index/src/) and
 * linkerd/linkerd2-proxy at 29637b64 (`proxy:` is linkerd/).
 */
import type { InventoryWorkload } from '../../../src/access/mesh/inventory.js';
import type { KubernetesObject } from '../../../src/access/mesh/renderer.js';
import { blockHolds, parseIpAddress, parseIpBlock } from '../../../src/lib/ip-address.js';

/** How Linkerd is installed. */
export interface LinkerdCluster {
  readonly controlPlaneNamespace: string;
  readonly identityTrustDomain: string;
  /** For ports that no Server selects (`config.linkerd.io/default-inbound-policy`). */
  readonly defaultPolicy: 'deny' | 'all-unauthenticated';
}

/** What reaches the proxy. */
export interface LinkerdRequest {
  /** The client's identity in TLS: a DNS name or a SPIFFE URI. */
  readonly clientId: string | undefined;
  readonly clientIp: string;
  readonly pod: InventoryWorkload;
  readonly port: number;
  /** Absent for a connection that is not HTTP. */
  readonly http?: { readonly method: string; readonly path: string };
}

interface Ref {
  readonly group?: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}
interface Match {
  readonly path?: { readonly type?: string; readonly value?: string };
  readonly method?: string;
}
interface Network {
  readonly cidr: string;
  readonly except?: readonly string[];
}
interface Authorization {
  readonly identities: readonly string[] | undefined;
  readonly networks: readonly Network[];
}

/** Which of two objects that tie comes first: Linkerd goes by age, which is anybody's guess. */
export type Age = (object: KubernetesObject) => number;

/** Whether Linkerd lets a request through. */
export function linkerdAllows(
  objects: readonly KubernetesObject[],
  request: LinkerdRequest,
  cluster: LinkerdCluster,
  age: Age,
): boolean {
  const own = objects.filter(({ metadata }) => metadata.namespace === request.pod.namespace);
  // k8s: inbound/index.rs 1245-1263: Servers by age and name; the first that selects the pod and the port has it.
  const server = own
    .filter(({ kind }) => kind === 'Server')
    .sort((a, b) => age(a) - age(b) || compare(a.metadata.name, b.metadata.name))
    .find(
      ({ spec }) => spec?.['port'] === request.port && selects(spec['podSelector'] as Selector, request.pod),
    );
  if (server === undefined) return cluster.defaultPolicy === 'all-unauthenticated';
  const protocol = server.spec?.['proxyProtocol'] as string;
  const ref: Ref = { group: 'policy.linkerd.io', kind: 'Server', name: server.metadata.name };
  const byServer = authorizations(own, ref, cluster);
  if (protocol === 'opaque') {
    // proxy: app/inbound/src/policy/tcp.rs 189-214: the connection needs one of the Server's authorizations.
    return byServer.some((authorization) => isAuthorized(authorization, request));
  }
  // proxy: app/inbound/src/detect.rs 126 and tcp.rs 189: what is not HTTP on an HTTP port finds no TCP authorization.
  if (request.http === undefined) return false;
  const attached = own
    .filter(({ kind }) => kind === 'HTTPRoute')
    .filter(({ spec }) => (spec?.['parentRefs'] as readonly Ref[]).some(({ name }) => name === ref.name))
    // controller: grpc/src/inbound/http.rs 15-40: oldest first, then by name.
    .sort((a, b) => age(a) - age(b) || compare(a.metadata.name, b.metadata.name));
  // k8s: inbound/index.rs 2014-2017, 2240-2250: without routes there is one for everything (and those of probes).
  if (attached.length === 0) return byServer.some((authorization) => isAuthorized(authorization, request));
  const route = findRoute(attached, request.http);
  if (route === undefined) return false; // 404; proxy: app/inbound/src/policy/http.rs 219
  const target: Ref = {
    group: route.apiVersion.split('/')[0] ?? '',
    kind: 'HTTPRoute',
    name: route.metadata.name,
  };
  // proxy: proxy/server-policy/src/authz.rs 80-88: those of the route, and those of its Server too.
  return [...authorizations(own, target, cluster), ...byServer].some((authorization) =>
    isAuthorized(authorization, request),
  );
}

/** proxy: http/route/src/lib.rs 57-107: the best match; of equal ones the first. */
function findRoute(
  routes: readonly KubernetesObject[],
  http: { readonly method: string; readonly path: string },
): KubernetesObject | undefined {
  let best:
    { readonly route: KubernetesObject; readonly length: number; readonly method: boolean } | undefined;
  for (const route of routes) {
    const rules = route.spec?.['rules'] as readonly { readonly matches?: readonly Match[] }[];
    for (const match of rules.flatMap(({ matches }) => matches ?? [{}])) {
      if (match.method !== undefined && match.method !== http.method) continue;
      const length = matchLength(match.path ?? { value: '/' }, http.path);
      if (length === undefined) continue;
      const method = match.method !== undefined;
      // proxy: http/route/src/http/match.rs 96-104: by the path's length whatever its kind, …, then by the method.
      if (best === undefined || length > best.length || (length === best.length && method && !best.method)) {
        best = { route, length, method };
      }
    }
  }
  return best?.route;
}

/** proxy: http/route/src/http/match/path.rs 21-53. The path is as it came, without its query. */
function matchLength(
  { type = 'PathPrefix', value = '/' }: NonNullable<Match['path']>,
  target: string,
): number | undefined {
  const path = target.split('?', 1)[0] ?? '';
  switch (type) {
    case 'Exact':
      return path === value ? path.length : undefined;
    case 'RegularExpression': {
      // The leftmost match must be the whole path.
      const found = new RegExp(value).exec(path);
      return found?.index === 0 && found[0].length === path.length ? path.length : undefined;
    }
    case 'PathPrefix': {
      if (value === '/') return 1;
      const prefix = value.replace(/\/+$/, '');
      const trimmed = path.replace(/\/+$/, '');
      if (!trimmed.startsWith(prefix)) return undefined;
      const rest = trimmed.slice(prefix.length);
      return rest === '' || rest.startsWith('/') ? prefix.length : undefined;
    }
    default:
      throw new Error(`no path match ${type}`);
  }
}

/** k8s: inbound/index.rs 1848-1996: those that target a Server or a route. */
function authorizations(
  objects: readonly KubernetesObject[],
  target: Ref,
  cluster: LinkerdCluster,
): readonly Authorization[] {
  return objects.flatMap(({ kind, spec }): readonly Authorization[] => {
    const to = spec?.['targetRef'] as Ref | undefined;
    if (kind !== 'AuthorizationPolicy' || to === undefined) return [];
    if (to.group !== target.group || to.kind !== target.kind || to.name !== target.name) return [];
    const authorization = resolve(spec?.['requiredAuthenticationRefs'] as readonly Ref[], objects);
    for (const identity of authorization?.identities ?? []) checkIdentity(identity, cluster);
    return authorization === undefined ? [] : [authorization];
  });
}

/** k8s: inbound/index.rs 2042-2139. A policy with a reference that leads nowhere, or with two of a kind, is ignored. */
function resolve(refs: readonly Ref[], objects: readonly KubernetesObject[]): Authorization | undefined {
  let identities: readonly string[] | undefined;
  let networks: readonly Network[] | undefined;
  for (const ref of refs) {
    const found = objects.find(({ kind, metadata }) => kind === ref.kind && metadata.name === ref.name);
    if (found === undefined) return undefined;
    if (ref.kind === 'MeshTLSAuthentication') {
      if (identities !== undefined) return undefined;
      identities = found.spec?.['identities'] as readonly string[];
      // k8s: inbound/meshtls_authentication.rs 43-45: one without identities is not indexed.
      if (identities.length === 0) return undefined;
    } else {
      if (networks !== undefined) return undefined;
      networks = found.spec?.['networks'] as readonly Network[];
    }
  }
  return { identities, networks: networks ?? [{ cidr: '0.0.0.0/0' }, { cidr: '::/0' }] };
}

/** controller: runtime/src/validation.rs 11-12: what the webhook takes. */
function checkIdentity(
  identity: string,
  { controlPlaneNamespace, identityTrustDomain }: LinkerdCluster,
): void {
  const dns = /^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
  if (identity.startsWith('spiffe://') || identity === '*') return;
  const ours = identity.endsWith(`.serviceaccount.identity.${controlPlaneNamespace}.${identityTrustDomain}`);
  if (!dns.test(identity) || !(ours || identity.startsWith('*.serviceaccount.'))) {
    throw new Error(`the webhook refuses the identity ${identity}, or nobody has it`);
  }
}

/** proxy: app/inbound/src/policy.rs 164-209. */
function isAuthorized(
  { identities, networks }: Authorization,
  { clientId, clientIp }: LinkerdRequest,
): boolean {
  // proxy: proxy/transport/src/listen.rs 125-135: an IPv4 address inside IPv6 is an IPv4 address.
  const address = parseIpAddress(clientIp);
  const holds = (cidr: string): boolean => {
    const block = parseIpBlock(cidr);
    return block.ok && address !== undefined && blockHolds(block.block, address);
  };
  // proxy: proxy/server-policy/src/authz/network.rs 52-54.
  if (!networks.some(({ cidr, except = [] }) => holds(cidr) && !except.some(holds))) return false;
  if (identities === undefined) return true;
  if (clientId === undefined) return false;
  if (identities.includes(clientId)) return true;
  if (clientId.startsWith('spiffe://')) return false;
  // core/src/identity_match.rs 14-28 and proxy/server-policy/src/authz.rs 32-53.
  return identities.some(
    (identity) => identity === '*' || (identity.startsWith('*.') && clientId.endsWith(identity.slice(1))),
  );
}

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

/** policy-controller/k8s/api/src/labels.rs 81-97. */
function selects(selector: Selector, { labels }: InventoryWorkload): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => holds(operator, values, labels[key]))
  );
}

function holds(operator: string, values: readonly string[], value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    default:
      return value === undefined;
  }
}

/** k8s: cluster_info.rs 42-47: whom a meshed pod of a service account is in Linkerd. */
export function linkerdName(
  uri: string,
  trustDomain: string,
  { controlPlaneNamespace, identityTrustDomain }: LinkerdCluster,
): string | undefined {
  const match = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(uri);
  if (match === null || match[1] !== trustDomain) return undefined;
  return `${match[3] ?? ''}.${match[2] ?? ''}.serviceaccount.identity.${controlPlaneNamespace}.${identityTrustDomain}`;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
