import type {
  ExplainedAudit,
  ExplainedPolicy,
  ExplainedRule,
  ExplainedStep,
  Explanation,
  StepName,
} from '../access/policy/explain.js';
import { policyName, type AccessRequest } from '../access/policy/model.js';

const TITLES: Readonly<Record<StepName, string>> = {
  adminDeny: 'Admin deny',
  deny: 'deny',
  allow: 'allow',
  closed: 'closed',
  baselineDeny: 'Baseline deny',
  baselineAllow: 'Baseline allow',
  clusterClosed: 'closed (cluster)',
  default: 'default',
};

const WIDTH = Math.max(...Object.values(TITLES).map(({ length }) => length));
/** How many rules of a step are shown that do not match; JSON and YAML tell more. */
const MAX_SHOWN = 3;

/** An explanation for people: the verdict, what was asked, then every step until one decides. */
export function explanationText(explanation: Explanation, request: AccessRequest): string {
  const { allowed, reason, steps, policies, audited } = explanation;
  const sections = [
    [`${allowed ? 'ALLOWED' : 'DENIED'}: ${reason}`],
    requestLines(request),
    steps.flatMap(stepLines),
    [...policies.flatMap(policyLines), ...audited.flatMap(auditLines)],
  ];
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n');
}

function requestLines({ source, target, port, http, application, time }: AccessRequest): readonly string[] {
  const where = `${target.namespace}/${target.name}${port === undefined ? '' : `:${port}`}`;
  return [
    `  from  ${source ?? 'a caller without identity'}`,
    `  to    ${where}`,
    ...(http === undefined
      ? []
      : [`  asks  ${http.method} ${http.path}${http.host === undefined ? '' : ` of ${http.host}`}`]),
    ...(application === undefined
      ? []
      : [`  asks  ${application.action.name} on ${application.resource.type} ${application.resource.id}`]),
    `  at    ${new Date(time).toISOString()}`,
  ];
}

function stepLines(step: ExplainedStep): readonly string[] {
  const decides = step.state === 'decides';
  const head = `${decides ? '>' : ' '} ${TITLES[step.step].padEnd(WIDTH)}  ${outcome(step)}`;
  if (step.state === 'notReached') return [head];
  const matching = step.rules.filter(({ matches }) => matches);
  const others = step.rules.filter(({ matches }) => !matches);
  const shown = decides ? [] : others.slice(0, MAX_SHOWN);
  const hidden = decides ? 0 : others.length - shown.length + step.further;
  return [
    head,
    ...matching.flatMap((rule, index) => matchLines(rule, index === 0)),
    ...shown.flatMap((rule) => missLines(rule, step)),
    ...(hidden === 0 ? [] : [`      … and ${hidden} further away`]),
  ];
}

function outcome({ step, state, answer, rules, further, policies }: ExplainedStep): string {
  const says = answer === undefined ? '' : answer === 'Allow' ? 'ALLOW' : 'DENY';
  if (state === 'notReached')
    return says === '' ? 'not reached' : `not reached; it would ${says.toLowerCase()}`;
  if (step === 'default') return `no policy says anything of it: ${says}`;
  const names = policies.map(policyName).join(', ');
  if (names !== '') {
    const why =
      step === 'closed' || step === 'clusterClosed'
        ? 'says who may, so nobody else may'
        : 'cannot be compiled, so it opens nothing';
    return `${names} ${why}: ${says}`;
  }
  const count = rules.length + further;
  if (count === 0) return step === 'closed' || step === 'clusterClosed' ? 'by no policy' : 'no rule';
  const [first] = rules.filter(({ matches }) => matches);
  if (first !== undefined) return `rule ${ruleName(first)} matches: ${says}`;
  return count === 1 ? '1 rule, which does not match' : `${count} rules, none of which matches`;
}

const ruleName = ({ policy, rule }: ExplainedRule): string => `"${rule}" of ${policyName(policy)}`;

/** The first rule that matches stands in the head of its step. */
function matchLines(rule: ExplainedRule, first: boolean): readonly string[] {
  const unsure = rule.unsure.map(
    ({ field, asked, found }) => `        ${field}: asks for ${asked}; ${found}, which counts as met`,
  );
  if (!first) return [`    + ${ruleName(rule)} matches too`, ...unsure];
  return unsure;
}

function missLines(rule: ExplainedRule, { step }: ExplainedStep): readonly string[] {
  const would = step === 'allow' || step === 'baselineAllow' ? 'would allow it' : 'would deny it';
  return [
    `    - ${ruleName(rule)} ${would} but for`,
    ...rule.missed.map(({ field, asked, found }) => `        ${field}: asks for ${asked}; found ${found}`),
  ];
}

/** What is particular about a policy: when it holds, and what is wrong with it. */
function policyLines({ policy, state, from, until, problems = [] }: ExplainedPolicy): readonly string[] {
  const name = `policy ${policyName(policy)}`;
  switch (state) {
    case 'broken':
      return problems.map(({ field, message }) => `broken: ${name}: ${field} ${message}`);
    case 'notYet':
      return [`time: ${name} holds only from ${from ?? ''} on`];
    case 'over':
      return [`time: ${name} is over since ${until ?? ''}`];
    case 'holds':
      return until === undefined ? [] : [`time: ${name} holds until ${until}`];
  }
}

function auditLines({ policy, finding }: ExplainedAudit): readonly string[] {
  if (finding === undefined) return [`audit: policy ${policyName(policy)} would say nothing of it`];
  return [`audit: ${finding.reason}${finding.changesAnswer ? ' (another answer)' : ''}`];
}
