import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';

export type Manifest = Readonly<Record<string, unknown>>;

/** Writes a file of resources into a folder, as an editor does that saves in place. */
export function writeResources(folder: string, file: string, manifests: readonly Manifest[]): void {
  writeFileSync(join(folder, file), manifests.map((manifest) => stringify(manifest)).join('---\n'));
}

export function namespace(name: string): Manifest {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}

/** A pod with its own service account; both have its name, as has the label `app`. */
export function pod(name: string, ns = 'shop'): readonly Manifest[] {
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: ns } },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: ns, labels: { app: name } },
      spec: { serviceAccountName: name, containers: [{ name: 'main', image: 'registry.test/app:1' }] },
    },
  ];
}

/** An identity for the pod of that name; without a template it is the one of its service account. */
export function identity(name: string, spec: Manifest = {}, ns = 'shop', app = name): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'WorkloadIdentity',
    metadata: { name, namespace: ns },
    spec: { podSelector: { matchLabels: { app } }, ...spec },
  };
}

export function clusterIdentity(name: string, spec: Manifest): Manifest {
  return { apiVersion: 'signet.dev/v1alpha1', kind: 'ClusterWorkloadIdentity', metadata: { name }, spec };
}

export function trustDomain(name: string, spec: Manifest = {}): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'TrustDomain',
    metadata: { name: 'default' },
    spec: { name, ...spec },
  };
}

export function federated(trustDomainName: string, bundle: string): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'FederatedTrustDomain',
    metadata: { name: 'partner' },
    spec: { trustDomain: trustDomainName, bundle },
  };
}
