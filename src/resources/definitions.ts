import {
  clusterWorkloadIdentitySpec,
  federatedTrustDomainSpec,
  federatedTrustDomainStatus,
  identityStatus,
  trustDomainSpec,
  trustDomainStatus,
  workloadIdentitySpec,
} from './identity-schema.js';
import type {
  ClusterWorkloadIdentity,
  FederatedTrustDomain,
  TrustDomain,
  WorkloadIdentity,
} from './identity.js';
import type { SignetKind } from './kinds.js';
import type { AccessPolicy, AccessRequest, AccessRole, ClusterAccessPolicy } from './policy.js';
import type { Revocation } from './revocation.js';
import {
  accessPolicySpec,
  accessPolicyStatus,
  accessRequestSpec,
  accessRequestStatus,
  accessRoleSpec,
  accessRoleStatus,
  clusterAccessPolicySpec,
} from './policy-schema.js';
import { revocationSpec, revocationStatus } from './revocation-schema.js';
import type { Schema } from './schema.js';

/** A column of `kubectl get`. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date' | 'boolean';
  readonly jsonPath: string;
  readonly description: string;
  /** Shown only with `-o wide`. */
  readonly wide?: true;
}

/** The object of each kind. */
interface KindTypes {
  readonly TrustDomain: TrustDomain;
  readonly WorkloadIdentity: WorkloadIdentity;
  readonly ClusterWorkloadIdentity: ClusterWorkloadIdentity;
  readonly AccessPolicy: AccessPolicy;
  readonly ClusterAccessPolicy: ClusterAccessPolicy;
  readonly FederatedTrustDomain: FederatedTrustDomain;
  readonly AccessRole: AccessRole;
  readonly AccessRequest: AccessRequest;
  readonly Revocation: Revocation;
}

/** What a CustomResourceDefinition says of a kind, besides its scope. */
interface KindDefinition<T extends { readonly spec: unknown; readonly status?: unknown }> {
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly description: string;
  readonly spec: Schema<T['spec']>;
  readonly status: Schema<NonNullable<T['status']>>;
  readonly columns: readonly PrinterColumn[];
}

const ready = (type: string, name = type): PrinterColumn => ({
  name,
  type: 'string',
  jsonPath: `.status.conditions[?(@.type=="${type}")].status`,
  description: 'Whether it is in force; kubectl describe says why not.',
});
const reason: PrinterColumn = {
  name: 'Reason',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
  description: 'Why it is, or is not.',
};
const age: PrinterColumn = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'How long it has been there.',
};
function column(
  name: string,
  jsonPath: string,
  description: string,
  options: { readonly type?: PrinterColumn['type']; readonly wide?: true } = {},
): PrinterColumn {
  const { type = 'string', wide } = options;
  return { name, type, jsonPath, description, ...(wide === undefined ? {} : { wide }) };
}

const identityColumns: readonly PrinterColumn[] = [
  column('Pods', '.status.podsSelected', 'How many pods or processes it selects.', { type: 'integer' }),
  column('SVIDs', '.status.svidsIssued', 'How many of them have an SVID.', { type: 'integer' }),
  ready('Ready'),
  reason,
  column('SPIFFE ID', '.spec.spiffeIDTemplate', 'The template of the SPIFFE ID.', { wide: true }),
  column('Next expiry', '.status.nextExpiry', 'When the first SVID ends, unless it is renewed.', {
    wide: true,
  }),
  age,
];

const policyColumns: readonly PrinterColumn[] = [
  column('Mode', '.spec.mode', 'Enforce, or Audit (reported only).'),
  column('Pods', '.status.podsProtected', 'How many pods it protects.', { type: 'integer' }),
  ready('Ready'),
  reason,
  column('Fidelity', '.status.renderings[*].fidelity', 'How faithfully the meshes say it.'),
  column('Until', '.spec.validity.until', 'When it ends.', { wide: true }),
  age,
];

