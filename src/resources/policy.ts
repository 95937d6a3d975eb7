import type { Duration, IdentityRequirements } from './identity.js';
import type { Condition, LabelSelector, Resource } from './meta.js';

/*
 * How lists read, everywhere in a policy: the entries of `from` and of `to` are alternatives, the fields of one entry
 * must all hold, the values of one list are alternatives. A list that is there is never empty, and whom a rule is for
 * is always said: "anyone" is written `anyone: true`, never an absent or empty field, so that nothing opens when a
 * program drops an empty list.
 */

/** Whether a rule lets in or keeps out. */
export type AccessEffect = 'Allow' | 'Deny';

/** `Audit` never changes an answer: what the policy would have said is reported only (shadow mode). */
export type AccessMode = 'Enforce' | 'Audit';

/** `Admin` is decided first and cannot be overridden; `Baseline` holds where no namespaced policy speaks. */
export type AccessTier = 'Admin' | 'Baseline';

/** A service account of a cluster, which SPIFFE IDs of the form `/ns/<namespace>/sa/<name>` stand for. */
export interface ServiceAccountRef {
  /** The policy's own namespace unless said; a ClusterAccessPolicy must say it. */
  readonly namespace?: string;
  readonly name: string;
}

/** An identity by the resource that declares it: whoever holds a SPIFFE ID that it gives. */
export interface IdentityObjectRef {
  /** `WorkloadIdentity` unless said. */
  readonly kind?: 'WorkloadIdentity' | 'ClusterWorkloadIdentity';
  /** Of a WorkloadIdentity; the policy's own namespace unless said. A ClusterAccessPolicy must say it. */
  readonly namespace?: string;
  readonly name: string;
}

/**
 * Who calls, without exceptions. One of `spiffeIDs`, `identities`, `serviceAccounts`, `namespaces`,
 * `namespaceSelector`, `anyAuthenticated` and `anyone` names the caller; `trustDomains` and `ipBlocks` narrow that, or
 * stand alone.
 */
export interface SimplePrincipal {
  /** Exact SPIFFE IDs, `spiffe://example.org/ns/orders/sa/order-service`. */
  readonly spiffeIDs?: readonly string[];
  readonly identities?: readonly IdentityObjectRef[];
  /** Of `trustDomains`; of the own trust domain unless said. */
  readonly serviceAccounts?: readonly ServiceAccountRef[];
  /** Namespaces by name: SPIFFE IDs under `/ns/<name>/` of `trustDomains`; of the own trust domain unless said. */
  readonly namespaces?: readonly string[];
  /** Namespaces of this cluster by label. */
  readonly namespaceSelector?: LabelSelector;
  /** Any caller whose SVID was validated, of `trustDomains` or else of every trusted trust domain. */
  readonly anyAuthenticated?: true;
  /** Any caller, with an identity or without. */
  readonly anyone?: true;
  /** Trust domain names. Alone: every identity of these. */
  readonly trustDomains?: readonly string[];
  /** CIDR blocks in which the peer address of the connection lies; never a forwarded header. */
  readonly ipBlocks?: readonly string[];
}

/** Who calls: one entry of `from`. */
export interface Principal extends SimplePrincipal {
  /** Callers that this entry is not for, though the fields above match them. */
  readonly except?: readonly SimplePrincipal[];
}

/** A path. Exactly one field. Paths are compared in normal form: with case, without query, `//` or `..`. */
export interface PathMatch {
  /** The whole path. */
  readonly exact?: string;
  /** This path and everything below it, by whole segments: `/api` matches `/api` and `/api/x`, never `/apis`. */
  readonly prefix?: string;
  /** `{name}` stands for one segment, a last `{name=**}` for the rest: `/users/{id}/files/{path=**}`. */
  readonly template?: string;
}

/** How a value is compared: `In` (equal to one of `values`) unless said. */
export type ValueOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';

/** A request header or query parameter. */
export interface ValueMatch {
  /** Header names compare without case, query parameters with. */
  readonly name: string;
  readonly operator?: ValueOperator;
  /** For In and NotIn; exact, with case. */
  readonly values?: readonly string[];
}

/** HTTP requests; an unset field matches all. */
export interface HttpMatch {
  /** Host names without port, without case; `*.example.org` matches one or more labels in front. */
  readonly hosts?: readonly string[];
  /** Upper case: `GET`, `POST`. */
  readonly methods?: readonly string[];
  readonly paths?: readonly PathMatch[];
  /** All must hold. */
  readonly headers?: readonly ValueMatch[];
  /** All must hold. */
  readonly query?: readonly ValueMatch[];
}

/** gRPC calls. */
export interface GrpcMatch {
  /** Full name with its package, `payments.v1.Payments`. */
  readonly service: string;
  /** Method names, `Charge`; all unless said. */
  readonly methods?: readonly string[];
}

