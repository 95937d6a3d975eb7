import { isRecord, shown } from '../../access/policy/read.js';
import { readStrictJson } from '../../lib/strict-json.js';
import type { HttpAnswer, HttpCall } from '../../rpc/http/route.js';
import type { Authorization } from '../authorization/decide.js';
import { ruleOf } from '../authorization/decide.js';
import { decideQuestion, findApplication, type Application, type Outcome } from './decision.js';
import { decideNetworkRequest } from './envoy-input.js';
import { invalid, readObject, readQuestion, type Fields } from './question.js';

/** What is under `/v1/data`: the documents that an OPA client may ask for. */
const ROOT = 'signet';
/** Of an input in a URL. */
const INPUT_BOUNDS = { maxDepth: 32, maxValues: 8192 };

/**
 * `POST /v1/data/{path}` with `{"input": …}`, and `GET /v1/data/{path}?input=…`, as OPA's Data API answers them: the result
 * under `result`, which is left out for what is not there. The documents:
 *
 *     signet: { allow: boolean, reason: text, rule: text of what decided, where one did, decision_id: text }
 *
 * The input is an AuthZEN question, or what OPA's Envoy plugin makes of a check (`attributes.request.http`).
 */
export async function data(authorization: Authorization, call: HttpCall): Promise<HttpAnswer> {
  const [root, ...path] = call.segments.slice(2);
  // Whoever asks must be known, even where nothing is.
  const application = await findApplication(authorization, call.context);
  if (root !== undefined && root !== ROOT) return { status: 200, body: {} };
  const outcome = await decideInput(authorization, application, inputOf(call));
  const id = idOf(outcome);
  const document = { [ROOT]: documentOf(outcome) };
  const result = valueAt(document, root === undefined ? [] : [root, ...path]);
  return { status: 200, body: { ...(result === undefined ? {} : { result }), decision_id: id } };
}

/** Errors as OPA writes them. */
export function dataError(status: number, message: string): unknown {
  const code = status >= 500 ? 'internal_error' : status === 400 ? 'invalid_parameter' : 'unauthorized';
  return { code: status === 404 || status === 405 ? 'resource_not_found' : code, message };
}

function inputOf({ body, query }: HttpCall): Fields {
  const input: unknown = body === undefined ? inputOfQuery(query) : body['input'];
  return readObject(input, 'input') ?? invalid('input', 'is missing: say what is asked');
}

function inputOfQuery(query: URLSearchParams): unknown {
  const [text, ...others] = query.getAll('input');
  if (others.length > 0) return invalid('input', 'comes twice');
  if (text === undefined) return undefined;
  const reading = readStrictJson(Buffer.from(text), INPUT_BOUNDS);
  return 'problem' in reading ? invalid('input', reading.problem) : reading.object;
}

function decideInput(
  authorization: Authorization,
  application: Application,
  input: Fields,
): Promise<Outcome> {
  const { attributes } = input;
  if (attributes === undefined)
    return decideQuestion(authorization, application, readQuestion(input, 'input.'), 'input.');
  if (['subject', 'action', 'resource'].some((name) => input[name] !== undefined))
    return invalid('input', 'has attributes of a network request, and a question; send one of them');
  return isRecord(attributes)
    ? decideNetworkRequest(authorization, application, attributes)
    : invalid('input.attributes', `must be an object, and is ${shown(attributes)}`);
}

const idOf = (outcome: Outcome): string => ('answered' in outcome ? outcome.answered.id : outcome.id);

function documentOf(outcome: Outcome): Fields {
  const id = idOf(outcome);
  if (!('answered' in outcome)) return { allow: false, reason: outcome.refused, decision_id: id };
  const { decision } = outcome.answered;
  const rule = ruleOf(decision);
  return {
    allow: decision.allowed,
    reason: decision.reason,
    ...(rule === undefined ? {} : { rule }),
    decision_id: id,
  };
}

function valueAt(document: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (value, name) => (isRecord(value) && Object.hasOwn(value, name) ? value[name] : undefined),
    document,
  );
}
