/** The objects of SPIRE in a cluster: as in the demo of its controller manager, with one pod for the server and one for the node. */

const NAMESPACE = 'spire';
const CLUSTER = 'rig';
const SERVER_SOCKETS = '/run/spire/server';
const AGENT_SOCKETS = '/run/spire/agent';
const KUBELET = '/var/lib/kubelet';
/** Of the agent's token. */
const AUDIENCE = 'spire-server';

export interface SpireIntervals {
  /** How often the server looks at its database, and the agent asks for its entries; SPIRE's 5 s unless said. */
  readonly serverInterval?: string;
  readonly agentInterval?: string;
}

export interface SpireNames {
  readonly trustDomain: string;
  /** The label `app` of the pods that have identities. */
  readonly app: string;
}

type Manifest = Readonly<Record<string, unknown>>;

/** All but the CRDs. Changed intervals make new pods. */
export function spireManifests(wanted: SpireIntervals & SpireNames): readonly Manifest[] {
  const config = {
    'server.conf': serverConfig(wanted),
    'agent.conf': agentConfig(wanted),
    'manager.yaml': JSON.stringify(managerConfig(wanted)),
  };
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    ...rights('spire-server', SERVER_RULES),
    ...rights('spire-agent', [
      { apiGroups: [''], resources: ['pods', 'nodes', 'nodes/proxy'], verbs: ['get'] },
    ]),
    object('v1', 'ConfigMap', 'spire', { data: config }),
    object('v1', 'Service', 'spire-server', {
      spec: { selector: { app: 'spire-server' }, ports: [{ port: 8081 }] },
    }),
    object('apps/v1', 'Deployment', 'spire-server', { spec: serverSpec(config) }),
    object('apps/v1', 'DaemonSet', 'spire-agent', { spec: agentSpec(config) }),
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'CSIDriver',
      metadata: { name: 'csi.spiffe.io' },
      spec: { attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: ['Ephemeral'] },
    },
    {
      apiVersion: 'spire.spiffe.io/v1alpha1',
      kind: 'ClusterSPIFFEID',
      metadata: { name: wanted.app },
      spec: {
        podSelector: { matchLabels: { app: wanted.app } },
        spiffeIDTemplate:
          'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}/pod/{{ .PodMeta.Name }}',
      },
    },
  ];
}

const READ = ['get', 'list', 'watch'];
/** The server's own, and those of the controller manager beside it. */
const SERVER_RULES: readonly Manifest[] = [
  { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['get', 'create'] },
  { apiGroups: [''], resources: ['pods', 'nodes', 'namespaces', 'endpoints'], verbs: READ },
  { apiGroups: ['spire.spiffe.io'], resources: ['*'], verbs: ['*'] },
];

function serverConfig({ trustDomain, serverInterval }: SpireIntervals & SpireNames): string {
  const often =
    serverInterval === undefined
      ? ''
      : `experimental { cache_reload_interval = "${serverInterval}" events_based_cache = true }`;
  return `server {
  bind_address = "0.0.0.0"
  bind_port = "8081"
  socket_path = "${SERVER_SOCKETS}/api.sock"
  trust_domain = "${trustDomain}"
  data_dir = "/data"
  ${often}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "/data/data.sqlite3" } }
  NodeAttestor "k8s_psat" {
    plugin_data { clusters = { "${CLUSTER}" = { service_account_allow_list = ["${NAMESPACE}:spire-agent"] } } }
  }
  KeyManager "memory" { plugin_data {} }
}
health_checks { listener_enabled = true bind_address = "0.0.0.0" bind_port = "8080" }
`;
}

function agentConfig({ trustDomain, agentInterval }: SpireIntervals & SpireNames): string {
  return `agent {
  data_dir = "/data"
  server_address = "spire-server"
  server_port = "8081"
  socket_path = "${AGENT_SOCKETS}/api.sock"
  insecure_bootstrap = true
  trust_domain = "${trustDomain}"
  ${agentInterval === undefined ? '' : `experimental { sync_interval = "${agentInterval}" }`}
}
plugins {
  NodeAttestor "k8s_psat" { plugin_data { cluster = "${CLUSTER}" token_path = "/var/run/secrets/tokens/spire-agent" } }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "k8s" { plugin_data { skip_kubelet_verification = true node_name_env = "KUBELET" } }
}
health_checks { listener_enabled = true bind_address = "0.0.0.0" bind_port = "8080" }
`;
}

