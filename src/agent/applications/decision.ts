import type { TargetWorkload } from '../../access/policy/model.js';
import type { CallContext } from '../../rpc/service.js';
import { StatusError } from '../../rpc/service.js';
import type { Answered, DecisionName } from '../authorization/decision-log.js';
import { lacksToken, type Authorization } from '../authorization/decide.js';
import { answerInWords } from '../authorization/ext-authz-response.js';
import type { AuthorizationView } from '../authorization/view.js';
import { findAsker, type Asker } from './asker.js';
import type { Fields, Question } from './question.js';

/** An application that asks: it is the target of its own questions, and can ask for no other. */
export interface Application {
  readonly view: AuthorizationView;
  readonly target: TargetWorkload;
  /** Of its request, for the log. */
  readonly requestId: string;
}

/**
 * Who asks, by its socket or its verified certificate, and by nothing it says.
 *
 * @throws StatusError PermissionDenied, Unauthenticated, Unavailable
 */
export async function findApplication(
  authorization: Authorization,
  context: CallContext,
): Promise<Application> {
  const { view, targets } = authorization;
  if (view === undefined)
    throw new StatusError('Unavailable', 'the access policies cannot be read, so nothing is allowed');
  return { view, target: await targets.find(view, context), requestId: context.requestId };
}

/** A question as the policies read it; the time is the evaluator's. */
export function requestOf(
  { target }: Application,
  { asked, subject }: Asker,
  question: Omit<Question, 'subject'>,
) {
  const { action, resource, context } = question;
  return {
    ...asked,
    target,
    application: {
      ...(subject === undefined ? {} : { subject }),
      ...{ action, resource },
      ...(context === undefined ? {} : { context }),
    },
  };
}

/** What was decided, whatever form it is told in. */
export type Outcome =
  | { readonly answered: Answered }
  /** No policy was asked. */
  | { readonly id: string; readonly refused: string };

/** Decides a question, and logs it. */
export async function decideQuestion(
  authorization: Authorization,
  application: Application,
  question: Question,
  at = '',
): Promise<Outcome> {
  const name = authorization.nextName(application.requestId);
  const asker = await findAsker(question.subject, authorization, application.view, `${at}subject`);
  if ('refused' in asker) return refuse(authorization, name, asker.refused);
  const request = requestOf(application, asker, question);
  return { answered: authorization.decide(name, request, asker.finding) };
}

/** Refuses without asking a policy, and logs it. */
export function refuse(authorization: Authorization, name: DecisionName, reason: string): Outcome {
  authorization.log.refused(name, reason);
  return { id: name.id, refused: reason };
}

/** AuthZEN's decision (§5.5). */
export interface DecisionAnswer {
  readonly decision: boolean;
  readonly context: Fields;
}

/**
 * Tells a decision to the application. As the enforcement point it is told the reason, as Envoy is in its metadata
 * (`reason_admin`, by HTTP status); what it may pass on to whoever asked it says no more than the ID of the decision, unless
 * callers are told reasons (`reason_user`).
 */
export function decisionAnswer(outcome: Outcome, tellReasons: boolean): DecisionAnswer {
  if (!('answered' in outcome)) {
    const { id, refused } = outcome;
    const words = { decision_id: id, ...reasons('403', id, refused, tellReasons) };
    return { decision: false, context: words };
  }
  const { answered } = outcome;
  const { reason, allowed, ...more } = answerInWords(answered);
  if (allowed) return { decision: true, context: { ...more, reason_admin: { 200: reason } } };
  const needsToken = lacksToken(answered);
  return {
    decision: false,
    context: {
      ...more,
      ...(needsToken ? { token_needed: true } : {}),
      ...reasons(needsToken ? '401' : '403', answered.id, reason, tellReasons),
    },
  };
}

function reasons(status: '401' | '403', id: string, reason: string, tellReasons: boolean): Fields {
  const words = status === '401' ? 'A valid token is needed' : 'Access denied';
  return {
    reason_admin: { [status]: reason },
    reason_user: { [status]: tellReasons ? reason : `${words} (decision ${id}).` },
  };
}
