import { Agent, type AgentOptions, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../lib/clock.js';
import { ApiError, errorOfAnswer } from './api-error.js';
import type { Access, Connection } from './connection.js';
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
/** Connections for requests; a watch has one of its own. */
const MAX_CONNECTIONS = 32;

/** Talks to one API server over kept connections. */
export function createKubernetesApi(
  connection: Connection,
  clock: Clock,
  observe: ApiObserver = () => undefined,
): KubernetesApi {
  const agents = new AgentPair();
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
  const open = async (
    request: ApiRequest,
    watching: boolean,
    abandon: (cancel: (error: ApiError) => void) => void,
  ): Promise<IncomingMessage> => {
    const access = await connection.access().catch((thrown: unknown) => {
      throw new ApiError(
        'ApiUnauthorized',
        `the credentials cannot be had: ${ApiError.from(thrown).message}`,
        {
          cause: thrown,
        },
      );
    });
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    return new Promise((resolve, reject) => {
      const sent = httpsRequest(urlOf(connection.server, request), {
        method: request.method,
        agent: access.proxy ?? agents.of(access, watching),
        headers: {
          ...access.headers,
          Accept: request.accept ?? 'application/json',
          'User-Agent': 'signet',
          ...(body === undefined
            ? {}
            : { 'Content-Type': request.contentType ?? 'application/json', 'Content-Length': body.length }),
        },
      });
      // A stall of the network shows as a dead connection, at the latest by the kernel's probes.
      sent.setSocketKeepAlive(true, 15_000);
      abandon((error) => sent.destroy(error));
      sent.once('response', resolve);
      // A kept connection may be closed by the other side in the very moment that it is used again.
      sent.once('error', (error) => reject(sent.reusedSocket ? new StaleConnection(error) : error));
      sent.end(body);
    });
  };

  return {
    namespace: connection.namespace,

    send: (request) =>
      measured(request.method, async () => {
        const end = new Deadline(request, clock, TIMEOUT_MS);
        const attempt = (): Promise<IncomingMessage> => open(request, false, (cancel) => end.guard(cancel));
        try {
          const answer = await attempt().catch((thrown: unknown) => {
            // What a POST creates might be created twice.
            const again =
              thrown instanceof StaleConnection && request.method !== 'POST' && end.error === undefined;
            if (again) return attempt();
            throw thrown;
          });
          return await readAnswer(answer, request);
        } catch (thrown) {
          throw end.error ?? brokenOf(thrown, request);
        } finally {
          end.over();
        }
      }),

    stream: (request) =>
      measured('WATCH', async () => {
        const get: ApiRequest = { ...request, method: 'GET' };
        const end = new Deadline(get, clock, TIMEOUT_MS);
        try {
          const answer = await open(get, true, (cancel) => end.guard(cancel));
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

    close: () => agents.close(),
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

/** Kept connections, made anew when the TLS material is another: a certificate may be renewed while we run. */
class AgentPair {
  #material: Access['tls'] | undefined;
  #requests: Agent | undefined;
  #watches: Agent | undefined;

  of({ tls }: Access, watching: boolean): Agent {
    if (this.#material === undefined || !sameMaterial(this.#material, tls)) this.#renew(tls);
    const agent = watching ? this.#watches : this.#requests;
    if (agent === undefined)
      throw new ApiError('ApiUnreachable', 'the connection to the API server is closed');
    return agent;
  }

  close(): void {
    this.#requests?.destroy();
    this.#watches?.destroy();
    this.#material = undefined;
  }

  #renew(tls: Access['tls']): void {
    // Requests that use the former agent end in peace; its idle connections close by themselves.
    const options: AgentOptions = { ...tls, minVersion: 'TLSv1.2' };
    this.#requests = new Agent({ ...options, keepAlive: true, maxSockets: MAX_CONNECTIONS, timeout: 60_000 });
    this.#watches = new Agent({ ...options, keepAlive: false });
    this.#material = tls;
  }
}

function sameMaterial(left: Access['tls'], right: Access['tls']): boolean {
  const fields = ['ca', 'cert', 'key', 'servername', 'rejectUnauthorized'] as const;
  return fields.every((field) => String(left[field]) === String(right[field]));
}
