import type { SignetKind } from '../../src/resources/kinds.js';

/** The spec of one right object of each kind, with nearly every field: YAML. */
export const RIGHT: Readonly<Record<SignetKind, string>> = {
  TrustDomain: `
    name: example.org
    keyTypes: { x509Authority: ec-p384, jwtAuthority: rsa-2048, workload: ec-p256 }
    ttls: { authority: 24h, x509Svid: 1h, jwtSvid: 5m }
    jwtIssuer: https://oidc.example.org
    upstreamAuthority: { disk: { certificateFile: /etc/ca.pem, keyFile: /etc/ca.key } }
    keyEncryption: { local: { keyFile: /etc/kek }, previous: { builtIn: true } }
    defaultAction: Deny
    meshes: [istio, networkpolicy]
    meshOptions:
      istio: { rootNamespace: istio-system, mode: Ambient }
      linkerd: { namespace: linkerd, trustDomain: cluster.local, probeNetworks: [10.0.0.0/8, "fd00::/8"] }
      networkPolicy: { podNetworks: [10.244.0.0/16], outsideIdentities: false, outerLayer: true }
      cilium: { podNetworks: [10.244.0.0/16], outsideIdentities: true, maxRegexProgramSize: 1000 }
      kuma: { mesh: default }`,
  WorkloadIdentity: `
    podSelector: { matchLabels: { app: web }, matchExpressions: [{ key: tier, operator: In, values: [a, b] }] }
    serviceAccountNames: [web]
    spiffeIDTemplate: /ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}
    x509TTL: 30m
    jwtTTL: 5m
    dnsNameTemplates: ["{{ .ServiceAccount }}.{{ .Namespace }}.svc", web.default.svc.cluster.local]
    hint: web
    federatesWith: [partner.example]
    audiences: [api]
    requirements: { imageDigests: true, allowedImages: [registry.example.org/team], noPrivileged: true }
    secrets: [{ name: db, secretRef: { name: db-password } }]`,
  ClusterWorkloadIdentity: `
    processSelector: { uid: 1000, path: /usr/bin/backup, sha256: ${'ab'.repeat(32)} }
    spiffeIDTemplate: spiffe://{{ .TrustDomain }}/host/backup`,
  AccessPolicy: `
    target: { podSelector: { matchLabels: { app: payments } }, serviceAccountNames: [payments], ports: [8443] }
    mode: Audit
    validity: { from: "2026-01-01T00:00:00Z", until: "2026-12-31T18:00:00+01:00" }
    rules:
      - name: orders
        from:
          - serviceAccounts: [{ name: orders }, { namespace: shop, name: web }]
            trustDomains: [example.org]
            except: [{ spiffeIDs: ["spiffe://example.org/ns/shop/sa/web"] }]
          - identities: [{ name: orders }, { kind: ClusterWorkloadIdentity, name: ops }]
          - namespaceSelector: { matchLabels: { team: blue } }
          - ipBlocks: [10.0.0.0/8, "2001:db8::/32"]
          - anyAuthenticated: true
        to:
          - ports: [8443]
            http:
              hosts: ["*.example.org", api.example.org]
              methods: [GET, POST]
              paths: [{ exact: /a }, { prefix: /b }, { template: "/c/{id}/{rest=**}" }]
              headers: [{ name: X-Tenant, values: [a] }, { name: x-debug, operator: DoesNotExist }]
              query: [{ name: v, operator: NotIn, values: ["1"] }]
          - grpc: { service: payments.v1.Payments, methods: [Charge] }
        when:
          during: [{ days: [Mon, Fri], from: "09:00", until: "17:00", timeZone: Europe/Berlin }]
          sourceLabels: { matchLabels: { tier: backend } }
          sourcePosture: { noPrivileged: true }
          cel: resource.level < 3
      - name: editors
        effect: Deny
        from: [{ anyone: true }]
        roles: [{ name: editor, claim: /realm_access/roles, value: doc-editor }]
        when:
          token:
            issuers: [https://idp.example.org]
            audiences: [docs]
            claims: [{ claim: department, values: [a] }, { claim: groups, operator: ContainsAll, values: [x, y] }]
            amr: [mfa]
            acr: [high]
            maxAuthAge: 15m
          outside: [{ from: "22:00", until: "24:00", timeZone: UTC }]
          attributes:
            - { attribute: resource.owner, operator: Equals, other: subject.id }
            - { attribute: resource.department, values: [a, b] }
            - { attribute: environment.risk, operator: AtMost, values: ["3"] }
            - { attribute: subject.email, operator: Exists }`,
  ClusterAccessPolicy: `
    tier: Admin
    target: { namespaces: [a], namespaceSelector: { matchLabels: { env: prod } } }
    rules:
      - name: r
        from:
          - serviceAccounts: [{ namespace: a, name: b }]
          - identities: [{ kind: ClusterWorkloadIdentity, name: ops }]`,
  FederatedTrustDomain: `
    trustDomain: partner.example
    bundleEndpoint: { url: "https://spiffe.partner.example/bundle", profile: https_web }`,
  AccessRole: `
    description: Edits documents.
    permissions: [{ actions: [read, write], resources: [{ type: document, ids: ["1"] }] }]
    includes: [viewer]`,
  AccessRequest: `
    target: {}
    from: [{ identities: [{ name: oncall }] }]
    roles: [{ name: debug }]
    duration: 1h
    reason: Incident 42
    decision: { verdict: Approved, by: alice, message: go }`,
  Revocation: `
    subject: { pod: { namespace: a, name: b, uid: c } }
    reason: stolen
    until: "2027-01-01T00:00:00Z"`,
};
