import { parseSpiffeId, type SpiffeId } from '../../identity/spiffe/id.js';
import { parseIpAddress, type IpBytes } from '../../lib/ip-address.js';
import { decisionAttributes } from './attributes.js';
import { normaliseHttp, type NormalHttp } from './http.js';
import type { AccessRequest, DecisionAttributes } from './model.js';
import { isRecord } from './read.js';
import { namespaceOf } from './spiffe-namespace.js';
import { parseQuery, type Query } from './values.js';

/** A request, checked and in canonical form. What few rules ask for is worked out when the first one does, once. */
export class Facts {
  readonly request: AccessRequest;
  readonly source: SpiffeId | undefined;
  /** Namespace of `/ns/<namespace>/…`, if the source has such a path. */
  readonly sourceNamespace: string | undefined;
  readonly port: number | undefined;
  readonly http: NormalHttp | undefined;
  readonly time: number;
  #ip: IpBytes | null | undefined = null;
  #query: Query | null = null;
  #attributes: DecisionAttributes | undefined;

  constructor(request: AccessRequest, source: SpiffeId | undefined, http: NormalHttp | undefined) {
    this.request = request;
    this.source = source;
    this.sourceNamespace = source === undefined ? undefined : namespaceOf(source.path);
    this.port = request.port;
    this.http = http;
    this.time = request.time;
  }

  /** The peer address; undefined when it is not known, or is none. */
  get ip(): IpBytes | undefined {
    if (this.#ip === null) {
      const { sourceIp } = this.request;
      this.#ip = sourceIp === undefined ? undefined : parseIpAddress(sourceIp);
    }
    return this.#ip;
  }

  /** Undefined when it cannot be decoded. */
  get query(): Query {
    if (this.#query === null) this.#query = parseQuery(this.request.http?.path ?? '');
    return this.#query;
  }

  get attributes(): DecisionAttributes {
    this.#attributes ??= decisionAttributes(this.request, this.source, this.http);
    return this.#attributes;
  }
}

/** The facts of a request, or why it is refused whatever the policies say. Never throws for what a request holds. */
export function readFacts(request: AccessRequest): Facts | { readonly refused: string } {
  const shape = shapeProblem(request);
  if (shape !== undefined) return { refused: shape };
  let source: SpiffeId | undefined;
  if (request.source !== undefined) {
    try {
      source = parseSpiffeId(request.source);
    } catch {
      return { refused: 'the source is no valid SPIFFE ID' };
    }
  }
  const http = request.http === undefined ? undefined : normaliseHttp(request.http);
  if (http?.ok === false) return { refused: http.reason };
  return new Facts(request, source, http?.http);
}

/** The end of what a Date can say; beyond it, no clock shows anything. */
const MAX_TIME = 8.64e15;

const isText = (value: unknown): boolean => typeof value === 'string';
const absentOr = (value: unknown, holds: (value: unknown) => boolean): boolean =>
  value === undefined || holds(value);
const isLabels = (value: unknown): boolean => isRecord(value) && Object.values(value).every(isText);

/** What a caller without types may have given; undefined when all is as its type says. */
function shapeProblem(request: unknown): string | undefined {
  if (!isRecord(request)) return 'the request is no object';
  const { source, sourceIp, sourceWorkload, target, port, http, token, application, time } = request;
  if (!absentOr(source, isText)) return 'the source is no text';
  if (typeof time !== 'number' || !(Math.abs(time) <= MAX_TIME)) return 'the time is not known';
  if (!isTarget(target)) return 'the target is no workload';
  if (!absentOr(port, Number.isInteger)) return 'the port is no number';
  if (!absentOr(sourceIp, isText)) return 'the address of the source is no text';
  if (!absentOr(http, isHttp)) return 'the HTTP part has no method and path';
  if (token !== null && !absentOr(token, (value) => isRecord(value) && isRecord(value['claims']))) {
    return 'the token has no claims';
  }
  if (!absentOr(sourceWorkload, isSourceWorkload)) return 'the calling workload is no workload';
  return absentOr(application, isApplication)
    ? undefined
    : "the application's request has no action and resource";
}

/** Workloads that were looked at: they are held on to, and looking at every label costs as much as an answer. */
const targets = new WeakSet();

function isTarget(value: unknown): boolean {
  if (!isRecord(value)) return false;
  if (targets.has(value)) return true;
  const right =
    isText(value['namespace']) &&
    isText(value['name']) &&
    isText(value['serviceAccount']) &&
    isLabels(value['labels']) &&
    isLabels(value['namespaceLabels']);
  if (right) targets.add(value);
  return right;
}

function isHttp(value: unknown): boolean {
  return (
    isRecord(value) &&
    isText(value['method']) &&
    isText(value['path']) &&
    absentOr(value['host'], isText) &&
    absentOr(value['headers'], isRecord)
  );
}

function isSourceWorkload(value: unknown): boolean {
  return (
    isRecord(value) &&
    isLabels(value['labels']) &&
    absentOr(value['images'], (images) => Array.isArray(images) && images.every(isText)) &&
    absentOr(value['privileged'], (flag) => typeof flag === 'boolean')
  );
}

function isEntity(value: unknown): boolean {
  return (
    isRecord(value) && isText(value['type']) && isText(value['id']) && absentOr(value['properties'], isRecord)
  );
}

function isApplication(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { subject, action, resource, context } = value;
  return (
    absentOr(subject, isEntity) &&
    isRecord(action) &&
    isText(action['name']) &&
    absentOr(action['properties'], isRecord) &&
    isEntity(resource) &&
    absentOr(context, isRecord)
  );
}
