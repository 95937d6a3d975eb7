import type { Condition, LabelSelector, Resource } from './meta.js';

/** Durations are written as in Kubernetes and Go: `1h`, `30m`, `90s`. */
export type Duration = string;

/** Key types of authorities and workloads; Ed25519 only where SPIFFE consumers allow it. */
export type KeyTypeName = 'ec-p256' | 'ec-p384' | 'rsa-2048' | 'rsa-4096' | 'ed25519';

/**
 * Whose tokens the enforcement points accept as end-user tokens: an OpenID Connect provider (`issuer`), or the JWT-SVIDs
 * of a trust domain (`trustDomain`). Exactly one of the two.
 */
export interface TokenIssuer {
  /** `iss` of its tokens, exact; an https URL. */
  readonly issuer?: string;
  /** Our own trust domain or a federated one. */
  readonly trustDomain?: string;
  /** A token must be for one of these. */
  readonly audiences: readonly string[];
  /** Where its keys are; OpenID Connect discovery says unless this does. Not with trustDomain. */
  readonly jwksUri?: string;
  /** Its keys themselves, a JWK set as JSON. Not with jwksUri and trustDomain. */
  readonly jwks?: string;
  /** `RS256`, `ES256`, `PS256` and `EdDSA` unless said. */
  readonly algorithms?: readonly string[];
  /** PEM certificates that the issuer's TLS is verified with; those of the system unless said. */
  readonly caBundle?: string;
}

/** Where a key-encryption key is. */
export interface KeyEncryptionPlace {
  /** A file with 32 bytes (raw, or base64 text). */
  readonly local?: { readonly keyFile: string };
  /** A Kubernetes KMS v2 plugin at a unix socket. */
  readonly kms?: { readonly socket: string };
  /** The Secret that the servers of a cluster make. */
  readonly builtIn?: true;
}

/** The one trust domain of this installation. */
export interface TrustDomainSpec {
  /** e.g. `example.org`. */
  readonly name: string;
  readonly keyTypes?: {
    readonly x509Authority?: KeyTypeName;
    readonly jwtAuthority?: Exclude<KeyTypeName, 'ed25519'>;
    readonly workload?: KeyTypeName;
  };
  readonly ttls?: {
    /** Lifetime of an authority; 24h unless said. */
    readonly authority?: Duration;
    /** 1h unless said. */
    readonly x509Svid?: Duration;
    /** 5m unless said. */
    readonly jwtSvid?: Duration;
  };
  /** `iss` of JWT-SVIDs; none unless said. */
  readonly jwtIssuer?: string;
  /** Who signs our X.509 authorities; self-signed unless said. */
  readonly upstreamAuthority?: {
    /** PEM files: the root's (or an intermediate's) chain and its key. */
    readonly disk?: {
      readonly certificateFile: string;
      readonly keyFile: string;
      readonly rootsFile?: string;
    };
  };
  /** Envelope encryption of authority keys at rest. */
  readonly keyEncryption?: KeyEncryptionPlace & {
    /** The key that sealed before: what it has sealed opens, and is sealed anew. */
    readonly previous?: KeyEncryptionPlace;
  };
  /** What a request gets that no policy speaks of; `Deny` unless said. */
  readonly defaultAction?: 'Allow' | 'Deny';
  /** Issuers of end-user tokens; none unless said, and then no condition on a token ever holds. */
  readonly tokenIssuers?: readonly TokenIssuer[];
  /** Meshes to render for; those that the cluster has, unless said. */
  readonly meshes?: readonly string[];
  /** How those meshes are installed, where that is not as usual. */
  readonly meshOptions?: MeshOptionsSpec;
}

/** What the rules of a mesh need to know of how it is installed. */
export interface MeshOptionsSpec {
  readonly istio?: {
    /** Whose objects hold in the whole mesh; `istio-system` unless said. */
    readonly rootNamespace?: string;
    /** By the labels of namespaces and pods unless said. */
    readonly mode?: 'Sidecar' | 'Ambient';
  };
  readonly linkerd?: {
    /** Of its control plane; `linkerd` unless said. */
    readonly namespace?: string;
    /** Its own; `cluster.local` unless said. */
    readonly trustDomain?: string;
    /** Where the kubelets' probes come from; HTTP probes are denied without. */
    readonly probeNetworks?: readonly string[];
  };
  readonly networkPolicy?: PodNetworkOptionsSpec & {
    /** A mesh behind it enforces HTTP and the rest. */
    readonly outerLayer?: boolean;
  };
  readonly cilium?: PodNetworkOptionsSpec & {
    /** The largest regular expression that its Envoy takes; 100 unless said. */
    readonly maxRegexProgramSize?: number;
  };
  readonly kuma?: {
    /** Which the objects are of; `default` unless said. */
    readonly mesh?: string;
  };
}

/** What those need to know that see addresses rather than identities. */
export interface PodNetworkOptionsSpec {
  /** The addresses that pods have. */
  readonly podNetworks?: readonly string[];
  /** Whether callers from outside the cluster may hold identities; true unless said. */
  readonly outsideIdentities?: boolean;
}

export interface AuthorityStatus {
  readonly id: string;
  readonly kind: 'X509' | 'JWT';
  readonly slot: 'Prepared' | 'Active' | 'Old';
  readonly notBefore: string;
  readonly notAfter: string;
  readonly tainted: boolean;
  readonly revoked: boolean;
}

