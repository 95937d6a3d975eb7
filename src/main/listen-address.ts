import { isIP } from 'node:net';
import { SignetError } from '../lib/errors.js';

/** Where a TCP port is opened. */
export interface ListenAddress {
  /** An IP address. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
}

/**
 * Parses `127.0.0.1:9191` or `[::1]:9191`. Names are not taken: what they resolve to may change, and may be more than
 * this machine's own address.
 *
 * @throws SignetError `ListenAddressInvalid`
 */
export function parseListenAddress(text: string): ListenAddress {
  const [, v6, v4, digits] = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})$/.exec(text) ?? [];
  const address = v6 ?? v4;
  const port = Number(digits);
  if (address !== undefined && isIP(address) === (v6 === undefined ? 4 : 6) && port <= 65_535)
    return { address, port };
  throw new SignetError(
    'ListenAddressInvalid',
    `"${text.slice(0, 80)}" is no address to listen at: write an IP address and a port, as 127.0.0.1:9191 or [::1]:9191`,
  );
}

/** The same, written out. */
export function formatListenAddress({ address, port }: ListenAddress): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}
