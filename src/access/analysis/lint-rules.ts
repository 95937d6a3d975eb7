import type { PolicyRef } from '../policy/model.js';

export type Severity = 'error' | 'warning' | 'info';

/** One thing that lint looks for. */
export interface LintRule {
  /** Stable; programs may match on it. */
  readonly id: string;
  readonly severity: Severity;
  readonly title: string;
  readonly why: string;
  readonly fix: string;
}

/** What lint found, and where. */
export interface Finding {
  readonly id: string;
  readonly severity: Severity;
  /** Absent where it is about a workload or a role. */
  readonly policy?: PolicyRef;
  /** Name of the rule. */
  readonly rule?: string;
  /** The field within the policy, or within the rule where one is named. */
  readonly field?: string;
  /** What is wrong, in words. */
  readonly message: string;
  readonly fix?: string;
}

const rule = (id: string, severity: Severity, title: string, why: string, fix: string): LintRule => ({
  id,
  severity,
  title,
  why,
  fix,
});

/** Everything that lint looks for, by id. */
export const LINT_RULES = {
  broken: rule(
    'SIG1001',
    'error',
    'Policy that cannot be compiled',
    'Such a policy opens nothing: while it is enforced, its target denies everything that reaches its tier.',
    'Mend the field that is named.',
  ),
  nobody: rule(
    'SIG1002',
    'warning',
    'Principal that nobody can hold',
    'No workload gets such an identity, so an Allow rule opens nothing and a Deny rule guards against nobody: mostly a slip of the pen.',
    'Write the name of an identity, service account or namespace that exists.',
  ),
  unknownTrustDomain: rule(
    'SIG1003',
    'warning',
    'Principal of a trust domain that is not known',
    'Identities of a trust domain are only accepted when its bundle is held.',
    'Add a FederatedTrustDomain for it, or correct its name.',
  ),
  redundant: rule(
    'SIG1004',
    'warning',
    'Rule that changes nothing',
    'Other rules already say all that it says, on every workload that its policy can select.',
    'Take it away, or narrow the rules that cover it.',
  ),
  contradicted: rule(
    'SIG1005',
    'warning',
    'Allow rule that is denied altogether',
    'Deny rules come first, so nothing of what it allows is allowed.',
    'Take one of the two away.',
  ),
  empty: rule(
    'SIG1006',
    'warning',
    'Rule that matches nothing',
    'What it asks for cannot be true of one request: every source is excepted, or its conditions exclude each other.',
    'Correct its sources, operations or conditions.',
  ),
  unprotected: rule(
    'SIG1007',
    'warning',
    'Workload that is open to everybody',
    'No policy closes it and the default action is Allow, so it takes what no rule speaks of.',
    'Write an AccessPolicy for it, or let the default action be Deny.',
  ),
  over: rule(
    'SIG1008',
    'warning',
    'Policy that is over',
    'Its validity has ended: its rules no longer hold, though what it closes stays closed.',
    'Take it away, or extend its validity.',
  ),
  expiring: rule(
    'SIG1009',
    'info',
    'Policy that ends soon',
    'What it allows will be denied from then on.',
    'Extend its validity if it is still needed.',
  ),
  similarPaths: rule(
    'SIG1010',
    'info',
    'Paths that differ only in case or in a slash at the end',
    'Paths are compared exactly, so the one does not stand for the other; servers often take them for the same.',
    'Write both where both are meant, or one prefix.',
  ),
  anyoneWrites: rule(
    'SIG1011',
    'warning',
    'Anyone may change something',
    'Callers without an identity and without a token may use methods other than GET, HEAD and OPTIONS.',
    'Name who may, or ask for a token.',
  ),
  selectsNothing: rule(
    'SIG1012',
    'info',
    'Policy that selects no workload',
    'No workload that exists has the namespace, labels and service account that it asks for.',
    'Correct its target, or take it away.',
  ),
  auditDiffers: rule(
    'SIG1013',
    'info',
    'Audited policy that would change answers',
    'If it were enforced, the request that is named would be answered differently.',
    'Look at its audit findings before it is enforced.',
  ),
  unknownIssuer: rule(
    'SIG1014',
    'warning',
    'Token issuer that is not trusted',
    'Tokens of an issuer that is not configured are never valid, so the condition never holds.',
    'Name the issuer in the TrustDomain, or correct it.',
  ),
  unusedRole: rule(
    'SIG1015',
    'info',
    'Role that nothing grants',
    'No rule grants it and no role that is granted includes it.',
    'Take it away, or grant it.',
  ),
  notAnalysed: rule(
    'SIG1016',
    'info',
    'Policy too complex to be analysed',
    'Its rules and those of other policies for the same targets combine in too many ways to be compared exactly.',
    'Split the policy, or use fewer path templates and header conditions.',
  ),
} as const satisfies Readonly<Record<string, LintRule>>;

/** A finding of a rule. */
export function finding(
  { id, severity, fix }: LintRule,
  message: string,
  where: Partial<Pick<Finding, 'policy' | 'rule' | 'field' | 'fix'>> = {},
): Finding {
  return { id, severity, ...where, message, fix: where.fix ?? fix };
}