/** Everything that a CustomResourceDefinition is made of, for each kind of DESIGN §3. */
export const DEFINITIONS: { readonly [K in SignetKind]: KindDefinition<KindTypes[K]> } = {
  TrustDomain: {
    plural: 'trustdomains',
    singular: 'trustdomain',
    shortNames: ['td'],
    description:
      'TrustDomain is the one trust domain of this installation: its name, authorities and defaults.',
    spec: trustDomainSpec,
    status: trustDomainStatus,
    columns: [
      column('Trust domain', '.spec.name', 'Its name.'),
      column('Bundle', '.status.bundleSequence', 'Sequence number of the bundle.', { type: 'integer' }),
      ready('Ready'),
      reason,
      age,
    ],
  },
  WorkloadIdentity: {
    plural: 'workloadidentities',
    singular: 'workloadidentity',
    shortNames: ['wid'],
    description: 'WorkloadIdentity gives pods of its own namespace a SPIFFE ID.',
    spec: workloadIdentitySpec,
    status: identityStatus,
    columns: identityColumns,
  },
  ClusterWorkloadIdentity: {
    plural: 'clusterworkloadidentities',
    singular: 'clusterworkloadidentity',
    shortNames: ['cwid'],
    description:
      'ClusterWorkloadIdentity gives pods of many namespaces, or processes outside Kubernetes, a SPIFFE ID.',
    spec: clusterWorkloadIdentitySpec,
    status: identityStatus,
    columns: identityColumns,
  },
  AccessPolicy: {
    plural: 'accesspolicies',
    singular: 'accesspolicy',
    shortNames: ['acp'],
    description: 'AccessPolicy says who may call the pods of its namespace, by identity.',
    spec: accessPolicySpec,
    status: accessPolicyStatus,
    columns: policyColumns,
  },
  ClusterAccessPolicy: {
    plural: 'clusteraccesspolicies',
    singular: 'clusteraccesspolicy',
    shortNames: ['cacp'],
    description:
      'ClusterAccessPolicy says who may call the pods of many namespaces, before or after their own policies.',
    spec: clusterAccessPolicySpec,
    status: accessPolicyStatus,
    columns: [column('Tier', '.spec.tier', 'Admin (decided first) or Baseline.'), ...policyColumns],
  },
  FederatedTrustDomain: {
    plural: 'federatedtrustdomains',
    singular: 'federatedtrustdomain',
    shortNames: ['ftd'],
    description: 'FederatedTrustDomain is a foreign trust domain that is trusted to name its own workloads.',
    spec: federatedTrustDomainSpec,
    status: federatedTrustDomainStatus,
    columns: [
      column('Trust domain', '.spec.trustDomain', 'Its name.'),
      column('Profile', '.spec.bundleEndpoint.profile', 'How its endpoint proves who it is.'),
      column('Refreshed', '.status.lastRefresh', 'When the bundle was last fetched.', { type: 'date' }),
      ready('Ready'),
      reason,
      column('Endpoint', '.spec.bundleEndpoint.url', 'Where its bundle is fetched from.', { wide: true }),
      age,
    ],
  },
  AccessRole: {
    plural: 'accessroles',
    singular: 'accessrole',
    shortNames: ['acr'],
    description: 'AccessRole is a named set of permissions that rules grant.',
    spec: accessRoleSpec,
    status: accessRoleStatus,
    columns: [
      column('Permissions', '.status.permissions', 'How many permissions, with those of included roles.', {
        type: 'integer',
      }),
      column('Includes', '.spec.includes', 'The roles that it includes.', { wide: true }),
      ready('Ready'),
      age,
    ],
  },
  AccessRequest: {
    plural: 'accessrequests',
    singular: 'accessrequest',
    shortNames: ['acreq'],
    description:
      'AccessRequest asks for access for a while; once approved it becomes a policy that ends by itself.',
    spec: accessRequestSpec,
    status: accessRequestStatus,
    columns: [
      column('Phase', '.status.phase', 'Where it stands.'),
      column('For', '.spec.duration', 'How long.'),
      column('Until', '.status.validUntil', 'When the access ends.'),
      column('Reason', '.spec.reason', 'Why it is asked for.'),
      column('By', '.spec.decision.by', 'Who decided.', { wide: true }),
      age,
    ],
  },
  Revocation: {
    plural: 'revocations',
    singular: 'revocation',
    shortNames: ['rvk'],
    description: 'Revocation takes trust away before it runs out, at once and everywhere.',
    spec: revocationSpec,
    status: revocationStatus,
    columns: [
      column('Reason', '.spec.reason', 'Why.'),
      column('Until', '.spec.until', 'When it ends; for good when empty.'),
      column('Reached', '.status.agentsReached', 'How many agents have dropped it.', { type: 'integer' }),
      column('Agents', '.status.agentsTotal', 'How many agents may hold it.', { type: 'integer' }),
      age,
    ],
  },
};
