import { request as httpsRequest } from 'node:https';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Clock } from '../../lib/clock.js';
import { ApiError, errorOfAnswer } from './api-error.js';
import type { Access, Connection } from './connection.js';
import type { ClockSkew } from './clock-skew.js';
import { Connections, type ConnectionUse } from './connections.js';
import { readLines } from './read-lines.js';

/** One request to the API server. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** e.g. `/api/v1/namespaces/shop/pods/web`; names in it are path segments, encoded already. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** `application/json` unless said; a PATCH says which kind it is. */
  readonly contentType?: string;
  /** `application/json` unless said. */
  readonly accept?: string;
  /** For the whole of it; 30 seconds unless said. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Goes before those that wait for a connection: for what must be done in time. */
  readonly urgent?: boolean;
}

/** A watch: lines of JSON until the API server ends it. */
export type ApiStreamRequest = Pick<ApiRequest, 'path' | 'query' | 'accept' | 'timeoutMs'> & {
  readonly signal: AbortSignal;
};

/** The API server, as every part of this room sees it. */
export interface KubernetesApi {
  /** The namespace that the configuration names. */
  readonly namespace: string | undefined;
  /** The JSON of the answer. Rejects with ApiError. */
  send(request: ApiRequest): Promise<unknown>;
  /**
   * Resolves when the answer has begun; `timeoutMs` bounds that alone. Each turn gives a line, or `undefined` when bytes
   * came that end none. Rejects, at first or in a turn, with ApiError. Ending the iteration ends the request.
   */
  stream(request: ApiStreamRequest): Promise<AsyncIterable<string | undefined>>;
  /**
   * Whether the API server answers anything at all, within 5 seconds. Asks only if it has not answered this for 4 seconds,
   * and once for all who want to know at a time.
   */
  isAlive(): Promise<boolean>;
  /** Closes idle connections; requests under way go on. */
  close(): void;
}

/**
 * Told of each request that is over, and of each watch that has begun or could not: the method or `WATCH`, the HTTP status
 * or our own code of why there is none, and how long it took.
 */
export type ApiObserver = (verb: ApiRequest['method'] | 'WATCH', code: string, seconds: number) => void;

const TIMEOUT_MS = 30_000;
/** A page of a list at most. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** etcd keeps no object larger than 1.5 MiB; JSON escapes may make a line of a watch longer than the object. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
/** An API server that has answered within this time is alive, without asking; milliseconds. */
const ALIVE_FOR_MS = 4_000;
/** One that lets two requests of this length time out, is not. */
const ALIVE_TIMEOUT_MS = 2_500;
/** A dead connection is noticed by the kernel, by ten probes a second apart after this time of silence. */
const KEEP_ALIVE_MS = 10_000;

/** Talks to one API server over kept connections. */
export function createKubernetesApi(
  connection: Connection,
  clock: Clock,
  observe: ApiObserver = () => undefined,
  /** Told of the time that the API server says it is. */
  skew?: ClockSkew,
): KubernetesApi {
  const connections = new Connections();
  const measured = async <T>(verb: Parameters<ApiObserver>[0], work: () => Promise<T>): Promise<T> => {
    const began = clock.monotonic();
    const over = (code: string): void => observe(verb, code, (clock.monotonic() - began) / 1000);
    try {
      const result = await work();
      // Of the successes, which one it was says nothing that the method does not.
      over('2xx');
      return result;
    } catch (thrown) {
      const { status, code } = ApiError.from(thrown);
      over(status === undefined ? code : String(status));
      throw thrown;
    }
  };

  /** Sends it and resolves with the answer, whose body is still to be read. */
  const open = (request: ApiRequest, use: ConnectionUse, end: Deadline): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      // A credential plugin may hang as well.
      end.guard(reject);
      accessOf(connection)
        .then((access) => {
          const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
          const sent = httpsRequest(urlOf(connection.server, request), {
            ...{ method: request.method, headers: headersOf(request, access, body) },
            agent: access.proxy ?? connections.of(access, use),
          });
          sent.setSocketKeepAlive(true, KEEP_ALIVE_MS);
          end.guard((error) => sent.destroy(error));
          const told = skew?.sent();
          sent.once('response', (answer) => {
            told?.(answer.headers.date);
            resolve(answer);
          });
          // A kept connection may be closed by the other side in the very moment that it is used again.
          sent.on('error', (error) => reject(sent.reusedSocket ? new StaleConnection(error) : error));
          sent.end(body);
        })
        .catch(reject);
    });

  const send = (request: ApiRequest): Promise<unknown> =>
    measured(request.method, async () => {
      const end = new Deadline(request, clock, TIMEOUT_MS);
      const use = request.urgent === true ? 'urgent' : 'request';
      try {
        const answer = await open(request, use, end).catch((thrown: unknown) => {
          if (!(thrown instanceof StaleConnection) || end.error !== undefined) throw thrown;
          connections.distrust();
          // What a POST creates might be created twice.
          if (request.method === 'POST') throw thrown;
          return open(request, use, end);
        });
        return await readAnswer(answer, request);
      } catch (thrown) {
        if (end.error?.code === 'ApiTimeout') connections.distrust();
        throw end.error ?? brokenOf(thrown, request);
      } finally {
        end.over();
      }
    });

  /** Two attempts: a process that was stopped for a while finds the first one timed out though its answer is there. */
  const asksTwice = async (): Promise<boolean> => {
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        await send({ method: 'GET', path: '/version', urgent: true, timeoutMs: ALIVE_TIMEOUT_MS });
        return true;
      } catch (thrown) {
        // Any answer will do.
        if (ApiError.from(thrown).status !== undefined) return true;
      }
    }
    return false;
  };
  let aliveUntil = Number.NEGATIVE_INFINITY;
  let asking: Promise<boolean> | undefined;
  const isAlive = async (): Promise<boolean> => {
    const now = clock.monotonic();
    if (now < aliveUntil) return true;
    asking ??= asksTwice().finally(() => (asking = undefined));
    const alive = await asking;
    if (alive) aliveUntil = Math.max(aliveUntil, now + ALIVE_FOR_MS);
    return alive;
  };

  return {
    namespace: connection.namespace,

    send,
    isAlive,

    stream: (request) =>
      measured('WATCH', async () => {
        const get: ApiRequest = { ...request, method: 'GET' };
        const end = new Deadline(get, clock, TIMEOUT_MS);
        try {
          const answer = await open(get, 'watch', end);
          if (answer.statusCode !== 200) {
            await readAnswer(answer, get);
            throw new ApiError('ApiFailed', `${nameOf(get)}: HTTP status ${String(answer.statusCode)}`);
          }
          end.begun();
          return linesOf(answer, get, end);
        } catch (thrown) {
          end.over();
          throw end.error ?? brokenOf(thrown, get);
        }
      }),

    close: () => connections.close(),
  };
}

