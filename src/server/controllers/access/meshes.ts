import { ciliumRenderer } from '../../../access/mesh/cilium/renderer.js';
import { envoyRenderer } from '../../../access/mesh/envoy/renderer.js';
import { gatewayRenderer } from '../../../access/mesh/gateway/renderer.js';
import { istioRenderer } from '../../../access/mesh/istio/renderer.js';
import { kumaRenderer } from '../../../access/mesh/kuma/renderer.js';
import { linkerdRenderer } from '../../../access/mesh/linkerd/renderer.js';
import { networkPolicyRenderer } from '../../../access/mesh/networkpolicy/renderer.js';
import { opaRenderer } from '../../../access/mesh/opa/renderer.js';
import type { KubernetesObject, Renderer } from '../../../access/mesh/renderer.js';
import type { MeshSettings } from '../../../cluster/mesh-settings.js';
import { didYouMean } from '../../../lib/did-you-mean.js';
import type { AppliedKind } from '../../../store/kubernetes/applied-report.js';
import type { ServedTypes } from '../../../store/kubernetes/discovery.js';

/** A mesh, or another enforcement point that reads objects of the API server. */
export interface Mesh {
  /** As `TrustDomain.spec.meshes` calls it. */
  readonly name: string;
  readonly renderer: (settings: MeshSettings) => Renderer;
  /** What it becomes. The cluster has the mesh when it serves the first of them. */
  readonly kinds: readonly [AppliedKind, ...AppliedKind[]];
  /** Rendered only where it is asked for by name: every cluster serves its kinds. */
  readonly onlyIfAsked?: true;
  /**
   * Where nothing is allowed unless said, it closes every pod of the cluster, those of DNS and of Signet itself too: then it
   * is rendered only where it is asked for by name.
   */
  readonly closesCluster?: true;
  /** Any change renders all of it, so changes are gathered for a while. */
  readonly slow?: true;
  /**
   * Whether an object says what its policies say and nothing else, so that nothing is opened that they closed when the API
   * server's garbage collection takes it away together with them. What closes a workload by default is never such.
   */
  readonly endsWithPolicy?: (object: KubernetesObject) => boolean;
}

const kind = (group: string, name: string, ...versions: readonly string[]): AppliedKind => ({
  group,
  kind: name,
  versions,
});
const CONFIG_MAP = kind('', 'ConfigMap', 'v1');

/** Every mesh that policies are rendered for in a cluster. */
export const MESHES: readonly Mesh[] = [
  {
    name: 'istio',
    renderer: ({ istio }) => istioRenderer(istio),
    kinds: [
      kind('security.istio.io', 'AuthorizationPolicy', 'v1'),
      kind('security.istio.io', 'RequestAuthentication', 'v1'),
      kind('security.istio.io', 'PeerAuthentication', 'v1'),
      kind('networking.istio.io', 'EnvoyFilter', 'v1alpha3'),
      kind('extensions.istio.io', 'TrafficExtension', 'v1alpha1'),
    ],
    endsWithPolicy: (object) => object.kind === 'AuthorizationPolicy',
  },
  {
    name: 'cilium',
    renderer: ({ cilium }) => ciliumRenderer(cilium),
    kinds: [
      kind('cilium.io', 'CiliumNetworkPolicy', 'v2'),
      kind('cilium.io', 'CiliumClusterwideNetworkPolicy', 'v2'),
    ],
    closesCluster: true,
  },
  {
    name: 'linkerd',
    renderer: ({ linkerd }) => linkerdRenderer(linkerd),
    kinds: [
      kind('policy.linkerd.io', 'Server', 'v1beta3'),
      kind('policy.linkerd.io', 'AuthorizationPolicy', 'v1alpha1'),
      kind('policy.linkerd.io', 'MeshTLSAuthentication', 'v1alpha1'),
      kind('policy.linkerd.io', 'NetworkAuthentication', 'v1alpha1'),
      kind('policy.linkerd.io', 'HTTPRoute', 'v1beta3'),
    ],
  },
  {
    name: 'kuma',
    renderer: ({ kuma }) => kumaRenderer(kuma),
    kinds: [kind('kuma.io', 'MeshTrafficPermission', 'v1alpha1')],
  },
  {
    name: 'gateway',
    renderer: () => gatewayRenderer(),
    kinds: [kind('gateway.networking.k8s.io', 'AuthorizationPolicy', 'v1alpha1')],
  },
  {
    name: 'networkpolicy',
    renderer: ({ networkpolicy }) => networkPolicyRenderer(networkpolicy),
    kinds: [kind('networking.k8s.io', 'NetworkPolicy', 'v1')],
    onlyIfAsked: true,
  },
  { name: 'envoy', renderer: () => envoyRenderer(), kinds: [CONFIG_MAP], onlyIfAsked: true },
  { name: 'opa', renderer: () => opaRenderer(), kinds: [CONFIG_MAP], onlyIfAsked: true, slow: true },
];

