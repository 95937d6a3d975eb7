import type { Inventory, InventoryWorkload } from '../mesh/inventory.js';
import type {
  AccessRequest,
  ApplicationRequest,
  Entity,
  HttpRequest,
  SourceWorkload,
  TargetWorkload,
} from '../policy/model.js';
import { isRecord, readObject, shown, type ProblemReport } from '../policy/read.js';
import { parseInstant } from '../policy/scalar.js';

/*
 * A request as people write it down: in PolicyTests, and for `signet explain -f`.
 *
 *   from: shop/web                # a workload of the inventory: its identity, labels; or
 *   source: spiffe://…            # an ID, or neither for a caller without identity
 *   sourceIP: 10.1.2.3
 *   sourceWorkload: { labels: {}, images: [], privileged: false }
 *   to: shop/api                  # a workload of the inventory; or
 *   target: { namespace: shop, labels: {}, serviceAccount: api, name: api }
 *   port: 8080
 *   http: { method: GET, path: /x, host: api, headers: {} }      # or
 *   grpc: { service: pkg.Service, method: Call }
 *   token: { sub: alice }         # claims of a validated token; null for none
 *   subject: { type, id, properties }   action: read   resource: { type, id, properties }   context: {}
 *   time: 2026-01-01T12:00:00Z
 */

const FIELDS = [
  'from',
  'source',
  'sourceIP',
  'sourceWorkload',
  'to',
  'target',
  'port',
  'http',
  'grpc',
  'token',
  'subject',
  'action',
  'resource',
  'context',
  'time',
];

/** What a written request is read against. */
export interface RequestSurroundings {
  readonly inventory: Inventory;
  /** For requests that do not say when; milliseconds since the epoch. */
  readonly time: number;
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads a written request; undefined when the report has become longer. */
export function readRequest(
  value: unknown,
  field: string,
  surroundings: RequestSurroundings,
  report: ProblemReport,
): AccessRequest | undefined {
  const before = report.problems.length;
  const record = readObject(value, field, FIELDS, report);
  if (record === undefined) return undefined;
  const caller = readCaller(record, field, surroundings.inventory, report);
  const target = readTarget(record, field, surroundings.inventory, report);
  const port = readPort(record['port'], `${field}.port`, report);
  const http = readHttp(record, field, report);
  const application = readApplication(record, field, report);
  if (application !== undefined && (http !== undefined || port !== undefined)) {
    report.add(field, 'has an action, and is of the network too; write one request for each');
  }
  const token = readToken(
    record['token'],
    `${field}.token`,
    http !== undefined || application !== undefined,
    report,
  );
  const time = readTime(record['time'], `${field}.time`, report) ?? surroundings.time;
  if (target === undefined || report.problems.length > before) return undefined;
  return {
    ...caller,
    target,
    ...(port === undefined ? {} : { port }),
    ...(http === undefined ? {} : { http }),
    ...(token === undefined ? {} : { token }),
    ...(application === undefined ? {} : { application }),
    time,
  };
}

type Caller = Pick<AccessRequest, 'source' | 'sourceIp' | 'sourceWorkload'>;

function readCaller(record: Fields, field: string, inventory: Inventory, report: ProblemReport): Caller {
  const sourceIp = readText(record['sourceIP'], `${field}.sourceIP`, report);
  const address = sourceIp === undefined ? {} : { sourceIp };
  if (record['from'] !== undefined) {
    if (record['source'] !== undefined)
      report.add(`${field}.from`, 'goes not with source; write one of them');
    const workload = findWorkload(record['from'], `${field}.from`, inventory, report);
    const [source] = workload?.spiffeIds ?? [];
    return { source, ...address, sourceWorkload: { labels: workload?.labels ?? {} } };
  }
  const source = readText(record['source'], `${field}.source`, report);
  const known = readSourceWorkload(record['sourceWorkload'], `${field}.sourceWorkload`, report);
  return { source, ...address, ...(known === undefined ? {} : { sourceWorkload: known }) };
}

function readSourceWorkload(
  value: unknown,
  field: string,
  report: ProblemReport,
): SourceWorkload | undefined {
  if (value === undefined) return undefined;
  const record = readObject(value, field, ['labels', 'images', 'privileged'], report);
  if (record === undefined) return undefined;
  const { images, privileged } = record;
  if (images !== undefined && !isTexts(images)) report.add(`${field}.images`, 'must be a list of texts');
  if (privileged !== undefined && typeof privileged !== 'boolean') {
    report.add(`${field}.privileged`, `${shown(privileged)} is neither true nor false`);
  }
  return {
    labels: readTextMap(record['labels'], `${field}.labels`, report),
    ...(isTexts(images) ? { images } : {}),
    ...(typeof privileged === 'boolean' ? { privileged } : {}),
  };
}

function readTarget(
  record: Fields,
  field: string,
  inventory: Inventory,
  report: ProblemReport,
): TargetWorkload | undefined {
  const { to, target } = record;
  if ((to === undefined) === (target === undefined)) {
    report.add(field, 'must say what is called: one of "to" (namespace/workload) and "target"');
    return undefined;
  }
  if (to !== undefined) return findWorkload(to, `${field}.to`, inventory, report);
  const known = ['namespace', 'name', 'serviceAccount', 'labels'];
  const written = readObject(target, `${field}.target`, known, report);
  if (written === undefined) return undefined;
  const namespace = readText(written['namespace'], `${field}.target.namespace`, report) ?? 'default';
  return {
    namespace,
    name: readText(written['name'], `${field}.target.name`, report) ?? 'any',
    serviceAccount:
      readText(written['serviceAccount'], `${field}.target.serviceAccount`, report) ?? 'default',
    labels: readTextMap(written['labels'], `${field}.target.labels`, report),
    namespaceLabels: inventory.namespaces.find(({ name }) => name === namespace)?.labels ?? {},
  };
}

/** The workload `namespace/name`; of several of one name the first. */
function findWorkload(
  value: unknown,
  field: string,
  inventory: Inventory,
  report: ProblemReport,
): InventoryWorkload | undefined {
  const found = inventory.workloads.find(({ namespace, name }) => value === `${namespace}/${name}`);
  if (found === undefined) {
    const known = inventory.workloads.slice(0, 8).map(({ namespace, name }) => `${namespace}/${name}`);
    const hint = known.length === 0 ? 'there are none' : `there are ${known.join(', ')}`;
    report.add(field, `${shown(value)} is no workload, written namespace/name; ${hint}`);
  }
  return found;
}

function readPort(value: unknown, field: string, report: ProblemReport): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535) return value;
  report.add(field, `${shown(value)} is no port; write a number from 1 to 65535`);
  return undefined;
}

