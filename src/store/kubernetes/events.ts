import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { TokenBucket } from '../../lib/token-bucket.js';
import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { missingRule } from './rbac.js';
import { apiVersionOf, collectionPath, objectPath, type ObjectRef } from './resource-type.js';
import { EVENT } from './types.js';

/** What happened to an object. */
export interface RecordedEvent {
  readonly regarding: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly namespace?: string;
    readonly name: string;
    readonly uid: string;
  };
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly action: string;
  readonly note: string;
}

/** What a recorder is made of. */
export interface EventRecorderOptions {
  readonly api: Pick<KubernetesApi, 'send'>;
  /** `signet.dev/server`. */
  readonly controller: string;
  /** Of this process. */
  readonly instance: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Writes events to the API server (events.k8s.io/v1). */
export interface KubernetesEvents {
  /** Never waits and never throws; what the API server does not take is lost. */
  record(event: RecordedEvent): void;
  /** Events that were not told, since the start: too many of one object, too many in all, or refused. */
  readonly lost: number;
  /** Drops what waits; resolves when what is being sent is over. */
  close(): Promise<void>;
}

/** The same event again within this time is counted into the one that is there, as client-go does. */
const SERIES_MS = 6 * 60_000;
/** How often the count of one is written. */
const COUNT_MS = 30_000;
/** Of one object: so many at once, and then one in a while. */
const OBJECT_BURST = 10;
const OBJECT_PER_SECOND = 1 / 60;
const MOST_SERIES = 2_000;
const MOST_OBJECTS = 2_000;
const MOST_WAITING = 500;
const TIMEOUT_MS = 10_000;
const LONGEST_NOTE_BYTES = 1024;
const LONGEST_WORD = 128;

/** An event that was told, and what has happened since. */
interface Series {
  readonly event: RecordedEvent;
  readonly ref: ObjectRef;
  count: number;
  lastAt: number;
  /** Wall time of the last. */
  lastTime: string;
  /** The count as the API server has it; 0 while it has nothing of it. */
  told: number;
  queued: boolean;
  timer: { cancel(): void } | undefined;
}

export function createEventRecorder(options: EventRecorderOptions): KubernetesEvents {
  return new Recorder(options);
}

class Recorder implements KubernetesEvents {
  lost = 0;
  readonly #options: EventRecorderOptions;
  /** By what makes events the same; the one that was heard of last is last. */
  readonly #series = new Map<string, Series>();
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #waiting: Series[] = [];
  #sending: Promise<void> | undefined;
  #closed = false;
  #complaint = '';

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  record(event: RecordedEvent): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    const id = idOf(event);
    const known = this.#series.get(id);
    if (known !== undefined && clock.monotonic() - known.lastAt < SERIES_MS) {
      this.#again(id, known);
      return;
    }
    if (!this.#bucketOf(event.regarding.uid).take()) {
      this.lost++;
      return;
    }
    known?.timer?.cancel();
    const series = this.#newSeries(event);
    this.#keep(id, series);
    this.#enqueue(series);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.length = 0;
    for (const { timer } of this.#series.values()) timer?.cancel();
    this.#series.clear();
    this.#buckets.clear();
    await this.#sending;
  }

  #newSeries(event: RecordedEvent): Series {
    const { clock, random } = this.#options;
    const { name, namespace = 'default' } = event.regarding;
    const suffix = Buffer.from(random.bytes(8)).toString('hex');
    return {
      event,
      ref: { namespace, name: `${name.slice(0, 230).replace(/[^a-z0-9]+$/, '')}.${suffix}` },
      ...{ count: 1, told: 0, queued: false, timer: undefined },
      lastAt: clock.monotonic(),
      lastTime: microTime(clock),
    };
  }

