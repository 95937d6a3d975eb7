import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import type {
  ClusterWorkloadIdentitySpec,
  FederatedTrustDomainSpec,
  TrustDomainSpec,
  WorkloadIdentitySpec,
} from './identity.js';
import { clusterIdentityProblems, workloadIdentityProblems } from './identity-semantics.js';
import type { SignetKind } from './kinds.js';
import { meshOptionsProblems } from './mesh-options-schema.js';
import { error } from './names.js';
import { accessRequestProblems, accessRoleProblems, policyProblems } from './policy-semantics.js';
import type {
  AccessPolicySpec,
  AccessRequestSpec,
  AccessRoleSpec,
  ClusterAccessPolicySpec,
} from './policy.js';
import type { FieldPath, Problem } from './problem.js';
import type { RevocationSpec } from './revocation.js';
import { durationProblems } from './duration-bounds.js';

/** What the schema cannot say of an object, whose form has been checked by it. */
export function checkSemantics(kind: SignetKind, object: Readonly<Record<string, unknown>>): Problem[] {
  const { metadata, spec } = object as { metadata: { namespace?: string }; spec: unknown };
  const namespace = metadata.namespace ?? 'default';
  switch (kind) {
    case 'TrustDomain':
      return trustDomainProblems(spec as TrustDomainSpec);
    case 'WorkloadIdentity':
      return workloadIdentityProblems(spec as WorkloadIdentitySpec, namespace);
    case 'ClusterWorkloadIdentity':
      return clusterIdentityProblems(spec as ClusterWorkloadIdentitySpec);
    case 'AccessPolicy':
      return policyProblems(spec as AccessPolicySpec);
    case 'ClusterAccessPolicy':
      return policyProblems(spec as ClusterAccessPolicySpec);
    case 'FederatedTrustDomain':
      return federationProblems(spec as FederatedTrustDomainSpec);
    case 'AccessRole':
      return accessRoleProblems(spec as AccessRoleSpec);
    case 'AccessRequest':
      return accessRequestProblems(spec as AccessRequestSpec);
    case 'Revocation':
      return revocationProblems(spec as RevocationSpec);
  }
}

function trustDomainProblems({ ttls, meshOptions = {} }: TrustDomainSpec): Problem[] {
  return [
    ...durationProblems(ttls?.authority, ['spec', 'ttls', 'authority'], 'authority'),
    ...durationProblems(ttls?.x509Svid, ['spec', 'ttls', 'x509Svid'], 'svid'),
    ...durationProblems(ttls?.jwtSvid, ['spec', 'ttls', 'jwtSvid'], 'svid'),
    ...meshOptionsProblems(meshOptions),
  ];
}

function federationProblems({ trustDomain, bundle, bundleEndpoint }: FederatedTrustDomainSpec): Problem[] {
  const problems: Problem[] = [];
  if (bundle !== undefined) {
    problems.push(...problemOf(['spec', 'bundle'], () => parseBundleDocument(trustDomain, bundle)));
  }
  const id = bundleEndpoint?.endpointSPIFFEID;
  if (id !== undefined) {
    problems.push(...problemOf(['spec', 'bundleEndpoint', 'endpointSPIFFEID'], () => parseSpiffeId(id)));
  }
  return problems;
}

function revocationProblems({ subject: { spiffeID } }: RevocationSpec): Problem[] {
  return spiffeID === undefined
    ? []
    : problemOf(['spec', 'subject', 'spiffeID'], () => parseSpiffeId(spiffeID));
}

/** What a parser says of a field. */
function problemOf(path: FieldPath, parse: () => unknown): Problem[] {
  try {
    parse();
    return [];
  } catch (thrown) {
    return [error(path, thrown instanceof Error ? thrown.message : String(thrown))];
  }
}