function readHttp(record: Fields, field: string, report: ProblemReport): HttpRequest | undefined {
  const { http, grpc } = record;
  if (http !== undefined && grpc !== undefined) report.add(field, 'says http and grpc; write one of them');
  if (grpc !== undefined) return readGrpc(grpc, `${field}.grpc`, report);
  if (http === undefined) return undefined;
  const written = readObject(http, `${field}.http`, ['method', 'path', 'host', 'headers'], report) ?? {};
  const text = (name: string): string | undefined => readText(written[name], `${field}.http.${name}`, report);
  const host = text('host');
  const headers = readTextMap(written['headers'], `${field}.http.headers`, report);
  return {
    method: text('method') ?? 'GET',
    path: text('path') ?? '/',
    ...(host === undefined ? {} : { host }),
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
  };
}

function readGrpc(value: unknown, field: string, report: ProblemReport): HttpRequest {
  const call = readObject(value, field, ['service', 'method'], report) ?? {};
  const service = readText(call['service'], `${field}.service`, report) ?? '';
  const method = readText(call['method'], `${field}.method`, report) ?? '';
  return { method: 'POST', path: `/${service}/${method}`, headers: {} };
}

function readToken(
  value: unknown,
  field: string,
  seen: boolean,
  report: ProblemReport,
): AccessRequest['token'] {
  // Where HTTP or an application is seen, a token would be too.
  if (value === undefined || value === null) return seen || value === null ? null : undefined;
  if (isRecord(value)) return { claims: value };
  report.add(field, 'must hold the claims of a token, or be null');
  return undefined;
}

function readApplication(
  record: Fields,
  field: string,
  report: ProblemReport,
): ApplicationRequest | undefined {
  const { action, resource, subject, context } = record;
  if ([action, resource, subject].every((part) => part === undefined)) return undefined;
  if (context !== undefined && !isRecord(context)) report.add(`${field}.context`, 'must be an object');
  const of = readEntity(subject, `${field}.subject`, report);
  return {
    ...(of === undefined ? {} : { subject: of }),
    action: readAction(action, `${field}.action`, report),
    resource: readEntity(resource, `${field}.resource`, report) ?? missingResource(field, report),
    ...(isRecord(context) ? { context } : {}),
  };
}

/** `read`, or `{ name: read, properties: {} }`. */
function readAction(value: unknown, field: string, report: ProblemReport): ApplicationRequest['action'] {
  const name = isRecord(value) ? value['name'] : value;
  const properties = isRecord(value) && isRecord(value['properties']) ? value['properties'] : undefined;
  if (typeof name !== 'string' || name === '') {
    report.add(field, 'must name an action, e.g. read');
    return { name: '' };
  }
  return { name, ...(properties === undefined ? {} : { properties }) };
}

function missingResource(field: string, report: ProblemReport): Entity {
  report.add(`${field}.resource`, 'must say what the action is on: type and id');
  return { type: '', id: '' };
}

function readEntity(value: unknown, field: string, report: ProblemReport): Entity | undefined {
  if (value === undefined) return undefined;
  const record = readObject(value, field, ['type', 'id', 'properties'], report);
  const { type, id, properties } = record ?? {};
  if (typeof type !== 'string' || typeof id !== 'string') {
    report.add(field, 'must have a type and an id, both texts');
    return undefined;
  }
  if (properties !== undefined && !isRecord(properties))
    report.add(`${field}.properties`, 'must be an object');
  return { type, id, ...(isRecord(properties) ? { properties } : {}) };
}

/** Milliseconds since the epoch of an RFC 3339 instant. */
export function readTime(value: unknown, field: string, report: ProblemReport): number | undefined {
  if (value === undefined) return undefined;
  const time = typeof value === 'string' ? parseInstant(value) : undefined;
  if (time !== undefined) return time;
  report.add(field, `${shown(value)} is no instant; write one such as 2026-01-31T09:00:00Z`);
  return undefined;
}

function readText(value: unknown, field: string, report: ProblemReport): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  report.add(field, `${shown(value)} must be a text; put it in quotes`);
  return undefined;
}

function readTextMap(value: unknown, field: string, report: ProblemReport): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  if (isRecord(value) && Object.values(value).every((text) => typeof text === 'string')) {
    return value as Readonly<Record<string, string>>;
  }
  report.add(field, 'must be an object whose values are texts');
  return {};
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
