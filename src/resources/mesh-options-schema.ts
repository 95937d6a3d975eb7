import { parseIpBlock } from '../lib/ip-address.js';
import { dnsLabel, names, trustDomainName } from './forms.js';
import type { MeshOptionsSpec, PodNetworkOptionsSpec } from './identity.js';
import { error } from './names.js';
import type { FieldPath, Problem } from './problem.js';
import { flag, integer, objectSchema, oneOf, optional, text, type Fields } from './schema.js';

/* TrustDomain.spec.meshOptions. */

const blocks = (description: string): ReturnType<typeof names> =>
  names(
    description,
    text('A CIDR block.', {
      maxLength: 49,
      pattern: '^[0-9A-Fa-f:.]+/[0-9]{1,3}$',
      form: 'write an address and the length of its prefix: "10.0.0.0/8", "2001:db8::/32"',
    }),
    32,
  );

const podNetwork: Fields<PodNetworkOptionsSpec> = {
  podNetworks: optional(blocks('The addresses that pods have: a block of a policy opens none of them.')),
  outsideIdentities: optional(
    flag('Callers from outside the cluster may hold identities.', { default: true }),
  ),
};

export const meshOptions = objectSchema<MeshOptionsSpec>(
  'How meshes are installed, where that is not as usual; only what is rendered for takes notice.',
  {
    istio: optional(
      objectSchema<NonNullable<MeshOptionsSpec['istio']>>('Istio.', {
        rootNamespace: optional(
          dnsLabel('The root namespace, whose objects hold in the whole mesh; istio-system unless said.'),
        ),
        mode: optional(
          oneOf<'Sidecar' | 'Ambient'>(
            'What the objects are for; by the labels of namespaces and pods unless said.',
            {
              ...{ Sidecar: true, Ambient: true },
            },
          ),
        ),
      }),
    ),
    linkerd: optional(
      objectSchema<NonNullable<MeshOptionsSpec['linkerd']>>('Linkerd.', {
        namespace: optional(dnsLabel('Where its control plane is; linkerd unless said.')),
        trustDomain: optional(trustDomainName('Its own trust domain; cluster.local unless said.')),
        probeNetworks: optional(
          blocks("The addresses that the kubelets' probes come from; HTTP probes are denied without."),
        ),
      }),
    ),
    networkPolicy: optional(
      objectSchema<NonNullable<MeshOptionsSpec['networkPolicy']>>('NetworkPolicy.', {
        ...podNetwork,
        outerLayer: optional(
          flag('A mesh behind it enforces HTTP and the rest, so what that needs is opened.', {
            default: false,
          }),
        ),
      }),
    ),
    cilium: optional(
      objectSchema<NonNullable<MeshOptionsSpec['cilium']>>('Cilium.', {
        ...podNetwork,
        maxRegexProgramSize: optional(
          integer('The largest regular expression that its Envoy takes; 100 unless said.', {
            minimum: 1,
            maximum: 1_000_000,
          }),
        ),
      }),
    ),
    kuma: optional(
      objectSchema<NonNullable<MeshOptionsSpec['kuma']>>('Kuma.', {
        mesh: optional(dnsLabel('The mesh that the objects are of; default unless said.')),
      }),
    ),
  },
);

/** What the schema cannot say: whether blocks are such. */
export function meshOptionsProblems({ linkerd, networkPolicy, cilium }: MeshOptionsSpec): Problem[] {
  const path = ['spec', 'meshOptions'];
  return [
    ...blockProblems(linkerd?.probeNetworks, [...path, 'linkerd', 'probeNetworks']),
    ...blockProblems(networkPolicy?.podNetworks, [...path, 'networkPolicy', 'podNetworks']),
    ...blockProblems(cilium?.podNetworks, [...path, 'cilium', 'podNetworks']),
  ];
}

function blockProblems(written: readonly string[] | undefined, path: FieldPath): Problem[] {
  return (written ?? []).flatMap((block, index) => {
    const parsed = parseIpBlock(block);
    return parsed.ok ? [] : [error([...path, index], parsed.message, parsed.fix)];
  });
}
