import { SignetError } from '../../lib/errors.js';

/** Why a text is no address of a Workload API endpoint. The code is always `EndpointAddressInvalid`. */
export class EndpointAddressError extends SignetError {}

/** Where a Workload API is: a unix socket, or TCP on an IP address. */
export type EndpointAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** Linux: `sun_path` has 108 bytes with the NUL. A longer path cannot be connected to. */
const MAX_SOCKET_PATH = 107;
const MAX_ADDRESS = 4096;

function fail(message: string): never {
  throw new EndpointAddressError('EndpointAddressInvalid', message);
}

/**
 * Parses the value of SPIFFE_ENDPOINT_SOCKET (SPIFFE Workload Endpoint §4): `unix:///path/to/socket` or
 * `tcp://127.0.0.1:8000`, and nothing else in the URI.
 *
 * @returns for TCP, the host without brackets
 * @throws EndpointAddressError
 */
export function parseEndpointAddress(text: string): EndpointAddress {
  if (text.length > MAX_ADDRESS)
    fail(`the endpoint address has ${text.length} characters; ${MAX_ADDRESS} are allowed`);
  const [, scheme, rest = ''] = /^([A-Za-z][A-Za-z0-9+.-]*):(.*)$/s.exec(text) ?? [];
  if (/[?#]/.test(rest)) fail(`endpoint address "${text}" may have neither a query nor a fragment`);
  const kind = scheme?.toLowerCase();
  if (kind === 'unix') return parseUnix(text, rest);
  if (kind === 'tcp') return parseTcp(text, rest);
  return fail(`endpoint address "${text}" must begin with "unix://" or "tcp://"`);
}

function parseUnix(text: string, rest: string): EndpointAddress {
  // "unix:/path" is the same URI without an authority (RFC 3986 §3).
  const encoded = rest.startsWith('//') ? rest.slice(2) : rest;
  if (!encoded.startsWith('/'))
    fail(`endpoint address "${text}" needs an absolute path and no host: write "unix:///path/to/socket"`);
  if (rest.startsWith('//') && encoded.startsWith('//'))
    fail(`endpoint address "${text}" has too many slashes: write "unix:///path/to/socket"`);
  let path: string;
  try {
    path = decodeURIComponent(encoded);
  } catch {
    fail(`endpoint address "${text}" has a broken percent-encoding`);
  }
  if (path === '/' || path.includes('\0')) fail(`endpoint address "${text}" names no socket`);
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH) {
    fail(`the socket path has ${bytes} bytes; the system allows ${MAX_SOCKET_PATH}: use a shorter directory`);
  }
  return { kind: 'unix', path };
}

function parseTcp(text: string, rest: string): EndpointAddress {
  const [, v6, v4, port] = /^\/\/(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(rest) ?? [];
  const host = v6 ?? v4;
  if (host === undefined || port === undefined) {
    fail(`endpoint address "${text}" must be an IP address and a port: write "tcp://127.0.0.1:8000"`);
  }
  if (!(v6 === undefined ? isIPv4(host) : isIPv6(host)))
    fail(`"${host}" in the endpoint address is no IP address`);
  const number = Number(port);
  if (number < 1 || number > 65_535) fail(`port ${port} in the endpoint address is not between 1 and 65535`);
  return { kind: 'tcp', host, port: number };
}

// Not node:net, which this room may not import since it also opens sockets.
function isIPv4(text: string): boolean {
  const parts = text.split('.');
  return (
    parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255)
  );
}

function isIPv6(text: string): boolean {
  return URL.canParse(`http://[${text}]/`);
}
