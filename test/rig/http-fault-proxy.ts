/**
 * An API server that fails, as far as its clients can see: a proxy that ends TLS, and answers for it where a test says so. Who
 * a client is, it hands on as an aggregating API server does: a certificate's name and groups in headers, a token as it is.
 */
import { createSecureServer } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { ControlPlane } from './control-plane.js';

/** A request on its way to the API server. */
export interface ProxiedRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** True for `watch=1` and `watch=true`. */
  readonly isWatch: boolean;
}

export type Matcher = (request: ProxiedRequest) => boolean;

/** What an API server says instead, as a `Status` (meta/v1). */
export interface FaultAnswer {
  /** E.g. 429, 500, 410. */
  readonly code: number;
  /** E.g. `Expired`; the usual one of the code unless said. */
  readonly reason?: string;
  readonly message?: string;
  readonly retryAfterSeconds?: number;
}

export interface HttpFaultProxy {
  readonly url: string;
  /** Answers matching requests in the API server's place, each time or so many times. Gives what ends it. */
  inject(match: Matcher, answer: FaultAnswer, times?: number): InjectedFault;
  /** Ends matching open watches by an ERROR event with this status, as with 410 in a stream; how many. */
  breakWatches(match: Matcher, answer: FaultAnswer): number;
  /** Matching open watches bring nothing more and stay open, until what is given is called. New watches are well. */
  stallWatches(match: Matcher): () => void;
  /** The requests so far, in order. */
  requests(): readonly ProxiedRequest[];
  /** The matching watches that are open now. */
  openWatches(match: Matcher): number;
  close(): Promise<void>;
}

export interface InjectedFault {
  /** How many requests it has answered. */
  count(): number;
  end(): void;
}

interface Watch {
  readonly request: ProxiedRequest;
  readonly response: ServerResponse;
  readonly upstream: IncomingMessage;
  /** Whole lines, held back while stalled. */
  held: string[] | undefined;
}

interface Rule {
  readonly match: Matcher;
  readonly answer: FaultAnswer;
  left: number;
  count: number;
}

