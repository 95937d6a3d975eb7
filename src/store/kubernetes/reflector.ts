import { Backoff } from '../../lib/backoff.js';
import { sleep, type Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { SIGNET_GROUP } from '../../resources/meta.js';
import type { KubernetesApi } from './api.js';
import { ApiError, type ApiErrorCode } from './api-error.js';
import { listAll } from './list.js';
import { missingRule } from './rbac.js';
import { apiVersionOf, collectionPath, type ResourceType } from './resource-type.js';
import { followWatch, SILENT, type ApiObject, type WatchEvent } from './watch.js';

/** Who is told of what a reflector sees. Calls come one at a time, in the order of the API server. */
export interface ReflectorSink {
  /** These are all objects there are: what is not among them is gone. */
  replace(objects: readonly ApiObject[]): void;
  put(object: ApiObject): void;
  remove(object: ApiObject): void;
}

/** What a reflector is made of. */
export interface ReflectorOptions {
  readonly api: KubernetesApi;
  readonly type: ResourceType;
  /** Only objects of this namespace. */
  readonly namespace?: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** Asks for metadata alone, where nothing else is read. */
  readonly metadataOnly?: boolean;
  /** What is kept of an object: called once for each that comes, before anything is stored. */
  readonly trim: (object: ApiObject) => ApiObject;
  readonly sink: ReflectorSink;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Told of each step, for metrics and for who waits. */
  readonly observe?: (step: ReflectorStep) => void;
  /**
   * How long a watch may be silent, though the API server lives, before it is taken for dead; 90 s unless said: the API
   * server sends a bookmark every minute.
   */
  readonly silenceMs?: number;
}

/** What a reflector did or met. */
export type ReflectorStep =
  | { readonly step: 'listed'; readonly objects: number; readonly streamed: boolean }
  | { readonly step: 'watching' }
  | { readonly step: 'event'; readonly type: WatchEvent['type'] }
  | { readonly step: 'failed'; readonly error: ApiError };

const SILENCE_MS = 90_000;
const RETRY = { initialMs: 100, maxMs: 10_000 };
/** A watch that went on for so long after the list was healthy: the next one follows at once. Milliseconds. */
const HEALTHY_MS = 2_000;
const AWAIT_ADMIN_MS = 5_000;
/** So many failures in a row of these are part of an API server's life: it restarts, or is busy. */
const PASSING = 3;
const PASSING_CODES: ReadonlySet<ApiErrorCode> = new Set(['ApiUnreachable', 'ApiTimeout', 'ApiThrottled']);

/**
 * Mirrors all objects of one kind: lists them, watches from there, and goes on after any failure until the signal is
 * aborted. As client-go's reflector: what is missed is never lost, since a watch resumes from the last version that was
 * seen, or everything is listed anew when that is too old (410). The sink keeps what it had meanwhile.
 *
 * Never rejects.
 */
export async function runReflector(options: ReflectorOptions, signal: AbortSignal): Promise<void> {
  await new Reflector(options).run(signal);
}

class Reflector {
  readonly #options: ReflectorOptions;
  readonly #backoff: Backoff;
  /** Of the last thing that was seen; undefined when everything must be listed. */
  #version: string | undefined;
  /** False once the API server was found not to stream lists. */
  #streamsLists = true;
  #lastComplaint: string | undefined;
  /** In a row. */
  #failures = 0;
  /** Since when all is known and followed; undefined while it is not. */
  #wellSince: number | undefined;

  /** Metadata alone comes as an object of another kind. */
  readonly #trim = (object: ApiObject): ApiObject => {
    const { type, trim, metadataOnly } = this.#options;
    return trim(
      metadataOnly === true ? { ...object, apiVersion: apiVersionOf(type), kind: type.kind } : object,
    );
  };

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#backoff = new Backoff(RETRY, options.random);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      let waitMs = 0;
      this.#wellSince = undefined;
      try {
        await this.#once(signal);
      } catch (thrown) {
        if (signal.aborted) return;
        waitMs = this.#judge(ApiError.from(thrown));
      }
      // However it ended: what ends again and again at once, or after each long list, must not become a storm.
      const wellFor = this.#wellSince === undefined ? 0 : clock.monotonic() - this.#wellSince;
      if (wellFor >= HEALTHY_MS) this.#backoff.reset();
      else waitMs = Math.max(waitMs, this.#backoff.next());
      await sleep(clock, waitMs, signal).catch(() => undefined);
    }
  }

  /** One list, where one is due, and one watch until it ends. */
  async #once(signal: AbortSignal): Promise<void> {
    if (this.#version !== undefined) {
      await this.#watch(this.#version, signal);
      return;
    }
    if (this.#streamsLists) {
      try {
        await this.#streamList(signal);
        return;
      } catch (thrown) {
        // A server that does not know sendInitialEvents calls the parameters invalid.
        if (ApiError.from(thrown).code !== 'ApiInvalid') throw thrown;
        this.#streamsLists = false;
      }
    }
    const { api } = this.#options;
    const { objects, version } = await listAll(api, this.#path, this.#selection(), this.#trim, signal);
    this.#replace(objects, version, false);
    await this.#watch(version, signal);
  }

  #replace(objects: readonly ApiObject[], version: string, streamed: boolean): void {
    const { sink, observe, logger, type } = this.#options;
    this.#version = version;
    this.#isWell();
    logger.debug('listed', { kind: type.kind, objects: objects.length, streamed });
    sink.replace(objects);
    observe?.({ step: 'listed', objects: objects.length, streamed });
  }

  /** The list comes as events of the watch, and the watch goes on behind it (KEP-3157). */
  async #streamList(signal: AbortSignal): Promise<void> {
    let initial: Map<string, ApiObject> | undefined = new Map();
    await this.#follow(
      { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' },
      (event) => {
        if (initial === undefined) {
          this.#take(event);
          return;
        }
        if (event.type === 'BOOKMARK') {
          if (!event.initialEventsEnd) return;
          const objects = [...initial.values()];
          initial = undefined;
          this.#replace(objects, event.version, true);
          return;
        }
        if (event.type === 'DELETED') initial.delete(event.object.metadata.uid);
        else initial.set(event.object.metadata.uid, event.object);
      },
      signal,
    );
  }

  async #watch(version: string, signal: AbortSignal): Promise<void> {
    await this.#follow({ resourceVersion: version }, (event) => this.#take(event), signal);
  }

  async #follow(
    from: Readonly<Record<string, string>>,
    take: (event: WatchEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { api, clock, random, observe, silenceMs = SILENCE_MS } = this.#options;
    await followWatch({
      ...{ api, clock, random, silenceMs, signal, take, trim: this.#trim },
      path: this.#path,
      query: { ...this.#selection().query, ...from },
      ...(this.#options.metadataOnly === true ? { accept: METADATA_ONLY } : {}),
      begun: () => {
        if (this.#version !== undefined) this.#isWell();
        observe?.({ step: 'watching' });
      },
    });
  }

  #isWell(): void {
    const { clock, logger, type } = this.#options;
    this.#wellSince ??= clock.monotonic();
    if (this.#lastComplaint !== undefined) logger.info('followed again', { kind: type.kind });
    this.#lastComplaint = undefined;
    this.#failures = 0;
  }

  #take(event: WatchEvent): void {
    const { sink, observe } = this.#options;
    this.#version = event.version;
    observe?.({ step: 'event', type: event.type });
    if (event.type === 'DELETED') sink.remove(event.object);
    else if (event.type !== 'BOOKMARK') sink.put(event.object);
  }

  get #path(): string {
    return collectionPath(this.#options.type, this.#options.namespace);
  }

  #selection(): { readonly query: Readonly<Record<string, string>>; readonly accept?: string } {
    const { fieldSelector, labelSelector, metadataOnly } = this.#options;
    return {
      query: {
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
      },
      ...(metadataOnly === true ? { accept: METADATA_LIST_ONLY } : {}),
    };
  }

  /** How long to wait at least, milliseconds. */
  #judge(error: ApiError): number {
    const { type, logger, observe, random } = this.#options;
    observe?.({ step: 'failed', error });
    // Too old; or of an API server that was restored from a backup and has not come so far again, or of a former CRD.
    if (error.code === 'ApiGone' || error.code === 'ApiNotFound' || error.reason === SILENT)
      this.#version = undefined;
    const complaint = complaintOf(error, type, this.#options.namespace);
    // Once, not at every attempt, of which each may fail with other words; and not of what passes in a moment.
    const passing = this.#failures++ < PASSING && PASSING_CODES.has(error.code);
    if (complaint !== undefined && !passing && error.code !== this.#lastComplaint) {
      logger.warn(complaint, { kind: type.kind, code: error.code });
      this.#lastComplaint = error.code;
    }
    // An admin is about to mend these.
    if (error.code === 'ApiForbidden' || error.code === 'ApiNotFound') {
      this.#backoff.reset();
      return AWAIT_ADMIN_MS;
    }
    // Spread: the others are told the same.
    return (error.retryAfterMs ?? 0) * (1 + 0.2 * random.fraction());
  }
}

const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
const METADATA_LIST_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

/** What an admin should know of a failure, and what helps; undefined for what is part of a watch's life. */
function complaintOf(error: ApiError, type: ResourceType, namespace: string | undefined): string | undefined {
  if (error.code === 'ApiGone') return undefined;
  if (error.code === 'ApiForbidden')
    return `${type.plural} cannot be read: RBAC forbids it; ${missingRule(type, ['get', 'list', 'watch'], namespace)}`;
  if (error.code === 'ApiNotFound') {
    const help = type.group === SIGNET_GROUP ? "; install Signet's CRDs (kubectl apply -f crds/)" : '';
    const name = `${type.plural}${type.group === '' ? '' : `.${type.group}`} ${type.version}`;
    return `the API server does not serve ${name}${help}`;
  }
  return `${type.plural} cannot be followed; what is known stays in force, and it is tried again: ${error.message}`;
}
