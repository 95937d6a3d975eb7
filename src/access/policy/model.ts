/**
 * The domain model of access policy: what the language says, once it is parsed, checked and resolved. Values, never
 * changed in place. compile.ts makes them from resources, policy-set.ts indexes them, evaluate.ts answers from them,
 * and each mesh renderer translates them.
 */

/** What a rule does with what it matches. */
export type Effect = 'Allow' | 'Deny';

/** Audit policies never change an answer; they are reported. */
export type Mode = 'Enforce' | 'Audit';

/** Admin cannot be overridden; Baseline holds only where no namespaced policy speaks. */
export type Tier = 'Admin' | 'Namespaced' | 'Baseline';

/** Where a policy comes from. */
export interface PolicyRef {
  readonly kind: 'AccessPolicy' | 'ClusterAccessPolicy';
  /** Empty for the cluster-scoped kind. */
  readonly namespace: string;
  readonly name: string;
}

/** Who a request may come from. Matched by whole values or whole segments, never by a raw string prefix. */
export type Principal =
  | { readonly kind: 'spiffeId'; readonly uri: string }
  /** Every identity of one trust domain. */
  | { readonly kind: 'trustDomain'; readonly trustDomain: string }
  /** `/ns/<namespace>/…` in one trust domain. */
  | { readonly kind: 'namespace'; readonly trustDomain: string; readonly namespace: string }
  /** Exactly `/ns/<namespace>/sa/<serviceAccount>` in one trust domain. */
  | {
      readonly kind: 'serviceAccount';
      readonly trustDomain: string;
      readonly namespace: string;
      readonly serviceAccount: string;
    }
  /** An identity resource, already resolved to the SPIFFE IDs that it gives out; none means nobody. */
  | {
      readonly kind: 'identity';
      readonly namespace: string;
      readonly name: string;
      readonly uris: readonly string[];
    }
  /** Whoever has a verified SPIFFE ID, of any trust domain whose bundle we hold. */
  | { readonly kind: 'authenticated' }
  /** Everybody, also without an identity. */
  | { readonly kind: 'anyone' };

/** One of `any`, and none of `except`. */
export interface Source {
  readonly any: readonly Principal[];
  readonly except: readonly Principal[];
}

/** A path pattern. All but `exact` respect segment borders. Patterns are normalised as request paths are. */
export type PathPattern =
  | { readonly kind: 'exact'; readonly path: string }
  /** The path itself and everything below it. */
  | { readonly kind: 'prefix'; readonly path: string }
  /**
   * `{name}` takes one segment that is not empty; a last `{name=**}` takes all that follows the slash before it, also
   * nothing.
   */
  | { readonly kind: 'template'; readonly text: string; readonly segments: readonly TemplateSegment[] };

export type TemplateSegment =
  | { readonly kind: 'literal'; readonly value: string }
  | { readonly kind: 'one'; readonly name: string }
  | { readonly kind: 'rest'; readonly name: string };

/** What a request may do. An absent field means any; lists are never empty. */
export interface Operation {
  readonly ports?: readonly number[];
  readonly methods?: readonly string[];
  /** Lower case; `*.example.org` stands for one or more labels before `.example.org`. */
  readonly hosts?: readonly string[];
  readonly paths?: readonly PathPattern[];
}

/** From (inclusive) until (exclusive), in milliseconds since the epoch. */
export interface Validity {
  readonly from?: number;
  readonly until?: number;
}

/** Matches a request that has one of the sources and one of the operations, within the policy's validity. */
export interface Rule {
  readonly name: string;
  readonly effect: Effect;
  readonly from: readonly Source[];
  /** Absent means any operation. */
  readonly to?: readonly Operation[];
}

export type LabelRequirement =
  | { readonly kind: 'in'; readonly key: string; readonly values: ReadonlySet<string> }
  | { readonly kind: 'notIn'; readonly key: string; readonly values: ReadonlySet<string> }
  | { readonly kind: 'exists'; readonly key: string }
  | { readonly kind: 'absent'; readonly key: string };

/** The workloads that a policy protects. */
export interface Target {
  /** Namespaces by name; absent means all (cluster-wide policies only). */
  readonly namespaceNames?: readonly string[];
  /** On the namespace's labels, for cluster-wide policies; all must hold. */
  readonly namespaces: readonly LabelRequirement[];
  /** On the pod's labels; all must hold. */
  readonly pods: readonly LabelRequirement[];
  /** Absent means every service account. */
  readonly serviceAccounts?: readonly string[];
  /** Absent means every port. */
  readonly ports?: readonly number[];
}

/** What is wrong with a policy, by field. */
export interface PolicyProblem {
  /** Path of the field, e.g. `spec.rules[0].to[1].paths[0]`. */
  readonly field: string;
  /** What is wrong, and the fix. */
  readonly message: string;
}

export interface Policy {
  readonly ref: PolicyRef;
  readonly tier: Tier;
  readonly mode: Mode;
  readonly target: Target;
  readonly validity?: Validity;
  readonly rules: readonly Rule[];
  /**
   * Why the policy could not be compiled. Such a policy opens nothing: while it is enforced, its target denies
   * everything that reaches its tier.
   */
  readonly problems?: readonly PolicyProblem[];
}

/** The workload that is asked. Hold on to one object per workload: what concerns it is looked up once per object. */
export interface TargetWorkload {
  readonly namespace: string;
  /** For people: the workload's name in reasons. */
  readonly name: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of its namespace, for policies that select namespaces by label. */
  readonly namespaceLabels: Readonly<Record<string, string>>;
}

/** The HTTP part of a request, as it came. */
export interface HttpRequest {
  readonly method: string;
  /** The `Host` or `:authority`, with or without a port. */
  readonly host?: string;
  /** The request target's path; a query is cut off. */
  readonly path: string;
}

/** What is asked. */
export interface AccessRequest {
  /** The verified SPIFFE ID of the caller, or undefined when it has none. */
  readonly source: string | undefined;
  readonly target: TargetWorkload;
  /** The port that was asked; undefined when not known. */
  readonly port?: number;
  /** Absent when the enforcement point does not see HTTP. */
  readonly http?: HttpRequest;
  /** Milliseconds since the epoch. */
  readonly time: number;
}

/** `namespace/name`, or the name alone for a cluster-wide policy. */
export function policyName(ref: PolicyRef): string {
  return ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
}

/** A principal in words. */
export function describePrincipal(principal: Principal): string {
  switch (principal.kind) {
    case 'spiffeId':
      return principal.uri;
    case 'trustDomain':
      return `trust domain ${principal.trustDomain}`;
    case 'namespace':
      return `namespace ${principal.namespace} of ${principal.trustDomain}`;
    case 'serviceAccount':
      return `service account ${principal.namespace}/${principal.serviceAccount} of ${principal.trustDomain}`;
    case 'identity':
      return `identity ${principal.namespace}/${principal.name}`;
    case 'authenticated':
      return 'any authenticated workload';
    case 'anyone':
      return 'anyone';
  }
}
