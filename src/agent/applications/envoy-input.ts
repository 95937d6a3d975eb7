import type { HttpRequest } from '../../access/policy/model.js';
import { shown } from '../../access/policy/read.js';
import type { Authorization } from '../authorization/decide.js';
import { readCaller } from '../authorization/peer-identity.js';
import { findToken } from '../authorization/token.js';
import { refuse, type Application, type Outcome } from './decision.js';
import { invalid, readObject, type Fields } from './question.js';

/**
 * Decides a network request to the application itself, from the `attributes` that OPA's Envoy plugin has in its input: a
 * check request of Envoy as JSON. It is read as the external authorization service reads the same request: the caller by
 * `source.principal`, `path` as it came; what Envoy or the plugin have parsed or decoded has no say.
 */
export async function decideNetworkRequest(
  authorization: Authorization,
  { view, target, requestId }: Application,
  attributes: Fields,
): Promise<Outcome> {
  const at = 'input.attributes';
  const name = authorization.nextName(requestId);
  const source = readObject(attributes['source'], `${at}.source`) ?? {};
  const destination = readObject(attributes['destination'], `${at}.destination`) ?? {};
  const http = readHttp(attributes, at);
  const caller = readCaller(
    {
      principal: readText(source['principal'], `${at}.source.principal`) ?? '',
      certificate: readText(source['certificate'], `${at}.source.certificate`) ?? '',
    },
    (name) => authorization.knowsTrustDomain(name),
  );
  if (!caller.ok) return refuse(authorization, name, caller.reason);
  const sourceIp = addressOf(source, `${at}.source`).address;
  const { port } = addressOf(destination, `${at}.destination`);
  const sourceWorkload = caller.spiffeId === undefined ? undefined : view.source(caller.spiffeId);
  const finding = await findToken(http.headers?.['authorization'], authorization.tokens);
  const answered = authorization.decide(
    name,
    {
      ...{ target, http, source: caller.spiffeId, token: finding.token },
      ...(sourceWorkload === undefined ? {} : { sourceWorkload }),
      ...(sourceIp === undefined ? {} : { sourceIp }),
      ...(port === undefined ? {} : { port }),
    },
    finding,
  );
  return { answered };
}

function readHttp(attributes: Fields, at: string): HttpRequest {
  const request = readObject(attributes['request'], `${at}.request`) ?? {};
  const field = `${at}.request.http`;
  const http = readObject(request['http'], field) ?? invalid(field, 'is missing');
  const method = readText(http['method'], `${field}.method`) ?? invalid(`${field}.method`, 'is missing');
  const path = readText(http['path'], `${field}.path`) ?? invalid(`${field}.path`, 'is missing');
  const host = readText(http['host'], `${field}.host`);
  return {
    ...{ method, path, headers: readHeaders(http['headers'], `${field}.headers`) },
    ...(host === undefined ? {} : { host }),
  };
}

/** Envoy joins the lines of one header by "," and writes names in lower case; pseudo-headers are no headers. */
function readHeaders(value: unknown, field: string): Readonly<Record<string, string>> {
  const headers = new Map<string, string>();
  for (const [name, line] of Object.entries(readObject(value, field) ?? {})) {
    const text = readText(line, `${field}.${name}`) ?? '';
    const key = name.toLowerCase();
    const before = headers.get(key);
    if (name !== '' && !name.startsWith(':'))
      headers.set(key, before === undefined ? text : `${before},${text}`);
  }
  return Object.fromEntries(headers);
}

function addressOf(
  peer: Fields,
  field: string,
): { readonly address: string | undefined; readonly port: number | undefined } {
  const outer = readObject(peer['address'], `${field}.address`) ?? {};
  const at = `${field}.address.socketAddress`;
  const socket = readObject(outer['socketAddress'], at) ?? {};
  const port = socket['portValue'];
  if (
    port !== undefined &&
    (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 65_535)
  )
    invalid(`${at}.portValue`, `${shown(port)} is no port`);
  return {
    address: readText(socket['address'], `${at}.address`),
    port: typeof port === 'number' && port > 0 ? port : undefined,
  };
}

/** A text; an empty one is none. */
function readText(value: unknown, field: string): string | undefined {
  if (value === undefined || value === '') return undefined;
  return typeof value === 'string' ? value : invalid(field, `must be a text, and is ${shown(value)}`);
}