  /** The event has happened again: the count is written now and then. */
  #again(id: string, series: Series): void {
    const { clock } = this.#options;
    series.count++;
    series.lastAt = clock.monotonic();
    series.lastTime = microTime(clock);
    this.#series.delete(id);
    this.#series.set(id, series);
    series.timer ??= clock.after(COUNT_MS, () => {
      series.timer = undefined;
      this.#enqueue(series);
    });
  }

  #keep(id: string, series: Series): void {
    this.#series.delete(id);
    this.#series.set(id, series);
    if (this.#series.size <= MOST_SERIES) return;
    const [oldest] = this.#series;
    if (oldest === undefined) return;
    oldest[1].timer?.cancel();
    this.#series.delete(oldest[0]);
  }

  #bucketOf(uid: string): TokenBucket {
    const known = this.#buckets.get(uid);
    if (known !== undefined) {
      this.#buckets.delete(uid);
      this.#buckets.set(uid, known);
      return known;
    }
    // The one that was heard of longest ago makes room.
    const [oldest] = this.#buckets.keys();
    if (this.#buckets.size >= MOST_OBJECTS && oldest !== undefined) this.#buckets.delete(oldest);
    const bucket = new TokenBucket(this.#options.clock, OBJECT_PER_SECOND, OBJECT_BURST);
    this.#buckets.set(uid, bucket);
    return bucket;
  }

  #enqueue(series: Series): void {
    if (this.#closed || series.queued) return;
    if (this.#waiting.length >= MOST_WAITING) {
      this.lost++;
      return;
    }
    series.queued = true;
    this.#waiting.push(series);
    this.#sending ??= this.#sendAll();
  }

  /** One at a time: events are the least of what the API server has to do. */
  async #sendAll(): Promise<void> {
    for (let series = this.#waiting.shift(); series !== undefined; series = this.#waiting.shift()) {
      series.queued = false;
      await this.#send(series);
    }
    this.#sending = undefined;
  }

  async #send(series: Series): Promise<void> {
    const { logger } = this.#options;
    const { count } = series;
    try {
      if (series.told === 0) await this.#create(series);
      else await this.#count(series);
      series.told = count;
      this.#complaint = '';
    } catch (thrown) {
      const { code, message } = ApiError.from(thrown);
      // The answer to the first attempt was lost.
      if (code === 'ApiConflict') {
        series.told = 1;
        return;
      }
      this.lost++;
      // Events are gone after an hour: the next is a new one.
      if (code === 'ApiNotFound') series.lastAt = Number.NEGATIVE_INFINITY;
      else if (code !== this.#complaint) {
        const help = code === 'ApiForbidden' ? `; ${missingRule(EVENT, ['create', 'patch'])}` : '';
        // A namespace that is going takes no more events: part of its end.
        if (!message.includes('being terminated')) {
          this.#complaint = code;
          logger.warn(`events cannot be written; they are lost${help}`, { code, reason: message });
        }
      }
    }
  }

  async #create({ event, ref, count, lastTime }: Series): Promise<void> {
    const { api, controller, instance } = this.#options;
    const { apiVersion, kind, name, namespace, uid } = event.regarding;
    await api.send({
      method: 'POST',
      path: collectionPath(EVENT, ref.namespace),
      timeoutMs: TIMEOUT_MS,
      body: {
        apiVersion: apiVersionOf(EVENT),
        kind: EVENT.kind,
        metadata: { name: ref.name, namespace: ref.namespace },
        eventTime: lastTime,
        type: event.type,
        reason: cut(event.reason, LONGEST_WORD),
        action: cut(event.action, LONGEST_WORD),
        note: cut(event.note, LONGEST_NOTE_BYTES),
        regarding: { apiVersion, kind, name, uid, ...(namespace === undefined ? {} : { namespace }) },
        reportingController: controller,
        reportingInstance: cut(instance, LONGEST_WORD),
        ...(count > 1 ? { series: { count, lastObservedTime: lastTime } } : {}),
      },
    });
  }

  async #count({ ref, count, lastTime }: Series): Promise<void> {
    await this.#options.api.send({
      method: 'PATCH',
      path: objectPath(EVENT, ref),
      timeoutMs: TIMEOUT_MS,
      contentType: 'application/merge-patch+json',
      body: { series: { count, lastObservedTime: lastTime } },
    });
  }
}

/** Two events are the same when people would read the same; the note is of it. */
function idOf({ regarding, type, reason, action, note }: RecordedEvent): string {
  return JSON.stringify([regarding.uid, regarding.name, type, reason, action, note]);
}

function microTime(clock: Clock): string {
  return `${new Date(clock.now()).toISOString().slice(0, -1)}000Z`;
}

/** At most so many bytes of UTF-8, never half a character. */
function cut(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text;
  const end = Buffer.from('…');
  const whole = new TextDecoder().decode(Buffer.from(text).subarray(0, bytes - end.length));
  return `${whole.replace(/\uFFFD$/, '')}…`;
}
