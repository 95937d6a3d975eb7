import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { SignetError } from '../lib/errors.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import type { PeerAuthorizer } from './authorizer.js';
import { WorkloadError } from './errors.js';
import { peerIdOf } from './peer.js';
import { openTls } from './tls-client.js';
import type { X509Source } from './x509-source.js';

export interface MtlsRequest {
  /** `GET` unless said. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

export interface MtlsResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Buffer;
  /** Who answered. */
  readonly peer: SpiffeId;
  /** `TLSv1.3`. */
  readonly protocol: string;
}

export interface MtlsClientOptions {
  /** The longest answer that is taken, in bytes; 16 MiB unless said. */
  readonly maxResponseBytes?: number;
  /** Connections per server; 64 unless said. */
  readonly maxConnections?: number;
}

/** Makes HTTPS requests over mutual TLS 1.3 and keeps connections open for the next ones. */
export interface MtlsClient {
  /**
   * One request. The server must be whom the authorizer lets in; its host name does not matter.
   *
   * @throws PeerError; WorkloadError `ResponseTooLarge`; errors of the network and of TLS as Node raises them
   */
  request(url: string | URL, request?: MtlsRequest): Promise<MtlsResponse>;
  /** For `https.request`, axios, got and others that take an agent. */
  readonly agent: Agent;
  /** Closes the connections. */
  close(): void;
}

const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;

/** A client whose new connections always use the newest SVID and bundles. */
export function createMtlsClient(
  source: X509Source,
  authorize: PeerAuthorizer,
  options: MtlsClientOptions = {},
): MtlsClient {
  const agent = new VerifyingAgent(source, authorize, options.maxConnections ?? 64);
  const limit = options.maxResponseBytes ?? MAX_RESPONSE_BYTES;
  return {
    agent,
    request: (url, request = {}) => send(agent, new URL(url), request, limit),
    close: () => agent.destroy(),
  };
}

/** Makes the TLS options anew for each connection, so that rotation needs no new agent. */
class VerifyingAgent extends Agent {
  readonly #source: X509Source;
  readonly #authorize: PeerAuthorizer;

  constructor(source: X509Source, authorize: PeerAuthorizer, maxSockets: number) {
    super({ keepAlive: true, maxCachedSessions: 0, maxSockets });
    this.#source = source;
    this.#authorize = authorize;
  }

  override createConnection(options: RequestOptions): TLSSocket {
    const { host, port, servername } = options as ConnectionOptions;
    return openTls(this.#source, this.#authorize, {
      ...(host === undefined ? {} : { host }),
      ...(port === undefined ? {} : { port }),
      ...(servername === undefined ? {} : { servername }),
    });
  }
}

async function send(agent: Agent, url: URL, request: MtlsRequest, limit: number): Promise<MtlsResponse> {
  try {
    return await sendOnce(agent, url, request, limit);
  } catch (error) {
    // The server may close an idle connection just when we use it again; nothing was answered, so once more is safe for
    // methods that may be repeated (RFC 9110 §9.2.2).
    if (!(error instanceof StaleConnectionError) || !REPEATABLE.has(request.method ?? 'GET')) {
      throw error instanceof StaleConnectionError ? error.cause : error;
    }
    try {
      return await sendOnce(agent, url, request, limit);
    } catch (again) {
      throw again instanceof StaleConnectionError ? again.cause : again;
    }
  }
}

const REPEATABLE = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** A connection from the pool that turned out to be closed. */
class StaleConnectionError extends Error {}

function sendOnce(agent: Agent, url: URL, request: MtlsRequest, limit: number): Promise<MtlsResponse> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body, signal } = request;
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
    const outgoing = httpsRequest(
      url,
      { agent, method, headers: { ...length, ...headers }, ...(signal === undefined ? {} : { signal }) },
      (response) => {
        receive(response, limit).then(resolve, (error: unknown) => {
          outgoing.destroy();
          reject(error instanceof Error ? error : SignetError.from(error));
        });
      },
    );
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      const stale = outgoing.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      reject(stale ? new StaleConnectionError(error.message, { cause: error }) : error);
    });
    outgoing.end(body);
  });
}

async function receive(response: IncomingMessage, limit: number): Promise<MtlsResponse> {
  const peer = peerIdOf(response.socket);
  // All of the agent's sockets are TLS sockets.
  const protocol = (response.socket as Partial<Pick<TLSSocket, 'getProtocol'>>).getProtocol?.() ?? '';
  if (peer === undefined)
    throw new WorkloadError('SvidNotFound', 'the answer came over a connection without a peer');
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new WorkloadError('ResponseTooLarge', `the answer is longer than ${limit} bytes`);
    chunks.push(chunk);
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks),
    peer,
    protocol,
  };
}
