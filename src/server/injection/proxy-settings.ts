import { isIP } from 'node:net';
import { parseSpiffeId, parseTrustDomain } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import {
  AUTHORIZATION_ANNOTATION,
  CAPTURE_ANNOTATION,
  INBOUND_ANNOTATION,
  OUTBOUND_ANNOTATION,
  PROXY_ANNOTATION,
  REWRITE_PROBES_ANNOTATION,
} from './annotations.js';
import { shown } from './problems.js';

/** What is spoken on a port of the program. */
export type ProxyProtocol = 'http' | 'http2' | 'tcp';

/** A port of the pod behind which a port of the program is. */
export interface InboundPort {
  /** On the pod's address, with mutual TLS. */
  readonly listen: number;
  /** On 127.0.0.1; with `capture`, on any address. Policies speak of this one. */
  readonly program: number;
  readonly protocol: ProxyProtocol;
}

/** Who may be at the other end. */
export type ExpectedPeer =
  { readonly kind: 'id'; readonly uri: string } | { readonly kind: 'trust-domain'; readonly name: string };

/** A port on 127.0.0.1 that leads to another workload. */
export interface OutboundPort {
  readonly listen: number;
  readonly host: string;
  readonly port: number;
  readonly peer: ExpectedPeer;
}

/** What the proxy of a pod does. */
export interface ProxySettings {
  readonly inbound: readonly InboundPort[];
  readonly outbound: readonly OutboundPort[];
  /** `filters`: Envoy decides by what it was sent; `service`: it asks for each request. */
  readonly authorization: 'filters' | 'service';
  /** Whether the pod's packet filter leads callers to the proxy. */
  readonly capture: boolean;
  /** Whether the proxy asks the program in the kubelet's place. */
  readonly rewriteProbes: boolean;
}

/** Where the kubelet asks the proxy how it and the program do. Plain HTTP on the pod's address. */
export const PROXY_HEALTH_PORT = 15621;
/** Where callers come to whose ports were captured: this one for the first, and those after it. */
const FIRST_CAPTURE_PORT = 15630;
const MOST_INBOUND = 8;
const MOST_OUTBOUND = 32;
const PROTOCOLS: readonly ProxyProtocol[] = ['http', 'http2', 'tcp'];

/** Where the proxy listens for an inbound port. */
export function listenerPort({ capture, inbound }: ProxySettings, port: InboundPort): number {
  return capture ? FIRST_CAPTURE_PORT + inbound.indexOf(port) : port.listen;
}

function isProxyPort(port: number): boolean {
  return (
    port === PROXY_HEALTH_PORT || (port >= FIRST_CAPTURE_PORT && port < FIRST_CAPTURE_PORT + MOST_INBOUND)
  );
}

/** What a pod says of its proxy, each undefined when it does not. */
export interface ProxyAnnotations {
  readonly wanted: string | undefined;
  readonly inbound: string | undefined;
  readonly outbound: string | undefined;
  readonly authorization: string | undefined;
  readonly capture: string | undefined;
  readonly rewriteProbes: string | undefined;
}

type AddProblem = (annotation: string, message: string) => void;

/** Reads what is asked of the proxy; undefined when none is wanted, or nothing can be made of it. */
export function readProxySettings(annotations: ProxyAnnotations, add: AddProblem): ProxySettings | undefined {
  const { wanted } = annotations;
  checkYesOrNo(wanted, PROXY_ANNOTATION, add);
  if (wanted === 'false') return undefined;
  if (wanted === undefined) {
    addLost(annotations, add);
    return undefined;
  }
  const inbound = entries(annotations.inbound, MOST_INBOUND, INBOUND_ANNOTATION, add).flatMap((entry) =>
    read(() => readInbound(entry), INBOUND_ANNOTATION, add),
  );
  const outbound = entries(annotations.outbound, MOST_OUTBOUND, OUTBOUND_ANNOTATION, add).flatMap((entry) =>
    read(() => readOutbound(entry), OUTBOUND_ANNOTATION, add),
  );
  if (annotations.inbound === undefined && annotations.outbound === undefined)
    add(
      PROXY_ANNOTATION,
      `asks for a proxy that has nothing to do; say which ports in ${INBOUND_ANNOTATION} or ${OUTBOUND_ANNOTATION}`,
    );
  checkTogether(inbound, outbound, add);
  const authorization = readAuthorization(annotations.authorization, add);
  // The service is asked about the port that the caller came to, and policies speak of the program's.
  if (authorization === 'service')
    for (const { listen, program, protocol } of inbound)
      if (listen !== program || protocol === 'tcp')
        add(
          AUTHORIZATION_ANNOTATION,
          `is "service", which cannot decide about ${listen}:${program}/${protocol}; use the same port on both sides and HTTP, or "filters"`,
        );
  const capture = isYes(annotations.capture, CAPTURE_ANNOTATION, false, add);
  if (capture && annotations.inbound === undefined)
    add(CAPTURE_ANNOTATION, `has nothing to capture; say which ports in ${INBOUND_ANNOTATION}`);
  const rewriteProbes = isYes(annotations.rewriteProbes, REWRITE_PROBES_ANNOTATION, true, add);
  return { inbound, outbound, authorization, capture, rewriteProbes };
}

/** What is said of a proxy that nobody asks for. */
function addLost(annotations: ProxyAnnotations, add: AddProblem): void {
  const lost = [
    [INBOUND_ANNOTATION, annotations.inbound],
    [OUTBOUND_ANNOTATION, annotations.outbound],
    [AUTHORIZATION_ANNOTATION, annotations.authorization],
    [CAPTURE_ANNOTATION, annotations.capture],
    [REWRITE_PROBES_ANNOTATION, annotations.rewriteProbes],
  ] as const;
  for (const [name, value] of lost)
    if (value !== undefined) add(name, `has no effect without ${PROXY_ANNOTATION}: "true"; add that`);
}

