import { LINT_RULES, type Severity } from '../access/analysis/lint-rules.js';

/** Something that a command may find, as reports name it. The ids are stable: programs may match on them. */
export interface ReportRule {
  readonly id: string;
  readonly severity: Severity;
  readonly title: string;
  readonly why: string;
  readonly fix: string;
}

/** What `lint` finds. */
export const LINT_REPORT_RULES: readonly ReportRule[] = Object.values(LINT_RULES);

/** What is wrong in files, whoever reads them. */
export const FILE_RULES = {
  error: {
    id: 'SIG2001',
    severity: 'error',
    title: 'Resource that cannot be used',
    why: 'Such an object takes no part, so answers about the others could be wrong ones: commands about policies refuse to go on.',
    fix: 'Mend the field that is named.',
  },
  warning: {
    id: 'SIG2002',
    severity: 'warning',
    title: 'Doubtful resource',
    why: 'The object is used as it is, but part of it does not do what it seems to say.',
    fix: 'Correct what is named, or take it away.',
  },
} as const satisfies Readonly<Record<string, ReportRule>>;

/** What `test` finds. */
export const TEST_RULES = {
  failed: {
    id: 'SIG3001',
    severity: 'error',
    title: 'PolicyTest that fails',
    why: 'The policies answer a request otherwise than the test expects, or the test cannot be read.',
    fix: 'Mend the policies, or the expectation.',
  },
  uncovered: {
    id: 'SIG3002',
    severity: 'info',
    title: 'Rule that no PolicyTest is decided by',
    why: 'If it said something else, no test would notice.',
    fix: 'Write a test of a request that the rule decides.',
  },
} as const satisfies Readonly<Record<string, ReportRule>>;

/** What `render` finds. */
export const RENDER_RULES = {
  narrower: {
    id: 'SIG4001',
    severity: 'warning',
    title: 'Rendered narrower than it says',
    why: 'The mesh denies some requests that the policy allows.',
    fix: 'Change what the message names, or enforce the policy with ext_authz.',
  },
  unsupported: {
    id: 'SIG4002',
    severity: 'error',
    title: 'Cannot be rendered',
    why: 'Nothing of it can be said in the mesh: an Allow rule opens nothing, a Deny rule closes all that it may be about.',
    fix: 'Change what the message names, or enforce the policy with ext_authz.',
  },
} as const satisfies Readonly<Record<string, ReportRule>>;

/** What `diff` finds. */
export const DIFF_RULES = {
  gained: {
    id: 'SIG5001',
    severity: 'warning',
    title: 'Access that the change opens',
    why: 'Requests that were denied before are allowed after.',
    fix: 'Approve it, or narrow the rule.',
  },
  lost: {
    id: 'SIG5002',
    severity: 'warning',
    title: 'Access that the change closes',
    why: 'Requests that were allowed before are denied after.',
    fix: 'Approve it, or keep a rule that allows them.',
  },
  unknown: {
    id: 'SIG5003',
    severity: 'warning',
    title: 'Access of which it is not known whether it changes',
    why: 'CEL or attribute conditions decide, and these are not compared.',
    fix: 'Look at the rules that the message names.',
  },
} as const satisfies Readonly<Record<string, ReportRule>>;

/** Everything that reports may hold, in the order of the ids. */
export const REPORT_RULES: readonly ReportRule[] = [
  ...LINT_REPORT_RULES,
  ...Object.values(FILE_RULES),
  ...Object.values(TEST_RULES),
  ...Object.values(RENDER_RULES),
  ...Object.values(DIFF_RULES),
];
