import type { Clock, Timer } from '../../lib/clock.js';
import type { Random } from '../../lib/random.js';
import type { StoredObject } from '../store.js';
import type { KubernetesApi } from './api.js';
import { ApiError, errorOfAnswer } from './api-error.js';

/** An object as the API server gives it. */
export interface ApiObject extends StoredObject {
  readonly metadata: StoredObject['metadata'] & {
    readonly resourceVersion: string;
    readonly creationTimestamp?: string;
    readonly deletionTimestamp?: string;
  };
}

/** One event of a watch. `version` is where a later watch goes on. */
export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly version: string; readonly object: ApiObject }
  | { readonly type: 'BOOKMARK'; readonly version: string; readonly initialEventsEnd: boolean };

/** What one watch is made of. */
export interface WatchOptions {
  readonly api: KubernetesApi;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly accept?: string;
  readonly trim: (object: ApiObject) => ApiObject;
  readonly take: (event: WatchEvent) => void;
  /** Called when the API server has begun to answer. */
  readonly begun: () => void;
  readonly silenceMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
}

/** So soon after the last sign of life the API server is asked whether it lives; milliseconds. */
const ASK_MS = 5_000;
/** A watch that has not begun to answer by then is given up; milliseconds. */
const BEGIN_MS = 30_000;
/** `reason` of the error of a watch that was silent though the API server lives. */
export const SILENT = 'Silent';

/** How long one watch is to last, seconds: spread, so that those of many processes do not end together. */
const SHORTEST_WATCH_S = 300;
const LONGEST_WATCH_S = 600;
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/**
 * Follows one watch until the API server ends it in peace.
 *
 * @throws ApiError what ended it otherwise: `ApiGone` when the version is too old; `ApiTimeout` when the API server does not
 *   answer, and with the reason {@link SILENT} when it does, but not on this watch for `silenceMs`
 */
export async function followWatch(options: WatchOptions): Promise<void> {
  const { api, path, random, silenceMs, signal } = options;
  const watchdog = new Watchdog(options);
  const seconds = SHORTEST_WATCH_S + Math.floor(random.fraction() * (LONGEST_WATCH_S - SHORTEST_WATCH_S));
  try {
    const lines = await api.stream({
      path,
      query: {
        ...options.query,
        watch: 'true',
        allowWatchBookmarks: 'true',
        timeoutSeconds: String(seconds),
      },
      ...(options.accept === undefined ? {} : { accept: options.accept }),
      timeoutMs: Math.min(silenceMs, BEGIN_MS),
      signal: watchdog.signal,
    });
    options.begun();
    for await (const line of lines) {
      watchdog.heard();
      if (line === undefined || line === '') continue;
      options.take(eventOf(line, path, options.trim));
    }
  } catch (thrown) {
    if (watchdog.barked === undefined || signal.aborted) throw thrown;
    if (watchdog.barked === 'dead')
      throw new ApiError('ApiTimeout', `GET ${path}: the API server does not answer`, { cause: thrown });
    const text = `GET ${path}: the watch has been silent for ${silenceMs / 1000} s`;
    throw new ApiError('ApiTimeout', text, { reason: SILENT, cause: thrown });
  } finally {
    watchdog.end();
  }
}

/**
 * Gives up a stream of which nothing is heard: a stalled connection looks like one on which nothing happens. When the API
 * server answers nothing else either, soon; else after the silence in which a bookmark would have come.
 */
class Watchdog {
  barked: 'dead' | 'silent' | undefined;
  readonly #abort = new AbortController();
  readonly #options: WatchOptions;
  readonly #onAbort = (): void => this.#abort.abort();
  #timer: Timer;
  #heardAt: number;
  #ended = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#heardAt = options.clock.monotonic();
    this.#timer = this.#arm(ASK_MS);
    if (options.signal.aborted) this.#abort.abort();
    else options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Cheap: it is called for each line. */
  heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }

  /** The stream is read no more: whatever is left of it ends. */
  end(): void {
    this.#ended = true;
    this.#timer.cancel();
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    this.#abort.abort();
  }

  #arm(ms: number): Timer {
    const { clock, silenceMs } = this.#options;
    return clock.after(ms, () => {
      const silentFor = clock.monotonic() - this.#heardAt;
      if (silentFor >= silenceMs) {
        this.#bark('silent');
        return;
      }
      if (silentFor >= ASK_MS) void this.#ask(this.#heardAt);
      this.#timer = this.#arm(Math.min(ASK_MS, silenceMs - silentFor));
    });
  }

  async #ask(heardAt: number): Promise<void> {
    const alive = await this.#options.api.isAlive();
    if (!alive && !this.#ended && this.#heardAt === heardAt) this.#bark('dead');
  }

  #bark(why: 'dead' | 'silent'): void {
    this.barked ??= why;
    this.#timer.cancel();
    this.#abort.abort();
  }
}

function eventOf(line: string, path: string, trim: (object: ApiObject) => ApiObject): WatchEvent {
  const { type, object: raw } = parseLine(line, path);
  if (type === 'ERROR') {
    const { code } = raw as { readonly code?: unknown };
    const seconds = (raw as { readonly details?: { readonly retryAfterSeconds?: unknown } }).details
      ?.retryAfterSeconds;
    const wait = typeof seconds === 'number' ? String(seconds) : undefined;
    throw errorOfAnswer(typeof code === 'number' ? code : 500, raw, `GET ${path} (watch)`, wait);
  }
  const object = objectOf(raw);
  if (object === undefined) throw new ApiError('ApiAnswerUnusable', `GET ${path}: an event holds no object`);
  const version = object.metadata.resourceVersion;
  if (type === 'BOOKMARK') {
    const initialEventsEnd = object.metadata.annotations?.[INITIAL_EVENTS_END] === 'true';
    return { type, version, initialEventsEnd };
  }
  if (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED')
    throw new ApiError(
      'ApiAnswerUnusable',
      `GET ${path}: event type ${JSON.stringify(String(type).slice(0, 40))} is unknown`,
    );
  return { type, version, object: trim(object) };
}

function parseLine(line: string, path: string): { readonly type: unknown; readonly object: unknown } {
  try {
    const { type, object } = JSON.parse(line) as { readonly type?: unknown; readonly object?: unknown };
    return { type, object };
  } catch (cause) {
    // Never skipped: what it said would be lost.
    throw new ApiError('ApiAnswerUnusable', `GET ${path}: a line of the watch is no JSON`, { cause });
  }
}

/** What the API server sent as an object; undefined when it is none. Items of a list do not say their kind. */
export function objectOf(
  raw: unknown,
  implied?: { readonly apiVersion: string; readonly kind: string },
): ApiObject | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const { metadata } = raw as { readonly metadata?: Partial<ApiObject['metadata']> };
  if (typeof metadata !== 'object' || typeof metadata.resourceVersion !== 'string') return undefined;
  if (implied === undefined) return raw as ApiObject;
  const { apiVersion, kind } = implied;
  return { apiVersion, kind, ...raw } as ApiObject;
}