/** Resources of an application, in decisions that the application asks for itself. */
export interface ResourceMatch {
  /** e.g. `document`. */
  readonly type: string;
  /** Exact ids; all unless said. */
  readonly ids?: readonly string[];
}

/**
 * What is called: one entry of `to`, and one permission of an AccessRole. Network requests (`ports`, and one of `http`
 * and `grpc`) or application actions (`actions`, `resources`), never both.
 */
export interface Operation {
  /** Ports of the pod. */
  readonly ports?: readonly number[];
  readonly http?: HttpMatch;
  readonly grpc?: GrpcMatch;
  /** Actions of an application, `read`, `manage_users`. */
  readonly actions?: readonly string[];
  /** Resources that the actions are on; all unless said. */
  readonly resources?: readonly ResourceMatch[];
}

/** Grants what an AccessRole permits. */
export interface RoleGrant {
  /** Name of the AccessRole. */
  readonly name: string;
  /**
   * Only callers with a validated token that carries the role in this claim: a claim name as it is (`roles`), or a
   * JSON pointer into nested claims (`/realm_access/roles`).
   */
  readonly claim?: string;
  /** What the claim calls the role; its name unless said. */
  readonly value?: string;
}

/** A claim of the validated end-user token. */
export interface ClaimMatch {
  /** A claim name as it is (`department`), or a JSON pointer into nested claims (`/realm_access/roles`). */
  readonly claim: string;
  /** `In` unless said. A list claim is `In` when one of its items is, `ContainsAll` when it holds every value. */
  readonly operator?: ValueOperator | 'ContainsAll';
  /** For In, NotIn and ContainsAll. Numbers and booleans compare by their JSON text. */
  readonly values?: readonly string[];
}

/** The validated end-user token (JWT) that a request must carry. */
export interface TokenMatch {
  /** `iss`; any issuer that the trust domain accepts unless said. */
  readonly issuers?: readonly string[];
  /** `aud` must hold one of these. */
  readonly audiences?: readonly string[];
  /** `sub`, exact. */
  readonly subjects?: readonly string[];
  /** All must hold. */
  readonly claims?: readonly ClaimMatch[];
  /** Authentication methods (RFC 8176), all of which the user has passed: `mfa`, `hwk`. */
  readonly amr?: readonly string[];
  /** Authentication context classes, one of which the token has. */
  readonly acr?: readonly string[];
  /** How long ago the user may have logged in (`auth_time`): step-up. */
  readonly maxAuthAge?: Duration;
}

export type Weekday = 'Mon' | 'Tue' | 'Wed' | 'Thu' | 'Fri' | 'Sat' | 'Sun';

/** Hours of the week. */
export interface TimeWindow {
  /** Days on which the window opens; every day unless said. */
  readonly days?: readonly Weekday[];
  /** `09:00`, included. */
  readonly from: string;
  /** `17:00`, not included; `24:00` is the end of the day. Not after `from`: the window ends on the next day. */
  readonly until: string;
  /** IANA name, `Europe/Berlin`. */
  readonly timeZone: string;
}

/** Operators on attributes; the last six compare with `other`, or with the one of `values`. */
export type AttributeOperator =
  ValueOperator | 'Equals' | 'NotEquals' | 'GreaterThan' | 'AtLeast' | 'LessThan' | 'AtMost';

/** An attribute of the decision, as the application or the token gives it. A missing attribute never matches. */
export interface AttributeMatch {
  /** `subject.department`, `resource.owner`, `action.reason`, `environment.risk`; dots go into nested objects. */
  readonly attribute: string;
  /** `In` unless said. */
  readonly operator?: AttributeOperator;
  readonly values?: readonly string[];
  /** Another attribute to compare with: `resource.owner` Equals other `subject.id`. */
  readonly other?: string;
}

/** Further conditions, all of which must hold. */
export interface When {
  readonly token?: TokenMatch;
  /** One of these windows is open. */
  readonly during?: readonly TimeWindow[];
  /** None of these windows is open. */
  readonly outside?: readonly TimeWindow[];
  /** Labels of the calling pod, of this cluster. */
  readonly sourceLabels?: LabelSelector;
  /** Labels of the called pod, besides those that `target` asks for. */
  readonly targetLabels?: LabelSelector;
  /** What the calling pod must be like. */
  readonly sourcePosture?: IdentityRequirements;
  /** All must hold. */
  readonly attributes?: readonly AttributeMatch[];
  /** A CEL expression over `subject`, `resource`, `action` and `environment` that must be true. */
  readonly cel?: string;
}

/** One rule: who, what, when. */
export interface AccessRule {
  /** Unique in the policy: names the rule in decisions, logs and status. */
  readonly name: string;
  /** `Allow` unless said. */
  readonly effect?: AccessEffect;
  readonly from: readonly Principal[];
  /** Everything on the target unless `to` or `roles` say less; with both, either. */
  readonly to?: readonly Operation[];
  readonly roles?: readonly RoleGrant[];
  readonly when?: When;
}

