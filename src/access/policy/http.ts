import { normalisePath } from './path.js';
import type { HttpRequest } from './model.js';

/** A request's HTTP part in canonical form. */
export interface NormalHttp {
  readonly method: string;
  readonly host: string | undefined;
  readonly path: string;
}

export type NormalHttpResult =
  { readonly ok: true; readonly http: NormalHttp } | { readonly ok: false; readonly reason: string };

const METHOD = /^[A-Z][A-Z0-9_-]{0,31}$/;
const HOST = /^[a-z0-9_](?:[a-z0-9._-]{0,252})$/;
const IPV6 = /^\[[0-9a-f:.]{2,45}\]$/;

/** Whether a text is an HTTP method as policies and requests may have it: upper case, at most 32 characters. */
export function isMethod(text: string): boolean {
  return METHOD.test(text);
}

/** The host in lower case without port and final dot, or undefined when it is none. */
export function normaliseHost(text: string): string | undefined {
  if (text.length > 260) return undefined;
  const lower = text.toLowerCase();
  const port = /:\d{1,5}$/.exec(lower);
  const bare = port === null ? lower : lower.slice(0, port.index);
  const host = bare.endsWith('.') ? bare.slice(0, -1) : bare;
  return HOST.test(host) || IPV6.test(host) ? host : undefined;
}

/** A host pattern: a host, or `*.` and a host. */
export function normaliseHostPattern(text: string): string | undefined {
  if (/:\d+$/.test(text)) return undefined;
  if (text.startsWith('*.')) {
    const rest = normaliseHost(text.slice(2));
    return rest === undefined || rest.startsWith('[') ? undefined : `*.${rest}`;
  }
  return normaliseHost(text);
}

/** Whether a canonical host matches a canonical pattern. */
export function matchesHost(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === host;
  return host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
}

/**
 * The canonical HTTP part, or why the request is refused whatever the policies say: what programs on the way could
 * read in two ways is never let through.
 */
export function normaliseHttp(http: HttpRequest): NormalHttpResult {
  if (!isMethod(http.method)) {
    return { ok: false, reason: 'the method is not written in upper-case letters, at most 32 of them' };
  }
  const path = normalisePath(http.path);
  if (!path.ok) return path;
  if (http.host === undefined || http.host === '') {
    return { ok: true, http: { method: http.method, host: undefined, path: path.path } };
  }
  const host = normaliseHost(http.host);
  if (host === undefined) return { ok: false, reason: 'the host is not a valid host name' };
  return { ok: true, http: { method: http.method, host, path: path.path } };
}