/** The kinds of objects that policies may become, each once. */
export const MESH_KINDS: readonly AppliedKind[] = [
  ...new Map(
    MESHES.flatMap(({ kinds }) => kinds.map((one) => [`${one.group}/${one.kind}`, one] as const)),
  ).values(),
];

/** Which meshes to render for. */
export interface MeshChoice {
  readonly meshes: readonly Mesh[];
  /** What was asked for and cannot be, each with the fix. */
  readonly problems: readonly string[];
  /** What the cluster has and is not rendered for, by name, with how it is. What is applied there stays as it is. */
  readonly withheld: ReadonlyMap<string, string>;
}

/** The meshes that the TrustDomain names; those that the cluster has, unless it names any. */
export function chooseMeshes(
  asked: readonly string[] | undefined,
  served: ServedTypes,
  defaultAction: 'Allow' | 'Deny',
): MeshChoice {
  if (asked === undefined) {
    const there = MESHES.filter((mesh) => isThere(mesh, served));
    const meshes = there.filter(({ closesCluster }) => defaultAction === 'Allow' || closesCluster !== true);
    const others = there.filter((mesh) => !meshes.includes(mesh));
    const withheld = new Map(others.map(({ name }) => [name, withholding(name)]));
    return { meshes, problems: [], withheld };
  }
  const problems: string[] = [];
  const meshes = [...new Set(asked)].flatMap((name) => {
    const mesh = MESHES.find((one) => one.name === name);
    if (mesh !== undefined && has(mesh, served)) return [mesh];
    problems.push(mesh === undefined ? unknown(name) : missing(mesh, served));
    return [];
  });
  return { meshes, problems, withheld: new Map() };
}

const isThere = (mesh: Mesh, served: ServedTypes): boolean => mesh.onlyIfAsked !== true && has(mesh, served);

function has({ kinds: [first] }: Mesh, served: ServedTypes): boolean {
  return first.versions.some((version) => served.find(first.group, first.kind, version) !== undefined);
}

function withholding(name: string): string {
  return `not rendered for ${name}: where nothing is allowed unless said it would close every pod, those of DNS too; allow these, and name ${name} in spec.meshes of the TrustDomain; until then what is applied there stays as it is`;
}

function unknown(name: string): string {
  const names = MESHES.map((mesh) => mesh.name);
  const meant = didYouMean(name, names);
  const hint = meant === undefined ? `write one of ${names.join(', ')}` : `did you mean ${meant}?`;
  return `spec.meshes of the TrustDomain names "${name}", which is no mesh; ${hint}`;
}

function missing({ name, kinds: [first] }: Mesh, served: ServedTypes): string {
  const { group, versions } = first;
  const other = served.find(group, first.kind)?.version;
  const what = `${first.kind} in ${group}/${versions.join(' or ')}`;
  const fix = other === undefined ? 'install its CRDs' : `it serves ${other}, so update its CRDs`;
  return `spec.meshes of the TrustDomain names ${name}, but the cluster does not serve ${what}; ${fix}, or take the name out`;
}
