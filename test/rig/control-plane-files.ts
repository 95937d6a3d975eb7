/** What a control plane reads at its start: certificates, keys, kubeconfigs, the audit policy, and the arguments that name them. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newClusterAuthority, type ClusterAuthority } from './cluster-certificates.js';
import type { Credentials } from './credentials.js';
import type { KubeCredentials } from './kube-client.js';

/** Where a control plane and its services are. */
export interface ControlPlaneNetwork {
  /** Where the API server listens. */
  readonly address: string;
  readonly serviceRange: string;
  /** The first address of that range: the API server's own service. */
  readonly apiService: string;
}

/** Without a node, where services are objects and no more. */
export const ALONE: ControlPlaneNetwork = {
  address: '127.0.0.1',
  serviceRange: '10.98.0.0/24',
  apiService: '10.98.0.1',
};

/** The issuer of service-account tokens, and their audience where none is asked for. */
const SERVICE_ACCOUNT_ISSUER = 'https://kubernetes.default.svc.cluster.local';

export interface Ports {
  readonly etcd: number;
  readonly etcdPeer: number;
  readonly api: number;
}

/** The authorities of a control plane, and what they issued. */
export interface ControlPlanePki {
  /** Signs all certificates but those of the front proxy. */
  readonly authority: ClusterAuthority;
  readonly serving: Credentials;
  readonly admin: Credentials;
  readonly manager: Credentials;
  /** Who has this may say in headers whom it asks for (`X-Remote-User`, `X-Remote-Group`). */
  readonly frontProxy: Credentials;
}

/** Makes them, and writes them as files into `folder`/pki. */
export async function writePki(folder: string, network = ALONE): Promise<ControlPlanePki> {
  const pki = join(folder, 'pki');
  await mkdir(pki, { recursive: true });
  const [authority, frontAuthority] = await Promise.all([
    newClusterAuthority('rig-ca'),
    newClusterAuthority('rig-front-proxy-ca'),
  ]);
  const [serving, admin, manager, kubelet, frontProxy] = await Promise.all([
    authority.issue({
      name: 'kube-apiserver',
      addresses: [...new Set(['127.0.0.1', network.address, network.apiService])],
      dnsNames: ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'],
    }),
    authority.issue({ name: 'kubernetes-admin', groups: ['system:masters'] }),
    authority.issue({ name: 'system:kube-controller-manager' }),
    authority.issue({ name: 'kube-apiserver-kubelet-client', groups: ['system:masters'] }),
    frontAuthority.issue({ name: 'front-proxy-client' }),
  ]);
  const tokens = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const files: Record<string, string> = {
    'sa.key': tokens.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    'sa.pub': tokens.publicKey.export({ format: 'pem', type: 'spki' }).toString(),
  };
  const pairs = { ca: authority, 'front-ca': frontAuthority, serving, admin, manager, kubelet, frontProxy };
  for (const [name, { cert, key }] of Object.entries(pairs)) {
    files[`${name}.crt`] = cert;
    files[`${name}.key`] = key;
  }
  await Promise.all(
    Object.entries(files).map(([name, text]) => writeFile(join(pki, name), text, { mode: 0o600 })),
  );
  return { authority, serving, admin, manager, frontProxy };
}

/** A kubeconfig with everything inside. JSON is YAML. */
export function kubeconfigText(server: string, { ca, cert, key, token }: KubeCredentials): string {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const user = {
    ...(cert === undefined ? {} : { 'client-certificate-data': base64(cert) }),
    ...(key === undefined ? {} : { 'client-key-data': base64(key) }),
    ...(token === undefined ? {} : { token }),
  };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'rig',
    clusters: [{ name: 'rig', cluster: { server, 'certificate-authority-data': base64(ca) } }],
    contexts: [{ name: 'rig', context: { cluster: 'rig', user: 'rig' } }],
    users: [{ name: 'rig', user }],
  });
}

