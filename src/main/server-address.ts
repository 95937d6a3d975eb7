import { SignetError } from '../lib/errors.js';

/** Where a server is reached. */
export interface ServerAddress {
  /** An IP address or a DNS name. */
  readonly host: string;
  readonly port: number;
}

const LABEL = '[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?';
const HOST_AND_PORT = new RegExp(
  String.raw`^(?:\[([0-9A-Fa-f:.]{2,45})\]|(${LABEL}(?:\.${LABEL})*)):([0-9]{1,5})$`,
);

/**
 * Parses `signet-server.signet-system.svc:8443`, `10.0.0.7:8443` or `[fd00::7]:8443`.
 *
 * @throws SignetError `ServerAddressInvalid`
 */
export function parseServerAddress(text: string): ServerAddress {
  const [, v6, name, digits] = (text.length <= 300 ? HOST_AND_PORT.exec(text) : null) ?? [];
  const host = v6 ?? name;
  const port = Number(digits);
  if (host !== undefined && host.length <= 253 && port >= 1 && port <= 65_535) return { host, port };
  throw new SignetError(
    'ServerAddressInvalid',
    `"${text.slice(0, 80)}" is no address of a server: write a host and a port, as signet-server.signet-system.svc:8443`,
  );
}
