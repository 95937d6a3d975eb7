/**
 * What the Gateway API's AuthorizationPolicy says, by the text of GEP-3779 (kubernetes-sigs/gateway-api,
 * geps/gep-3779/index.md at 4564255a; the numbers are its lines), since nothing enforces it yet.
 */
import type { InventoryWorkload } from '../../../src/access/mesh/inventory.js';
import type { KubernetesObject } from '../../../src/access/mesh/renderer.js';
import { labelsMatch } from '../../../src/access/policy/selector.js';
import type { LabelRequirement } from '../../../src/access/policy/model.js';

interface Source {
  readonly type: string;
  readonly spiffe?: string;
  readonly serviceAccount?: { readonly namespace?: string; readonly name: string };
}
interface Rule {
  readonly sources?: readonly Source[];
  readonly networkAttributes?: { readonly ports?: readonly number[] };
}
interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface GatewayRequest {
  readonly source: string | undefined;
  readonly pod: InventoryWorkload;
  readonly port: number;
  /** Of the called workload: service accounts are of the same (393). */
  readonly trustDomain: string;
}

/** Whether a connection is let through. */
export function gatewayAllows(objects: readonly KubernetesObject[], request: GatewayRequest): boolean {
  const policies = objects.filter((object) => selects(object, request.pod));
  // 75: without a policy for a workload, traffic is permitted.
  if (policies.length === 0) return true;
  return policies.some(({ metadata, spec }) => {
    if (spec?.['action'] !== 'ALLOW' || spec['enforcementLevel'] !== 'Network')
      throw new Error('not in the draft');
    // 60: any rule; within a rule all criteria.
    return ((spec['rules'] ?? []) as readonly Rule[]).some(
      ({ sources, networkAttributes }) =>
        // 326-329: omitted matches any source, an empty list none.
        (sources === undefined ||
          sources.some((source) => matches(source, metadata.namespace ?? '', request))) &&
        (networkAttributes?.ports?.includes(request.port) ?? true),
    );
  });
}

/** 81: objects of its own namespace; 222: an empty selector selects all workloads. */
function selects({ metadata, spec }: KubernetesObject, pod: InventoryWorkload): boolean {
  const refs = spec?.['targetRefs'] as readonly {
    readonly kind: string;
    readonly name?: string;
    readonly selector: Selector;
  }[];
  const [ref] = refs;
  if (refs.length !== 1 || ref?.kind !== 'Pod' || ref.name !== undefined)
    throw new Error('one Pod, without a name');
  return metadata.namespace === pod.namespace && labelsMatch(requirements(ref.selector), pod.labels);
}

function requirements({ matchLabels = {}, matchExpressions = [] }: Selector): readonly LabelRequirement[] {
  const kinds = { In: 'in', NotIn: 'notIn', Exists: 'exists', DoesNotExist: 'absent' } as const;
  return [
    ...Object.entries(matchLabels).map(([key, value]) => ({
      kind: 'in' as const,
      key,
      values: new Set([value]),
    })),
    ...matchExpressions.map(({ key, operator, values = [] }) => ({
      kind: kinds[operator as keyof typeof kinds],
      key,
      values: new Set(values),
    })),
  ];
}

/** 339-395 and the types below: a SPIFFE URI as a whole, or a service account of the target's trust domain. */
function matches(
  { type, spiffe, serviceAccount }: Source,
  own: string,
  { source, trustDomain }: GatewayRequest,
): boolean {
  if (source === undefined) return false;
  if (type === 'SPIFFE') {
    if (spiffe?.startsWith('spiffe://') !== true) throw new Error('a SPIFFE source is a URI');
    return source === spiffe;
  }
  if (serviceAccount === undefined) throw new Error('a source without its part');
  const { namespace = own, name } = serviceAccount;
  const [, domain, ns, account] = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(source) ?? [];
  return domain === trustDomain && ns === namespace && (name === '*' || name === account);
}
