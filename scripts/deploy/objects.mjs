// The objects of an installation, as values: of deploy/, and of whatever else is made from the same source.
import {
  MESH_RULES,
  SERVER_CLUSTER_RULES,
  SERVER_OWN_RULES,
  SERVER_PUBLISHING_RULES,
  USER_ROLES,
} from './rbac.mjs';

const RBAC = 'rbac.authorization.k8s.io';
const AGENT_PORT = 8443;
const HTTP_PORT = 8080;
const USER = 65532;

/** Defaults of what differs between installations. */
export const DEFAULTS = {
  namespace: 'signet-system',
  image: 'registry.example.org/signet:0.1.0',
  replicas: 3,
  meshes: Object.keys(MESH_RULES),
};

/** Files of an installation: name → objects. Applied in the order of their names. */
export function installation(options = {}) {
  const settings = { ...DEFAULTS, ...options };
  return {
    '00-namespace.yaml': [namespace(settings)],
    '10-server-rbac.yaml': serverRbac(settings),
    '11-mesh-rbac.yaml': meshRbac(settings),
    '12-user-roles.yaml': userRoles(),
    '20-server.yaml': server(settings),
    '30-agent.yaml': agent(settings),
  };
}

function labels(component) {
  return {
    'app.kubernetes.io/name': 'signet',
    'app.kubernetes.io/part-of': 'signet',
    ...(component === undefined ? {} : { 'app.kubernetes.io/component': component }),
  };
}

function selector(component) {
  return { 'app.kubernetes.io/name': 'signet', 'app.kubernetes.io/component': component };
}

function namespace({ namespace: name }) {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name,
      labels: {
        ...labels(),
        // The API server itself refuses a pod here that asks for more.
        'pod-security.kubernetes.io/enforce': 'restricted',
      },
    },
  };
}

function serviceAccount(name, component, { namespace: ns }) {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace: ns, labels: labels(component) },
    automountServiceAccountToken: false,
  };
}

function clusterRole(name, component, rules, more = {}) {
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'ClusterRole',
    metadata: { name, labels: { ...labels(component), ...more } },
    rules,
  };
}

function clusterBinding(name, component, account, { namespace: ns }) {
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name, labels: labels(component) },
    roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace: ns }],
  };
}

function serverRbac(settings) {
  const name = 'signet-server';
  const metadata = { name, namespace: settings.namespace, labels: labels('server') };
  return [
    serviceAccount(name, 'server', settings),
    clusterRole(name, 'server', [...SERVER_CLUSTER_RULES, ...SERVER_PUBLISHING_RULES]),
    clusterBinding(name, 'server', name, settings),
    { apiVersion: `${RBAC}/v1`, kind: 'Role', metadata, rules: SERVER_OWN_RULES },
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: RBAC, kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: settings.namespace }],
    },
  ];
}

function meshRbac(settings) {
  return settings.meshes.flatMap((mesh) => {
    const name = `signet-server-${mesh}`;
    return [
      clusterRole(name, 'server', MESH_RULES[mesh]),
      clusterBinding(name, 'server', 'signet-server', settings),
    ];
  });
}

function userRoles() {
  return USER_ROLES.map(({ name, aggregateTo, rules }) => {
    const aggregate = aggregateTo.map((role) => [`${RBAC}/aggregate-to-${role}`, 'true']);
    return clusterRole(name, undefined, rules, Object.fromEntries(aggregate));
  });
}

/** What no mesh may take hold of: Signet is below them all, and speaks mutual TLS itself. */
const OUTSIDE_MESHES = {
  labels: {
    'sidecar.istio.io/inject': 'false',
    'istio.io/dataplane-mode': 'none',
    'kuma.io/sidecar-injection': 'disabled',
  },
  annotations: { 'linkerd.io/inject': 'disabled' },
};

const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};

const POD_SECURITY = {
  runAsNonRoot: true,
  runAsUser: USER,
  runAsGroup: USER,
  seccompProfile: { type: 'RuntimeDefault' },
};

