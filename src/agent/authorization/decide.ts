import { evaluate, type Decision } from '../../access/policy/evaluate.js';
import type { AccessRequest, TargetWorkload } from '../../access/policy/model.js';
import type { Clock } from '../../lib/clock.js';
import { BugError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { isRequestId } from '../../rpc/request-id.js';
import type { CallParts } from '../session.js';
import { createDecisionLog, type Answered, type DecisionLog, type DecisionName } from './decision-log.js';
import { createTargetFinder, type TargetFinder } from './target.js';
import type { TokenFinding, Tokens } from './token.js';
import type { AuthorizationView, AuthorizationViews } from './view.js';

/** What decisions are made from. */
export interface AuthorizationOptions {
  readonly views: AuthorizationViews;
  readonly tokens: Tokens;
  /** Whether there is a bundle of a trust domain, the own one or a federated one. */
  knowsTrustDomain(name: string): boolean;
  /** Of the agent: tells who is behind the shared socket. */
  readonly calls: CallParts;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Whether callers are told why they were denied; else only logs and the proxy's metadata say it. */
  readonly tellReasons?: boolean;
}

/** What the authorization services share. */
export interface Authorization {
  readonly targets: TargetFinder;
  readonly tokens: Tokens;
  readonly log: DecisionLog;
  readonly tellReasons: boolean;
  knowsTrustDomain(name: string): boolean;
  /** Undefined while the policies cannot be told. */
  readonly view: AuthorizationView | undefined;
  /** A new name for a decision about this request; what is no well-formed ID of one is left out. */
  nextName(requestId: string | undefined): DecisionName;
  /** Decides and logs. The time is now. */
  decide(name: DecisionName, request: Omit<AccessRequest, 'time'>, finding?: TokenFinding): Answered;
  /**
   * The same for whom only an identity tells that several workloads hold: allowed if it is for each of them, so that
   * none gets more than its own policies give. The answer is the first denial.
   */
  decideForAll(
    name: DecisionName,
    targets: readonly TargetWorkload[],
    request: Omit<AccessRequest, 'time' | 'target'>,
    finding?: TokenFinding,
  ): Answered;
}

const ID_BYTES = 12;
/** So many at once: asking for randomness costs more than the bytes. */
const IDS_AT_ONCE = 64;

export function createAuthorization(options: AuthorizationOptions): Authorization {
  const { views, tokens, calls, clock, random } = options;
  const log = createDecisionLog(options.logger.child({ component: 'authorization' }), clock);
  const answer = (
    name: DecisionName,
    asked: Omit<AccessRequest, 'time'>,
    finding?: TokenFinding,
  ): Answered => {
    const { current } = views;
    const request: AccessRequest = { ...asked, time: clock.now() };
    const decision = current === undefined ? NO_POLICIES : evaluate(current.policies, request);
    const problem = finding?.problem;
    return { ...name, request, decision, ...(problem === undefined ? {} : { tokenProblem: problem }) };
  };
  const record = (answered: Answered): Answered => {
    log.record(answered);
    return answered;
  };
  const nextId = idSource(random);
  return {
    targets: createTargetFinder(calls, clock),
    tokens,
    log,
    tellReasons: options.tellReasons ?? false,
    knowsTrustDomain: (name) => options.knowsTrustDomain(name),
    get view() {
      return views.current;
    },
    nextName: (requestId) => ({ id: nextId(), ...(isRequestId(requestId) ? { requestId } : {}) }),
    decide: (name, asked, finding) => record(answer(name, asked, finding)),
    decideForAll(name, targets, asked, finding) {
      let allowed: Answered | undefined;
      for (const target of targets) {
        const answered = answer(name, { ...asked, target }, finding);
        if (!answered.decision.allowed) return record(answered);
        // Of those that allow, one that a policy in Audit mode would have denied is worth telling.
        if (allowed === undefined || wouldChange(answered)) allowed = answered;
      }
      if (allowed === undefined) throw new BugError('a decision for no target');
      return record(allowed);
    },
  };
}

/** Makes names that nobody can foretell; none comes twice. */
function idSource(random: Random): () => string {
  let bytes = Buffer.alloc(0);
  return () => {
    if (bytes.length === 0) bytes = Buffer.from(random.bytes(ID_BYTES * IDS_AT_ONCE));
    const id = bytes.toString('base64url', 0, ID_BYTES);
    bytes = bytes.subarray(ID_BYTES);
    return id;
  };
}

function wouldChange({ decision }: Answered): boolean {
  return decision.audit.some(({ changesAnswer }) => changesAnswer);
}

/** What is answered while the policies cannot be told. */
const NO_POLICIES: Decision = {
  allowed: false,
  decidedBy: { kind: 'request' },
  reason: 'the access policies cannot be read, so nothing is allowed',
  nearest: undefined,
  audit: [],
};

/**
 * Whether a valid token would have opened: the rule that came nearest misses nothing but what a token says, and no valid
 * one came.
 */
export function lacksToken({ request, decision }: Answered): boolean {
  const { allowed, decidedBy, nearest } = decision;
  if (allowed || request.token !== null || nearest === undefined) return false;
  // A policy that cannot be compiled denies with any token.
  if (decidedBy.kind === 'policy' && decidedBy.why === 'broken') return false;
  const { missed } = nearest;
  return missed.length > 0 && missed.every(({ field }) => field === 'token' || field === 'role');
}

/** What decided, by name: `namespace/policy/rule`. */
export function ruleOf({ decidedBy }: Decision): string | undefined {
  if (decidedBy.kind !== 'rule') return undefined;
  const { policy, rule } = decidedBy;
  return `${policy.namespace === '' ? '' : `${policy.namespace}/`}${policy.name}/${rule}`;
}
