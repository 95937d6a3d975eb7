import type { Command } from 'commander';
import { parse } from 'yaml';
import type { Inventory } from '../access/mesh/inventory.js';
import type { AccessRequest } from '../access/policy/model.js';
import { ProblemReport } from '../access/policy/read.js';
import { readRequest } from '../access/testing/request.js';
import { SignetError } from '../lib/errors.js';
import { readUserFile } from './files.js';

/** A request as it is said on the command line. */
export interface RequestFlags {
  readonly request?: string;
  readonly from?: string;
  readonly to?: string;
  readonly sourceIp?: string;
  readonly port?: string;
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  readonly header?: readonly string[];
  readonly claims?: string;
  readonly action?: string;
  readonly resource?: string;
}

/** The options of a command that asks about one request. */
export function addRequestOptions(command: Command): Command {
  const collect = (value: string, others: readonly string[] | undefined): readonly string[] => [
    ...(others ?? []),
    value,
  ];
  return command
    .option('-f, --request <file>', 'a YAML file with the request, as in a PolicyTest; - for standard input')
    .option('--from <caller>', 'a SPIFFE ID, or namespace/workload; nobody with an identity unless said')
    .option('--to <workload>', 'who is called: namespace/workload')
    .option('--source-ip <address>', 'the address of the caller')
    .option('--port <port>', 'the port that is called')
    .option('--method <method>', 'the HTTP method')
    .option('--path <path>', 'the HTTP path, with its query')
    .option('--host <host>', 'the HTTP host')
    .option('--header <name:value>', 'an HTTP header; may be repeated', collect)
    .option('--claims <json>', 'claims of the validated end-user token')
    .option('--action <name>', 'an action of the application')
    .option('--resource <type/id>', 'the resource that the action is on');
}

/**
 * Reads the request that flags (or the file that they name) describe.
 *
 * @throws SignetError `RequestInvalid`
 */
export function requestOf(flags: RequestFlags, inventory: Inventory, time: number): AccessRequest {
  const report = new ProblemReport();
  const written =
    flags.request === undefined ? fromFlags(flags) : (parse(readUserFile(flags.request)) as unknown);
  const request = readRequest(written, 'request', { inventory, time }, report);
  if (request !== undefined) return request;
  const lines = report.problems.map(({ field, message }) => `${field} ${message}`);
  throw new SignetError('RequestInvalid', lines.join('; '));
}

function fromFlags(flags: RequestFlags): Readonly<Record<string, unknown>> {
  const { from, to, sourceIp, port, claims, action } = flags;
  const http = httpFlags(flags);
  return {
    ...(from === undefined ? {} : from.startsWith('spiffe://') ? { source: from } : { from }),
    ...(to === undefined ? {} : { to }),
    ...(sourceIp === undefined ? {} : { sourceIP: sourceIp }),
    ...(port === undefined ? {} : { port: /^\d+$/.test(port) ? Number(port) : port }),
    ...(http === undefined ? {} : { http }),
    ...(claims === undefined ? {} : { token: json(claims) }),
    ...(action === undefined ? {} : { action, resource: resourceOf(flags.resource) }),
  };
}

function httpFlags({
  method,
  path,
  host,
  header,
}: RequestFlags): Readonly<Record<string, unknown>> | undefined {
  if ([method, path, host, header].every((flag) => flag === undefined)) return undefined;
  const headers: Record<string, string> = {};
  for (const line of header ?? []) {
    const colon = line.indexOf(':');
    if (colon < 1) throw new SignetError('RequestInvalid', `--header ${line} is not written name:value`);
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    // Lines of one name count as one, joined (RFC 9110 §5.3).
    headers[name] = headers[name] === undefined ? value : `${headers[name]},${value}`;
  }
  return {
    ...(method === undefined ? {} : { method }),
    ...(path === undefined ? {} : { path }),
    ...(host === undefined ? {} : { host }),
    headers,
  };
}

function resourceOf(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  const slash = text.indexOf('/');
  return slash < 0 ? { type: text, id: '' } : { type: text.slice(0, slash), id: text.slice(slash + 1) };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (thrown) {
    throw new SignetError('RequestInvalid', `--claims is no JSON: ${SignetError.from(thrown).message}`, {
      cause: thrown,
    });
  }
}
