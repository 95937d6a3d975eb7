/**
 * What ztunnel decides from the policies that istiod hands it: a matcher written from istio/ztunnel's source
 * (62d826530e5c, 2026-08-20), since ztunnel itself cannot run here. Names of its functions stand beside each point.
 */
import { blockHolds, parseIpAddress } from '../../src/lib/ip-address.js';
import type { IstioAmbientPolicy } from '../rig/istio.js';

interface StringMatch {
  readonly exact?: string;
  readonly prefix?: string;
  readonly suffix?: string;
  readonly presence?: object;
}

interface Match {
  readonly principals?: readonly StringMatch[];
  readonly notPrincipals?: readonly StringMatch[];
  readonly sourceIps?: readonly Address[];
  readonly notSourceIps?: readonly Address[];
  readonly destinationPorts?: readonly number[];
  readonly notDestinationPorts?: readonly number[];
}

interface Address {
  /** Base64. */
  readonly address: string;
  readonly length?: number;
}

interface Authorization {
  readonly name: string;
  readonly namespace: string;
  readonly scope?: 'NAMESPACE' | 'WORKLOAD_SELECTOR';
  readonly action?: 'DENY';
  readonly groups?: readonly { readonly rules?: readonly { readonly matches?: readonly Match[] }[] }[];
}

export interface Connection {
  readonly source: string | undefined;
  readonly sourceIp: string;
  readonly port: number;
}

export interface Destination {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

const KNOWN = new Set([
  'principals',
  'notPrincipals',
  'sourceIps',
  'notSourceIps',
  'destinationPorts',
  'notDestinationPorts',
]);

/** state.rs `assert_rbac`: a DENY that matches denies; with no ALLOW all is allowed; else an ALLOW must match. */
export function ztunnelAllows(
  policies: readonly IstioAmbientPolicy[],
  selectorOf: (policy: IstioAmbientPolicy) => Readonly<Record<string, string>> | undefined,
  destination: Destination,
  connection: Connection,
): boolean {
  // identity/manager.rs `FromStr for Identity`: other SPIFFE IDs are no identity, so the handshake fails.
  if (connection.source !== undefined && !isIdentity(connection.source)) return false;
  const here = policies.flatMap((policy): readonly Authorization[] => {
    const authorization = policy.authorization as Authorization | null;
    if (authorization === null) return [];
    return applies(authorization, selectorOf(policy), destination) ? [authorization] : [];
  });
  if (here.some((one) => one.action === 'DENY' && matches(one, connection))) return false;
  const allow = here.filter(({ action }) => action === undefined);
  return allow.length === 0 || allow.some((one) => matches(one, connection));
}

function isIdentity(uri: string): boolean {
  const parts = uri.slice('spiffe://'.length).split('/');
  return uri.startsWith('spiffe://') && parts.length === 5 && parts[1] === 'ns' && parts[3] === 'sa';
}

/** state.rs `assert_rbac`: those of the workload's namespace, the global ones, and those that istiod selects for it. */
function applies(
  { scope, namespace }: Authorization,
  selector: Readonly<Record<string, string>> | undefined,
  destination: Destination,
): boolean {
  if (scope === undefined) return true;
  if (scope === 'NAMESPACE') return namespace === destination.namespace;
  // In the root namespace a selector selects in all of the mesh (authorization_policy.proto, "selector").
  const there = namespace === 'istio-system' || namespace === destination.namespace;
  return there && Object.entries(selector ?? {}).every(([key, value]) => destination.labels[key] === value);
}

/** rbac.rs `Authorization::matches`: any rule, of it every clause, of this any match that is not empty. */
function matches({ groups = [] }: Authorization, connection: Connection): boolean {
  return groups.some(({ rules = [] }) =>
    rules.every(({ matches: list = [] }) => list.length === 0 || list.some((one) => meets(one, connection))),
  );
}

function meets(match: Match, { source, sourceIp, port }: Connection): boolean {
  for (const field of Object.keys(match)) if (!KNOWN.has(field)) throw new Error(`ztunnel: ${field}`);
  // rbac.rs `mg.is_empty() → continue`: an empty match is skipped, it does not match.
  if (Object.values(match).every((list: readonly unknown[]) => list.length === 0)) return false;
  const ip = parseIpAddress(sourceIp);
  if (ip === undefined) throw new Error(`no address: ${sourceIp}`);
  const inside = ({ address, length = 0 }: Address): boolean =>
    blockHolds({ text: address, bytes: [...Buffer.from(address, 'base64')], prefix: length }, ip);
  return (
    both(match.principals, match.notPrincipals, (one) => matchesPrincipal(one, source ?? '')) &&
    both(match.sourceIps, match.notSourceIps, inside) &&
    both(match.destinationPorts, match.notDestinationPorts, (one) => one === port)
  );
}

/** rbac.rs `matches_internal`: one of the positive where there are any, and none of the negative. */
function both<T>(
  positive: readonly T[] = [],
  negative: readonly T[] = [],
  holds: (one: T) => boolean,
): boolean {
  return (positive.length === 0 || positive.some(holds)) && !negative.some(holds);
}

/** rbac.rs `StringMatch::matches_principal`: without `spiffe://`, whoever has no identity is ''. */
function matchesPrincipal({ exact, prefix, suffix }: StringMatch, source: string): boolean {
  if (!source.startsWith('spiffe://')) return false;
  const name = source.slice('spiffe://'.length);
  if (exact !== undefined) return name === exact;
  if (prefix !== undefined) return name.startsWith(prefix);
  if (suffix !== undefined) return name.endsWith(suffix);
  return name !== '';
}
