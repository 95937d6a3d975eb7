import type * as Http from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { ConnectionPool } from '../connections.js';
import { FailureLog } from '../failure-log.js';
import type { ListenUnixOptions } from '../listener.js';
import type { PeerCredentialsReader } from '../peer/reader.js';
import { HTTP_REQUEST_ID, REQUEST_ID, RequestIds } from '../request-id.js';
import { StatusError, type Peer, type StatusName } from '../service.js';
import { HttpRefusal, readBody } from './body.js';
import { BodyBudget, type BodyAccount } from './body-budget.js';
import { HttpConnection, type HttpTask } from './connection.js';
import { defaultHttpLimits, type HttpLimits } from './limits.js';
import {
  openHttps,
  openPlain,
  openTls,
  openUnix,
  type HttpListener,
  type HttpListenerParts,
  type ListenHttpsOptions,
  type ListenPlainOptions,
  type ListenTlsOptions,
} from './listener.js';
import { routesAt, segmentsOf, type HttpAnswer, type HttpRoute } from './route.js';

// `import` of this module evaluates everything that it exports, a client of WebSockets with all of fetch included: 4 MB.
const { createServer } = createRequire(import.meta.url)('node:http') as typeof Http;

export interface HttpServerOptions {
  readonly routes: readonly HttpRoute[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly limits?: Partial<HttpLimits>;
  /** Makes the reader when the first listener needs it. */
  readonly peerCredentials: () => Promise<PeerCredentialsReader>;
}

/** One HTTP/1.1 server behind many sockets, for JSON. */
export interface HttpServer {
  /** Opens a unix socket. Errors: those of `listenAt` in socket-file.ts. */
  listenUnix(options: ListenUnixOptions): Promise<HttpListener>;
  /** Opens a port for mutual TLS 1.3. Errors: SignetError `ListenFailed`. */
  listenHttps(options: ListenHttpsOptions): Promise<HttpListener>;
  /** Opens a port for TLS, whose clients show no certificate. Errors: SignetError `ListenFailed`. */
  listenTls(options: ListenTlsOptions): Promise<HttpListener>;
  /** Opens a port without TLS. Errors: SignetError `ListenFailed`. */
  listenPlain(options: ListenPlainOptions): Promise<HttpListener>;
  /** Open connections of all listeners. */
  readonly connections: number;
  /** Answers what is under way with 503, and closes everything. */
  close(): Promise<void>;
}

/**
 * Creates a server without a socket. Whoever connects is known before a byte of HTTP is read; sizes, times, numbers and
 * nesting are bounded, and every connection is closed that does not keep to them.
 */
export function createHttpServer(options: HttpServerOptions): HttpServer {
  return new JsonServer(options);
}

class JsonServer implements HttpServer {
  readonly #options: HttpServerOptions;
  readonly #limits: HttpLimits;
  readonly #pool: ConnectionPool;
  readonly #bodies: BodyBudget;
  readonly #requestIds: RequestIds;
  readonly #failures: FailureLog;
  readonly #http: Server;
  readonly #bySocket = new WeakMap<Socket, HttpConnection>();
  readonly #open = new Set<HttpConnection>();
  readonly #listeners = new Set<HttpListener>();
  readonly #parts: HttpListenerParts;
  #reader: Promise<PeerCredentialsReader> | undefined;

