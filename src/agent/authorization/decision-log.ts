import type { Decision } from '../../access/policy/evaluate.js';
import { policyName, type AccessRequest } from '../../access/policy/model.js';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import { TokenBucket } from '../../lib/token-bucket.js';

/** What a decision is called. */
export interface DecisionName {
  /** In the answer and in the log. */
  readonly id: string;
  /** The request that it is about, as its caller calls it, or as the log calls the call; well-formed. */
  readonly requestId?: string;
}

/** What was decided, and how it is told. */
export interface Answered extends DecisionName {
  readonly request: AccessRequest;
  readonly decision: Decision;
  /** Why a token that came is not valid; holds nothing of it. */
  readonly tokenProblem?: string;
}

/** Writes decisions to the log. */
export interface DecisionLog {
  record(answered: Answered): void;
  /** A request that was refused before any policy was asked. */
  refused(name: DecisionName, reason: string): void;
}

/** Denials, and findings of policies in Audit mode, per second in the long run and at once. */
const PER_SECOND = 20;
const BURST = 100;
const MAX_TEXT = 512;

/**
 * Denials and audit findings at level info, a bounded number of them per second with a count of those left out; what is
 * simply allowed at level debug, out of the same bound. Never a query, a token, or a header but the request's ID.
 */
export function createDecisionLog(logger: Logger, clock: Clock): DecisionLog {
  const bucket = new TokenBucket(clock, PER_SECOND, BURST);
  let omitted = 0;
  const admitted = (): { readonly omitted?: number } | undefined => {
    if (!bucket.take()) {
      omitted++;
      return undefined;
    }
    const before = omitted;
    omitted = 0;
    return before === 0 ? {} : { omitted: before };
  };
  return {
    record(answered) {
      const { decision } = answered;
      const more = admitted();
      if (more === undefined) return;
      const fields = { ...describe(answered), ...more };
      if (!decision.allowed) logger.info('access denied', fields);
      else if (decision.audit.some(({ changesAnswer }) => changesAnswer))
        logger.info('access allowed, against a policy in Audit mode', fields);
      else logger.debug('access allowed', fields);
    },
    refused(name, reason) {
      const more = admitted();
      if (more !== undefined)
        logger.info('access refused', { ...named(name), reason: short(reason), ...more });
    },
  };
}

function named({ id, requestId }: DecisionName): Readonly<Record<string, string>> {
  return { decision: id, ...(requestId === undefined ? {} : { requestId }) };
}

function describe(answered: Answered): Readonly<Record<string, string>> {
  const { request, decision, tokenProblem } = answered;
  const { source, sourceIp, target, port, http, application } = request;
  const [audit] = decision.audit.filter(({ changesAnswer }) => changesAnswer);
  return {
    ...named(answered),
    source: source ?? '(none)',
    ...(sourceIp === undefined ? {} : { sourceIp }),
    target: `${target.namespace}/${target.name}`,
    ...(port === undefined ? {} : { port: String(port) }),
    ...(http === undefined ? {} : { method: short(http.method), path: short(withoutQuery(http.path)) }),
    ...(application === undefined
      ? {}
      : {
          action: short(application.action.name),
          resource: short(`${application.resource.type} ${application.resource.id}`),
        }),
    reason: short(decision.reason),
    ...(tokenProblem === undefined ? {} : { tokenProblem: short(tokenProblem) }),
    ...(audit === undefined ? {} : { audit: short(`${policyName(audit.policy)}: ${audit.reason}`) }),
  };
}

function withoutQuery(path: string): string {
  return path.split(/[?#]/, 1)[0] ?? '';
}

/** Bounded. */
export function short(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
