/**
 * The domain model of access policy: what the language says, once it is parsed, checked and resolved. Values, never
 * changed in place. compile.ts makes them from resources, policy-set.ts indexes them, evaluate.ts answers from them,
 * and each mesh renderer translates them.
 */

import type { IpBlock } from '../../lib/ip-address.js';

export type { IpBlock } from '../../lib/ip-address.js';

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

/** One of `any`, and from one of `ipBlocks` where these are said. */
export interface SourceMatch {
  readonly any: readonly Principal[];
  /** Where the peer address of the connection lies; never a forwarded header. */
  readonly ipBlocks?: readonly IpBlock[];
}

/** Whom a rule is for: as the match says, and none of `except`. */
export interface Source extends SourceMatch {
  readonly except: readonly SourceMatch[];
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

export type ValueOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';

/** A header (`name` in lower case) or query parameter. */
export interface ValueMatch {
  readonly name: string;
  readonly operator: ValueOperator;
  /** Empty for Exists and DoesNotExist. */
  readonly values: readonly string[];
}

/** A claim of the validated token. */
export interface ClaimMatch {
  /** From the outside in, `['realm_access', 'roles']`. */
  readonly path: readonly string[];
  /** `In` holds for a list claim when one item is among `values`, `ContainsAll` when it holds all of them. */
  readonly operator: ValueOperator | 'ContainsAll';
  /** Numbers and booleans compare by their JSON text. Empty for Exists and DoesNotExist. */
  readonly values: readonly string[];
}

/** By which role an operation came into a rule. */
export interface RoleOrigin {
  /** Name of the AccessRole that the rule grants. */
  readonly role: string;
  /** Only for holders of a token whose claim carries the role. */
  readonly claim?: ClaimMatch;
}

/** Network requests. An absent field means any; lists are never empty. gRPC is `POST /package.Service/Method`. */
export interface NetworkOperation {
  readonly kind: 'network';
  readonly ports?: readonly number[];
  readonly methods?: readonly string[];
  /** Lower case; `*.example.org` stands for one or more labels before `.example.org`. */
  readonly hosts?: readonly string[];
  readonly paths?: readonly PathPattern[];
  /** All must hold. */
  readonly headers?: readonly ValueMatch[];
  /** All must hold. */
  readonly query?: readonly ValueMatch[];
  readonly grantedBy?: RoleOrigin;
}

/** Resources of an application. */
export interface ResourceMatch {
  readonly type: string;
  /** Absent means every id. */
  readonly ids?: readonly string[];
}

/** Decisions that an application asks for itself. */
export interface ActionOperation {
  readonly kind: 'action';
  /** Absent means every action. */
  readonly actions?: readonly string[];
  /** Absent means every resource. */
  readonly resources?: readonly ResourceMatch[];
  readonly grantedBy?: RoleOrigin;
}

/** What a request may do. Neither kind ever matches a request of the other. */
export type Operation = NetworkOperation | ActionOperation;

/** What the end-user token must be like. All that is said must hold. */
export interface TokenMatch {
  readonly issuers?: readonly string[];
  readonly audiences?: readonly string[];
  readonly subjects?: readonly string[];
  readonly claims?: readonly ClaimMatch[];
  /** All of these were passed (RFC 8176). */
  readonly amr?: readonly string[];
  /** One of these. */
  readonly acr?: readonly string[];
  /** Milliseconds since `auth_time`, at most. */
  readonly maxAuthAge?: number;
}

/** Hours of the week in a time zone. */
export interface TimeWindow {
  /** Days on which the window opens, 1 (Monday) to 7 (Sunday). */
  readonly days: readonly number[];
  /** Minutes since midnight, included. */
  readonly from: number;
  /** Minutes since midnight, not included, up to 1440. Not after `from`: ends on the next day. */
  readonly until: number;
  /** IANA name. */
  readonly timeZone: string;
}

/** What the calling pod must be like; as WorkloadIdentity's `requirements`. */
export interface PostureMatch {
  readonly imageDigests?: boolean;
  readonly allowedImages?: readonly string[];
  readonly noPrivileged?: boolean;
}

export type AttributeOperator =
  ValueOperator | 'Equals' | 'NotEquals' | 'GreaterThan' | 'AtLeast' | 'LessThan' | 'AtMost';

/** An attribute of the decision, compared with values or with another attribute. */
export interface AttributeMatch {
  /** `['resource', 'owner']`: first one of subject, resource, action, environment. */
  readonly path: readonly string[];
  readonly operator: AttributeOperator;
  readonly values: readonly string[];
  readonly other?: readonly string[];
}

/** What subject, resource, action and environment are, for attributes and CEL. */
export interface DecisionAttributes {
  readonly subject: Readonly<Record<string, unknown>>;
  readonly resource: Readonly<Record<string, unknown>>;
  readonly action: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, unknown>>;
}

/** A CEL expression, checked. */
export interface CelCondition {
  readonly text: string;
  /** True or false; undefined when it cannot be evaluated (a missing attribute, a type that does not fit). */
  evaluate(attributes: DecisionAttributes): boolean | undefined;
}

/** Further conditions of a rule; all that is said must hold. */
export interface Conditions {
  readonly token?: TokenMatch;
  /** One of these is open. */
  readonly during?: readonly TimeWindow[];
  /** None of these is open. */
  readonly outside?: readonly TimeWindow[];
  readonly sourceLabels?: readonly LabelRequirement[];
  readonly targetLabels?: readonly LabelRequirement[];
  readonly sourcePosture?: PostureMatch;
  readonly attributes?: readonly AttributeMatch[];
  readonly cel?: CelCondition;
}

/** From (inclusive) until (exclusive), in milliseconds since the epoch. */
export interface Validity {
  readonly from?: number;
  readonly until?: number;
}

/** Matches a request that has one of the sources and one of the operations, when all conditions hold. */
export interface Rule {
  readonly name: string;
  readonly effect: Effect;
  readonly from: readonly Source[];
  /** Absent means any operation. Permissions of granted roles stand here too; empty when these permit nothing. */
  readonly to?: readonly Operation[];
  readonly when?: Conditions;
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
  /** The request target, with its query if it has one. */
  readonly path: string;
  /** By lower-case name; lines of one name are joined by "," (RFC 9110 §5.3). Absent when headers are not seen. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A token whose signature, times, issuer and audience have been checked. */
export interface ValidatedToken {
  readonly claims: Readonly<Record<string, unknown>>;
}

/** What is known of the calling pod. */
export interface SourceWorkload {
  readonly labels: Readonly<Record<string, string>>;
  /** References of its images; absent when not known. */
  readonly images?: readonly string[];
  /** Whether one of its containers is privileged; absent when not known. */
  readonly privileged?: boolean;
}

/** Something that an application asks about: AuthZEN's subject and resource. */
export interface Entity {
  readonly type: string;
  readonly id: string;
  readonly properties?: Readonly<Record<string, unknown>>;
}

/** A decision that an application asks for itself (AuthZEN's information model). */
export interface ApplicationRequest {
  readonly subject?: Entity;
  readonly action: { readonly name: string; readonly properties?: Readonly<Record<string, unknown>> };
  readonly resource: Entity;
  readonly context?: Readonly<Record<string, unknown>>;
}

/** What is asked: a network request, or an application's decision when `application` is there. */
export interface AccessRequest {
  /** The verified SPIFFE ID of the caller, or undefined when it has none. */
  readonly source: string | undefined;
  /** Peer address of the connection; undefined when not known. */
  readonly sourceIp?: string;
  /** Undefined when the enforcement point does not know the calling pod. */
  readonly sourceWorkload?: SourceWorkload;
  readonly target: TargetWorkload;
  /** The port that was asked; undefined when not known. */
  readonly port?: number;
  /** Absent when the enforcement point does not see HTTP. */
  readonly http?: HttpRequest;
  /** null when none came, or none that is valid; undefined when the enforcement point does not see tokens. */
  readonly token?: ValidatedToken | null;
  readonly application?: ApplicationRequest;
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
