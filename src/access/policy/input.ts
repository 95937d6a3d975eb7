/**
 * What a policy resource must look like to be compiled: the part of `AccessPolicy` and `ClusterAccessPolicy` that this
 * room reads, named here so that it imports no resources. Fields that are only refused are `unknown`. Nothing of it is
 * trusted: compile.ts checks every value, so a file read without a schema may be given too.
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
  readonly roles?: unknown;
  readonly when?: unknown;
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
  readonly ipBlocks?: unknown;
}

export interface PrincipalInput extends SimplePrincipalInput {
  readonly except?: readonly SimplePrincipalInput[];
}

export interface OperationInput {
  readonly ports?: readonly number[];
  readonly http?: {
    readonly hosts?: readonly string[];
    readonly methods?: readonly string[];
    readonly paths?: readonly {
      readonly exact?: string;
      readonly prefix?: string;
      readonly template?: string;
    }[];
    readonly headers?: unknown;
    readonly query?: unknown;
  };
  readonly grpc?: { readonly service: string; readonly methods?: readonly string[] };
  readonly actions?: unknown;
  readonly resources?: unknown;
}