const REASONS: Readonly<Record<number, string>> = {
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** Starts one in front of a control plane, for HTTP/2 and HTTP/1.1 with JSON. The plane's credentials and kubeconfigs work with its URL. */
export async function startHttpFaultProxy(
  plane: Pick<ControlPlane, 'server' | 'pki'>,
): Promise<HttpFaultProxy> {
  const ca = plane.pki.authority.cert;
  const agent = new Agent({ ca, ...plane.pki.frontProxy, keepAlive: true });
  const rules = new Set<Rule>();
  const watches = new Set<Watch>();
  const seen: ProxiedRequest[] = [];
  const sockets = new Set<Socket>();

  const handle = (incoming: IncomingMessage, response: ServerResponse): void => {
    const url = new URL(incoming.url ?? '/', plane.server);
    const request: ProxiedRequest = {
      method: incoming.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      isWatch: ['1', 'true'].includes(url.searchParams.get('watch') ?? ''),
    };
    seen.push(request);
    const rule = [...rules].find(({ match, left }) => left > 0 && match(request));
    if (rule !== undefined) {
      rule.left--;
      rule.count++;
      incoming.resume();
      answerWith(response, rule.answer);
      return;
    }
    const call = httpsRequest(`${plane.server}${incoming.url ?? '/'}`, {
      method: request.method,
      agent,
      headers: forwardedHeaders(incoming),
    });
    call.on('error', (error) => {
      if (response.headersSent) response.destroy(error);
      else answerWith(response, { code: 503, message: error.message });
    });
    response.on('close', () => call.destroy());
    call.on('response', (upstream) => {
      response.writeHead(upstream.statusCode ?? 502, endToEnd(upstream.headers));
      if (request.isWatch && upstream.statusCode === 200) {
        forwardWatch({ request, response, upstream, held: undefined }, watches);
      } else {
        upstream.on('error', (error) => response.destroy(error));
        upstream.pipe(response);
      }
    });
    incoming.pipe(call);
  };

  const server = createSecureServer(
    {
      allowHTTP1: true,
      ...plane.pki.serving,
      ca,
      requestCert: true,
      rejectUnauthorized: false, // a client with a token has none
    },
    // The compatibility interface of HTTP/2 is that of HTTP/1.1, as far as it is used here.
    (incoming: unknown, response: unknown) => handle(incoming as IncomingMessage, response as ServerResponse),
  );
  server.on('secureConnection', (socket: TLSSocket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const matching = (match: Matcher): Watch[] => [...watches].filter(({ request }) => match(request));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    inject(match, answer, times = Infinity): InjectedFault {
      const rule: Rule = { match, answer, left: times, count: 0 };
      rules.add(rule);
      return { count: () => rule.count, end: () => void rules.delete(rule) };
    },
    breakWatches(match, answer): number {
      const broken = matching(match);
      for (const watch of broken) {
        watches.delete(watch);
        watch.upstream.destroy();
        watch.response.end(`${JSON.stringify({ type: 'ERROR', object: statusOf(answer) })}\n`);
      }
      return broken.length;
    },
    stallWatches(match): () => void {
      const stalled = matching(match);
      for (const watch of stalled) watch.held ??= [];
      return () => {
        for (const watch of stalled) {
          const held = watch.held ?? [];
          watch.held = undefined;
          // Its client may have given it up, or a test broken it.
          if (watch.response.writableEnded || watch.response.destroyed) continue;
          watch.response.write(held.join(''));
          if (watch.upstream.readableEnded) watch.response.end();
        }
      };
    },
    requests: () => seen,
    openWatches: (match) => matching(match).length,
    async close(): Promise<void> {
      for (const socket of sockets) socket.destroy();
      agent.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** Forwards whole events only, so that one more can be put in between. */
function forwardWatch(watch: Watch, watches: Set<Watch>): void {
  const { response, upstream } = watch;
  watches.add(watch);
  let rest = '';
  upstream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split(/(?<=\n)/);
    rest = lines.at(-1)?.endsWith('\n') === false ? (lines.pop() ?? '') : '';
    if (!watches.has(watch)) return;
    if (watch.held === undefined) response.write(lines.join(''));
    else watch.held.push(...lines);
  });
  upstream.on('error', (error) => response.destroy(error));
  upstream.on('end', () => {
    if (watch.held === undefined) response.end();
  });
  response.on('close', () => watches.delete(watch));
}

function answerWith(response: ServerResponse, answer: FaultAnswer): void {
  const { retryAfterSeconds } = answer;
  response.writeHead(answer.code, {
    'content-type': 'application/json',
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
  });
  response.end(JSON.stringify(statusOf(answer)));
}

function statusOf({ code, reason, message, retryAfterSeconds }: FaultAnswer): unknown {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: message ?? `injected by the test: ${code}`,
    reason: reason ?? REASONS[code] ?? 'Unknown',
    ...(retryAfterSeconds === undefined ? {} : { details: { retryAfterSeconds } }),
    code,
  };
}

/** What the API server gets: never a user that the client only claims to be. */
function forwardedHeaders(incoming: IncomingMessage): OutgoingHttpHeaders {
  const headers = Object.fromEntries(
    Object.entries(endToEnd(incoming.headers)).filter(([name]) => !/^(x-remote-|host$)/.test(name)),
  );
  const socket: unknown = incoming.socket;
  const { authorized, getPeerCertificate } = socket as Pick<TLSSocket, 'authorized' | 'getPeerCertificate'>;
  if (!authorized) return headers;
  const { subject } = getPeerCertificate.call(socket) as unknown as {
    readonly subject: { readonly CN: string; readonly O?: string | string[] };
  };
  return { ...headers, 'x-remote-user': subject.CN, 'x-remote-group': subject.O ?? [] };
}

/** Without pseudo headers (HTTP/2) and those of one connection (RFC 9110 §7.6.1). */
function endToEnd(headers: IncomingMessage['headers']): OutgoingHttpHeaders {
  const hop = /^(:|connection$|keep-alive$|proxy-|te$|trailer$|transfer-encoding$|upgrade$)/;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !hop.test(name)));
}