function probes() {
  const probe = (path) => ({ httpGet: { path, port: 'http' } });
  return {
    // Only a restart helps.
    livenessProbe: { ...probe('/livez'), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 },
    readinessProbe: { ...probe('/readyz'), periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2 },
  };
}

function podTemplate(component, spec) {
  return {
    metadata: {
      labels: { ...labels(component), ...OUTSIDE_MESHES.labels },
      annotations: OUTSIDE_MESHES.annotations,
    },
    spec: { securityContext: POD_SECURITY, nodeSelector: { 'kubernetes.io/os': 'linux' }, ...spec },
  };
}

function server(settings) {
  const name = 'signet-server';
  const metadata = { name, namespace: settings.namespace, labels: labels('server') };
  const spread = (topologyKey) => ({
    maxSkew: 1,
    topologyKey,
    whenUnsatisfiable: 'ScheduleAnyway',
    labelSelector: { matchLabels: selector('server') },
  });
  return [
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: settings.replicas,
        selector: { matchLabels: selector('server') },
        strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: podTemplate('server', {
          serviceAccountName: name,
          automountServiceAccountToken: true,
          priorityClassName: 'system-cluster-critical',
          // The pause before SIGTERM, the drain (10 s), and the end of what the leader does.
          terminationGracePeriodSeconds: 40,
          topologySpreadConstraints: [
            spread('kubernetes.io/hostname'),
            spread('topology.kubernetes.io/zone'),
          ],
          containers: [
            {
              name: 'server',
              image: settings.image,
              args: [
                'server',
                `--namespace=${settings.namespace}`,
                `--agent-service-account=${settings.namespace}/signet-agent`,
              ],
              // Where the other replicas reach this one.
              env: [{ name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }],
              ports: [
                { name: 'agents', containerPort: AGENT_PORT },
                { name: 'http', containerPort: HTTP_PORT },
              ],
              ...probes(),
              // Endpoints forget the pod before it stops to take agents.
              lifecycle: { preStop: { sleep: { seconds: 5 } } },
              resources: {
                requests: { cpu: '100m', memory: '192Mi' },
                limits: { memory: '1Gi' },
              },
              securityContext: CONTAINER_SECURITY,
            },
          ],
        }),
      },
    },
    {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata,
      spec: { maxUnavailable: 1, selector: { matchLabels: selector('server') } },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: {
        selector: selector('server'),
        ports: [
          { name: 'agents', port: AGENT_PORT, targetPort: 'agents' },
          { name: 'http', port: HTTP_PORT, targetPort: 'http' },
        ],
      },
    },
  ];
}

function agent(settings) {
  const name = 'signet-agent';
  const metadata = { name, namespace: settings.namespace, labels: labels('agent') };
  return [
    serviceAccount(name, 'agent', settings),
    {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata,
      spec: {
        selector: { matchLabels: selector('agent') },
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
        template: podTemplate('agent', {
          serviceAccountName: name,
          // An agent has no right at the API server, and no token that it would take.
          automountServiceAccountToken: false,
          priorityClassName: 'system-node-critical',
          tolerations: [{ operator: 'Exists' }],
          containers: [
            {
              name: 'agent',
              image: settings.image,
              args: ['agent', `--server=signet-server.${settings.namespace}.svc:${AGENT_PORT}`],
              ports: [{ name: 'http', containerPort: HTTP_PORT }],
              ...probes(),
              resources: { requests: { cpu: '20m', memory: '96Mi' }, limits: { memory: '256Mi' } },
              securityContext: CONTAINER_SECURITY,
              volumeMounts: [
                { name: 'token', mountPath: '/var/run/signet/token', readOnly: true },
                { name: 'bundle', mountPath: '/var/run/signet/bundle', readOnly: true },
              ],
            },
          ],
          volumes: [
            {
              name: 'token',
              projected: {
                sources: [
                  {
                    serviceAccountToken: {
                      path: 'token',
                      audience: 'signet-server',
                      expirationSeconds: 3600,
                    },
                  },
                ],
              },
            },
            // The server publishes it. The agent waits for it, and says so.
            { name: 'bundle', configMap: { name: 'signet-bundle', optional: true } },
          ],
        }),
      },
    },
  ];
}
