import type { PodFacts } from '../../src/identity/registration/registration.js';
import type {
  ClusterWorkloadIdentity,
  ClusterWorkloadIdentitySpec,
  WorkloadIdentity,
  WorkloadIdentitySpec,
} from '../../src/resources/identity.js';
import { SIGNET_API_VERSION } from '../../src/resources/meta.js';
import type { StoredObject } from '../../src/store/store.js';

/** A pod, bound to a node unless said otherwise. */
export function aPod(facts: Partial<PodFacts> = {}): PodFacts {
  return {
    namespace: 'shop',
    name: 'payments-1',
    uid: `uid-${facts.namespace ?? 'shop'}-${facts.name ?? 'payments-1'}`,
    serviceAccount: 'payments',
    labels: { app: 'payments' },
    annotations: {},
    nodeName: 'node-1',
    images: [],
    privileged: false,
    ...facts,
  };
}

/** A WorkloadIdentity of namespace `shop`. */
export function aWorkloadIdentity(
  name: string,
  spec: WorkloadIdentitySpec = {},
  namespace = 'shop',
): WorkloadIdentity {
  return {
    apiVersion: SIGNET_API_VERSION,
    kind: 'WorkloadIdentity',
    metadata: { name, namespace, uid: `wi-${namespace}-${name}`, generation: 1 },
    spec,
  };
}

/** A ClusterWorkloadIdentity. */
export function aClusterWorkloadIdentity(
  name: string,
  spec: ClusterWorkloadIdentitySpec = {},
): ClusterWorkloadIdentity {
  return {
    apiVersion: SIGNET_API_VERSION,
    kind: 'ClusterWorkloadIdentity',
    metadata: { name, uid: `cwi-${name}`, generation: 1 },
    spec,
  };
}

/** A Pod object as Kubernetes writes it, bound to `node-1` unless said otherwise. */
export function aPodObject(
  name: string,
  spec: Readonly<Record<string, unknown>> = {},
  metadata: Partial<StoredObject['metadata']> = {},
): StoredObject & { readonly spec: unknown } {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      generation: 1,
      labels: { app: name },
      ...metadata,
    },
    spec: { serviceAccountName: name, nodeName: 'node-1', containers: [], ...spec },
  };
}