  constructor(options: HttpServerOptions) {
    const { clock, logger, random } = options;
    this.#options = options;
    this.#limits = { ...defaultHttpLimits, ...options.limits };
    this.#pool = new ConnectionPool(this.#limits);
    this.#bodies = new BodyBudget(this.#limits.maxBodiesBytes);
    this.#requestIds = new RequestIds(random);
    this.#failures = new FailureLog(clock, logger);
    this.#http = createServer({
      maxHeaderSize: this.#limits.maxHeaderBytes,
      requireHostHeader: true,
      insecureHTTPParser: false,
      // Times are kept by the connection, on the clock that was given.
      ...{ headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 0 },
    });
    this.#http.on('request', (request, response) => void this.#serve(request, response));
    this.#parts = {
      ...{ pool: this.#pool, limits: this.#limits, clock, logger, random },
      serve: (socket, peer) => {
        const connection = new HttpConnection(socket, peer, clock, this.#limits);
        this.#pool.add(connection);
        this.#bySocket.set(socket, connection);
        this.#open.add(connection);
        socket.once('close', () => this.#open.delete(connection));
        this.#http.emit('connection', socket);
      },
      retire: (listener) => {
        for (const connection of [...this.#open])
          if (connection.peer.listener === listener) connection.retire();
      },
    };
  }

  get connections(): number {
    return this.#pool.size;
  }

  async listenUnix(options: ListenUnixOptions): Promise<HttpListener> {
    if (options.peerCredentials) this.#reader ??= this.#options.peerCredentials();
    const reader = options.peerCredentials ? await this.#reader : undefined;
    return this.#opened(await openUnix(options, reader, this.#parts));
  }

  async listenHttps(options: ListenHttpsOptions): Promise<HttpListener> {
    return this.#opened(await openHttps(options, this.#parts));
  }

  async listenTls(options: ListenTlsOptions): Promise<HttpListener> {
    return this.#opened(await openTls(options, this.#parts));
  }

  async listenPlain(options: ListenPlainOptions): Promise<HttpListener> {
    return this.#opened(await openPlain(options, this.#parts));
  }

  #opened(listener: HttpListener): HttpListener {
    const kept: HttpListener = {
      path: listener.path,
      isCurrent: () => listener.isCurrent(),
      close: async () => {
        if (this.#listeners.delete(kept)) await listener.close();
      },
    };
    this.#listeners.add(kept);
    return kept;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    this.#http.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const connection = this.#bySocket.get(request.socket);
    const task = connection?.begin();
    if (connection === undefined || task === undefined) {
      request.socket.destroy();
      return;
    }
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const account = this.#bodies.open(nameOf(connection.peer));
    response.once('close', () => {
      task.over();
      account.close();
    });
    const requestId = this.#name(request, response);
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const routes = routesAt(this.#options.routes, path);
    const answered = await Promise.race([
      this.#answer(routes, request, connection, { task, account, requestId }),
      ended(task),
    ]).catch((thrown: unknown) => {
      this.#failures.failed(thrown, {
        ...{ peer: connection.peer, path: `${request.method ?? ''} ${path}`, requestId },
      });
      return failure(thrown, routes[0], request, response);
    });
    if (response.headersSent || response.destroyed) return;
    // What is left of a body that nobody wants is not read, so nothing more can be understood on this connection.
    if (!request.complete || connection.isLast) response.setHeader('connection', 'close');
    const bytes = Buffer.from(
      typeof answered.body === 'string' ? answered.body : JSON.stringify(answered.body),
    );
    const type =
      answered.contentType ??
      (typeof answered.body === 'string' ? 'text/plain; charset=utf-8' : 'application/json');
    response.writeHead(answered.status, {
      'content-type': type,
      'content-length': bytes.length,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    response.end(bytes);
  }

  async #answer(
    routes: readonly HttpRoute[],
    request: IncomingMessage,
    connection: HttpConnection,
    { task, account, requestId }: Task,
  ): Promise<HttpAnswer> {
    const [path = '', query = ''] = (request.url ?? '').split(/\?(.*)/s);
    const segments = segmentsOf(path);
    if (segments === undefined || routes.length === 0) throw new HttpRefusal(404, 'there is nothing here');
    const route = routes.find(({ method }) => method === request.method);
    if (route === undefined) throw new MethodRefusal(routes.map(({ method }) => method));
    const hasBody =
      request.headers['transfer-encoding'] !== undefined ||
      Number(request.headers['content-length'] ?? 0) > 0;
    if (route.method === 'GET' && hasBody) throw new HttpRefusal(400, 'a GET request has no body');
    return route.handle({
      segments,
      query: new URLSearchParams(query),
      host: request.headers.host ?? '',
      secure: connection.peer.spiffeId !== undefined,
      body: route.method === 'POST' ? await readBody(request, this.#limits, account) : undefined,
      context: {
        peer: connection.peer,
        signal: task.signal,
        requestId,
        metadata: (key) => textOf(request.headers[key]),
      },
    });
  }

  /**
   * How the log calls the request, which the answer tells. What the client calls it comes back as it is, since AuthZEN lets it be
   * any text (Authorization API 1.0 §10.1); when that may not stand in a log, the log's name stands beside it.
   */
  #name({ headers }: IncomingMessage, response: ServerResponse): string {
    const given = textOf(headers[HTTP_REQUEST_ID]);
    const requestId = this.#requestIds.of(given);
    response.setHeader(HTTP_REQUEST_ID, given ?? requestId);
    if (given !== undefined && given !== requestId) response.setHeader(REQUEST_ID, requestId);
    return requestId;
  }
}

/** One request, while it is being answered. */
interface Task {
  readonly task: HttpTask;
  readonly account: BodyAccount;
  readonly requestId: string;
}

function failure(
  thrown: unknown,
  route: HttpRoute | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): HttpAnswer {
  const [status, message] = statusOf(thrown, request);
  if (thrown instanceof MethodRefusal && !response.headersSent)
    response.setHeader('allow', thrown.allowed.join(', '));
  return { status, body: route?.error?.(status, message) ?? `${message}\n` };
}

function statusOf(thrown: unknown, request: IncomingMessage): readonly [number, string] {
  if (thrown instanceof HttpRefusal) return [thrown.http, thrown.message];
  if (!(thrown instanceof StatusError)) return [500, 'something went wrong here; the log says more'];
  if (thrown.status === 'DeadlineExceeded' && !request.complete)
    return [408, 'the request did not come whole in time'];
  return [STATUS[thrown.status] ?? 500, thrown.message];
}

class MethodRefusal extends HttpRefusal {
  readonly allowed: readonly string[];

  constructor(allowed: readonly string[]) {
    super(405, `the method must be ${allowed.join(' or ')}`);
    this.allowed = allowed;
  }
}

const STATUS: Partial<Readonly<Record<StatusName, number>>> = {
  InvalidArgument: 400,
  Unauthenticated: 401,
  PermissionDenied: 403,
  NotFound: 404,
  ResourceExhausted: 429,
  Unavailable: 503,
  DeadlineExceeded: 503,
};

const textOf = (value: string | readonly string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;

/** Whose the bodies of a connection are. */
function nameOf({ spiffeId, credentials, remoteAddress }: Peer): string {
  return spiffeId?.uri ?? (credentials === undefined ? (remoteAddress ?? '') : `process ${credentials.pid}`);
}

/** Rejects when the task is aborted. */
function ended({ signal }: HttpTask): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
