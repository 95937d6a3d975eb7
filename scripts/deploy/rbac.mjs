// What each part of Signet may do to the API server, and why: as little as it needs. The one source of the RBAC in deploy/.
// test/cluster/rbac.test.ts runs the operator under exactly these rules, and fails on what is missing and on what is never used.

/** Signet's own kinds whose status the server writes. */
const STATUSES = [
  'trustdomains',
  'workloadidentities',
  'clusterworkloadidentities',
  'accesspolicies',
  'clusteraccesspolicies',
  'accessroles',
  'federatedtrustdomains',
  'revocations',
];

/** In the whole cluster. */
export const SERVER_CLUSTER_RULES = [
  {
    why: 'Which pods there are, on which nodes, and which namespaces: registrations are computed from them.',
    apiGroups: [''],
    resources: ['pods', 'namespaces'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'Which Services lead to which pods: callers come through them, and Istio waypoints are told of them.',
    apiGroups: [''],
    resources: ['services'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'What was asked for. The server changes none of it.',
    apiGroups: ['signet.dev'],
    resources: [...STATUSES, 'accessrequests'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'What became of it, and why not: status alone.',
    apiGroups: ['signet.dev'],
    resources: STATUSES.map((plural) => `${plural}/status`),
    verbs: ['patch'],
  },
  {
    why: 'Whether an agent is who it says: its token is reviewed.',
    apiGroups: ['authentication.k8s.io'],
    resources: ['tokenreviews'],
    verbs: ['create'],
  },
  {
    why: 'What `kubectl describe` shows; patch counts repetitions into one event.',
    apiGroups: ['events.k8s.io'],
    resources: ['events'],
    verbs: ['create', 'patch'],
  },
  {
    why: 'Which meshes the cluster has: a new CRD is noticed at once. Metadata alone is read.',
    apiGroups: ['apiextensions.k8s.io'],
    resources: ['customresourcedefinitions'],
    verbs: ['list', 'watch'],
  },
];

/** In the whole cluster, for what is published. */
export const SERVER_PUBLISHING_RULES = [
  {
    why: 'The trust bundle in each namespace that asks for it. Deleted or edited ones are noticed by watching those that carry our label; a selector cannot be written here.',
    apiGroups: [''],
    resources: ['configmaps'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'No other ConfigMap is touched: apply names what it creates.',
    apiGroups: [''],
    resources: ['configmaps'],
    resourceNames: ['signet-bundle'],
    verbs: ['get', 'create', 'patch', 'update', 'delete'],
  },
  {
    why: 'The trust bundle as Kubernetes itself distributes it.',
    apiGroups: ['certificates.k8s.io'],
    resources: ['clustertrustbundles'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'Its one object.',
    apiGroups: ['certificates.k8s.io'],
    resources: ['clustertrustbundles'],
    resourceNames: ['signet.dev:workload:bundle'],
    verbs: ['get', 'create', 'patch'],
  },
  {
    why: 'Which pods ask the kubelet for a certificate of ours.',
    apiGroups: ['certificates.k8s.io'],
    resources: ['podcertificaterequests'],
    verbs: ['get', 'list', 'watch'],
  },
  {
    why: 'The certificate, or why there is none.',
    apiGroups: ['certificates.k8s.io'],
    resources: ['podcertificaterequests/status'],
    verbs: ['patch'],
  },
  {
    why: 'Our own signer: sign lets us answer its requests, attest publish its bundle.',
    apiGroups: ['certificates.k8s.io'],
    resources: ['signers'],
    resourceNames: ['signet.dev/workload'],
    verbs: ['sign', 'attest'],
  },
  {
    why: 'caBundle of the webhooks whose configuration asks for it (annotation signet.dev/inject-ca). Their other fields are written back as they are.',
    apiGroups: ['admissionregistration.k8s.io'],
    resources: ['validatingwebhookconfigurations', 'mutatingwebhookconfigurations'],
    verbs: ['get', 'list', 'watch', 'update'],
  },
];

/** In Signet's own namespace. */
export const SERVER_OWN_RULES = [
  {
    why: 'One replica leads. The first makes the Lease; a name cannot be given to what is created.',
    apiGroups: ['coordination.k8s.io'],
    resources: ['leases'],
    verbs: ['create'],
  },
  {
    why: 'The leader renews it, and gives it back when it stops.',
    apiGroups: ['coordination.k8s.io'],
    resources: ['leases'],
    resourceNames: ['signet-server'],
    verbs: ['get', 'update'],
  },
  {
    why: 'The first leader makes the Secrets of the authorities and of the key that seals them.',
    apiGroups: [''],
    resources: ['secrets'],
    verbs: ['create'],
  },
  {
    why: 'All replicas read the sealed authorities and notice changes; the leader writes what it rotates, and deletes what is lost when an administrator has it begin anew.',
    apiGroups: [''],
    resources: ['secrets'],
    resourceNames: ['signet-ca'],
    verbs: ['get', 'list', 'watch', 'update', 'delete'],
  },
  {
    why: 'The key that seals the authorities, where no KMS does; deleted when it is lost and authorities begin anew.',
    apiGroups: [''],
    resources: ['secrets'],
    resourceNames: ['signet-key-encryption'],
    verbs: ['get', 'delete'],
  },
];

const APPLIED = ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete'];

/** Objects that policies are rendered as, for each mesh. Leave out those that you do not have. */
export const MESH_RULES = {
  istio: [
    {
      why: 'Policies as Istio enforces them.',
      apiGroups: ['security.istio.io'],
      resources: ['authorizationpolicies', 'requestauthentications', 'peerauthentications'],
      verbs: APPLIED,
    },
    {
      why: 'What an AuthorizationPolicy cannot say.',
      apiGroups: ['networking.istio.io'],
      resources: ['envoyfilters'],
      verbs: APPLIED,
    },
    {
      why: 'The same at waypoints.',
      apiGroups: ['extensions.istio.io'],
      resources: ['trafficextensions'],
      verbs: APPLIED,
    },
  ],
  cilium: [
    {
      why: 'Policies as Cilium enforces them.',
      apiGroups: ['cilium.io'],
      resources: ['ciliumnetworkpolicies', 'ciliumclusterwidenetworkpolicies'],
      verbs: APPLIED,
    },
  ],
  linkerd: [
    {
      why: 'Policies as Linkerd enforces them.',
      apiGroups: ['policy.linkerd.io'],
      resources: [
        'servers',
        'authorizationpolicies',
        'meshtlsauthentications',
        'networkauthentications',
        'httproutes',
      ],
      verbs: APPLIED,
    },
  ],
  kuma: [
    {
      why: 'Policies as Kuma enforces them.',
      apiGroups: ['kuma.io'],
      resources: ['meshtrafficpermissions'],
      verbs: APPLIED,
    },
  ],
  gateway: [
    {
      why: 'Policies as implementations of the Gateway API enforce them (GEP-3779).',
      apiGroups: ['gateway.networking.k8s.io'],
      resources: ['authorizationpolicies'],
      verbs: APPLIED,
    },
  ],
  networkpolicy: [
    {
      why: 'Policies as the network enforces them, where spec.meshes of the TrustDomain asks for it.',
      apiGroups: ['networking.k8s.io'],
      resources: ['networkpolicies'],
      verbs: APPLIED,
    },
  ],
};

/** For people: added to the roles view, edit and admin that every cluster has, so that namespace owners need no cluster admin. */
export const USER_ROLES = [
  {
    name: 'signet-view',
    aggregateTo: ['view', 'edit', 'admin'],
    rules: [
      {
        why: 'Who may look at a namespace sees its identities and policies, and what became of them.',
        apiGroups: ['signet.dev'],
        resources: ['workloadidentities', 'accesspolicies', 'accessrequests'],
        verbs: ['get', 'list', 'watch'],
      },
    ],
  },
  {
    name: 'signet-edit',
    aggregateTo: ['edit', 'admin'],
    rules: [
      {
        why: 'Who deploys in a namespace says what its own pods are called: no SPIFFE ID of another can be claimed there.',
        apiGroups: ['signet.dev'],
        resources: ['workloadidentities'],
        verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'],
      },
    ],
  },
  {
    name: 'signet-admin',
    aggregateTo: ['admin'],
    rules: [
      {
        why: 'Who owns a namespace says who may talk to its pods.',
        apiGroups: ['signet.dev'],
        resources: ['accesspolicies', 'accessrequests'],
        verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'],
      },
    ],
  },
];
