import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Watched } from '../../lib/watched.js';
import type { KubernetesApi } from './api.js';
import { idOf, isAsApplied, marked, selectorOf, type DesiredObject } from './applied-content.js';
import { AppliedMirror, type MirrorChange } from './applied-mirror.js';
import { failure, type AppliedKind, type ApplyFailure, type ApplyReport } from './applied-report.js';
import { AppliedWriter, VERBS, type ApplyOutcome } from './applied-writer.js';
import type { Discovery, ServedTypes } from './discovery.js';
import { DriftAlarm } from './drift-alarm.js';
import type { ObjectWriter } from './object-writer.js';
import { missingRule } from './rbac.js';
import { runReflector } from './reflector.js';
import { apiVersionOf, type ResourceType } from './resource-type.js';

/** What a set is made of. */
export interface AppliedSetOptions {
  readonly api: KubernetesApi;
  readonly writer: Pick<ObjectWriter, 'apply' | 'get' | 'replace' | 'remove'>;
  /** The writer's. */
  readonly fieldManager: string;
  readonly discovery: Pick<Discovery, 'refresh'> & { readonly types: Watched<ServedTypes | undefined> };
  /** A label value that no other set has: `mesh`. */
  readonly set: string;
  readonly kinds: readonly AppliedKind[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Objects that are made for owners, and kept as they were made. */
export interface AppliedSet {
  /**
   * Makes the owner's objects be these and no others: applies what differs, then deletes what is no longer wanted, unless
   * something that may work next time failed before. Writes nothing when nothing differs. Call again with the same when
   * {@link onDrift} names the owner, and after a while when a failure says `retry`. One call per owner at a time.
   *
   * @throws SignetError `NotSynced` before discovery has read what the API server serves
   */
  apply(owner: string, desired: readonly DesiredObject[]): Promise<ApplyReport>;
  /** Called with each owner whose objects are not as wanted, or of which there are objects and nobody knows why. */
  onDrift(listener: (owner: string) => void): () => void;
  /** Owners of which there are objects now. */
  owners(): readonly string[];
  /** The type in which objects of the kind are to be given, if the API server serves one. */
  typeOf(group: string, kind: string): ResourceType | undefined;
  /** Kinds that are served and have not been read yet, e.g. because RBAC forbids it. */
  readonly waitingFor: readonly string[];
  /** Follows what there is until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

/** Writes to the API server at a time, per call. */
const CONCURRENCY = 8;

export function createAppliedSet(options: AppliedSetOptions): AppliedSet {
  return new Applied(options);
}

interface Followed {
  readonly type: ResourceType;
  readonly mirror: AppliedMirror;
  /** RBAC does not let us read the kind. */
  forbidden: boolean;
  readonly stop: () => void;
}

class Applied implements AppliedSet {
  readonly #options: AppliedSetOptions;
  readonly #writer: AppliedWriter;
  readonly #alarm: DriftAlarm;
  /** By `group/kind`. */
  readonly #followed = new Map<string, Followed>();
  /** What each owner last wanted, by id of the object. */
  readonly #desired = new Map<string, ReadonlyMap<string, DesiredObject>>();
  /** Owners with objects of kinds that are not served or have not been read. */
  readonly #unplaced = new Set<string>();
  /** Who wants an object, by its id. */
  readonly #claims = new Map<string, string>();

  constructor(options: AppliedSetOptions) {
    this.#options = options;
    this.#writer = new AppliedWriter(options);
    this.#alarm = new DriftAlarm(options.clock);
  }

  get waitingFor(): readonly string[] {
    return [...this.#followed.values()]
      .filter(({ mirror }) => !mirror.synced)
      .map(({ type }) => `${type.plural}.${type.group}`);
  }

  async apply(owner: string, desired: readonly DesiredObject[]): Promise<ApplyReport> {
    const { discovery, set } = this.#options;
    if (discovery.types.value === undefined)
      throw new SignetError('NotSynced', 'it is not known yet which kinds the API server serves');
    const report = { applied: 0, removed: 0, unchanged: 0, failures: [] as ApplyFailure[] };
    const note = (outcome: ApplyOutcome): void => {
      if (typeof outcome === 'string') report[outcome]++;
      else report.failures.push(outcome);
    };
    const wanted = new Map<string, { readonly followed: Followed; readonly object: DesiredObject }>();
    for (const object of desired) {
      const found = this.#place(object);
      if ('code' in found) note(found);
      else wanted.set(found.id, { followed: found.followed, object: marked(object, set, owner) });
    }
    if (report.failures.length > 0) this.#unplaced.add(owner);
    else this.#unplaced.delete(owner);
    this.#want(owner, new Map([...wanted].map(([id, { object }]) => [id, object])));
    await inParallel([...wanted], async ([id, { followed, object }]) => {
      const other = this.#claims.get(id);
      note(
        other === undefined || other === owner
          ? await this.#writer.bring(followed.type, followed.mirror, object)
          : failure(id, 'Claimed', `it is wanted by ${other} too`, false),
      );
    });
    // What is old stays until the new is there.
    if (!report.failures.some(({ retry }) => retry)) await this.#prune(owner, wanted, note);
    return report;
  }

  onDrift(listener: (owner: string) => void): () => void {
    return this.#alarm.listen(listener);
  }

  owners(): readonly string[] {
    const owners = new Set<string>();
    for (const { mirror } of this.#followed.values())
      for (const [, { owner }] of mirror.entries()) if (owner !== undefined) owners.add(owner);
    return [...owners];
  }

  typeOf(group: string, kind: string): ResourceType | undefined {
    return this.#followed.get(`${group}/${kind}`)?.type;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { discovery } = this.#options;
    const running = new Set<Promise<void>>();
    const follow = (): void => {
      if (signal.aborted || discovery.types.value === undefined) return;
      for (const kind of this.#options.kinds) {
        const work = this.#followKind(kind, discovery.types.value, signal);
        if (work === undefined) continue;
        running.add(work);
        void work.finally(() => running.delete(work));
      }
    };
    const unwatch = discovery.types.watch(follow);
    follow();
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    unwatch();
    this.#alarm.close();
    await Promise.all(running);
  }

  /** Begins to follow a kind that is served now, and ends to follow one that is served no more. */
  #followKind(kind: AppliedKind, types: ServedTypes, signal: AbortSignal): Promise<void> | undefined {
    const { api, clock, random, logger, set, fieldManager } = this.#options;
    const name = `${kind.group}/${kind.kind}`;
    const [type] = kind.versions.flatMap((version) => types.find(kind.group, kind.kind, version) ?? []);
    const former = this.#followed.get(name);
    if (former !== undefined && type?.version === former.type.version) return undefined;
    if (former !== undefined) {
      former.stop();
      this.#followed.delete(name);
      this.#tell(former, former.mirror.clear());
    }
    if (type === undefined) return undefined;
    const end = new AbortController();
    const stop = (): void => end.abort();
    signal.addEventListener('abort', stop, { once: true });
    const mirror = new AppliedMirror(set, fieldManager);
    const followed: Followed = { type, mirror, forbidden: false, stop };
    this.#followed.set(name, followed);
    const tell = (changes: readonly MirrorChange[]): void => {
      if (!end.signal.aborted) this.#tell(followed, changes);
    };
    return runReflector(
      {
        ...{ api, clock, random, logger, type, labelSelector: selectorOf(set) },
        trim: (object) => object,
        observe: (step) => {
          if (step.step !== 'failed' || step.error.code !== 'ApiForbidden' || followed.forbidden) return;
          followed.forbidden = true;
          for (const owner of this.#unplaced) this.#alarm.raise(owner, owner);
        },
        sink: {
          replace: (objects) => {
            const first = !mirror.synced;
            followed.forbidden = false;
            tell(mirror.replace(objects));
            // What is wanted and was never there shows in no change.
            if (first)
              for (const owner of new Set([...this.#unplaced, ...this.#desired.keys()]))
                this.#alarm.raise(owner, owner);
          },
          put: (object) => tell(mirror.put(object)),
          remove: (object) => tell(mirror.remove(object)),
        },
      },
      end.signal,
    ).finally(() => signal.removeEventListener('abort', stop));
  }

  /** Where the object belongs, or why nowhere. */
  #place(object: DesiredObject): { readonly id: string; readonly followed: Followed } | ApplyFailure {
    const slash = object.apiVersion.indexOf('/');
    const group = slash < 0 ? '' : object.apiVersion.slice(0, slash);
    const { namespace, name } = object.metadata;
    const key = namespace === undefined ? name : `${namespace}/${name}`;
    const followed = this.#followed.get(`${group}/${object.kind}`);
    const text = `${object.apiVersion} ${object.kind} ${key}`;
    if (followed === undefined || apiVersionOf(followed.type) !== object.apiVersion) {
      const message = `the API server does not serve ${object.kind} in ${object.apiVersion}`;
      return failure(text, 'NotServed', message, false);
    }
    const { type, mirror } = followed;
    if (!mirror.synced && followed.forbidden)
      return failure(text, 'Forbidden', missingRule(type, VERBS), true);
    if (!mirror.synced)
      return failure(text, 'NotSynced', `${type.plural}.${type.group} have not been read yet`, true);
    return { id: idOf(type, key), followed };
  }

  /** Notes what the owner wants now. Who wanted an object first keeps it. */
  #want(owner: string, objects: ReadonlyMap<string, DesiredObject>): void {
    for (const id of this.#desired.get(owner)?.keys() ?? []) {
      if (objects.has(id) || this.#claims.get(id) !== owner) continue;
      this.#claims.delete(id);
      for (const [other, theirs] of this.#desired)
        if (other !== owner && theirs.has(id)) this.#alarm.raise(other, id);
    }
    for (const id of objects.keys()) if (!this.#claims.has(id)) this.#claims.set(id, owner);
    if (objects.size === 0) this.#desired.delete(owner);
    else this.#desired.set(owner, objects);
  }

  async #prune(
    owner: string,
    wanted: ReadonlyMap<string, unknown>,
    note: (outcome: ApplyOutcome) => void,
  ): Promise<void> {
    const surplus = [...this.#followed.values()].flatMap(({ type, mirror }) =>
      [...mirror.entries()].flatMap(([key, entry]) => {
        if (entry.owner !== owner) return [];
        const id = idOf(type, key);
        return wanted.has(id) || this.#claims.has(id) ? [] : [{ type, mirror, key, entry }];
      }),
    );
    await inParallel(surplus, async ({ type, mirror, key, entry }) =>
      note(await this.#writer.remove(type, mirror, key, entry)),
    );
  }

  /** Says whose objects are not as they should be. */
  #tell({ type }: Followed, changes: readonly MirrorChange[]): void {
    for (const { key, before, after } of changes) {
      const id = idOf(type, key);
      const claimant = this.#claims.get(id);
      const wanted = claimant === undefined ? undefined : this.#desired.get(claimant)?.get(id);
      if (claimant !== undefined && wanted !== undefined) {
        const good =
          after !== undefined &&
          (isAsApplied(after.object, after.edited, wanted) || this.#writer.isSettled(id, after.object));
        if (good) this.#alarm.calm(id);
        else this.#alarm.raise(claimant, id);
      }
      // Nobody wants it, as far as is known: who owns it may be gone.
      else if (after?.owner !== undefined && after.owner !== before?.owner)
        this.#alarm.raise(after.owner, id);
    }
  }
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, items.length) }, worker));
}
