/**
 * Kuma's decision on MeshTrafficPermissions, since Kuma cannot run here. Written from its sources, kumahq/kuma at 348b6528,
 * not from our renderer. `mtp:` is pkg/plugins/policies/meshtrafficpermission/.
 */
import type { InventoryWorkload } from '../../../src/access/mesh/inventory.js';
import type { KubernetesObject } from '../../../src/access/mesh/renderer.js';

interface Match {
  readonly spiffeID?: { readonly type: string; readonly value: string };
}
interface RuleConf {
  readonly deny?: readonly Match[];
  readonly allow?: readonly Match[];
  readonly allowWithShadowDeny?: readonly Match[];
}

/** A data plane, and what reaches it. */
export interface KumaRequest {
  readonly source: string | undefined;
  readonly pod: InventoryWorkload;
  readonly port: number;
  /** Whether the proxy has a workload identity. */
  readonly hasIdentity?: boolean;
  /** Whether the connection came without TLS, as it may in permissive mode. */
  readonly plaintext?: boolean;
}

export interface KumaAnswer {
  readonly allowed: boolean;
  /** What the shadow rules log: the name of what denies, if anything does. */
  readonly shadowDenied: 'policy' | 'default' | undefined;
}

/** What Kuma does with a connection. */
export function kumaAnswer(objects: readonly KubernetesObject[], request: KumaRequest): KumaAnswer {
  for (const object of objects) validate(object);
  // mtp: plugin/v1alpha1/plugin.go 42-47: a proxy without a workload identity is skipped.
  if (request.hasIdentity === false) return { allowed: true, shadowDenied: undefined };
  // mtp: plugin/v1alpha1/plugin.go 72-76: only filter chains with Kuma's TLS get a filter.
  if (request.plaintext === true) return { allowed: true, shadowDenied: undefined };
  const rules = objects
    .filter((object) => selects(object, request))
    .flatMap(({ spec }) =>
      (spec?.['rules'] as readonly { readonly default: RuleConf }[]).map((rule) => rule.default),
    );
  const some = (list: readonly Match[] | undefined): boolean =>
    (list ?? []).some((match) => matches(match, request));
  // mtp: xds/rbac_configurer.go 123-151: what denies comes before what allows; what nothing matches is denied.
  const denied = rules.some(({ deny }) => some(deny));
  const allowed = rules.some(({ allow, allowWithShadowDeny }) => some(allow) || some(allowWithShadowDeny));
  // mtp: xds/rbac_configurer.go 153-177: once there are shadow rules, what none matches is denied as "default".
  const shadows = rules.filter((rule) => rule.allowWithShadowDeny !== undefined);
  const shadowed = shadows.some((rule) => some(rule.allowWithShadowDeny));
  const shadowDenied = shadowed ? 'policy' : shadows.length > 0 ? 'default' : undefined;
  return { allowed: allowed && !denied, shadowDenied };
}

/** mtp: api/v1alpha1/validator.go 12-48, and ValidateMatch in pkg/core/resources/apis/mesh/validators.go 329-336. */
function validate({ metadata, spec }: KubernetesObject): void {
  const rules = spec?.['rules'] as readonly { readonly default: RuleConf }[];
  if (rules.length === 0) throw new Error(`${metadata.name}: policy must define rules`);
  for (const { default: conf } of rules) {
    const all = [...(conf.deny ?? []), ...(conf.allow ?? []), ...(conf.allowWithShadowDeny ?? [])];
    if (all.length === 0) throw new Error(`${metadata.name}: at least one of the lists has to be defined`);
    for (const { spiffeID } of all) {
      const right = /^spiffe:\/\/[a-z0-9._-]+(?:\/(?!\.{1,2}(?:\/|$))[a-zA-Z0-9._-]+)*$/.test(
        spiffeID?.value ?? '',
      );
      if (!right) throw new Error(`${metadata.name}: must be a valid Spiffe ID: ${spiffeID?.value ?? ''}`);
    }
  }
}

/** pkg/plugins/policies/core/matchers/dataplane.go 132-260. */
function selects({ metadata, spec }: KubernetesObject, { pod, port }: KumaRequest): boolean {
  // 234-241: a policy of a namespace is about the data planes of that namespace.
  if (metadata.namespace !== pod.namespace) return false;
  const ref = spec?.['targetRef'] as {
    readonly kind: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly sectionName?: string;
  };
  if (ref.kind !== 'Dataplane') throw new Error(`no target ${ref.kind} here`);
  // 209-232: no labels at all select every data plane; each label must be equal.
  if (!Object.entries(ref.labels ?? {}).every(([key, value]) => pod.labels[key] === value)) return false;
  // api/mesh/v1alpha1/dataplane_helpers.go 282-289 and 356-364: an inbound's name, else its port.
  const inbound = pod.ports.find((one) => one.port === port);
  if (inbound === undefined) return ref.sectionName === undefined;
  return ref.sectionName === undefined || ref.sectionName === (inbound.name ?? String(inbound.port));
}

/** pkg/envoy/builders/xds/matchers/matchers.go 164-193: Envoy's string matcher on the URI SAN. */
function matches({ spiffeID }: Match, { source }: KumaRequest): boolean {
  if (spiffeID === undefined || source === undefined) return false;
  return spiffeID.type === 'Exact' ? source === spiffeID.value : source.startsWith(spiffeID.value);
}