function accessOf(connection: Connection): Promise<Access> {
  return connection.access().catch((thrown: unknown) => {
    const { message } = ApiError.from(thrown);
    throw new ApiError('ApiUnauthorized', `the credentials cannot be had: ${message}`, { cause: thrown });
  });
}

function headersOf(request: ApiRequest, access: Access, body: Buffer | undefined): OutgoingHttpHeaders {
  const { accept = 'application/json', contentType = 'application/json' } = request;
  return {
    ...access.headers,
    Accept: accept,
    'User-Agent': 'signet',
    ...(body === undefined ? {} : { 'Content-Type': contentType, 'Content-Length': body.length }),
  };
}

/** A kept connection broke before it gave an answer. */
class StaleConnection extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

/** Ends a request at its time limit or by its signal, and remembers which it was. */
class Deadline {
  error: ApiError | undefined;
  readonly #request: ApiRequest;
  readonly #timer: { cancel(): void };
  readonly #onAbort: () => void;
  #cancel: ((error: ApiError) => void) | undefined;

  constructor(request: ApiRequest, clock: Clock, usualMs: number) {
    this.#request = request;
    const limit = request.timeoutMs ?? usualMs;
    this.#timer = clock.after(limit, () =>
      this.#end(new ApiError('ApiTimeout', `${nameOf(request)}: no answer within ${limit / 1000} s`)),
    );
    this.#onAbort = () => this.#end(new ApiError('ApiUnreachable', `${nameOf(request)}: given up`));
    if (request.signal?.aborted === true) this.#onAbort();
    else request.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** `cancel` ends what is under way, at once if the end has come already. */
  guard(cancel: (error: ApiError) => void): void {
    this.#cancel = cancel;
    if (this.error !== undefined) cancel(this.error);
  }

  /** Only the signal ends it from now on. */
  begun(): void {
    this.#timer.cancel();
  }

  over(): void {
    this.#timer.cancel();
    this.#request.signal?.removeEventListener('abort', this.#onAbort);
  }

  #end(error: ApiError): void {
    this.error ??= error;
    this.#cancel?.(error);
  }
}

async function* linesOf(
  answer: IncomingMessage,
  request: ApiRequest,
  end: Deadline,
): AsyncIterable<string | undefined> {
  try {
    yield* readLines(answer, MAX_LINE_BYTES);
  } catch (thrown) {
    throw end.error ?? brokenOf(thrown, request);
  } finally {
    end.over();
    answer.destroy();
  }
}

async function readAnswer(answer: IncomingMessage, request: ApiRequest): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) {
      throw new ApiError(
        'ApiAnswerUnusable',
        `${nameOf(request)}: the answer is longer than ${MAX_BODY_BYTES} bytes`,
      );
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  const status = answer.statusCode ?? 0;
  if (status < 200 || status > 299)
    throw errorOfAnswer(status, parsed(text), nameOf(request), answer.headers['retry-after']);
  const value = parsed(text);
  if (value === undefined)
    throw new ApiError('ApiAnswerUnusable', `${nameOf(request)}: the answer is no JSON`);
  return value;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function brokenOf(thrown: unknown, request: ApiRequest): ApiError {
  if (thrown instanceof ApiError) return thrown;
  const { message } = ApiError.from(thrown);
  return new ApiError('ApiUnreachable', `${nameOf(request)}: ${message}`, { cause: thrown });
}

/** For people; a query may hold what is nobody's business, so it is left out. */
function nameOf({ method, path }: ApiRequest): string {
  return `${method} ${path}`;
}

function urlOf(server: URL, { path, query }: ApiRequest): URL {
  const url = new URL(server);
  url.pathname = `${server.pathname.replace(/\/$/, '')}${path}`;
  for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value);
  return url;
}