function isYes(value: string | undefined, name: string, otherwise: boolean, add: AddProblem): boolean {
  checkYesOrNo(value, name, add);
  return value === undefined ? otherwise : value === 'true';
}

function checkYesOrNo(value: string | undefined, name: string, add: AddProblem): void {
  if (value !== undefined && value !== 'true' && value !== 'false')
    add(name, `is ${shown(value)}; it must be "true" or "false"`);
}

function readAuthorization(value: string | undefined, add: AddProblem): 'filters' | 'service' {
  if (value === 'service') return value;
  if (value !== undefined && value !== 'filters')
    add(AUTHORIZATION_ANNOTATION, `is ${shown(value)}; it must be "filters" or "service"`);
  return 'filters';
}

/** An entry that cannot be read; the message goes on from the name of the annotation. */
class EntryError extends Error {}

function read<T>(reading: () => T, annotation: string, add: AddProblem): readonly T[] {
  try {
    return [reading()];
  } catch (thrown) {
    if (!(thrown instanceof EntryError)) throw thrown;
    add(annotation, thrown.message);
    return [];
  }
}

function entries(
  value: string | undefined,
  most: number,
  annotation: string,
  add: AddProblem,
): readonly string[] {
  const all = value === undefined ? [] : value.split(',').map((entry) => entry.trim());
  if (all.length > most) add(annotation, `has ${all.length} entries; give at most ${most}`);
  return all.slice(0, most);
}

function readInbound(entry: string): InboundPort {
  const [, listen, program, protocol = 'http'] = /^(\d{1,5}):(\d{1,5})(?:\/([a-z0-9]+))?$/.exec(entry) ?? [];
  const known = PROTOCOLS.find((one) => one === protocol);
  if (listen === undefined || program === undefined || known === undefined)
    throw new EntryError(
      `has ${shown(entry)}; write the port of the pod, a colon and the port of the program on 127.0.0.1, e.g. 8443:8080, then /http2 for gRPC or /tcp for what is no HTTP`,
    );
  return { listen: portOf(listen, entry), program: portOf(program, entry), protocol: known };
}

function readOutbound(entry: string): OutboundPort {
  const [, listen, bracketed, plain, port, peer] =
    /^(\d{1,5})=(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})(?:=(.*))?$/.exec(entry) ?? [];
  const host = bracketed ?? plain;
  if (
    listen === undefined ||
    port === undefined ||
    host === undefined ||
    !isHost(host, bracketed !== undefined)
  )
    throw new EntryError(
      `has ${shown(entry)}; write a port on 127.0.0.1, where it leads and who is there, e.g. 9001=payments.shop.svc:8443=spiffe://example.org/ns/shop/sa/payments`,
    );
  if (peer === undefined)
    throw new EntryError(
      `has ${shown(entry)}, which does not say who is there; add =<SPIFFE ID>, or =<spiffe://trust domain> for anybody of it`,
    );
  return { listen: portOf(listen, entry), host, port: portOf(port, entry), peer: readPeer(peer, entry) };
}

function isHost(host: string, bracketed: boolean): boolean {
  if (bracketed) return isIP(host) === 6;
  return (
    host.length <= 253 &&
    /^[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*$/.test(host) &&
    // What looks like an address must be one.
    (isIP(host) === 4 || !/^[\d.]+$/.test(host))
  );
}

function readPeer(text: string, entry: string): ExpectedPeer {
  const name = /^spiffe:\/\/([^/]+)\/?$/.exec(text)?.[1];
  try {
    if (name !== undefined) return { kind: 'trust-domain', name: parseTrustDomain(name) };
    return { kind: 'id', uri: parseSpiffeId(text).uri };
  } catch (thrown) {
    throw new EntryError(
      `has ${shown(entry)}, whose peer cannot be read: ${SignetError.from(thrown).message}`,
    );
  }
}

function portOf(digits: string, entry: string): number {
  const port = Number(digits);
  if (port < 1 || port > 65535 || String(port) !== digits)
    throw new EntryError(`has ${shown(entry)}, where ${digits} is no port; ports are 1 to 65535`);
  if (isProxyPort(port))
    throw new EntryError(`has ${shown(entry)}, where ${digits} is the proxy's own port; choose another`);
  return port;
}

/** Ports that two would have to listen on. */
function checkTogether(
  inbound: readonly InboundPort[],
  outbound: readonly OutboundPort[],
  add: AddProblem,
): void {
  for (const [index, { listen, program }] of inbound.entries()) {
    const others = inbound.filter((_, other) => other !== index);
    if (inbound.findIndex((one) => one.listen === listen) < index)
      add(INBOUND_ANNOTATION, `has port ${listen} twice; give each program port a port of its own`);
    // Whether the program can be reached around the proxy could not be told then: the proxy answers there.
    if (listen !== program && others.some((one) => one.listen === program))
      add(
        INBOUND_ANNOTATION,
        `uses port ${program} for the pod and for another program; choose another port for the pod`,
      );
    if (outbound.some((one) => one.listen === program))
      add(OUTBOUND_ANNOTATION, `uses port ${program}, which is the program's own; choose another`);
  }
  for (const [index, { listen }] of outbound.entries())
    if (outbound.findIndex((one) => one.listen === listen) < index)
      add(OUTBOUND_ANNOTATION, `has port ${listen} twice; give each destination a port of its own`);
}
