import { InvalidArgumentError, Option, type Command } from 'commander';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import { SignetError } from '../lib/errors.js';
import { parseIpBlock, type IpBlock } from '../lib/ip-address.js';

/** Declares the options of `render` that are about one mesh (meshes.ts says what they mean). */
export function addMeshOptions(command: Command): Command {
  return command
    .option('--root-namespace <namespace>', 'istio: the namespace whose objects hold in the whole mesh')
    .option(
      '--ambient',
      'istio: for ambient (ztunnel, and waypoints that use-waypoint labels name), also where no label says ambient',
    )
    .option(
      '--trust-domain-alias <name...>',
      "istio: the mesh's trustDomainAliases, as in its MeshConfig",
      trustDomains,
    )
    .option('--trusted-ca <file>', "envoy: the file of authorities that sign token issuers' servers")
    .option(
      '--outer-layer',
      'networkpolicy: a mesh behind it enforces HTTP and the rest, so open what that needs',
    )
    .option(
      '--cluster-network-policy <priority>',
      'networkpolicy: Deny rules as ClusterNetworkPolicy too, with this priority (0 to 1000)',
      numberFrom(0, 1000),
    )
    .option('--pod-network <block...>', 'networkpolicy, cilium: the addresses that pods have', blocks)
    .option(
      '--no-outside-identities',
      'networkpolicy, cilium: callers from outside the cluster hold no identities',
    )
    .option(
      '--max-regex-program-size <size>',
      "cilium: the largest regular expression that its Envoy takes; 100, Envoy's default, unless said",
      numberFrom(1, 1_000_000),
    )
    .option('--linkerd-namespace <namespace>', 'linkerd: where its control plane is; linkerd unless said')
    .option('--linkerd-trust-domain <name>', 'linkerd: its own trust domain; cluster.local unless said')
    .addOption(
      new Option(
        '--linkerd-route-api <group>',
        "linkerd: the group of HTTPRoute; Linkerd's own unless said",
      ).choices(['policy.linkerd.io', 'gateway.networking.k8s.io']),
    )
    .option(
      '--probe-network <block...>',
      "linkerd: addresses that the kubelets' probes come from; HTTP probes are denied without",
    )
    .option('--kuma-mesh <name>', 'kuma: the mesh that the objects are of; default unless said')
    .option(
      '--gateway-api-version <version>',
      "gateway: the draft's group and version, which are not settled",
    )
    .option('--gateway-kind <kind>', "gateway: the draft's kind; AuthorizationPolicy unless said")
    .option(
      '--gateway-service-accounts',
      'gateway: name service accounts, where every ID is that of the service account',
    )
    .option('--opa-namespace <namespace>', 'opa: where the ConfigMaps are; signet-system unless said')
    .option(
      '--jwt-payload <name>',
      "opa: where Envoy's jwt_authn puts the payload of a token; verified_jwt unless said",
    )
    .option('--bundle <file>', 'opa: write a bundle (a gzipped tar) there instead of ConfigMaps')
    .option('--signing-key <file>', 'opa: sign the bundle with this private key (PEM; P-256 or RSA)')
    .addOption(
      new Option(
        '--signing-algorithm <name>',
        'opa: ES256 for a P-256 key and RS256 for an RSA key unless said',
      ).choices(['ES256', 'RS256', 'PS256']),
    )
    .option('--signing-key-id <name>', 'opa: under which name OPA is told the public key', 'default')
    .option('--signing-scope <name>', 'opa: the scope that OPA is told to ask for');
}

/** Reads a whole number of an option. */
export function numberFrom(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`Write a number from ${least} to ${most}.`);
    return value;
  };
}

function blocks(text: string, others: readonly IpBlock[] = []): readonly IpBlock[] {
  const parsed = parseIpBlock(text);
  if (!parsed.ok) throw new InvalidArgumentError(`${parsed.message}; ${parsed.fix}.`);
  return [...others, parsed.block];
}

function trustDomains(text: string, others: readonly string[] = []): readonly string[] {
  try {
    return [...others, parseTrustDomain(text)];
  } catch (thrown) {
    throw new InvalidArgumentError(SignetError.from(thrown).message);
  }
}
