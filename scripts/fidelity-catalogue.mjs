// The features of the policy language, one small policy for each, from which the fidelity tables in docs/policy/ are made.

const ORDERS = 'spiffe://example.org/ns/shop/sa/orders';
const FRONTEND = 'spiffe://example.org/ns/web/sa/frontend';
const WORK_HOURS = {
  days: ['Mon', 'Tue', 'Wed', 'Thu', 'Fri'],
  from: '08:00',
  until: '18:00',
  timeZone: 'Europe/Berlin',
};
const NIGHT = { from: '22:00', until: '06:00', timeZone: 'Europe/Berlin' };
const orders = [{ spiffeIDs: [ORDERS] }];
const anyone = [{ anyone: true }];

/** The instant that tables are rendered for: a Wednesday at 11:30 in Berlin. */
export const INSTANT = Date.UTC(2026, 0, 7, 10, 30);

export const ISSUERS = [{ issuer: 'https://login.example.org', jwksUri: 'https://login.example.org/keys' }];

const http = (namespace, name, labels) => ({
  namespace,
  name,
  serviceAccount: name,
  labels: { app: name, ...labels },
  namespaceLabels: { 'kubernetes.io/metadata.name': namespace, team: namespace },
  spiffeIds: [`spiffe://example.org/ns/${namespace}/sa/${name}`],
  ports: [{ port: 8080, protocol: 'http' }],
});

/** What there is: a shop whose payments are protected, and a namespace of others. */
export const CLUSTER = {
  trustDomain: 'example.org',
  namespaces: ['shop', 'web'].map((name) => ({
    name,
    labels: { 'kubernetes.io/metadata.name': name, team: name },
  })),
  workloads: [http('shop', 'orders'), http('shop', 'payments', { tier: 'backend' }), http('web', 'frontend')],
};

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient', 'istio.io/use-waypoint': 'waypoint' };

/** The same cluster in Istio's ambient mesh, with a Service for each workload, and waypoints. */
export const WAYPOINTS = {
  ...CLUSTER,
  namespaces: CLUSTER.namespaces.map(({ name, labels }) => ({ name, labels: { ...labels, ...AMBIENT } })),
  workloads: CLUSTER.workloads.map((workload) => ({
    ...workload,
    namespaceLabels: { ...workload.namespaceLabels, ...AMBIENT },
  })),
  services: CLUSTER.workloads.map(({ namespace, name, labels, ports }) => ({
    namespace,
    name,
    labels: {},
    selector: labels,
    ports: ports.map(({ port, protocol }) => ({ port, targetPort: port, protocol })),
  })),
  gateways: CLUSTER.namespaces.map(({ name }) => ({
    namespace: name,
    name: 'waypoint',
    className: 'istio-waypoint',
    labels: {},
  })),
};

export const ROLES = [
  {
    kind: 'AccessRole',
    metadata: { name: 'reader' },
    spec: { permissions: [{ http: { methods: ['GET'], paths: [{ prefix: '/api' }] } }] },
  },
];

const TARGET = { podSelector: { matchLabels: { app: 'payments' } } };

/** A policy of the namespace with one rule. */
function policy(rule, spec = {}) {
  return {
    kind: 'AccessPolicy',
    metadata: { name: 'example', namespace: 'shop' },
    spec: { target: TARGET, rules: [{ name: 'rule', ...rule }], ...spec },
  };
}

function clusterPolicy(tier, ...rules) {
  return {
    kind: 'ClusterAccessPolicy',
    metadata: { name: 'example' },
    spec: {
      tier,
      target: { ...TARGET, namespaces: ['shop'] },
      rules: rules.map((rule) => ({ name: 'rule', ...rule })),
    },
  };
}

const from = (feature, principal) => [feature, policy({ from: [principal] })];
const to = (feature, operation) => [feature, policy({ from: orders, to: [operation] })];
const when = (feature, conditions) => [feature, policy({ from: orders, when: conditions })];
const token = (feature, match) => [feature, policy({ from: orders, when: { token: match } })];
/** What is denied of what another rule allows: of what nobody allows, there would be nothing to deny. */
const allowed = { name: 'others', from: [{ spiffeIDs: [ORDERS, FRONTEND] }] };
const deny = (feature, rule) => {
  const rules = [allowed, { name: 'rule', effect: 'Deny', from: anyone, ...rule }];
  return [feature, policy({}, { rules })];
};