function managerConfig({ trustDomain }: SpireNames): Manifest {
  return {
    apiVersion: 'spire.spiffe.io/v1alpha1',
    kind: 'ControllerManagerConfig',
    metrics: { bindAddress: '0' },
    health: { healthProbeBindAddress: '0.0.0.0:8083' },
    logLevel: 'info',
    clusterName: CLUSTER,
    trustDomain,
    spireServerSocketPath: `${SERVER_SOCKETS}/api.sock`,
    ignoreNamespaces: ['kube-system', 'kube-public', NAMESPACE],
  };
}

function serverSpec(config: object): Manifest {
  const socket = { name: 'socket', mountPath: SERVER_SOCKETS };
  const settings = { name: 'config', mountPath: '/config' };
  const server = {
    ...container('spire-server', ['run', '-config', '/config/server.conf']),
    readinessProbe: ready('/ready', 8080),
    volumeMounts: [socket, settings, { name: 'data', mountPath: '/data' }],
  };
  const manager = {
    ...container('spire-controller-manager', ['--config=/config/manager.yaml']),
    // They check what people write, which nobody does here.
    env: [{ name: 'ENABLE_WEBHOOKS', value: 'false' }],
    readinessProbe: ready('/readyz', 8083),
    volumeMounts: [socket, settings],
  };
  return {
    replicas: 1,
    strategy: { type: 'Recreate' },
    ...template('spire-server', config, {
      containers: [server, manager],
      volumes: [{ name: 'socket', emptyDir: {} }],
    }),
  };
}

function agentSpec(config: object): Manifest {
  const sockets = { name: 'sockets', mountPath: AGENT_SOCKETS };
  const agent = {
    ...container('spire-agent', ['run', '-config', '/config/agent.conf']),
    env: [fromField('KUBELET', 'status.hostIP')],
    readinessProbe: ready('/ready', 8080),
    volumeMounts: [
      sockets,
      { name: 'config', mountPath: '/config' },
      { name: 'data', mountPath: '/data' },
      { name: 'token', mountPath: '/var/run/secrets/tokens' },
    ],
  };
  const driver = {
    ...container('spire-csi', [`-sockets=${AGENT_SOCKETS}`, '-node=$(NODE)']),
    env: [fromField('NODE', 'spec.nodeName')],
    securityContext: { privileged: true },
    volumeMounts: [sockets, { name: 'kubelet', mountPath: KUBELET, mountPropagation: 'Bidirectional' }],
  };
  const token = { path: 'spire-agent', expirationSeconds: 7200, audience: AUDIENCE };
  return template('spire-agent', config, {
    hostPID: true,
    containers: [agent, driver],
    volumes: [
      { name: 'sockets', hostPath: { path: AGENT_SOCKETS, type: 'DirectoryOrCreate' } },
      { name: 'kubelet', hostPath: { path: KUBELET } },
      { name: 'token', projected: { sources: [{ serviceAccountToken: token }] } },
    ],
  });
}

function container(name: string, args: readonly string[]): Manifest {
  return { name, image: `rig.local/${name}:test`, args };
}

function ready(path: string, port: number): Manifest {
  return { httpGet: { path, port }, periodSeconds: 1 };
}

function fromField(name: string, fieldPath: string): Manifest {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

/** What a Deployment and a DaemonSet have in common. */
function template(
  app: string,
  config: object,
  spec: Manifest & { readonly volumes: readonly Manifest[] },
): Manifest {
  const labels = { app };
  const volumes = [
    ...spec.volumes,
    { name: 'config', configMap: { name: 'spire' } },
    { name: 'data', emptyDir: {} },
  ];
  return {
    selector: { matchLabels: labels },
    template: {
      // Of another configuration, other pods.
      metadata: { labels, annotations: { config: JSON.stringify(config) } },
      spec: { serviceAccountName: app, terminationGracePeriodSeconds: 2, ...spec, volumes },
    },
  };
}

function object(apiVersion: string, kind: string, name: string, rest: Manifest): Manifest {
  return { apiVersion, kind, metadata: { name, namespace: NAMESPACE }, ...rest };
}

function rights(name: string, rules: readonly Manifest[]): readonly Manifest[] {
  const group = 'rbac.authorization.k8s.io';
  const apiVersion = `${group}/v1`;
  return [
    object('v1', 'ServiceAccount', name, {}),
    { apiVersion, kind: 'ClusterRole', metadata: { name }, rules },
    {
      apiVersion,
      kind: 'ClusterRoleBinding',
      metadata: { name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: NAMESPACE }],
      roleRef: { kind: 'ClusterRole', name, apiGroup: group },
    },
  ];
}
