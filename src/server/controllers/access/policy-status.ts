import { overallFidelity, type Verdict as RuleVerdict } from '../../../access/mesh/renderer.js';
import type { Policy } from '../../../access/policy/model.js';
import type { AccessPolicyStatus, RenderingStatus } from '../../../resources/policy.js';
import type { ApplyFailure, ApplyFailureCode } from '../../../store/kubernetes/applied-report.js';
import { rfc3339 } from '../../identity-status.js';
import { cut, readyCondition, some, type Verdict } from './conditions.js';

/** What became of a policy in one mesh. */
export interface MeshFacts {
  readonly mesh: string;
  readonly verdicts: readonly RuleVerdict[];
  /** How many objects say something of it. */
  readonly objects: number;
  /** Those of them that are not as they should be. */
  readonly failures: readonly ApplyFailure[];
}

/** Everything that a policy's status tells. */
export interface PolicyFacts {
  readonly policy: Policy;
  readonly generation: number;
  readonly meshes: readonly MeshFacts[];
  /** Why some mesh cannot be rendered for at all. */
  readonly meshProblems: readonly string[];
  /** Meshes that are there and not rendered for, with why. */
  readonly withheld: readonly string[];
  /** Roles that its rules grant and that there are not, or that nobody can make sense of. */
  readonly roleProblems: readonly string[];
  readonly pods: number;
  readonly unheld: readonly string[];
}

const MOST_REASONS = 16;
const MOST_UNHELD = 20;
const MOST_TOLD = 4;

/** The status of a policy. Equal facts give an equal status: times move only with what they tell of. */
export function policyStatus(
  facts: PolicyFacts,
  previous: AccessPolicyStatus | undefined,
  now: number,
): AccessPolicyStatus {
  const renderings = facts.meshes.map(renderingOf);
  const unheld = facts.unheld.slice(0, MOST_UNHELD).map((text) => cut(text, 512));
  return {
    conditions: [readyCondition(judge(facts, now), facts.generation, previous?.conditions, now)],
    ...(renderings.length === 0 ? {} : { renderings }),
    podsProtected: facts.pods,
    ...(unheld.length === 0 ? {} : { unheldPrincipals: unheld }),
  };
}

function renderingOf({ mesh, verdicts, objects }: MeshFacts): RenderingStatus {
  const reasons = reasonsOf(verdicts);
  const more = reasons.length - MOST_REASONS;
  const told = more > 0 ? [...reasons.slice(0, MOST_REASONS), `and ${more} more`] : reasons;
  return {
    mesh,
    // Of a policy that selects nothing there is nothing to say, and nothing is lost.
    fidelity: overallFidelity(verdicts),
    ...(told.length === 0 ? {} : { reasons: told.map((text) => cut(text)) }),
    objects,
  };
}

/** Each reason once, with the rule and the workloads that it is about. */
function reasonsOf(verdicts: readonly RuleVerdict[]): readonly string[] {
  const reasons = verdicts.flatMap(({ rule, targets, reasons: all }) => {
    const where = [
      ...(rule === undefined ? [] : [`rule "${rule}"`]),
      ...(targets === undefined || targets.length === 0 ? [] : [`on ${someTargets(targets)}`]),
    ].join(' ');
    return all.map((reason) => (where === '' ? reason : `${where}: ${reason}`));
  });
  return [...new Set(reasons)];
}

function someTargets(targets: readonly string[]): string {
  const most = 3;
  const more = targets.length - most;
  return targets.slice(0, most).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function judge({ policy, meshes, meshProblems, withheld, roleProblems }: PolicyFacts, now: number): Verdict {
  const failures = meshes.flatMap((one) => one.failures);
  return (
    broken(policy) ??
    notThere(meshProblems) ??
    notAsked(meshes, withheld) ??
    notApplied(failures) ??
    outOfTime(policy, now) ??
    withoutRoles(roleProblems) ?? {
      status: 'True',
      reason: policy.mode === 'Audit' ? 'Audited' : 'Compiled',
      message: [standing(policy, meshes), ...withheld].join('; '),
    }
  );
}

function broken({ problems, mode }: Policy): Verdict | undefined {
  if (problems === undefined) return undefined;
  const texts = problems.map(({ field, message }) => `${field}: ${message}`);
  const so = mode === 'Audit' ? 'nothing of it is reported' : 'until then its target denies everything';
  return { status: 'False', reason: 'Invalid', message: `${some(texts, MOST_TOLD)}; ${so}` };
}

function notThere(problems: readonly string[]): Verdict | undefined {
  if (problems.length === 0) return undefined;
  return { status: 'False', reason: 'MeshMissing', message: some(problems, MOST_TOLD) };
}

/** Where another mesh says the policy, that is enough. */
function notAsked(meshes: readonly MeshFacts[], withheld: readonly string[]): Verdict | undefined {
  if (meshes.length > 0 || withheld.length === 0) return undefined;
  return { status: 'False', reason: 'MeshNotAsked', message: some(withheld, MOST_TOLD) };
}

/** In words for programs, the one that needs somebody first. */
const FAILURES: readonly (readonly [ApplyFailureCode, string])[] = [
  ['Forbidden', 'Forbidden'],
  ['NotServed', 'MeshMissing'],
  ['NotOurs', 'ObjectTaken'],
  ['Claimed', 'ObjectTaken'],
  ['Refused', 'ObjectRefused'],
  ['Failed', 'NotApplied'],
  ['NotSynced', 'NotApplied'],
  ['BeingDeleted', 'NotApplied'],
];

function notApplied(failures: readonly ApplyFailure[]): Verdict | undefined {
  for (const [code, reason] of FAILURES) {
    const [first, ...others] = failures.filter((failure) => failure.code === code);
    if (first === undefined) continue;
    const more = others.length === 0 ? '' : `; the same of ${others.length} more objects`;
    return { status: 'False', reason, message: `${first.object}: ${first.message}${more}` };
  }
  return undefined;
}

function outOfTime({ validity, mode }: Policy, now: number): Verdict | undefined {
  const { from, until } = validity ?? {};
  const closed = mode === 'Audit' ? '' : '; what it closes is closed all the same';
  if (until !== undefined && now >= until)
    return {
      status: 'False',
      reason: 'Expired',
      message: `spec.validity.until: its rules have not held since ${rfc3339(until)}${closed}`,
    };
  if (from !== undefined && now < from)
    return {
      status: 'False',
      reason: 'NotYetValid',
      message: `spec.validity.from: its rules hold from ${rfc3339(from)} on${closed}`,
    };
  return undefined;
}

function withoutRoles(problems: readonly string[]): Verdict | undefined {
  if (problems.length === 0) return undefined;
  return { status: 'False', reason: 'RoleMissing', message: some(problems, MOST_TOLD) };
}

function standing({ mode, rules }: Policy, meshes: readonly MeshFacts[]): string {
  const count = `${rules.length} ${rules.length === 1 ? 'rule' : 'rules'}`;
  const said = mode === 'Audit' ? `${count}, reported and never enforced` : `${count} in force`;
  if (meshes.length === 0)
    return `${said} where Signet's agents decide; there is no mesh that it is rendered for`;
  const names = meshes.map(({ mesh, verdicts }) => `${mesh} (${overallFidelity(verdicts).toLowerCase()})`);
  return `${said}; rendered for ${names.join(', ')}`;
}
