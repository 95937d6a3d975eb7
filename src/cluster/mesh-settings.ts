import type { CiliumOptions } from '../access/mesh/cilium/renderer.js';
import type { IstioOptions } from '../access/mesh/istio/renderer.js';
import type { KumaOptions } from '../access/mesh/kuma/renderer.js';
import type { LinkerdOptions } from '../access/mesh/linkerd/renderer.js';
import type { NetworkPolicyOptions } from '../access/mesh/networkpolicy/renderer.js';
import type { CallerOptions } from '../access/mesh/pod-callers.js';
import { parseIpBlock, type IpBlock } from '../lib/ip-address.js';
import type { MeshOptionsSpec, PodNetworkOptionsSpec } from '../resources/identity.js';

/** What renderers are made with. */
export interface MeshSettings {
  readonly istio: IstioOptions;
  readonly linkerd: LinkerdOptions;
  readonly networkpolicy: NetworkPolicyOptions;
  readonly cilium: CiliumOptions;
  readonly kuma: KumaOptions;
}

/** What the TrustDomain says of meshes, for their renderers. Its blocks are good: `trustDomainSettings` has looked. */
export function meshSettings(spec: MeshOptionsSpec): MeshSettings {
  const { istio = {}, linkerd = {}, networkPolicy = {}, cilium = {}, kuma = {} } = spec;
  return {
    istio: {
      ...(istio.rootNamespace === undefined ? {} : { rootNamespace: istio.rootNamespace }),
      ...(istio.mode === undefined ? {} : { mode: istio.mode === 'Ambient' ? 'ambient' : 'sidecar' }),
    },
    linkerd: {
      ...(linkerd.namespace === undefined ? {} : { controlPlaneNamespace: linkerd.namespace }),
      ...(linkerd.trustDomain === undefined ? {} : { identityTrustDomain: linkerd.trustDomain }),
      ...(linkerd.probeNetworks === undefined ? {} : { probeNetworks: linkerd.probeNetworks }),
    },
    networkpolicy: {
      ...callers(networkPolicy),
      ...(networkPolicy.outerLayer === undefined
        ? {}
        : { assumeHttpEnforcedElsewhere: networkPolicy.outerLayer }),
    },
    cilium: {
      ...callers(cilium),
      ...(cilium.maxRegexProgramSize === undefined
        ? {}
        : { maxRegexProgramSize: cilium.maxRegexProgramSize }),
    },
    kuma: kuma.mesh === undefined ? {} : { mesh: kuma.mesh },
  };
}

function callers({ podNetworks, outsideIdentities }: PodNetworkOptionsSpec): CallerOptions {
  return {
    ...(podNetworks === undefined ? {} : { podNetworks: podNetworks.flatMap(block) }),
    ...(outsideIdentities === undefined ? {} : { outsideHoldsIdentities: outsideIdentities }),
  };
}

function block(text: string): readonly IpBlock[] {
  const parsed = parseIpBlock(text);
  return parsed.ok ? [parsed.block] : [];
}
