import { expect, it } from '@jest/globals';

import { parseIpBlock } from '../lib/ip-address.js';
import { meshSettings } from './mesh-settings.js';

it('says of each mesh what the TrustDomain says, and nothing of what it leaves unsaid', () => {
  const parsed = parseIpBlock('10.244.0.0/16');
  if (!parsed.ok) throw new Error(parsed.message);
  expect(meshSettings({})).toEqual({ istio: {}, linkerd: {}, networkpolicy: {}, cilium: {}, kuma: {} });
  expect(
    meshSettings({
      istio: { rootNamespace: 'mesh', mode: 'Ambient' },
      linkerd: { namespace: 'l5d', trustDomain: 'cluster.test', probeNetworks: ['10.0.0.0/24'] },
      networkPolicy: { podNetworks: ['10.244.0.0/16'], outsideIdentities: false, outerLayer: true },
      cilium: { podNetworks: ['10.244.0.0/16'], maxRegexProgramSize: 1000 },
      kuma: { mesh: 'shop' },
    }),
  ).toEqual({
    istio: { rootNamespace: 'mesh', mode: 'ambient' },
    linkerd: {
      controlPlaneNamespace: 'l5d',
      identityTrustDomain: 'cluster.test',
      probeNetworks: ['10.0.0.0/24'],
    },
    networkpolicy: {
      podNetworks: [parsed.block],
      outsideHoldsIdentities: false,
      assumeHttpEnforcedElsewhere: true,
    },
    cilium: { podNetworks: [parsed.block], maxRegexProgramSize: 1000 },
    kuma: { mesh: 'shop' },
  });
});
