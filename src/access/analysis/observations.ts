/** One access that was seen. */
export interface Observation {
  /** SPIFFE ID of the caller, or undefined when it had none. */
  readonly source: string | undefined;
  /** `namespace/name` of the workload that was called. */
  readonly target: string;
  readonly port: number;
  /** Absent where HTTP was not seen. */
  readonly http?: { readonly method: string; readonly path: string; readonly host?: string };
  /** Whether it was let through; absent when the log does not say. */
  readonly allowed?: boolean;
}

/** A line that is no observation. */
export interface LineProblem {
  /** From 1 on. */
  readonly line: number;
  readonly message: string;
}

export type ParsedLine =
  | { readonly kind: 'observation'; readonly observation: Observation }
  | { readonly kind: 'empty' }
  | { readonly kind: 'problem'; readonly problem: LineProblem };

export interface LineOptions {
  /** Whose log it is, `namespace/name`, where lines do not name the workload that was called (Envoy's own logs). */
  readonly target?: string;
  /** Where lines do not name the port. */
  readonly port?: number;
}

/** Longer lines are not read. */
const MAX_LINE = 65_536;

/**
 * One line of an access log, in one of these forms:
 *
 * - ours, and our decision log: a JSON object with `source` (SPIFFE ID or null), `target` (`namespace/name`, or an object
 *   with `namespace` and `name`), `port`, `http` (`method`, `path`, `host`; absent when HTTP was not seen) and `allowed`;
 * - Envoy's JSON access log with the usual names of fields: `downstream_peer_uri_san`, `method`, `path`, `authority`,
 *   `response_code`, `downstream_local_address`, `upstream_cluster`;
 * - Envoy's text access log in its default format with `"%DOWNSTREAM_PEER_URI_SAN%"` at the end of each line.
 *
 * Envoy does not say which workload it stands before, so `options.target` must.
 */
export function parseObservation(text: string, line: number, options: LineOptions = {}): ParsedLine {
  const trimmed = text.trim();
  if (trimmed === '') return { kind: 'empty' };
  const problem = (message: string): ParsedLine => ({ kind: 'problem', problem: { line, message } });
  if (trimmed.length > MAX_LINE) return problem(`has more than ${MAX_LINE} characters`);
  try {
    const read = trimmed.startsWith('{') ? readJson(trimmed) : readText(trimmed);
    return { kind: 'observation', observation: complete(read, options) };
  } catch (thrown) {
    if (!(thrown instanceof LineError)) throw thrown;
    return problem(thrown.message);
  }
}

/** Why a line cannot be read: never leaves this file. */
class LineError extends Error {}

interface Partial {
  readonly source: string | undefined;
  readonly target?: string | undefined;
  readonly port?: number | undefined;
  readonly http?: Observation['http'];
  readonly allowed?: boolean | undefined;
}

function complete(read: Partial, options: LineOptions): Observation {
  const target = read.target ?? options.target;
  const port = read.port ?? options.port;
  if (target === undefined)
    throw new LineError('does not name the workload that was called; say it for the whole log');
  if (!/^[^/]+\/[^/]+$/.test(target)) throw new LineError('"target" is not namespace/name');
  if (port === undefined) throw new LineError('does not name the port; say it for the whole log');
  return {
    source: read.source,
    target,
    port,
    ...(read.http === undefined ? {} : { http: read.http }),
    ...(read.allowed === undefined ? {} : { allowed: read.allowed }),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function readJson(text: string): Partial {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new LineError('is no JSON');
  }
  const fields = objectOf(value, 'the line');
  return 'target' in fields || 'source' in fields ? readOwn(fields) : readEnvoy(fields);
}

function readOwn(fields: Fields): Partial {
  const { source, target, port, http, allowed } = fields;
  if (source !== undefined && source !== null && typeof source !== 'string')
    throw new LineError('"source" is no text');
  if (allowed !== undefined && typeof allowed !== 'boolean')
    throw new LineError('"allowed" is neither true nor false');
  return {
    source: source ?? undefined,
    target: target === undefined ? undefined : targetOf(target),
    port: port === undefined ? undefined : portOf(port),
    ...(http === undefined || http === null ? {} : { http: httpOf(objectOf(http, '"http"')) }),
    allowed,
  };
}

function targetOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const { namespace, name } = objectOf(value, '"target"');
  return `${textOf(namespace, 'target.namespace')}/${textOf(name, 'target.name')}`;
}

