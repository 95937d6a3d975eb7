import { policyName } from '../../access/policy/model.js';
import type { CheckResponse } from '../../rpc/gen/envoy/service/auth/external_auth.js';
import {
  HeaderValueOption_HeaderAppendAction,
  type HeaderValueOption,
} from '../../rpc/gen/envoy/core/header.js';
import type { Answered } from './decision-log.js';
import { short } from './decision-log.js';
import { lacksToken, ruleOf } from './decide.js';

/** Headers of ours; what a client sends under these names never reaches a workload. */
const DECISION_ID = 'x-signet-decision-id';
const RULE = 'x-signet-rule';
const REASON = 'x-signet-reason';

const OK = 0;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;
const MAX_AUDIT = 16;

/** Envoy's answer for a decision. */
export function checkResponse(answered: Answered, tellReasons: boolean): CheckResponse {
  const dynamicMetadata = { ...answerInWords(answered) };
  const { id, decision, tokenProblem } = answered;
  const rule = ruleOf(decision);
  if (!decision.allowed) {
    const needsToken = lacksToken(answered);
    const headers = tellReasons ? [set(REASON, decision.reason)] : [];
    if (needsToken) headers.push(set('www-authenticate', challenge(tokenProblem)));
    return denied(needsToken ? 401 : 403, id, headers, dynamicMetadata);
  }
  return {
    status: { code: OK, message: '', details: [] },
    httpResponse: {
      $case: 'okResponse',
      value: {
        headers: [set(DECISION_ID, id), ...(rule === undefined ? [] : [set(RULE, rule)])],
        // Envoy removes after it has set, so those that are set are not among them: setting replaces what came.
        headersToRemove: rule === undefined ? [RULE, REASON] : [REASON],
      },
    },
    dynamicMetadata,
  };
}

/** Envoy's answer for a request that no policy was asked about. */
export function refusal(id: string, reason: string, tellReasons: boolean): CheckResponse {
  const headers = tellReasons ? [set(REASON, reason)] : [];
  return denied(403, id, headers, { allowed: false, decision_id: id, reason: short(reason) });
}

function denied(
  code: 401 | 403,
  id: string,
  headers: readonly HeaderValueOption[],
  dynamicMetadata: Readonly<Record<string, unknown>>,
): CheckResponse {
  return {
    status: { code: code === 401 ? UNAUTHENTICATED : PERMISSION_DENIED, message: '', details: [] },
    httpResponse: {
      $case: 'deniedResponse',
      value: {
        status: { code },
        headers: [set(DECISION_ID, id), set('content-type', 'text/plain; charset=utf-8'), ...headers],
        body: `${code === 401 ? 'A valid token is needed' : 'Access denied'} (decision ${id}).\n`,
      },
    },
    dynamicMetadata,
  };
}

/** RFC 6750 §3. */
function challenge(tokenProblem: string | undefined): string {
  return tokenProblem === undefined
    ? 'Bearer realm="signet"'
    : 'Bearer realm="signet", error="invalid_token"';
}

/** A decision as enforcement points are told it. */
export interface AnswerInWords extends Readonly<Record<string, unknown>> {
  readonly allowed: boolean;
  readonly decision_id: string;
  readonly reason: string;
}

/** For Envoy under `envoy.filters.http.ext_authz`, for access logs and later filters. */
export function answerInWords({ id, request, decision, tokenProblem }: Answered): AnswerInWords {
  const { audit, decidedBy } = decision;
  const rule = ruleOf(decision);
  const policy = 'policy' in decidedBy ? policyName(decidedBy.policy) : undefined;
  return {
    allowed: decision.allowed,
    decision_id: id,
    reason: short(decision.reason),
    ...(request.source === undefined ? {} : { source: request.source }),
    ...(policy === undefined ? {} : { policy }),
    ...(rule === undefined ? {} : { rule }),
    ...(tokenProblem === undefined ? {} : { token_problem: short(tokenProblem) }),
    ...(audit.length === 0
      ? {}
      : {
          audit: audit.slice(0, MAX_AUDIT).map((found) => ({
            policy: policyName(found.policy),
            ...(found.rule === undefined ? {} : { rule: found.rule }),
            would_have: found.wouldHave,
            changes_answer: found.changesAnswer,
            reason: short(found.reason),
          })),
        }),
  };
}

function set(key: string, text: string): HeaderValueOption {
  // What a header may hold (RFC 9110 §5.5), whatever is in the names that a reason quotes.
  const value = short(text).replaceAll(/[^\x20-\x7e]/g, '?');
  return {
    header: { key, value, rawValue: Buffer.alloc(0) },
    appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
  };
}
