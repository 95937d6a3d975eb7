import { isRecord, shown } from '../../access/policy/read.js';
import type { HttpAnswer, HttpCall } from '../../rpc/http/route.js';
import { StatusError } from '../../rpc/service.js';
import type { Authorization } from '../authorization/decide.js';
import {
  decideQuestion,
  decisionAnswer,
  findApplication,
  type Application,
  type DecisionAnswer,
} from './decision.js';
import { invalid, readObject, readQuestion, type Fields } from './question.js';

/** So many questions in one request. */
const MAX_EVALUATIONS = 256;

const SEMANTICS = ['execute_all', 'deny_on_first_deny', 'permit_on_first_permit'] as const;
type Semantic = (typeof SEMANTICS)[number];

/** `POST /access/v1/evaluation` (AuthZEN Authorization API 1.0 §6). */
export async function evaluation(authorization: Authorization, call: HttpCall): Promise<HttpAnswer> {
  const application = await findApplication(authorization, call.context);
  return { status: 200, body: await decideOne(authorization, application, call.body ?? {}, '') };
}

/** `POST /access/v1/evaluations` (§7). */
export async function evaluations(authorization: Authorization, call: HttpCall): Promise<HttpAnswer> {
  const application = await findApplication(authorization, call.context);
  const { evaluations: items = [], options, ...defaults } = call.body ?? {};
  if (!Array.isArray(items)) return invalid('evaluations', `must be a list, and is ${shown(items)}`);
  if (items.length > MAX_EVALUATIONS)
    return invalid('evaluations', `has ${items.length} items; ${MAX_EVALUATIONS} are allowed`);
  const semantic = readSemantic(options);
  if (items.length === 0)
    return { status: 200, body: await decideOne(authorization, application, defaults, '') };
  const answers: DecisionAnswer[] = [];
  for (const [index, item] of (items as readonly unknown[]).entries()) {
    call.context.signal.throwIfAborted();
    const answer = await decideItem(authorization, application, { defaults, item, index });
    answers.push(answer);
    if (answer.decision ? semantic === 'permit_on_first_permit' : semantic === 'deny_on_first_deny') break;
  }
  return { status: 200, body: { evaluations: answers } };
}

async function decideOne(
  authorization: Authorization,
  application: Application,
  fields: Fields,
  at: string,
): Promise<DecisionAnswer> {
  const outcome = await decideQuestion(authorization, application, readQuestion(fields, at), at);
  return decisionAnswer(outcome, authorization.tellReasons);
}

/** What is wrong with one question is its own answer, and is no permission (§7.2.1). */
async function decideItem(
  authorization: Authorization,
  application: Application,
  { defaults, item, index }: { readonly defaults: Fields; readonly item: unknown; readonly index: number },
): Promise<DecisionAnswer> {
  const at = `evaluations[${index}]`;
  try {
    if (!isRecord(item)) return invalid(at, `must be an object, and is ${shown(item)}`);
    return await decideOne(authorization, application, { ...defaults, ...item }, `${at}.`);
  } catch (thrown) {
    if (!(thrown instanceof StatusError) || thrown.status !== 'InvalidArgument') throw thrown;
    return { decision: false, context: { error: { status: 400, message: thrown.message } } };
  }
}

function readSemantic(options: unknown): Semantic {
  const asked = readObject(options, 'options')?.['evaluations_semantic'] ?? 'execute_all';
  return (
    SEMANTICS.find((semantic) => semantic === asked) ??
    invalid('options.evaluations_semantic', `${shown(asked)} is none of ${SEMANTICS.join(', ')}`)
  );
}
