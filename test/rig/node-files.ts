/** What the programs of a node read at their start. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ControlPlane } from './control-plane.js';
import { kubeconfigText } from './control-plane-files.js';
import type { NodePrograms } from './node-parts.js';
import type { NodeSlot } from './node-slot.js';

export const NODE_NAME = 'node1';
export const PAUSE_IMAGE = 'rig.local/pause:test';
export const DNS_IMAGE = 'rig.local/coredns:test';
const CLUSTER_DOMAIN = 'cluster.local';

/** Configuration of the container runtime: before the node starts. */
export async function writeRuntimeFiles(
  folder: string,
  slot: NodeSlot,
  programs: NodePrograms,
): Promise<void> {
  await writeFile(join(folder, 'containerd.toml'), containerdConfig(folder, programs));
  await writeFile(join(folder, 'cni', '10-rig.conflist'), JSON.stringify(networkConfig(slot)));
  await writeFile(join(folder, 'resolv.conf'), `nameserver ${slot.dnsService}\n`);
}

/** Certificates and configuration of kubelet and kube-proxy: once there is a control plane. */
export async function writeNodeFiles(
  folder: string,
  slot: NodeSlot,
  plane: ControlPlane,
  kubeletConfig: Readonly<Record<string, unknown>>,
): Promise<void> {
  const { authority } = plane.pki;
  const ca = authority.cert;
  const subject = { name: `system:node:${NODE_NAME}`, groups: ['system:nodes'] };
  const serving = await authority.issue({ ...subject, addresses: [slot.node], dnsNames: [NODE_NAME] });
  const client = await authority.issue(subject);
  const proxy = await authority.issue({ name: 'system:kube-proxy' });
  const files = {
    'ca.crt': ca,
    'kubelet.crt': serving.cert,
    'kubelet.key': serving.key,
    'kubelet.kubeconfig': kubeconfigText(plane.server, { ca, ...client }),
    'kube-proxy.kubeconfig': kubeconfigText(plane.server, { ca, ...proxy }),
    'kubelet.json': JSON.stringify({ ...defaultKubeletConfig(folder, slot), ...kubeletConfig }),
    'kube-proxy.json': JSON.stringify(proxyConfig(folder, slot)),
  };
  for (const [name, text] of Object.entries(files))
    await writeFile(join(folder, name), text, { mode: 0o600 });
}

function containerdConfig(folder: string, programs: NodePrograms): string {
  const cri = "plugins.'io.containerd.cri.v1";
  const text = (value: string): string => JSON.stringify(value);
  return `version = 3
root = ${text(join(folder, 'containerd'))}
state = '/run/containerd'
# Not every machine lets its root lower an oom_score_adj.
oom_score = 0
disabled_plugins = ['io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing', 'io.containerd.nri.v1.nri']
[grpc]
  address = '/run/containerd/containerd.sock'
[${cri}.images']
  snapshotter = 'overlayfs'
  [${cri}.images'.pinned_images]
    sandbox = ${text(PAUSE_IMAGE)}
[${cri}.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [${cri}.runtime'.cni]
    bin_dirs = [${text(programs.cni)}]
    conf_dir = ${text(join(folder, 'cni'))}
  [${cri}.runtime'.containerd]
    default_runtime_name = 'runc'
    [${cri}.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [${cri}.runtime'.containerd.runtimes.runc.options]
        BinaryName = ${text(programs.runc)}
        SystemdCgroup = false
`;
}

function networkConfig(slot: NodeSlot): unknown {
  const ipam = { type: 'host-local', dataDir: '/var/lib/cni/ipam', ranges: [[{ subnet: slot.podRange }]] };
  const bridge = { type: 'bridge', bridge: 'cni0', isDefaultGateway: true, hairpinMode: true, ipMasq: false };
  return {
    cniVersion: '1.0.0',
    name: 'rig',
    plugins: [
      { ...bridge, ipam },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

function defaultKubeletConfig(folder: string, slot: NodeSlot): Readonly<Record<string, unknown>> {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: slot.node,
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: slot.cgroup,
    enforceNodeAllocatable: ['pods'],
    oomScoreAdj: 0,
    protectKernelDefaults: true,
    failSwapOn: false,
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(folder, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: join(folder, 'kubelet.crt'),
    tlsPrivateKeyFile: join(folder, 'kubelet.key'),
    resolvConf: join(folder, 'resolv.conf'),
    clusterDomain: CLUSTER_DOMAIN,
    clusterDNS: [slot.dnsService],
    volumePluginDir: join(folder, 'volume-plugins'),
    podLogsDir: '/var/log/pods',
    // The machine's disk is not the test's matter.
    evictionHard: {
      'memory.available': '50Mi',
      'nodefs.available': '1%',
      'nodefs.inodesFree': '1%',
      'imagefs.available': '1%',
    },
    imageGCHighThresholdPercent: 100,
    serializeImagePulls: false,
    // A minute by default: how soon a changed ConfigMap is seen in a pod.
    syncFrequency: '10s',
    nodeStatusUpdateFrequency: '4s',
    registryPullQPS: 0,
    eventRecordQPS: 0,
    healthzPort: 10248,
  };
}

function proxyConfig(folder: string, slot: NodeSlot): unknown {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    clusterCIDR: slot.podRange,
    hostnameOverride: NODE_NAME,
    clientConnection: { kubeconfig: join(folder, 'kube-proxy.kubeconfig') },
    oomScoreAdj: 0,
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  };
}