/** What has become of a request by annotation `signet.dev/ca-request`. */
export interface AuthorityRequestStatus {
  /** The request's own, by which it is known again. */
  readonly nonce: string;
  readonly action: string;
  readonly outcome: 'Running' | 'Succeeded' | 'Failed';
  readonly message: string;
  readonly time: string;
}

export interface TrustDomainStatus {
  readonly conditions?: readonly Condition[];
  readonly authorities?: readonly AuthorityStatus[];
  readonly bundleSequence?: number;
  readonly request?: AuthorityRequestStatus;
  /** `namespace/name` of the Lease of the installation that owns the cluster. */
  readonly servedBy?: string;
  /** Another installation that asks whether the owner is still there. */
  readonly contender?: string;
}

export type TrustDomain = Resource<'TrustDomain', TrustDomainSpec> & { readonly status?: TrustDomainStatus };

/** What both identity kinds say about the SVIDs they give. */
export interface IdentityTemplate {
  /**
   * The SPIFFE ID, as a template over the pod: `spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}`
   * or only its path. Unset: `/ns/<namespace>/sa/<service account>`.
   */
  readonly spiffeIDTemplate?: string;
  readonly x509TTL?: Duration;
  readonly jwtTTL?: Duration;
  /** DNS names put into the X.509-SVID, templates like the ID. */
  readonly dnsNameTemplates?: readonly string[];
  /** The operator's name for this identity, unique per workload. */
  readonly hint?: string;
  /** Foreign trust domains whose bundles the workload gets. */
  readonly federatesWith?: readonly string[];
  /** Audiences of JWT-SVIDs that may be asked for; any unless said. */
  readonly audiences?: readonly string[];
  /**
   * Which containers of the pods that are selected; whole pods unless said. Every field that is written must hold. Such an
   * identity is given on the shared socket of a node alone, where the kernel tells containers apart.
   */
  readonly containerSelector?: {
    readonly names?: readonly string[];
    /** `sha256:<hex>`, of the image that the container runs, as `imageID` of its status says. */
    readonly imageDigests?: readonly string[];
  };
  /** What a pod must be like to get this identity. */
  readonly requirements?: IdentityRequirements;
  /** Secrets delivered to whoever holds the identity. */
  readonly secrets?: readonly { readonly name: string; readonly secretRef: { readonly name: string } }[];
}

export interface IdentityRequirements {
  /** Every image must be named by digest. */
  readonly imageDigests?: boolean;
  /** Every image must start with one of these, up to a `/`, `:` or `@`. */
  readonly allowedImages?: readonly string[];
  /** No container may be privileged. */
  readonly noPrivileged?: boolean;
}

/** An identity for pods of its own namespace. */
export interface WorkloadIdentitySpec extends IdentityTemplate {
  /** Unset selects every pod of the namespace. */
  readonly podSelector?: LabelSelector;
  /** Unset selects every service account. */
  readonly serviceAccountNames?: readonly string[];
}

/** An identity for pods of many namespaces, or for processes outside Kubernetes. */
export interface ClusterWorkloadIdentitySpec extends IdentityTemplate {
  readonly namespaceSelector?: LabelSelector;
  readonly podSelector?: LabelSelector;
  readonly serviceAccountNames?: readonly string[];
  /** Only for pods that no other identity selects. */
  readonly fallback?: boolean;
  /** Selects static pods, and no others; given on the shared socket of their node alone. */
  readonly staticPods?: boolean;
  /** Processes outside Kubernetes; excludes the selectors above. */
  readonly processSelector?: {
    readonly uid?: number;
    readonly gid?: number;
    readonly supplementaryGid?: number;
    readonly path?: string;
    readonly sha256?: string;
  };
}

export interface IdentityStatus {
  readonly conditions?: readonly Condition[];
  readonly podsSelected?: number;
  readonly svidsIssued?: number;
  readonly nextExpiry?: string;
  /** Capped; each says which pod and why it has no identity. */
  readonly failures?: readonly { readonly pod: string; readonly reason: string; readonly message: string }[];
}

export type WorkloadIdentity = Resource<'WorkloadIdentity', WorkloadIdentitySpec> & {
  readonly status?: IdentityStatus;
};
export type ClusterWorkloadIdentity = Resource<'ClusterWorkloadIdentity', ClusterWorkloadIdentitySpec> & {
  readonly status?: IdentityStatus;
};

/** A trust domain that we trust to name its own workloads. */
export interface FederatedTrustDomainSpec {
  readonly trustDomain: string;
  readonly bundleEndpoint?: {
    readonly url: string;
    readonly profile: 'https_web' | 'https_spiffe';
    /** For https_spiffe. */
    readonly endpointSPIFFEID?: string;
  };
  /** A SPIFFE bundle document (JWKS), as text. */
  readonly bundle?: string;
}

export interface FederatedTrustDomainStatus {
  readonly conditions?: readonly Condition[];
  readonly lastRefresh?: string;
  readonly sequence?: number;
}

export type FederatedTrustDomain = Resource<'FederatedTrustDomain', FederatedTrustDomainSpec> & {
  readonly status?: FederatedTrustDomainStatus;
};