function httpOf({ method, path, host }: Fields): NonNullable<Observation['http']> {
  return {
    method: textOf(method, 'method'),
    path: textOf(path, 'path'),
    ...(typeof host === 'string' && host !== '' ? { host } : {}),
  };
}

function readEnvoy(fields: Fields): Partial {
  const first = (...names: readonly string[]): unknown =>
    names.map((name) => fields[name]).find((value) => value !== undefined && value !== null && value !== '-');
  const method = first('method', 'request_method', ':method');
  const path = first('path', 'request_path', ':path', 'x_envoy_original_path');
  const san = first('downstream_peer_uri_san', 'peer_uri_san', 'source_principal');
  const cluster = first('upstream_cluster');
  if (method === undefined && san === undefined && cluster === undefined) {
    throw new LineError('has none of the fields "source", "target", "downstream_peer_uri_san", "method"');
  }
  const code = first('response_code', 'status', 'response_status');
  const http =
    method === undefined
      ? {}
      : { http: httpOf({ method, path, host: first('authority', 'host', ':authority') }) };
  return {
    source: sanOf(san),
    port: portOfCluster(cluster) ?? portOfAddress(first('downstream_local_address', 'upstream_host')),
    ...http,
    allowed: allowedOf(code, first('response_code_details')),
  };
}

// Envoy, "Access logging: default format string", and what people add behind it.
const DEFAULT_FORMAT = /^\[[^\]]+\] "(\S+) (\S+) (\S+)" (\d+|-) \S+ (.*)$/;

function readText(line: string): Partial {
  const [, method, path, protocol, code, rest = ''] = DEFAULT_FORMAT.exec(line) ?? [];
  if (method === undefined || path === undefined) {
    throw new LineError("is neither JSON nor of Envoy's default format");
  }
  const quoted = [...rest.matchAll(/"([^"]*)"/g)].map(([, text = '']) => text);
  const san = quoted.findLast((text) => text.startsWith('spiffe://'));
  // X-Forwarded-For, User-Agent, X-Request-Id, authority, upstream host.
  const [, , , authority, upstream] = quoted;
  if (quoted.length < 6) throw new LineError('lacks "%DOWNSTREAM_PEER_URI_SAN%" at its end');
  const http =
    protocol === '-'
      ? {}
      : { http: httpOf({ method, path, host: authority === '-' ? undefined : authority }) };
  return { source: sanOf(san), port: portOfAddress(upstream), ...http, allowed: allowedOf(code, undefined) };
}

/** Of several URIs the certificate is no SVID, so there is no identity. */
function sanOf(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const text = textOf(value, 'downstream_peer_uri_san');
  return text === '' || text === '-' || text.includes(',') ? undefined : text;
}

/** 403 is what an enforcement point answers; 0 is a connection that was cut before any answer. */
function allowedOf(code: unknown, details: unknown): boolean | undefined {
  if (typeof details === 'string' && /rbac_access_denied|ext_authz_denied/.test(details)) return false;
  const number = Number(code);
  if (code === undefined || !Number.isInteger(number)) return undefined;
  return number !== 403 && number !== 401;
}

/** `inbound|8080||` (Istio). */
function portOfCluster(value: unknown): number | undefined {
  const [, port] = typeof value === 'string' ? (/^inbound\|(\d+)\|/.exec(value) ?? []) : [];
  return port === undefined ? undefined : portOf(Number(port));
}

function portOfAddress(value: unknown): number | undefined {
  const [, port] = typeof value === 'string' ? (/:(\d{1,5})$/.exec(value) ?? []) : [];
  return port === undefined ? undefined : portOf(Number(port));
}

function portOf(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536) return value;
  throw new LineError('"port" is no port from 1 to 65535');
}

function textOf(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new LineError(`"${name}" is missing or no text`);
}

function objectOf(value: unknown, name: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new LineError(`${name} is no JSON object`);
}
