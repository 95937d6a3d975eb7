import { Command } from 'commander';
import type { CliIo } from '../cli/io.js';
import { SignetError } from '../lib/errors.js';
import type { Capture } from '../rpc/netlink/capture.js';
import { captureInbound } from '../rpc/netlink/linux.js';
import { argument } from './argument.js';

type Redirect = Capture['redirects'][number];

/** `signet proxy-capture`: what the webhook has run in a pod before its proxy. */
export function proxyCaptureCommand(io: CliIo): Command {
  return new Command('proxy-capture')
    .description(
      'Let TCP that comes into this network namespace reach ports by a proxy alone. Injected pods run it before their proxy; it needs NET_ADMIN. Run again, it replaces what it did.',
    )
    .option(
      '--redirect <port:listener>',
      'what comes to port from outside goes to the proxy’s listener; may be given again',
      collect(parseRedirect),
      [],
    )
    .option(
      '--close <port>',
      'nothing from outside comes to port; may be given again',
      collect(parsePort),
      [],
    )
    .action(async (flags: { readonly redirect: readonly Redirect[]; readonly close: readonly number[] }) => {
      await captureInbound({ redirects: flags.redirect, closed: flags.close });
      const done = [
        ...flags.redirect.map(({ port, listener }) => `${port} leads to ${listener}`),
        ...flags.close.map((port) => `${port} is closed`),
      ];
      io.stdout(`inbound TCP is captured: ${done.join(', ') || 'no port'}\n`);
    });
}

function collect<T>(parse: (text: string) => T): (text: string, before: readonly T[]) => readonly T[] {
  const read = argument(parse);
  return (text, before) => [...before, read(text)];
}

function parseRedirect(text: string): Redirect {
  const [port = '', listener = '', ...rest] = text.split(':');
  if (rest.length > 0) throw notPorts(text, 'write two ports, e.g. 8080:15630');
  return { port: parsePort(port), listener: parsePort(listener) };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (String(port) !== text || !Number.isInteger(port) || port < 1 || port > 65535)
    throw notPorts(text, 'ports are 1 to 65535');
  return port;
}

function notPorts(text: string, hint: string): SignetError {
  return new SignetError('InvalidPort', `${JSON.stringify(text)} is no port: ${hint}`);
}
