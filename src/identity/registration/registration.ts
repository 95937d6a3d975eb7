import type { KeyTypeName } from '../../resources/identity.js';
import type { SpiffeId } from '../spiffe/id.js';

/** A pod as the identity side sees it: what is needed to select it and to write its SPIFFE ID. */
export interface PodFacts {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Empty until the pod is bound. */
  readonly nodeName: string;
  /** Images of its containers as written, with digests where known. */
  readonly images: readonly string[];
  readonly privileged: boolean;
  readonly ip?: string;
  /** Names of all its containers; unset where nobody has said. */
  readonly containerNames?: readonly string[];
  /** Those that were started, as its node says. */
  readonly containers?: readonly ContainerFacts[];
  /**
   * Set for a static pod, of which the API server has but a mirror: the UID by which its node knows it, empty when that cannot
   * be told.
   */
  readonly staticUid?: string;
}

/** A container that was started: what the kubelet writes of it into the status of its pod. */
export interface ContainerFacts {
  readonly name: string;
  /** Runtime and ID: `containerd://<64 hex digits>`; or the first 32 of these digits. */
  readonly containerID: string;
  /** What it runs, with the digest at the end: `docker.io/library/nginx@sha256:<64 hex digits>`. */
  readonly imageID?: string;
}

/** Selects containers of a pod; every field that is set must match. */
export interface ContainerSelector {
  readonly names?: readonly string[];
  /** `sha256:<64 hex digits>`. */
  readonly imageDigests?: readonly string[];
}

/** Selects processes outside Kubernetes; every field that is set must match the kernel's facts. */
export interface ProcessSelector {
  readonly uid?: number;
  readonly gid?: number;
  readonly supplementaryGid?: number;
  /** Absolute path of the executable. */
  readonly path?: string;
  /** Hex SHA-256 of the executable. */
  readonly sha256?: string;
}

/** What the kernel says about a process: what a {@link ProcessSelector} is held against. */
export interface ProcessFacts {
  readonly uid: number;
  readonly gid: number;
  readonly supplementaryGids: readonly number[];
  /** Absolute path of the executable; unset when it could not be read. */
  readonly path?: string;
  /** Hex SHA-256 of the executable; unset when it could not be read. */
  readonly sha256?: string;
}

/** A pod that a registration is for. */
export interface PodRegistrationSubject {
  readonly kind: 'pod';
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** The UID by which its node knows a static pod. */
  readonly staticUid?: string;
}

/** Which of a pod's containers a registration is for: the first 32 digits of IDs, in order. What is in neither is not known yet. */
export interface RegistrationContainers {
  readonly ids: readonly string[];
  readonly others: readonly string[];
}

/** Who a registration is for. */
export type RegistrationSubject =
  PodRegistrationSubject | { readonly kind: 'process'; readonly selector: ProcessSelector };

/** Where a registration comes from: the resource that asked for it. */
export interface IdentityRef {
  readonly kind: 'WorkloadIdentity' | 'ClusterWorkloadIdentity';
  /** Empty for the cluster-scoped kind. */
  readonly namespace: string;
  readonly name: string;
}

/** One subject × one identity: what the CA may sign for it. The unit that agents sync and cache. */
export interface Registration {
  /** Stable for the same subject and identity, e.g. `pod-uid/ns/name`; the key everywhere. */
  readonly id: string;
  readonly subject: RegistrationSubject;
  /** The node whose agent holds this registration; empty = every agent (processes). */
  readonly nodeName: string;
  readonly spiffeId: SpiffeId;
  readonly x509TtlSeconds: number;
  readonly jwtTtlSeconds: number;
  /** Of the keys that are made for it; ec-p256 unless said. */
  readonly keyType?: KeyTypeName;
  readonly dnsNames: readonly string[];
  /** Unique per subject; the operator's name for this identity (Workload API). May be empty. */
  readonly hint: string;
  /** Names of foreign trust domains whose bundles the workload gets. */
  readonly federatesWith: readonly string[];
  /** JWT audiences that may be asked for; empty = any. */
  readonly audiences: readonly string[];
  readonly identity: IdentityRef;
  /** Unset: for the whole pod. Otherwise only a caller that is seen to be in one of these containers gets it. */
  readonly containers?: RegistrationContainers;
  /**
   * Changes whenever any field above changes, but for those that an ID's pod cannot change while it lives (its name and
   * node): an agent takes a registration anew, and re-signs, when it differs. The same on every replica.
   */
  readonly revision: string;
}
