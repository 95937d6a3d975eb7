import { ciliumRenderer } from '../access/mesh/cilium/renderer.js';
import { envoyRenderer } from '../access/mesh/envoy/renderer.js';
import { gatewayRenderer } from '../access/mesh/gateway/renderer.js';
import { istioRenderer } from '../access/mesh/istio/renderer.js';
import { kumaRenderer } from '../access/mesh/kuma/renderer.js';
import { linkerdRenderer } from '../access/mesh/linkerd/renderer.js';
import { networkPolicyRenderer } from '../access/mesh/networkpolicy/renderer.js';
import { opaRenderer } from '../access/mesh/opa/renderer.js';
import type { Renderer } from '../access/mesh/renderer.js';

/** Options of the command line that are about one mesh; the others take no notice. */
export interface MeshOptions {
  /** Of Istio. */
  readonly rootNamespace?: string;
  readonly ambient?: true;
  /** Of NetworkPolicy. */
  readonly outerLayer?: true;
  /** Of Linkerd. */
  readonly linkerdNamespace?: string;
  readonly linkerdTrustDomain?: string;
  readonly probeNetwork?: readonly string[];
}

const RENDERERS: Readonly<Record<string, (options: MeshOptions) => Renderer>> = {
  istio: ({ rootNamespace, ambient }) =>
    istioRenderer({
      ...(rootNamespace === undefined ? {} : { rootNamespace }),
      ...(ambient === true ? { mode: 'ambient' as const } : {}),
    }),
  envoy: () => envoyRenderer(),
  networkpolicy: ({ outerLayer }) =>
    networkPolicyRenderer(outerLayer === true ? { assumeHttpEnforcedElsewhere: true } : {}),
  cilium: () => ciliumRenderer(),
  linkerd: ({ linkerdNamespace, linkerdTrustDomain, probeNetwork }) =>
    linkerdRenderer({
      ...(linkerdNamespace === undefined ? {} : { controlPlaneNamespace: linkerdNamespace }),
      ...(linkerdTrustDomain === undefined ? {} : { identityTrustDomain: linkerdTrustDomain }),
      ...(probeNetwork === undefined ? {} : { probeNetworks: probeNetwork }),
    }),
  kuma: () => kumaRenderer(),
  gateway: () => gatewayRenderer(),
  opa: () => opaRenderer(),
};

/** The meshes that policies can be rendered for. */
export const MESHES: readonly string[] = Object.keys(RENDERERS);

/** The renderer of one of {@link MESHES}. */
export function rendererOf(mesh: string, options: MeshOptions): Renderer {
  const make = RENDERERS[mesh];
  if (make === undefined) throw new Error(`there is no mesh ${mesh}`);
  return make(options);
}
