/** Network operations, as src/resources/policy.ts and docs/policy/README.md describe them. */
import type { HttpInput, OperationInput, PathInput, ValueInput } from '../../../src/access/policy/input.js';
import type { AccessRequest, HttpRequest } from '../../../src/access/policy/model.js';
import { every, negated, said, type Truth } from './logic.js';

/** Decodes what need not have been encoded (RFC 3986 §2.3), and writes the other escapes in upper case. */
function decodeUnreserved(path: string): string {
  return path
    .split(/(%[0-9a-fA-F]{2})/)
    .map((part) => {
      if (!part.startsWith('%')) return part;
      const character = String.fromCharCode(parseInt(part.slice(1), 16));
      return /[A-Za-z0-9\-._~]/.test(character) ? character : part.toUpperCase();
    })
    .join('');
}

/** The path in its normal form, or undefined for one that two programs could read in two ways. */
export function normalPath(target: string): string | undefined {
  const [raw = ''] = target.split('?');
  const path = decodeUnreserved(raw);
  const wrong =
    target.length > 8192 ||
    !path.startsWith('/') ||
    path.includes('//') ||
    /%(2F|5C|3B|[01][0-9A-F]|7F)/.test(path) ||
    /%25[0-9a-fA-F]{2}/.test(path) ||
    /%(?![0-9A-F]{2})/.test(path) ||
    /[^!-~]|["#<>[\]^`{|}\\;]/.test(path) ||
    path.split('/').some((segment) => segment === '.' || segment === '..');
  return wrong ? undefined : path;
}

function pathMatches({ exact, prefix, template }: PathInput, path: string): boolean {
  if (exact !== undefined) return exact === path;
  if (prefix !== undefined) {
    const base = prefix.replace(/\/$/, '');
    return path === base || path.startsWith(`${base}/`);
  }
  const pattern = (template ?? '')
    .split('/')
    .map((segment) => {
      if (/^\{\w+=\*\*\}$/.test(segment)) return '.*';
      if (/^\{\w+\}$/.test(segment)) return '[^/]+';
      return segment.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    })
    .join('/');
  return new RegExp(`^${pattern}$`).test(path);
}

function hostMatches(pattern: string, host: string): boolean {
  const name = host.toLowerCase().replace(/:\d+$/, '');
  const wanted = pattern.toLowerCase();
  return wanted.startsWith('*.')
    ? name.endsWith(wanted.slice(1)) && name !== wanted.slice(1)
    : name === wanted;
}

/** `in` says how far the value is among those that are wanted; `there` whether there is one. */
function compared({ operator = 'In' }: ValueInput, there: boolean, isIn: Truth): Truth {
  if (operator === 'Exists') return there;
  if (operator === 'DoesNotExist') return !there;
  return operator === 'In' ? isIn : negated(isIn);
}

function headerMatches(match: ValueInput, headers: HttpRequest['headers']): Truth {
  if (headers === undefined) return undefined;
  const value = headers[match.name.toLowerCase()];
  if (value === undefined) return compared(match, false, false);
  const { values = [] } = match;
  if (values.includes(value)) return compared(match, true, true);
  // A program that splits lists would find it, one that does not would not.
  const members = value.split(',').map((member) => member.trim());
  return compared(
    match,
    true,
    members.length > 1 && members.some((one) => values.includes(one)) ? undefined : false,
  );
}

/** All parameters in order; undefined when the query cannot be decoded. */
function parametersOf(target: string): readonly (readonly [string, string])[] | undefined {
  const query = target.split('?').slice(1).join('?');
  try {
    decodeURIComponent(query);
  } catch {
    return undefined;
  }
  return [...new URLSearchParams(query)];
}

function parameterMatches(match: ValueInput, target: string): Truth {
  const parameters = parametersOf(target);
  if (parameters === undefined) return undefined;
  const values = parameters.filter(([name]) => name === match.name).map(([, value]) => value);
  const wanted = values.filter((value) => match.values?.includes(value) === true).length;
  return compared(
    match,
    values.length > 0,
    wanted === 0 ? false : wanted === values.length ? true : undefined,
  );
}

function httpMatches(wanted: HttpInput, http: HttpRequest | undefined): Truth {
  const seen = <T>(value: T | undefined, holds: (http: HttpRequest, value: T) => Truth): Truth =>
    said(value, (known) => (http === undefined ? undefined : holds(http, known)));
  return every(
    [
      seen(wanted.methods, ({ method }, methods) => methods.includes(method)),
      seen(wanted.hosts, ({ host }, hosts) =>
        host === undefined ? undefined : hosts.some((pattern) => hostMatches(pattern, host)),
      ),
      seen(wanted.paths, ({ path }, paths) =>
        paths.some((pattern) => pathMatches(pattern, normalPath(path) ?? '')),
      ),
      seen(wanted.headers, ({ headers }, list) => every(list, (match) => headerMatches(match, headers))),
      seen(wanted.query, ({ path }, list) => every(list, (match) => parameterMatches(match, path))),
    ],
    (truth) => truth,
  );
}

/** A gRPC call is `POST /package.Service/Method`. */
function grpcAsHttp({ service, methods }: NonNullable<OperationInput['grpc']>): HttpInput {
  const paths = methods?.map((method) => ({ exact: `/${service}/${method}` })) ?? [
    { template: `/${service}/{method}` },
  ];
  return { methods: ['POST'], paths };
}

/** Whether an operation is what is asked. */
export function operationMatches(operation: OperationInput, request: AccessRequest): Truth {
  const { actions, resources, ports, http, grpc } = operation;
  const { application } = request;
  if (actions !== undefined || resources !== undefined) {
    if (application === undefined) return false;
    const { action, resource } = application;
    return (
      (actions?.includes(action.name) ?? true) &&
      (resources?.some(({ type, ids }) => type === resource.type && (ids?.includes(resource.id) ?? true)) ??
        true)
    );
  }
  if (application !== undefined) return false;
  return every(
    [
      said(ports, (list) => (request.port === undefined ? undefined : list.includes(request.port))),
      said(http, (wanted) => httpMatches(wanted, request.http)),
      said(grpc, (wanted) => httpMatches(grpcAsHttp(wanted), request.http)),
    ],
    (truth) => truth,
  );
}

/** Whether the request is refused before any policy is asked. */
export function isRefused({ http }: AccessRequest): boolean {
  return (
    http !== undefined &&
    (!/^[A-Z][A-Z0-9_-]{0,31}$/.test(http.method) || normalPath(http.path) === undefined)
  );
}
