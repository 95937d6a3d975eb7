import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Decision } from '../access/policy/evaluate.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import { authorizeAny, type PeerAuthorizer } from './authorizer.js';
import type { RequestAuthorizer } from './http-authorizer.js';
import { peerIdOf } from './peer.js';
import { guardServer, type GuardOptions } from './tls-server.js';
import { tlsServerOptions } from './tls-options.js';
import type { X509Source } from './x509-source.js';

/** Answers a request of a peer that was let in; `decision` says by which rule, where policies decide. */
export type MtlsHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  caller: { readonly peer: SpiffeId; readonly decision: Decision | undefined },
) => void;

export interface MtlsServerOptions extends GuardOptions {
  /** Told of each decision by policy, for the log. */
  readonly onDecision?: (decision: Decision, request: IncomingMessage, peer: SpiffeId) => void;
  /** Whether the answer 403 tells the caller the reason; it is kept back unless said, since it shows the policy. */
  readonly explain?: boolean;
}

/**
 * An HTTPS server over mutual TLS 1.3, not yet listening. A {@link PeerAuthorizer} decides on each connection; a
 * {@link RequestAuthorizer} lets every verified peer connect and decides on each request: what is denied is answered
 * with 403 and never reaches the handler.
 */
export function createMtlsServer(
  source: X509Source,
  authorizer: PeerAuthorizer | RequestAuthorizer,
  handler: MtlsHandler,
  options: MtlsServerOptions = {},
): Server {
  const requests = typeof authorizer === 'function' ? undefined : authorizer;
  const peers = typeof authorizer === 'function' ? authorizer : authorizeAny;
  const server = createServer(tlsServerOptions(source), (request, response) => {
    const peer = peerIdOf(request.socket);
    if (peer === undefined) {
      refuse(response, 'the connection has no verified peer');
      return;
    }
    const decision = requests?.decide(asked(request, peer, source.now()));
    if (decision !== undefined) options.onDecision?.(decision, request, peer);
    if (decision?.allowed === false) {
      refuse(response, options.explain === true ? decision.reason : 'access denied');
      return;
    }
    handler(request, response, { peer, decision });
  });
  guardServer(server, source, peers, options);
  return server;
}

function asked(
  request: IncomingMessage,
  peer: SpiffeId,
  time: number,
): Parameters<RequestAuthorizer['decide']>[0] {
  const { host } = request.headers;
  const port = request.socket.localPort;
  return {
    source: peer.uri,
    // Both are there for every request that Node has parsed; if not, the policy refuses the empty text.
    http: { method: request.method ?? '', path: request.url ?? '', ...(host === undefined ? {} : { host }) },
    ...(port === undefined ? {} : { port }),
    time,
  };
}

function refuse(response: ServerResponse, reason: string): void {
  const body = JSON.stringify({ error: 'AccessDenied', reason });
  response.writeHead(403, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
