import { isMethod, normaliseHostPattern } from './http.js';
import type { NetworkOperation, Operation, PathPattern } from './model.js';
import { exactPattern, prefixPattern, templatePattern, type ParsedPattern } from './path.js';
import { readValueMatches } from './values.js';
import { readList, readObject, readPorts, readTexts, shown, type ProblemReport } from './read.js';

/** One entry of `to`. */
export function readOperation(value: unknown, field: string, report: ProblemReport): Operation | undefined {
  const known = ['ports', 'http', 'grpc', 'actions', 'resources'];
  const record = readObject(value, field, known, report);
  if (record === undefined) return undefined;
  if (known.every((name) => record[name] === undefined)) {
    report.add(field, 'says nothing; leave "to" out for every operation, or say which');
    return undefined;
  }
  if (record['http'] !== undefined && record['grpc'] !== undefined) {
    report.add(field, 'says http and grpc; write one entry for each');
  }
  if (record['actions'] !== undefined || record['resources'] !== undefined) {
    return readAction(record, field, report);
  }
  const ports = readPorts(record['ports'], `${field}.ports`, report);
  const base = { kind: 'network' as const, ...(ports === undefined ? {} : { ports }) };
  if (record['http'] !== undefined) return { ...base, ...readHttp(record['http'], `${field}.http`, report) };
  if (record['grpc'] !== undefined) return { ...base, ...readGrpc(record['grpc'], `${field}.grpc`, report) };
  return base;
}

/** Actions of an application and the resources that they are on. */
function readAction(
  record: Readonly<Record<string, unknown>>,
  field: string,
  report: ProblemReport,
): Operation {
  for (const name of ['ports', 'http', 'grpc']) {
    if (record[name] !== undefined) {
      report.add(`${field}.${name}`, 'does not go with actions and resources; write one entry for each');
    }
  }
  const actions = readTexts(record['actions'], `${field}.actions`, report, (text) => text);
  const list = readList(record['resources'], `${field}.resources`, report);
  const resources = list?.flatMap((entry, index) => {
    const at = `${field}.resources[${index}]`;
    const resource = readObject(entry, at, ['type', 'ids'], report);
    if (resource === undefined) return [];
    const type = resource['type'];
    const ids = readTexts(resource['ids'], `${at}.ids`, report, (text) => text);
    if (typeof type === 'string' && type !== '') return [{ type, ...(ids === undefined ? {} : { ids }) }];
    report.add(`${at}.type`, 'must be the type of a resource');
    return [];
  });
  return {
    kind: 'action',
    ...(actions === undefined ? {} : { actions }),
    ...(resources === undefined ? {} : { resources }),
  };
}

type HttpPart = Omit<NetworkOperation, 'kind'>;

function readHttp(value: unknown, field: string, report: ProblemReport): HttpPart {
  const record = readObject(value, field, ['hosts', 'methods', 'paths', 'headers', 'query'], report);
  if (record === undefined) return {};
  const hosts = readTexts(record['hosts'], `${field}.hosts`, report, (text, at) => {
    const host = normaliseHostPattern(text);
    if (host === undefined) report.add(at, `${shown(text)} is no host name; write it without a port`);
    return host;
  });
  const methods = readTexts(record['methods'], `${field}.methods`, report, (text, at) => {
    if (isMethod(text)) return text;
    report.add(at, `${shown(text)} is no method; write it in upper case, e.g. GET`);
    return undefined;
  });
  const list = readList(record['paths'], `${field}.paths`, report);
  const paths = list?.flatMap((entry, index) => readPath(entry, `${field}.paths[${index}]`, report) ?? []);
  const headers = readValueMatches(record['headers'], `${field}.headers`, 'header', report);
  const query = readValueMatches(record['query'], `${field}.query`, 'parameter', report);
  return {
    ...(hosts === undefined ? {} : { hosts }),
    ...(methods === undefined ? {} : { methods }),
    ...(paths === undefined ? {} : { paths }),
    ...(headers === undefined ? {} : { headers }),
    ...(query === undefined ? {} : { query }),
  };
}

const PATTERNS: readonly (readonly [string, (text: string) => ParsedPattern])[] = [
  ['exact', exactPattern],
  ['prefix', prefixPattern],
  ['template', templatePattern],
];

function readPath(value: unknown, field: string, report: ProblemReport): PathPattern | undefined {
  const kinds = PATTERNS.map(([kind]) => kind);
  const record = readObject(value, field, kinds, report);
  if (record === undefined) return undefined;
  const said = PATTERNS.filter(([kind]) => record[kind] !== undefined);
  const [only] = said;
  if (only === undefined || said.length > 1) {
    report.add(field, `must say one of ${kinds.join(', ')}`);
    return undefined;
  }
  const [kind, parse] = only;
  const text = record[kind];
  if (typeof text !== 'string') {
    report.add(`${field}.${kind}`, 'must be a text');
    return undefined;
  }
  const parsed = parse(text);
  if (parsed.ok) return parsed.pattern;
  report.add(`${field}.${kind}`, `${shown(text)}: ${parsed.reason}`);
  return undefined;
}

const SERVICE = /^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*$/;
const METHOD = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** gRPC is `POST /package.Service/Method` (gRPC over HTTP/2, "Requests"). */
function readGrpc(value: unknown, field: string, report: ProblemReport): HttpPart {
  const record = readObject(value, field, ['service', 'methods'], report);
  if (record === undefined) return {};
  const service = record['service'];
  if (typeof service !== 'string' || !SERVICE.test(service)) {
    report.add(`${field}.service`, `${shown(service)} is no full service name such as payments.v1.Payments`);
    return {};
  }
  const methods = readTexts(record['methods'], `${field}.methods`, report, (text, at) => {
    if (METHOD.test(text)) return text;
    report.add(at, `${shown(text)} is no method name such as Charge`);
    return undefined;
  });
  const paths: readonly PathPattern[] = methods?.map((method) => ({
    kind: 'exact',
    path: `/${service}/${method}`,
  })) ?? [
    {
      kind: 'template',
      text: `/${service}/{method}`,
      segments: [
        { kind: 'literal', value: service },
        { kind: 'one', name: 'method' },
      ],
    },
  ];
  return { methods: ['POST'], paths };
}
