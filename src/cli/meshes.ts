import { ciliumRenderer } from '../access/mesh/cilium/renderer.js';
import { envoyRenderer } from '../access/mesh/envoy/renderer.js';
import { gatewayRenderer } from '../access/mesh/gateway/renderer.js';
import { istioRenderer } from '../access/mesh/istio/renderer.js';
import { kumaRenderer } from '../access/mesh/kuma/renderer.js';
import { linkerdRenderer } from '../access/mesh/linkerd/renderer.js';
import { networkPolicyRenderer } from '../access/mesh/networkpolicy/renderer.js';
import { opaRenderer } from '../access/mesh/opa/renderer.js';
import type { CallerOptions } from '../access/mesh/pod-callers.js';
import type { Renderer } from '../access/mesh/renderer.js';
import { meshSettings, type MeshSettings } from '../cluster/mesh-settings.js';
import type { IpBlock } from '../lib/ip-address.js';

/** Options of the command line that are about one mesh; the others take no notice. */
export interface MeshOptions {
  /** Of Istio. */
  readonly rootNamespace?: string;
  readonly ambient?: true;
  /** Of Envoy. */
  readonly trustedCa?: string;
  /** Of NetworkPolicy. */
  readonly outerLayer?: true;
  readonly clusterNetworkPolicy?: number;
  /** Of NetworkPolicy and Cilium. */
  readonly podNetwork?: readonly IpBlock[];
  readonly outsideIdentities?: boolean;
  /** Of Cilium. */
  readonly maxRegexProgramSize?: number;
  /** Of Linkerd. */
  readonly linkerdNamespace?: string;
  readonly linkerdTrustDomain?: string;
  readonly linkerdRouteApi?: 'policy.linkerd.io' | 'gateway.networking.k8s.io';
  readonly probeNetwork?: readonly string[];
  /** Of Kuma. */
  readonly kumaMesh?: string;
  /** Of the Gateway API. */
  readonly gatewayApiVersion?: string;
  readonly gatewayKind?: string;
  readonly gatewayServiceAccounts?: true;
  /** Of OPA. */
  readonly opaNamespace?: string;
  readonly jwtPayload?: string;
}

type Make = (options: MeshOptions, settings: MeshSettings) => Renderer;

const RENDERERS: Readonly<Record<string, Make>> = {
  istio: ({ rootNamespace, ambient }, { istio }) =>
    istioRenderer({
      ...istio,
      ...(rootNamespace === undefined ? {} : { rootNamespace }),
      ...(ambient === true ? { mode: 'ambient' as const } : {}),
    }),
  envoy: ({ trustedCa }) => envoyRenderer(trustedCa === undefined ? {} : { trustedCa }),
  networkpolicy: (options, { networkpolicy }) =>
    networkPolicyRenderer({
      ...networkpolicy,
      ...callerOptions(options),
      ...(options.outerLayer === true ? { assumeHttpEnforcedElsewhere: true } : {}),
      ...(options.clusterNetworkPolicy === undefined
        ? {}
        : { clusterNetworkPolicy: { priority: options.clusterNetworkPolicy } }),
    }),
  cilium: (options, { cilium }) =>
    ciliumRenderer({
      ...cilium,
      ...callerOptions(options),
      ...(options.maxRegexProgramSize === undefined
        ? {}
        : { maxRegexProgramSize: options.maxRegexProgramSize }),
    }),
  linkerd: ({ linkerdNamespace, linkerdTrustDomain, linkerdRouteApi, probeNetwork }, { linkerd }) =>
    linkerdRenderer({
      ...linkerd,
      ...(linkerdNamespace === undefined ? {} : { controlPlaneNamespace: linkerdNamespace }),
      ...(linkerdTrustDomain === undefined ? {} : { identityTrustDomain: linkerdTrustDomain }),
      ...(linkerdRouteApi === undefined ? {} : { routeApi: linkerdRouteApi }),
      ...(probeNetwork === undefined ? {} : { probeNetworks: probeNetwork }),
    }),
  kuma: ({ kumaMesh }, { kuma }) => kumaRenderer(kumaMesh === undefined ? kuma : { mesh: kumaMesh }),
  gateway: ({ gatewayApiVersion, gatewayKind, gatewayServiceAccounts }) =>
    gatewayRenderer({
      ...(gatewayApiVersion === undefined ? {} : { apiVersion: gatewayApiVersion }),
      ...(gatewayKind === undefined ? {} : { kind: gatewayKind }),
      ...(gatewayServiceAccounts === undefined ? {} : { serviceAccounts: gatewayServiceAccounts }),
    }),
  opa: ({ opaNamespace, jwtPayload }) =>
    opaRenderer({
      ...(opaNamespace === undefined ? {} : { namespace: opaNamespace }),
      ...(jwtPayload === undefined ? {} : { jwtPayload }),
    }),
};

function callerOptions({ podNetwork, outsideIdentities }: MeshOptions): CallerOptions {
  return {
    ...(podNetwork === undefined ? {} : { podNetworks: podNetwork }),
    ...(outsideIdentities === undefined ? {} : { outsideHoldsIdentities: outsideIdentities }),
  };
}

/** The meshes that policies can be rendered for. */
export const MESHES: readonly string[] = Object.keys(RENDERERS);

/** The renderer of one of {@link MESHES}: as the TrustDomain says, if there is one, but for what the command line says. */
export function rendererOf(
  mesh: string,
  options: MeshOptions,
  settings: MeshSettings = meshSettings({}),
): Renderer {
  const make = RENDERERS[mesh];
  if (make === undefined) throw new Error(`there is no mesh ${mesh}`);
  return make(options, settings);
}