/** By group: what the feature is called, and the policy that is rendered for it. */
export const FEATURES = {
  'Who (`from`)': [
    from('`spiffeIDs`', { spiffeIDs: [ORDERS] }),
    from('`spiffeIDs` of another trust domain', { spiffeIDs: ['spiffe://partner.example/billing'] }),
    from('`serviceAccounts`', { serviceAccounts: [{ name: 'orders' }] }),
    from('`namespaces`', { namespaces: ['web'] }),
    from('`namespaceSelector`', { namespaceSelector: { matchLabels: { team: 'web' } } }),
    from('`identities`', { identities: [{ name: 'orders' }] }),
    from('`trustDomains`, the own', { trustDomains: ['example.org'] }),
    from('`trustDomains`, another', { trustDomains: ['partner.example'] }),
    from('`anyAuthenticated`', { anyAuthenticated: true }),
    from('`anyone`', { anyone: true }),
    from('`ipBlocks`', { ipBlocks: ['203.0.113.0/24'] }),
    from('`ipBlocks` beside an identity', { spiffeIDs: [ORDERS], ipBlocks: ['10.0.0.0/8'] }),
    from('`except`', { namespaces: ['shop'], except: [{ serviceAccounts: [{ name: 'orders' }] }] }),
    from('`except` by address', { anyone: true, except: [{ ipBlocks: ['203.0.113.7/32'] }] }),
  ],
  'What (`to`)': [
    ['everything', policy({ from: orders })],
    to('`ports`', { ports: [8080] }),
    to('`http.hosts`', { http: { hosts: ['pay.example.org'] } }),
    to('`http.hosts` with `*.`', { http: { hosts: ['*.example.org'] } }),
    to('`http.methods`', { http: { methods: ['POST'] } }),
    to('`http.paths`, exact', { http: { paths: [{ exact: '/api/payments' }] } }),
    to('`http.paths`, prefix', { http: { paths: [{ prefix: '/api' }] } }),
    to('`http.paths`, template', { http: { paths: [{ template: '/users/{id}/cards' }] } }),
    to('`http.paths`, template with `{path=**}`', { http: { paths: [{ template: '/files/{path=**}' }] } }),
    to('`http.headers`, In', { http: { headers: [{ name: 'x-env', values: ['prod'] }] } }),
    to('`http.headers`, NotIn', {
      http: { headers: [{ name: 'x-env', operator: 'NotIn', values: ['prod'] }] },
    }),
    to('`http.headers`, Exists', { http: { headers: [{ name: 'x-env', operator: 'Exists' }] } }),
    to('`http.query`', { http: { query: [{ name: 'page', values: ['1'] }] } }),
    to('`grpc.service`', { grpc: { service: 'pay.v1.Payments' } }),
    to('`grpc.methods`', { grpc: { service: 'pay.v1.Payments', methods: ['Charge'] } }),
    to('`actions`, `resources`: no request of the network', {
      actions: ['read'],
      resources: [{ type: 'document' }],
    }),
    ['`roles`', policy({ from: orders, roles: [{ name: 'reader' }] })],
    ['`roles` with `claim`', policy({ from: anyone, roles: [{ name: 'reader', claim: 'roles' }] })],
  ],
  'When (`when`)': [
    token('`token.issuers`', { issuers: ['https://login.example.org'] }),
    token('`token.audiences`', { audiences: ['payments'] }),
    token('`token.subjects`', { subjects: ['alice'] }),
    token('`token.claims`, In', { claims: [{ claim: 'department', values: ['sales'] }] }),
    token('`token.claims`, nested', { claims: [{ claim: '/realm/roles', values: ['admin'] }] }),
    token('`token.claims`, Exists', { claims: [{ claim: 'department', operator: 'Exists' }] }),
    token('`token.amr`', { amr: ['mfa'] }),
    token('`token.acr`', { acr: ['gold'] }),
    token('`token.maxAuthAge`', { maxAuthAge: '5m' }),
    when('`during`', { during: [WORK_HOURS] }),
    when('`outside`', { outside: [NIGHT] }),
    when('`sourceLabels`', { sourceLabels: { matchLabels: { app: 'orders' } } }),
    when('`targetLabels`', { targetLabels: { matchLabels: { tier: 'backend' } } }),
    when('`sourcePosture`', { sourcePosture: { noPrivileged: true } }),
    when('`attributes`', {
      attributes: [{ attribute: 'resource.owner', operator: 'Equals', other: 'subject.id' }],
    }),
    when('`cel`', { cel: "action.name == 'GET'" }),
  ],
  'Effect, mode, tier': [
    ['no rule: nobody', policy({}, { rules: [] })],
    deny('Deny a caller', { from: orders }),
    deny('Deny everybody but some', { from: [{ anyone: true, except: [{ spiffeIDs: [ORDERS] }] }] }),
    deny('Deny an address', { from: [{ ipBlocks: ['203.0.113.0/24'] }] }),
    deny('Deny a path', { to: [{ http: { paths: [{ prefix: '/admin' }] } }] }),
    deny('Deny by token', { when: { token: { claims: [{ claim: 'suspended', values: ['yes'] }] } } }),
    ['`mode: Audit`', policy({ from: orders }, { mode: 'Audit' })],
    ['`validity`', policy({ from: orders }, { validity: { until: '2026-02-01T00:00:00Z' } })],
    ['`target.ports`', policy({ from: orders }, { target: { ...TARGET, ports: [8080] } })],
    [
      '`target.serviceAccountNames`',
      policy({ from: orders }, { target: { serviceAccountNames: ['payments'] } }),
    ],
    ['`tier: Admin`, Allow', clusterPolicy('Admin', { from: orders })],
    ['`tier: Admin`, Deny', clusterPolicy('Admin', allowed, { effect: 'Deny', from: orders })],
    ['`tier: Baseline`, Allow', clusterPolicy('Baseline', { from: orders })],
    ['`tier: Baseline`, Deny', clusterPolicy('Baseline', allowed, { effect: 'Deny', from: orders })],
  ],
};
