import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../lib/clock.js';
import { BugError, SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { WatchedValue } from '../../lib/watched.js';
import { SIGNET_GROUP } from '../../resources/meta.js';
import { STATUS_CONFLICT, type Store, type StoreChange, type StoredObject } from '../store.js';
import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { contains } from './applied-content.js';
import { KindTable } from './kind-table.js';
import { statusOf } from './object-status.js';
import { isOfOlderCrd, type ObjectWriter, type Precondition } from './object-writer.js';
import { runReflector, type ReflectorStep } from './reflector.js';
import type { ResourceType } from './resource-type.js';
import { trimObject } from './trim.js';
import type { ApiObject } from './watch.js';

/** A kind that the store follows. */
export interface FollowedKind {
  readonly type: ResourceType;
  /** Only in this namespace. */
  readonly namespace?: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  readonly metadataOnly?: boolean;
  /** What is kept of each object; all but the managed fields unless said. */
  readonly trim?: (object: ApiObject) => ApiObject;
}

/** What the store is made of. */
export interface KubernetesStoreOptions {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly kinds: readonly FollowedKind[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Told of each step of each kind's reflector. */
  readonly observe?: (kind: string, step: ReflectorStep) => void;
  /** See the reflector's. */
  readonly silenceMs?: number;
}

/** A store over the API server. */
export interface KubernetesStore extends Store {
  /** Follows all kinds until the signal is aborted; resolves when all have stopped. */
  run(signal: AbortSignal): Promise<void>;
  /** Kinds that have not been read yet; empty once `synced`. */
  readonly waitingFor: readonly string[];
}

/** Nothing is read before {@link KubernetesStore.run}. */
export function createKubernetesStore(options: KubernetesStoreOptions): KubernetesStore {
  return new Mirror(options);
}

class Mirror implements KubernetesStore {
  readonly synced = new WatchedValue(false);
  readonly #options: KubernetesStoreOptions;
  readonly #tables: ReadonlyMap<string, KindTable>;
  readonly #types: ReadonlyMap<string, ResourceType>;
  readonly #waiting: Set<string>;
  readonly #complained = new Set<string>();
  readonly #subscribers = new Set<(changes: readonly StoreChange[]) => void>();

  constructor(options: KubernetesStoreOptions) {
    this.#options = options;
    const kinds = options.kinds.map(({ type }) => type);
    this.#tables = new Map(
      options.kinds.map(({ type: { kind, group } }) => [kind, new KindTable(kind, group === SIGNET_GROUP)]),
    );
    this.#types = new Map(kinds.map((type) => [type.kind, type]));
    this.#waiting = new Set(kinds.map(({ kind }) => kind));
    // Readers know a kind by its name alone.
    if (this.#tables.size !== kinds.length)
      throw new BugError('a kind is followed twice, or two have one name');
  }

  get waitingFor(): readonly string[] {
    return [...this.#waiting];
  }

  async run(signal: AbortSignal): Promise<void> {
    const { api, clock, random, logger, observe, silenceMs } = this.#options;
    await Promise.all(
      this.#options.kinds.map(({ trim = trimObject, ...kind }) => {
        const table = this.#table(kind.type.kind);
        return runReflector(
          {
            ...{ ...kind, api, clock, random, logger, trim },
            sink: {
              replace: (objects) => {
                this.#publish(table.replace(objects));
                this.#read(table.kind);
              },
              put: (object) => this.#publish(table.put(object)),
              remove: (object) => this.#publish(table.remove(object)),
            },
            ...(silenceMs === undefined ? {} : { silenceMs }),
            ...(observe === undefined ? {} : { observe: (step) => observe(table.kind, step) }),
          },
          signal,
        );
      }),
    );
  }

  list(kind: string): readonly StoredObject[] {
    return this.#tables.get(kind)?.list() ?? [];
  }

  get(kind: string, key: string): StoredObject | undefined {
    return this.#tables.get(kind)?.get(key);
  }

  subscribe(onChanges: (changes: readonly StoreChange[]) => void): () => void {
    // A wrapper of its own, so the same function may subscribe twice.
    const subscriber = (changes: readonly StoreChange[]): void => onChanges(changes);
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }

  status(kind: string, key: string): unknown {
    return this.#tables.get(kind)?.status(key);
  }

  async writeStatus(
    kind: string,
    key: string,
    status: unknown,
    { asSeen = false }: { readonly asSeen?: boolean } = {},
  ): Promise<void> {
    const type = this.#types.get(kind);
    const table = this.#tables.get(kind);
    const object = table?.get(key);
    // An object that is just gone has taken its status with it.
    if (type === undefined || table === undefined || object === undefined) return;
    const given = withoutUndefined(status);
    if (table.hasStatus(key, given)) return;
    const present = { ...object, status: table.status(key) } as ApiObject;
    const version = asSeen ? table.version(key) : undefined;
    try {
      const answer = await this.#write(type, present, version, given);
      if (!isDeepStrictEqual(given, statusOf(answer))) this.#complainOfCrd(kind);
      table.wrote(key, given, answer);
    } catch (thrown) {
      const error = ApiError.from(thrown);
      if (error.code === 'ApiConflict' && asSeen)
        throw new SignetError(STATUS_CONFLICT, `${kind} ${key} has changed since it was read`, {
          cause: error,
        });
      // Gone, or another object of the same name by now, which will be looked at in its turn.
      if (error.code === 'ApiNotFound' || error.code === 'ApiConflict') return;
      throw error;
    }
  }

  async #write(
    type: ResourceType,
    object: ApiObject,
    version: string | undefined,
    status: unknown,
  ): Promise<ApiObject> {
    const { writer } = this.#options;
    const { uid, namespace = '', name } = object.metadata;
    const over = (seen: string | undefined): Precondition =>
      version === undefined || seen === undefined ? { uid } : { uid, resourceVersion: seen };
    try {
      const answer = await writer.applyStatus(type, { namespace, name }, over(version), status);
      // Others may have added to it, but the status is ours as a whole.
      if (contains(status, statusOf(answer))) return answer;
      return await writer.replaceStatus(type, answer, over(answer.metadata.resourceVersion), status);
    } catch (thrown) {
      if (!isOfOlderCrd(ApiError.from(thrown))) throw thrown;
      return writer.replaceStatus(type, object, over(version), status);
    }
  }

  /** Once. */
  #complainOfCrd(kind: string): void {
    if (this.#complained.has(kind)) return;
    this.#complained.add(kind);
    this.#options.logger.warn(
      `the CRD of ${kind} does not know all that is said in its status; install the CRDs of this version of Signet (kubectl apply -f crds/)`,
    );
  }

  #table(kind: string): KindTable {
    const table = this.#tables.get(kind);
    if (table === undefined) throw new BugError(`${kind} is not among the kinds that are followed`);
    return table;
  }

  #read(kind: string): void {
    if (!this.#waiting.delete(kind) || this.#waiting.size > 0) return;
    this.#options.logger.info('all kinds have been read', { kinds: this.#tables.size });
    this.synced.set(true);
  }

  #publish(changes: readonly StoreChange[]): void {
    if (changes.length === 0) return;
    for (const subscriber of [...this.#subscribers]) {
      if (!this.#subscribers.has(subscriber)) continue;
      try {
        subscriber(changes);
      } catch (thrown) {
        // One reader's fault is not the others'.
        this.#options.logger.error('a reader of the store failed', {
          reason: SignetError.from(thrown).message,
        });
      }
    }
  }
}

/** As it comes back from the API server. */
function withoutUndefined(status: unknown): unknown {
  return JSON.parse(JSON.stringify(status ?? null));
}
