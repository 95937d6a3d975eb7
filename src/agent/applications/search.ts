import { setImmediate as turn } from 'node:timers/promises';
import { evaluate } from '../../access/policy/evaluate.js';
import type { TargetWorkload } from '../../access/policy/model.js';
import type { Clock } from '../../lib/clock.js';
import type { HttpAnswer, HttpCall } from '../../rpc/http/route.js';
import type { Authorization } from '../authorization/decide.js';
import type { AuthorizationView } from '../authorization/view.js';
import { findAsker, TOKEN, WORKLOAD, type Asker } from './asker.js';
import {
  actionCandidates,
  resourceCandidates,
  userCandidates,
  workloadCandidates,
  type Candidates,
} from './candidates.js';
import { findApplication, requestOf, type Application } from './decision.js';
import { nextToken, readPage, type Page } from './page.js';
import { readAction, readEntity, readKind, readObject, type Question } from './question.js';

/** Candidates that one request decides; where there are more, its page is shorter and another one follows. */
const MAX_DECIDED = 2000;
/** Candidates between two turns of the event loop: others are served meanwhile. */
const AT_ONCE = 100;

/** What the searches need. */
export interface SearchParts {
  readonly authorization: Authorization;
  readonly clock: Clock;
}

/** `POST /access/v1/search/subject` (AuthZEN Authorization API 1.0 §8.4). */
export async function searchSubject(parts: SearchParts, call: HttpCall): Promise<HttpAnswer> {
  const application = await findApplication(parts.authorization, call.context);
  const body = call.body ?? {};
  const { type, properties } = readKind(body['subject'], 'subject');
  const rest = {
    action: readAction(body['action'], 'action'),
    resource: readEntity(body['resource'], 'resource'),
    context: readObject(body['context'], 'context'),
  };
  const page = readPage(body['page'], { type, properties, ...rest });
  const { view, target } = application;
  const candidates = subjectCandidates(type, view, target);
  const subject = { type, ...(properties === undefined ? {} : { properties }) };
  return search(call, page, candidates, {
    entity: (id) => ({ type, id }),
    async allows(id) {
      const asker = await findAsker({ ...subject, id }, parts.authorization, view, 'subject');
      return !('refused' in asker) && allows(parts, application, asker, rest);
    },
  });
}

function subjectCandidates(type: string, view: AuthorizationView, target: TargetWorkload): Candidates {
  if (type === TOKEN) return { values: [], note: 'tokens are not kept here' };
  return type === WORKLOAD ? workloadCandidates(view, target) : userCandidates(view, target);
}

/** `POST /access/v1/search/resource` (§8.5). */
export async function searchResource(parts: SearchParts, call: HttpCall): Promise<HttpAnswer> {
  const application = await findApplication(parts.authorization, call.context);
  const body = call.body ?? {};
  const subject = readEntity(body['subject'], 'subject');
  const { type, properties } = readKind(body['resource'], 'resource');
  const rest = {
    action: readAction(body['action'], 'action'),
    context: readObject(body['context'], 'context'),
  };
  const page = readPage(body['page'], { subject, type, properties, ...rest });
  const asker = await findAsker(subject, parts.authorization, application.view, 'subject');
  const resource = { type, ...(properties === undefined ? {} : { properties }) };
  return search(call, page, resourceCandidates(application.view, application.target, type), {
    entity: (id) => ({ type, id }),
    allows: (id) =>
      !('refused' in asker) && allows(parts, application, asker, { ...rest, resource: { ...resource, id } }),
  });
}

/** `POST /access/v1/search/action` (§8.6). */
export async function searchAction(parts: SearchParts, call: HttpCall): Promise<HttpAnswer> {
  const application = await findApplication(parts.authorization, call.context);
  const body = call.body ?? {};
  const subject = readEntity(body['subject'], 'subject');
  const rest = {
    resource: readEntity(body['resource'], 'resource'),
    context: readObject(body['context'], 'context'),
  };
  const page = readPage(body['page'], { subject, ...rest });
  const asker = await findAsker(subject, parts.authorization, application.view, 'subject');
  return search(call, page, actionCandidates(application.view, application.target), {
    entity: (name) => ({ name }),
    allows: (name) =>
      !('refused' in asker) && allows(parts, application, asker, { ...rest, action: { name } }),
  });
}

/** The same decision as an evaluation's; it is not logged, since nobody has asked for anything yet. */
function allows(
  { clock }: SearchParts,
  application: Application,
  asker: Asker,
  question: Omit<Question, 'subject'>,
): boolean {
  const request = { ...requestOf(application, asker, question), time: clock.now() };
  return evaluate(application.view.policies, request).allowed;
}

interface Searched {
  /** How a result is written. */
  entity(value: string): unknown;
  allows(value: string): boolean | Promise<boolean>;
}

async function search(
  { context }: HttpCall,
  page: Page,
  { values, note }: Candidates,
  searched: Searched,
): Promise<HttpAnswer> {
  const { after } = page;
  const results: unknown[] = [];
  const start = after === undefined ? 0 : firstAfter(values, after);
  let at = start;
  for (; at < values.length && results.length < page.limit && at - start < MAX_DECIDED; at++) {
    if (at % AT_ONCE === AT_ONCE - 1) await turn();
    context.signal.throwIfAborted();
    const value = values[at] ?? '';
    if (await searched.allows(value)) results.push(searched.entity(value));
  }
  const last = at === start ? (after ?? '') : (values[at - 1] ?? '');
  const next = at < values.length ? nextToken(page, last) : '';
  const told = page.asked || next !== '';
  return {
    status: 200,
    body: {
      ...(told ? { page: { next_token: next, count: results.length } } : {}),
      context: { candidates: note },
      results,
    },
  };
}

/** Where the candidates begin that come after a value. */
function firstAfter(values: readonly string[], after: string): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? '') > after) high = middle;
    else low = middle + 1;
  }
  return low;
}
