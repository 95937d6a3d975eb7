import type { AccessRequest, HttpRequest } from '../../access/policy/model.js';
import type { HandlersOf } from '../../rpc/definition.js';
import type {
  AttributeContext,
  AttributeContext_HttpRequest,
  AttributeContext_Peer,
  AuthorizationService,
  CheckRequest,
  CheckResponse,
} from '../../rpc/gen/envoy/service/auth/external_auth.js';
import { HTTP_REQUEST_ID } from '../../rpc/request-id.js';
import type { CallContext } from '../../rpc/service.js';
import type { Authorization } from './decide.js';
import { checkResponse, refusal } from './ext-authz-response.js';
import { readCaller } from './peer-identity.js';
import { findToken } from './token.js';
import type { AuthorizationView } from './view.js';

/** Envoy's external authorization service (v3), by method name. */
export type ExtAuthzHandlers = Required<HandlersOf<AuthorizationService>>;

/**
 * Decides the requests of the workload whose Envoy asks. That workload is told by the socket that Envoy comes in by, or
 * by its verified identity (then all that hold it must allow what is asked); the caller by the certificate that Envoy has verified. Forwarded headers, the body and the
 * rest of what Envoy sends have no say.
 */
export function extAuthzHandlers(authorization: Authorization): ExtAuthzHandlers {
  return { check: (request, context) => check(authorization, request, context) };
}

async function check(
  authorization: Authorization,
  { attributes }: CheckRequest,
  context: CallContext,
): Promise<CheckResponse> {
  const { view, targets, tokens, log, tellReasons } = authorization;
  const http = readHttp(attributes);
  // As Envoy calls it in its own log, too. It may be its client's word, so it says nothing but which request is meant.
  const name = authorization.nextName(http?.headers?.[HTTP_REQUEST_ID]);
  const refuse = (reason: string): CheckResponse => {
    log.refused(name, reason);
    return refusal(name.id, reason, tellReasons);
  };
  if (view === undefined) return refuse('the access policies cannot be read, so nothing is allowed');
  const found = targets.candidates(view, context);
  const candidates = found instanceof Promise ? await found : found;

  const { source, destination } = attributes ?? {};
  const caller = readCaller(
    { principal: source?.principal ?? '', certificate: source?.certificate ?? '' },
    (name) => authorization.knowsTrustDomain(name),
  );
  if (!caller.ok) return refuse(caller.reason);
  if (http === undefined) return refuse('the request has no method and path; is this an HTTP filter?');

  const finding = findToken(http.headers?.['authorization'], tokens);
  const checked = finding instanceof Promise ? await finding : finding;
  const asked = {
    http,
    token: checked.token,
    ...readAddresses(source, destination),
    ...describeSource(view, caller.spiffeId),
  };
  return checkResponse(authorization.decideForAll(name, candidates, asked, checked), tellReasons);
}

function describeSource(
  view: AuthorizationView,
  spiffeId: string | undefined,
): Pick<AccessRequest, 'source' | 'sourceWorkload'> {
  const sourceWorkload = spiffeId === undefined ? undefined : view.source(spiffeId);
  return { source: spiffeId, ...(sourceWorkload === undefined ? {} : { sourceWorkload }) };
}

function readAddresses(
  source: AttributeContext_Peer | undefined,
  destination: AttributeContext_Peer | undefined,
): Pick<AccessRequest, 'sourceIp' | 'port'> {
  const sourceIp = addressOf(source)?.address ?? '';
  const port = addressOf(destination)?.port ?? 0;
  return {
    ...(sourceIp === '' ? {} : { sourceIp }),
    ...(port < 1 || port > 65535 ? {} : { port }),
  };
}

function readHttp(attributes: AttributeContext | undefined): HttpRequest | undefined {
  const http = attributes?.request?.http;
  if (http === undefined || http.method === '' || http.path === '') return undefined;
  return {
    method: http.method,
    path: http.path,
    ...(http.host === '' ? {} : { host: http.host }),
    headers: readHeaders(http),
  };
}

/** Envoy joins the lines of one header by "," in `headers`; with `encode_raw_headers` it sends each in `header_map`. */
function readHeaders({ headers, headerMap }: AttributeContext_HttpRequest): Readonly<Record<string, string>> {
  const read = new Map<string, string>();
  const add = (key: string, value: string): void => {
    if (key === '' || key.startsWith(':')) return;
    const name = key.toLowerCase();
    const before = read.get(name);
    read.set(name, before === undefined ? value : `${before},${value}`);
  };
  for (const [key, value] of Object.entries(headers)) add(key, value);
  for (const { key, value, rawValue } of headerMap?.headers ?? [])
    add(key, rawValue.length > 0 ? rawValue.toString('latin1') : value);
  return Object.fromEntries(read);
}

function addressOf(
  peer: AttributeContext_Peer | undefined,
): { readonly address: string; readonly port: number | undefined } | undefined {
  const address = peer?.address?.address;
  if (address?.$case !== 'socketAddress') return undefined;
  const port = address.value.portSpecifier?.value;
  return { address: address.value.address, port };
}
