import { SIGNET_API_VERSION } from './meta.js';

/** The kinds of DESIGN §3 and whether an object of the kind lives in a namespace. */
export const SIGNET_KINDS = {
  TrustDomain: 'Cluster',
  WorkloadIdentity: 'Namespaced',
  ClusterWorkloadIdentity: 'Cluster',
  AccessPolicy: 'Namespaced',
  ClusterAccessPolicy: 'Cluster',
  FederatedTrustDomain: 'Cluster',
  AccessRole: 'Cluster',
  AccessRequest: 'Namespaced',
  Revocation: 'Cluster',
} as const satisfies Record<string, 'Namespaced' | 'Cluster'>;

/** The name of one of Signet's kinds. */
export type SignetKind = keyof typeof SIGNET_KINDS;

export function isSignetKind(kind: string): kind is SignetKind {
  return Object.hasOwn(SIGNET_KINDS, kind);
}

/** Kubernetes' own kinds that Signet reads from a folder, with their API version and scope. */
export const KUBERNETES_KINDS = {
  Namespace: { apiVersion: 'v1', scope: 'Cluster' },
  ServiceAccount: { apiVersion: 'v1', scope: 'Namespaced' },
  Service: { apiVersion: 'v1', scope: 'Namespaced' },
  Gateway: { apiVersion: 'gateway.networking.k8s.io/v1', scope: 'Namespaced' },
  Pod: { apiVersion: 'v1', scope: 'Namespaced' },
  Deployment: { apiVersion: 'apps/v1', scope: 'Namespaced' },
  ReplicaSet: { apiVersion: 'apps/v1', scope: 'Namespaced' },
  StatefulSet: { apiVersion: 'apps/v1', scope: 'Namespaced' },
  DaemonSet: { apiVersion: 'apps/v1', scope: 'Namespaced' },
  Job: { apiVersion: 'batch/v1', scope: 'Namespaced' },
  CronJob: { apiVersion: 'batch/v1', scope: 'Namespaced' },
} as const satisfies Record<string, { apiVersion: string; scope: 'Namespaced' | 'Cluster' }>;

export type KubernetesKind = keyof typeof KUBERNETES_KINDS;

export function isKubernetesKind(kind: string): kind is KubernetesKind {
  return Object.hasOwn(KUBERNETES_KINDS, kind);
}

/** Kinds of Signet that stand in files alone: the API server does not know them. */
export const FILE_KINDS = { PolicyTest: 'Namespaced' } as const satisfies Record<string, 'Namespaced'>;

export type FileKind = keyof typeof FILE_KINDS;

export function isFileKind(kind: string): kind is FileKind {
  return Object.hasOwn(FILE_KINDS, kind);
}

/** Whether objects of a kind live in a namespace; undefined for kinds that Signet does not read. */
export function scopeOf(kind: string): 'Namespaced' | 'Cluster' | undefined {
  if (isSignetKind(kind)) return SIGNET_KINDS[kind];
  if (isFileKind(kind)) return FILE_KINDS[kind];
  return isKubernetesKind(kind) ? KUBERNETES_KINDS[kind].scope : undefined;
}

/** The API version of a kind that Signet reads. */
export function apiVersionOf(kind: SignetKind | KubernetesKind): string {
  return isSignetKind(kind) ? SIGNET_API_VERSION : KUBERNETES_KINDS[kind].apiVersion;
}

const IN_SPEC = ['spec', 'template'] as const;
const POD_TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  Deployment: IN_SPEC,
  ReplicaSet: IN_SPEC,
  StatefulSet: IN_SPEC,
  DaemonSet: IN_SPEC,
  Job: IN_SPEC,
  CronJob: ['spec', 'jobTemplate', ...IN_SPEC],
};

/** Where the pod template stands in an object of a kind that makes pods; undefined for the other kinds. */
export function podTemplatePath(kind: string): readonly string[] | undefined {
  return Object.hasOwn(POD_TEMPLATES, kind) ? POD_TEMPLATES[kind] : undefined;
}
