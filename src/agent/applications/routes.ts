import type { HttpAnswer, HttpCall, HttpRoute } from '../../rpc/http/route.js';
import { evaluation, evaluations } from './evaluations.js';
import { data, dataError } from './opa.js';
import { searchAction, searchResource, searchSubject, type SearchParts } from './search.js';
import { StatusError } from '../../rpc/service.js';

const EVALUATION = '/access/v1/evaluation';
const EVALUATIONS = '/access/v1/evaluations';
const SEARCH = '/access/v1/search';

/**
 * The decision API for applications: OpenID AuthZEN Authorization API 1.0, and OPA's Data API. Who asks is told by the
 * connection, and is the target of every question.
 */
export function applicationRoutes(parts: SearchParts): readonly HttpRoute[] {
  const { authorization } = parts;
  const post = (path: string, handle: HttpRoute['handle']): HttpRoute => ({ method: 'POST', path, handle });
  const dataRoute = { path: '/v1/data', below: true, error: dataError };
  const handleData = (call: HttpCall): Promise<HttpAnswer> => data(authorization, call);
  return [
    post(EVALUATION, (call) => evaluation(authorization, call)),
    post(EVALUATIONS, (call) => evaluations(authorization, call)),
    post(`${SEARCH}/subject`, (call) => searchSubject(parts, call)),
    post(`${SEARCH}/resource`, (call) => searchResource(parts, call)),
    post(`${SEARCH}/action`, (call) => searchAction(parts, call)),
    { method: 'GET', path: '/.well-known/authzen-configuration', handle: metadata },
    { ...dataRoute, method: 'POST', handle: handleData },
    { ...dataRoute, method: 'GET', handle: handleData },
  ];
}

const HOST = /^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

/**
 * Where to ask what (§9): under the name by which the client called us, as §9.2.3 wants it. A unix socket has no https
 * address; there the scheme is http.
 */
function metadata({ host, secure }: HttpCall): HttpAnswer {
  if (!HOST.test(host)) throw new StatusError('InvalidArgument', 'the Host header is no name and port');
  const base = `${secure ? 'https' : 'http'}://${host}`;
  return {
    status: 200,
    body: {
      policy_decision_point: base,
      access_evaluation_endpoint: base + EVALUATION,
      access_evaluations_endpoint: base + EVALUATIONS,
      search_subject_endpoint: `${base}${SEARCH}/subject`,
      search_resource_endpoint: `${base}${SEARCH}/resource`,
      search_action_endpoint: `${base}${SEARCH}/action`,
    },
  };
}
