/**
 * What policy and role resources must look like to be compiled: the part of `AccessPolicy`, `ClusterAccessPolicy` and
 * `AccessRole` that this room reads, named here so that it imports no resources. Nothing of it is trusted: the
 * compiler checks every value, so a file read without a schema may be given too.
 */
export interface PolicyInput {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: PolicySpecInput;
}

export interface PolicySpecInput {
  readonly tier?: string;
  readonly target: TargetInput;
  readonly rules: readonly RuleInput[];
  readonly mode?: string;
  readonly validity?: ValidityInput;
}

/** An `AccessRole`. */
export interface RoleInput {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly description?: string;
    readonly permissions?: readonly OperationInput[];
    readonly includes?: readonly string[];
  };
}

export interface ValidityInput {
  readonly from?: string;
  readonly until?: string;
}

export interface SelectorInput {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface TargetInput {
  readonly podSelector?: SelectorInput;
  readonly serviceAccountNames?: readonly string[];
  readonly ports?: readonly number[];
  readonly namespaces?: readonly string[];
  readonly namespaceSelector?: SelectorInput;
}

export interface RuleInput {
  readonly name: string;
  readonly effect?: string;
  readonly from: readonly PrincipalInput[];
  readonly to?: readonly OperationInput[];
  readonly roles?: readonly RoleGrantInput[];
  readonly when?: WhenInput;
}

export interface RoleGrantInput {
  readonly name: string;
  readonly claim?: string;
  readonly value?: string;
}

export interface SimplePrincipalInput {
  readonly spiffeIDs?: readonly string[];
  readonly identities?: readonly {
    readonly kind?: string;
    readonly namespace?: string;
    readonly name: string;
  }[];
  readonly serviceAccounts?: readonly { readonly namespace?: string; readonly name: string }[];
  readonly namespaces?: readonly string[];
  readonly namespaceSelector?: SelectorInput;
  readonly anyAuthenticated?: boolean;
  readonly anyone?: boolean;
  readonly trustDomains?: readonly string[];
  readonly ipBlocks?: readonly string[];
}

export interface PrincipalInput extends SimplePrincipalInput {
  readonly except?: readonly SimplePrincipalInput[];
}

export interface PathInput {
  readonly exact?: string;
  readonly prefix?: string;
  readonly template?: string;
}

/** A header or query parameter. */
export interface ValueInput {
  readonly name: string;
  readonly operator?: string;
  readonly values?: readonly string[];
}

export interface HttpInput {
  readonly hosts?: readonly string[];
  readonly methods?: readonly string[];
  readonly paths?: readonly PathInput[];
  readonly headers?: readonly ValueInput[];
  readonly query?: readonly ValueInput[];
}

export interface OperationInput {
  readonly ports?: readonly number[];
  readonly http?: HttpInput;
  readonly grpc?: { readonly service: string; readonly methods?: readonly string[] };
  readonly actions?: readonly string[];
  readonly resources?: readonly { readonly type: string; readonly ids?: readonly string[] }[];
}

export interface ClaimInput {
  readonly claim: string;
  readonly operator?: string;
  readonly values?: readonly string[];
}

export interface TokenInput {
  readonly issuers?: readonly string[];
  readonly audiences?: readonly string[];
  readonly subjects?: readonly string[];
  readonly claims?: readonly ClaimInput[];
  readonly amr?: readonly string[];
  readonly acr?: readonly string[];
  readonly maxAuthAge?: string;
}

export interface WindowInput {
  readonly days?: readonly string[];
  readonly from: string;
  readonly until: string;
  readonly timeZone: string;
}

export interface PostureInput {
  readonly imageDigests?: boolean;
  readonly allowedImages?: readonly string[];
  readonly noPrivileged?: boolean;
}

export interface AttributeInput {
  readonly attribute: string;
  readonly operator?: string;
  readonly values?: readonly string[];
  readonly other?: string;
}

export interface WhenInput {
  readonly token?: TokenInput;
  readonly during?: readonly WindowInput[];
  readonly outside?: readonly WindowInput[];
  readonly sourceLabels?: SelectorInput;
  readonly targetLabels?: SelectorInput;
  readonly sourcePosture?: PostureInput;
  readonly attributes?: readonly AttributeInput[];
  readonly cel?: string;
}