/** Instants between which a policy holds: just-in-time access. */
export interface Validity {
  /** RFC 3339, included. */
  readonly from?: string;
  /** RFC 3339, not included. */
  readonly until?: string;
}

/** Which workloads of the namespace a policy protects. */
export interface AccessTarget {
  /** Unset selects every pod of the namespace. */
  readonly podSelector?: LabelSelector;
  /** Unset selects every service account. */
  readonly serviceAccountNames?: readonly string[];
  /** Unset selects every port. */
  readonly ports?: readonly number[];
}

/** Which workloads of the cluster a policy protects. */
export interface ClusterAccessTarget extends AccessTarget {
  /** Namespaces by name; with `namespaceSelector`, both must hold. Unset selects every namespace. */
  readonly namespaces?: readonly string[];
  readonly namespaceSelector?: LabelSelector;
}

/**
 * Who may call the pods of a namespace. An enforcing policy with an Allow rule, or with no rule at all, closes its
 * target for whatever no rule allows; a policy with Deny rules alone does not.
 */
export interface AccessPolicySpec {
  readonly target: AccessTarget;
  /** `[]` allows nobody. */
  readonly rules: readonly AccessRule[];
  /** `Enforce` unless said. */
  readonly mode?: AccessMode;
  readonly validity?: Validity;
}

/** The same over namespaces, in a tier. */
export interface ClusterAccessPolicySpec {
  readonly tier: AccessTier;
  readonly target: ClusterAccessTarget;
  readonly rules: readonly AccessRule[];
  readonly mode?: AccessMode;
  readonly validity?: Validity;
}

/** How faithfully a mesh's own rules say what the policy says; never wider. */
export type Fidelity = 'Exact' | 'Narrower' | 'Unsupported';

export interface RenderingStatus {
  /** `istio`, `cilium`, `networkpolicy`, … */
  readonly mesh: string;
  readonly fidelity: Fidelity;
  /** What could not be said exactly, with the rule's name. */
  readonly reasons?: readonly string[];
  /** How many objects it became. */
  readonly objects?: number;
}

export interface AccessPolicyStatus {
  readonly conditions?: readonly Condition[];
  readonly renderings?: readonly RenderingStatus[];
  readonly podsProtected?: number;
  /** Principals that no identity can be issued for. */
  readonly unheldPrincipals?: readonly string[];
}

export type AccessPolicy = Resource<'AccessPolicy', AccessPolicySpec> & {
  readonly status?: AccessPolicyStatus;
};
export type ClusterAccessPolicy = Resource<'ClusterAccessPolicy', ClusterAccessPolicySpec> & {
  readonly status?: AccessPolicyStatus;
};

/** A named set of permissions, which a rule grants. */
export interface AccessRoleSpec {
  /** What the role is for, for people. */
  readonly description?: string;
  readonly permissions?: readonly Operation[];
  /** Other AccessRoles whose permissions it has too; no cycles. */
  readonly includes?: readonly string[];
}

export interface AccessRoleStatus {
  readonly conditions?: readonly Condition[];
  /** How many permissions it has with those of the included roles. */
  readonly permissions?: number;
  /** How many policies grant it, by themselves or through another role. */
  readonly policies?: number;
}

export type AccessRole = Resource<'AccessRole', AccessRoleSpec> & { readonly status?: AccessRoleStatus };

/** Who said yes or no to an AccessRequest. */
export interface AccessDecision {
  readonly verdict: 'Approved' | 'Denied';
  /** The approver's user name, as admission has seen it. */
  readonly by?: string;
  readonly message?: string;
}

/** Access asked for a while. Once approved it becomes an AccessPolicy with a validity, and goes away by itself. */
export interface AccessRequestSpec {
  readonly target: AccessTarget;
  /** Who is to get access. */
  readonly from: readonly Principal[];
  readonly to?: readonly Operation[];
  readonly roles?: readonly RoleGrant[];
  readonly when?: When;
  /** How long, from the approval or from `notBefore`. */
  readonly duration: Duration;
  /** RFC 3339; at once unless said. */
  readonly notBefore?: string;
  /** Why, for the approver and the audit log. */
  readonly reason: string;
  /** Set by whoever holds the verb `approve` on accessrequests; final. */
  readonly decision?: AccessDecision;
}

export interface AccessRequestStatus {
  readonly conditions?: readonly Condition[];
  readonly phase?: 'Pending' | 'Denied' | 'Waiting' | 'Active' | 'Expired';
  /** Name of the AccessPolicy that it became. */
  readonly policyName?: string;
  readonly validFrom?: string;
  readonly validUntil?: string;
}

export type AccessRequest = Resource<'AccessRequest', AccessRequestSpec> & {
  readonly status?: AccessRequestStatus;
};
