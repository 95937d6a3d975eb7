import type { PolicyRef } from '../../policy/model.js';
import { objectMetadata, objectName } from '../objects.js';
import type { KubernetesObject, RenderedIssuer } from '../renderer.js';
import { chunks, MAX_ITEMS, type IstioRule } from './language.js';
import type { Placement } from './placements.js';

const SECURITY = 'security.istio.io/v1';

/** Where objects go and where they come from. */
export interface ObjectPlace {
  /** Parts of the name. */
  readonly name: readonly string[];
  readonly placement: Pick<Placement, 'namespace' | 'matchLabels'> & { readonly target?: TargetRef };
  readonly policies: readonly PolicyRef[];
  /** Shadow mode: what it would have said is reported and never enforced. */
  readonly dryRun?: boolean;
}

/** What a waypoint's rules are about. It takes no notice of selectors, nor of objects without either. */
export interface TargetRef {
  readonly group: '' | 'gateway.networking.k8s.io';
  readonly kind: 'Service' | 'Gateway';
  readonly name: string;
}

export function selection({
  matchLabels,
  target,
}: ObjectPlace['placement']): Readonly<Record<string, unknown>> {
  if (target !== undefined) return { targetRefs: [target] };
  return matchLabels === undefined ? {} : { selector: { matchLabels } };
}

/** AuthorizationPolicies; ALLOW without rules allows nothing, DENY without rules is none. */
export function authorizationPolicies(
  action: 'ALLOW' | 'DENY',
  rules: readonly IstioRule[],
  place: ObjectPlace,
): readonly KubernetesObject[] {
  if (rules.length === 0) return action === 'DENY' ? [] : [policy(action, undefined, place, 0)];
  return chunks(rules, MAX_ITEMS).map((list, index) => policy(action, list, place, index));
}

function policy(
  action: string,
  rules: readonly IstioRule[] | undefined,
  place: ObjectPlace,
  index: number,
): KubernetesObject {
  const { name, placement, policies, dryRun } = place;
  const parts = [...name, action.toLowerCase(), ...(index === 0 ? [] : [String(index)])];
  const metadata = objectMetadata(objectName(...parts), placement.namespace, policies);
  return {
    apiVersion: SECURITY,
    kind: 'AuthorizationPolicy',
    metadata:
      dryRun === true
        ? { ...metadata, annotations: { ...metadata.annotations, 'istio.io/dry-run': 'true' } }
        : metadata,
    spec: { ...selection(placement), action, ...(rules === undefined ? {} : { rules }) },
  };
}

/** Has tokens of these issuers validated, and keeps them in the request. A request without a token passes. */
export function requestAuthentication(
  issuers: readonly RenderedIssuer[],
  { name, placement, policies }: ObjectPlace,
): KubernetesObject {
  return {
    apiVersion: SECURITY,
    kind: 'RequestAuthentication',
    metadata: objectMetadata(objectName(...name, 'tokens'), placement.namespace, policies),
    spec: {
      ...selection(placement),
      jwtRules: issuers.map(({ issuer, audiences, jwksUri, jwks }) => ({
        issuer,
        ...(audiences === undefined || audiences.length === 0 ? {} : { audiences }),
        ...(jwks === undefined ? (jwksUri === undefined ? {} : { jwksUri }) : { jwks }),
        forwardOriginalToken: true,
      })),
    },
  };
}

export type MutualTls = 'STRICT' | 'PERMISSIVE';

/** Whether plaintext is taken at all. */
export function peerAuthentication(
  mode: MutualTls,
  ports: ReadonlyMap<number, MutualTls>,
  { name, placement, policies }: ObjectPlace,
): KubernetesObject {
  const portLevelMtls = Object.fromEntries([...ports].map(([port, one]) => [String(port), { mode: one }]));
  return {
    apiVersion: SECURITY,
    kind: 'PeerAuthentication',
    metadata: objectMetadata(objectName(...name, 'mtls'), placement.namespace, policies),
    spec: {
      ...selection(placement),
      mtls: { mode },
      ...(ports.size === 0 ? {} : { portLevelMtls }),
    },
  };
}
