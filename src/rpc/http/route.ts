import type { JsonObject } from '../../lib/strict-json.js';
import type { CallContext } from '../service.js';

/** One request, read and bounded. */
export interface HttpCall {
  readonly context: CallContext;
  /** Percent-decoded segments of the path, e.g. `['v1', 'data']`. */
  readonly segments: readonly string[];
  readonly query: URLSearchParams;
  /** What the client called the server: the Host header. */
  readonly host: string;
  /** Whether the connection is TLS. */
  readonly secure: boolean;
  /** The JSON body of a POST; undefined for GET. */
  readonly body: JsonObject | undefined;
}

/** What is answered. */
export interface HttpAnswer {
  readonly status: number;
  /** Written as JSON; a text as it is. */
  readonly body: unknown;
  /** `application/json`, or `text/plain; charset=utf-8` for a text, unless said. */
  readonly contentType?: string;
}

/** What answers at a path. It throws StatusError to answer with an error. */
export interface HttpRoute {
  readonly method: 'GET' | 'POST';
  /** e.g. `/access/v1/evaluation`. */
  readonly path: string;
  /** Whether everything below the path is meant too. */
  readonly below?: boolean;
  /** How errors look here; a plain text unless said. */
  readonly error?: (status: number, message: string) => unknown;
  handle(call: HttpCall): HttpAnswer | Promise<HttpAnswer>;
}

/** The routes of a path, whatever their method. */
export function routesAt(routes: readonly HttpRoute[], path: string): readonly HttpRoute[] {
  return routes.filter(
    (route) => path === route.path || (route.below === true && path.startsWith(`${route.path}/`)),
  );
}

/** Decodes the path of a request target; undefined when it is none, or one that could be read in two ways. */
export function segmentsOf(path: string): readonly string[] | undefined {
  if (!path.startsWith('/')) return undefined;
  const segments = path === '/' ? [] : path.slice(1).split('/');
  try {
    const decoded = segments.map((segment) => decodeURIComponent(segment));
    const odd = decoded.some((segment) => segment === '' || segment === '.' || segment === '..');
    return odd || decoded.some((segment) => /[/\\\0]/.test(segment)) ? undefined : decoded;
  } catch {
    return undefined;
  }
}
