import type { Clock } from '../../src/lib/clock.js';
import type { Random } from '../../src/lib/random.js';
import { ApiError, errorOfAnswer } from '../../src/store/kubernetes/api-error.js';
import type { ApiRequest, ApiStreamRequest, KubernetesApi } from '../../src/store/kubernetes/api.js';
import type { ApiObject } from '../../src/store/kubernetes/watch.js';

interface HistoryEntry {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly object: ApiObject;
}

/** A watch that is open. */
interface OpenWatch {
  /** Nothing up to this version is sent. */
  readonly from: number;
  /** Lines that are ready, `undefined` for the end, an error to break with. */
  readonly ready: (string | undefined | ApiError)[];
  wake: (() => void) | undefined;
  stalled: boolean;
  over: boolean;
}

/**
 * One kind of object behind an API as the real one's: versions, a history that is forgotten, streamed and paged lists,
 * watches with bookmarks. Faults come at random, as often as said; the real one is held against the same reflector in
 * test/cluster/.
 */
export class FakeApiServer implements Pick<KubernetesApi, 'send' | 'stream' | 'isAlive'> {
  trouble = 0;
  streams = true;
  readonly objects = new Map<string, ApiObject>();
  readonly #clock: Clock;
  readonly #random: Random;
  #version = 100;
  #forgotten = 100;
  readonly #history: HistoryEntry[] = [];
  readonly #watches = new Set<OpenWatch>();
  /** What a continued list shows is what was there when it began. */
  readonly #snapshots = new Map<
    string,
    { readonly objects: readonly ApiObject[]; readonly version: number }
  >();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  put(name: string, value: number): void {
    const known = this.objects.get(name);
    const object: ApiObject = {
      ...{ apiVersion: 'v1', kind: 'Thing', value },
      metadata: {
        ...{ name, generation: 1, resourceVersion: String(++this.#version) },
        uid: known?.metadata.uid ?? `uid-${this.#version}`,
      },
    };
    this.objects.set(name, object);
    this.#happened({ type: known === undefined ? 'ADDED' : 'MODIFIED', version: this.#version, object });
  }

  remove(name: string): void {
    const known = this.objects.get(name);
    if (known === undefined) return;
    this.objects.delete(name);
    const version = ++this.#version;
    const object = { ...known, metadata: { ...known.metadata, resourceVersion: String(version) } };
    this.#happened({ type: 'DELETED', version, object });
  }

  /** Forgets what happened until now: who is behind gets 410. */
  compact(): void {
    this.#forgotten = this.#version;
    this.#history.length = 0;
    this.#snapshots.clear();
  }

  /** Breaks, ends or stalls watches that are open. */
  disturb(): void {
    for (const watch of this.#watches) {
      const draw = this.#random.fraction();
      if (draw < 0.3) this.#push(watch, new ApiError('ApiUnreachable', 'cut'));
      else if (draw < 0.5) this.#push(watch, undefined);
      else if (draw < 0.7) watch.stalled = true;
      else if (draw < 0.8) this.#push(watch, statusLine(500));
      else if (draw < 0.9) this.#push(watch, statusLine(410));
    }
  }

  bookmark(): void {
    for (const watch of this.#watches) if (this.#version >= watch.from) this.#push(watch, this.#bookmark({}));
  }

  /** Is restored from a backup of long ago: versions begin again from there, and all watches break. */
  restore(): void {
    this.#version = this.#forgotten;
    this.#history.length = 0;
    this.objects.clear();
    for (const watch of this.#watches) this.#push(watch, new ApiError('ApiUnreachable', 'cut'));
  }

  isAlive(): Promise<boolean> {
    return Promise.resolve(true);
  }

  send({ query = {} }: ApiRequest): Promise<unknown> {
    const fault = this.#fault();
    if (fault !== undefined) return Promise.reject(fault);
    const [id, from = 0] = query['continue']?.split('/').map(Number) ?? [this.#version];
    const snapshot = this.#snapshots.get(String(id)) ?? {
      objects: [...this.objects.values()],
      version: this.#version,
    };
    if (query['continue'] !== undefined && !this.#snapshots.has(String(id)))
      return Promise.reject(errorOfAnswer(410, {}, 'GET'));
    this.#snapshots.set(String(snapshot.version), snapshot);
    const end = from + 2;
    const more = end < snapshot.objects.length ? { continue: `${snapshot.version}/${end}` } : {};
    return Promise.resolve({
      ...{ kind: 'ThingList', apiVersion: 'v1', items: snapshot.objects.slice(from, end) },
      metadata: { resourceVersion: String(snapshot.version), ...more },
    });
  }

  stream({ query = {}, signal }: ApiStreamRequest): Promise<AsyncIterable<string | undefined>> {
    const fault = this.#fault();
    if (fault !== undefined) return Promise.reject(fault);
    const from = Number(query['resourceVersion'] ?? 0);
    const watch: OpenWatch = { from, ready: [], wake: undefined, stalled: false, over: false };
    if (query['sendInitialEvents'] === 'true') {
      if (!this.streams) return Promise.reject(errorOfAnswer(422, {}, 'GET'));
      for (const object of this.objects.values()) watch.ready.push(eventLine('ADDED', object));
      // What happens meanwhile comes in between.
      this.#clock.after(500 * this.#random.fraction(), () =>
        this.#push(watch, this.#bookmark({ 'k8s.io/initial-events-end': 'true' })),
      );
    } else {
      if (from < this.#forgotten) return Promise.reject(errorOfAnswer(410, {}, 'GET'));
      for (const { type, version, object } of this.#history)
        if (version > from) watch.ready.push(eventLine(type, object));
    }
    this.#watches.add(watch);
    signal.addEventListener('abort', () => this.#push(watch, new ApiError('ApiUnreachable', 'given up')));
    return Promise.resolve(this.#lines(watch));
  }

  async *#lines(watch: OpenWatch): AsyncIterable<string | undefined> {
    try {
      for (;;) {
        const line = watch.ready.shift();
        if (line instanceof ApiError) throw line;
        if (line !== undefined) yield line;
        else if (watch.over && watch.ready.length === 0) return;
        else await new Promise<void>((resolve) => (watch.wake = resolve));
      }
    } finally {
      this.#watches.delete(watch);
    }
  }

  #push(watch: OpenWatch, line: string | undefined | ApiError): void {
    const broken = line instanceof ApiError;
    if (watch.stalled && !broken) return;
    if (line === undefined) watch.over = true;
    else watch.ready.push(line);
    watch.wake?.();
  }

  #happened(entry: HistoryEntry): void {
    this.#history.push(entry);
    for (const watch of this.#watches)
      if (entry.version > watch.from) this.#push(watch, eventLine(entry.type, entry.object));
  }

  #bookmark(annotations: Readonly<Record<string, string>>): string {
    const metadata = { name: '', uid: '', resourceVersion: String(this.#version), annotations };
    return JSON.stringify({ type: 'BOOKMARK', object: { kind: 'Thing', apiVersion: 'v1', metadata } });
  }

  #fault(): ApiError | undefined {
    if (this.#random.fraction() >= this.trouble) return undefined;
    const status = [0, 429, 500, 503, 403, 404, 410, 504][Math.floor(8 * this.#random.fraction())] ?? 0;
    if (status === 0) return new ApiError('ApiUnreachable', `refused at ${this.#clock.now()}`);
    return errorOfAnswer(status, {}, 'GET', status === 429 ? '1' : undefined);
  }
}

function eventLine(type: string, object: ApiObject): string {
  return JSON.stringify({ type, object });
}

function statusLine(code: number): string {
  return JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code, message: `status ${code}` } });
}