export function etcdArgs(folder: string, ports: Ports): readonly string[] {
  const client = `http://127.0.0.1:${ports.etcd}`;
  const peer = `http://127.0.0.1:${ports.etcdPeer}`;
  return [
    '--name=rig',
    `--data-dir=${join(folder, 'etcd')}`,
    // A test's machine does not lose its power: kill -9 loses nothing that was written.
    '--unsafe-no-fsync',
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=rig=${peer}`,
    '--log-level=warn',
  ];
}

export function apiServerArgs(folder: string, ports: Ports, network = ALONE): readonly string[] {
  const pki = join(folder, 'pki');
  return [
    `--etcd-servers=http://127.0.0.1:${ports.etcd}`,
    `--bind-address=${network.address}`,
    `--advertise-address=${network.address}`,
    `--secure-port=${ports.api}`,
    // An EndpointSlice may not hold a loopback address.
    ...(network === ALONE
      ? ['--endpoint-reconciler-type=none']
      : ['--kubelet-preferred-address-types=InternalIP']),
    `--tls-cert-file=${pki}/serving.crt`,
    `--tls-private-key-file=${pki}/serving.key`,
    `--client-ca-file=${pki}/ca.crt`,
    `--service-account-issuer=${SERVICE_ACCOUNT_ISSUER}`,
    `--service-account-key-file=${pki}/sa.pub`,
    `--service-account-signing-key-file=${pki}/sa.key`,
    `--service-cluster-ip-range=${network.serviceRange}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged=true',
    `--requestheader-client-ca-file=${pki}/front-ca.crt`,
    '--requestheader-allowed-names=front-proxy-client',
    '--requestheader-username-headers=X-Remote-User',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    `--proxy-client-cert-file=${pki}/frontProxy.crt`,
    `--proxy-client-key-file=${pki}/frontProxy.key`,
    `--kubelet-client-certificate=${pki}/kubelet.crt`,
    `--kubelet-client-key=${pki}/kubelet.key`,
    `--kubelet-certificate-authority=${pki}/ca.crt`,
    // PodCertificateRequest and ClusterTrustBundle: v1 is on by default.
    '--runtime-config=certificates.k8s.io/v1beta1=true',
    '--shutdown-delay-duration=0s',
    // Else an orderly end waits a minute for open watches.
    '--shutdown-watch-termination-grace-period=2s',
    '--v=1',
  ];
}

/**
 * Without a node, also without those controllers that would taint and remove what tests make by hand: nodes that never report,
 * their pods.
 */
export function controllerManagerArgs(
  folder: string,
  kubeconfig: string,
  network = ALONE,
): readonly string[] {
  const pki = join(folder, 'pki');
  const off =
    network === ALONE ? ['node-lifecycle', 'node-ipam', 'taint-eviction', 'pod-garbage-collector'] : [];
  return [
    `--kubeconfig=${kubeconfig}`,
    '--secure-port=0',
    '--leader-elect=false',
    '--use-service-account-credentials=true',
    `--service-account-private-key-file=${pki}/sa.key`,
    `--root-ca-file=${pki}/ca.crt`,
    `--cluster-signing-cert-file=${pki}/ca.crt`,
    `--cluster-signing-key-file=${pki}/ca.key`,
    `--controllers=${['*', ...off.map((name) => `-${name}-controller`)].join(',')}`,
    '--kube-api-qps=300',
    '--kube-api-burst=600',
    '--allocate-node-cidrs=false',
    '--v=1',
  ];
}

export function schedulerArgs(kubeconfig: string): readonly string[] {
  return [`--kubeconfig=${kubeconfig}`, '--secure-port=0', '--leader-elect=false', '--v=1'];
}

/** For one entry a request (a watch has a second when it begins), without bodies and health checks. */
export async function auditArgs(folder: string, logFile: string): Promise<readonly string[]> {
  const file = join(folder, 'audit-policy.json');
  const policy = {
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived'],
    rules: [{ level: 'None', nonResourceURLs: ['/readyz*', '/livez*', '/healthz*'] }, { level: 'Metadata' }],
  };
  await writeFile(file, JSON.stringify(policy));
  return [`--audit-policy-file=${file}`, `--audit-log-path=${logFile}`];
}
