import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import type { KubernetesApi } from '../../src/store/kubernetes/api.js';
import {
  createKubernetesStore,
  type FollowedKind,
  type KubernetesStore,
} from '../../src/store/kubernetes/kubernetes-store.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import type { ReflectorStep } from '../../src/store/kubernetes/reflector.js';
import { collectionPath } from '../../src/store/kubernetes/resource-type.js';
import { trimObject } from '../../src/store/kubernetes/trim.js';
import type { ApiObject } from '../../src/store/kubernetes/watch.js';
import type { StoreChange, StoredObject } from '../../src/store/store.js';
import type { ControlPlane } from '../rig/control-plane.js';
import type { KubeCredentials } from '../rig/kube-client.js';
import { apiClient } from './api-client.js';
import { recordingLogger, type RecordingLogger } from './recording-logger.js';
import { until } from './until.js';

/** A store that runs against a real API server, and who checks it. */
export interface StoreWorld {
  readonly store: KubernetesStore;
  readonly api: KubernetesApi;
  readonly log: RecordingLogger;
  /** What the reflectors did, by kind. */
  readonly steps: { readonly kind: string; readonly step: ReflectorStep }[];
  /** All changes that were told. */
  readonly changes: StoreChange[];
  /** How often a kind was listed as a whole. */
  lists(kind: string): number;
  /** Codes of what failed. */
  failures(): readonly string[];
  /** Waits until the store has what the API server has, and says what was told wrongly: nothing, if all is well. */
  settled(): Promise<readonly string[]>;
  end(): Promise<void>;
}

export interface StoreWorldOptions {
  readonly plane: ControlPlane;
  readonly kinds: readonly FollowedKind[];
  /** The API server's own unless said: a proxy's. */
  readonly server?: string;
  readonly who?: KubeCredentials;
  readonly silenceMs?: number;
}

/** Starts one; it has not read anything yet. */
export function startStore(options: StoreWorldOptions): StoreWorld {
  const { plane, kinds, server = plane.server, who = plane.admin, silenceMs } = options;
  const api = apiClient(server, who);
  const log = recordingLogger();
  const steps: StoreWorld['steps'][number][] = [];
  const store = createKubernetesStore({
    ...{ api, kinds, clock: systemClock, random: systemRandom, logger: log },
    ...(silenceMs === undefined ? {} : { silenceMs }),
    writer: createObjectWriter({ api, fieldManager: 'signet' }),
    observe: (kind, step) => steps.push({ kind, step }),
  });
  const replay = new Replay();
  store.subscribe((changes) => replay.take(changes));
  const stop = new AbortController();
  const running = store.run(stop.signal);
  return {
    ...{ store, api, log, steps, changes: replay.changes },
    lists: (kind) => steps.filter((one) => one.kind === kind && one.step.step === 'listed').length,
    failures: () => steps.flatMap(({ step }) => (step.step === 'failed' ? [step.error.code] : [])),
    async settled() {
      for (const kind of kinds)
        await until(
          `the store has the API server's ${kind.type.plural}`,
          async () => {
            const truth = await trueObjects(plane, kind);
            return isDeepStrictEqual(byKey(store.list(kind.type.kind)), byKey(truth));
          },
          60_000,
        );
      return [...replay.problems, ...replay.compare(kinds.flatMap(({ type }) => store.list(type.kind)))];
    },
    async end() {
      stop.abort();
      await running;
      api.close();
    },
  };
}

/** What there really is, as the store keeps it. */
async function trueObjects(plane: ControlPlane, { type, namespace, trim = trimObject }: FollowedKind) {
  const { body } = await plane.request('GET', collectionPath(type, namespace));
  const { items, kind, apiVersion } = body as {
    readonly items: readonly ApiObject[];
    readonly kind: string;
    readonly apiVersion: string;
  };
  return items.map((item) => trim({ ...item, apiVersion, kind: kind.replace(/List$/, '') }));
}

function keyOf({ metadata: { namespace, name } }: StoredObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

function byKey(objects: readonly StoredObject[]): Readonly<Record<string, StoredObject>> {
  return Object.fromEntries(
    objects
      .map((object): [string, StoredObject] => [keyOf(object), object])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** Rebuilds what there is from the changes alone. */
class Replay {
  readonly changes: StoreChange[] = [];
  readonly problems: string[] = [];
  readonly #objects = new Map<string, StoredObject>();

  take(changes: readonly StoreChange[]): void {
    for (const change of changes) {
      this.changes.push(change);
      const id = `${change.kind} ${change.key}`;
      const known = this.#objects.get(id);
      const { before, after } = change;
      if (before === undefined && after === undefined) this.#complain(id, 'a change of nothing');
      if (!same(known, before)) this.#complain(id, 'what was there before is not what was told last');
      if (before !== undefined && after !== undefined) {
        if (before.metadata.uid !== after.metadata.uid) this.#complain(id, 'one object became another');
        if (same(before, after)) this.#complain(id, 'a change that changes nothing');
      }
      if (after === undefined) this.#objects.delete(id);
      else this.#objects.set(id, after);
    }
  }

  compare(truth: readonly StoredObject[]): string[] {
    const all = new Map(truth.map((object) => [`${object.kind} ${keyOf(object)}`, object]));
    const ids = new Set([...all.keys(), ...this.#objects.keys()]);
    return [...ids]
      .filter((id) => !same(all.get(id), this.#objects.get(id)))
      .map((id) => `${id}: what was told last is not what is there`);
  }

  #complain(id: string, what: string): void {
    if (this.problems.length < 10) this.problems.push(`${id}: ${what}`);
  }
}

/** As readers see it: versions, and the statuses that Signet itself writes, are no news. */
function same(left: StoredObject | undefined, right: StoredObject | undefined): boolean {
  const read = (object: StoredObject | undefined): unknown =>
    object === undefined
      ? undefined
      : {
          ...object,
          metadata: { ...object.metadata, resourceVersion: '' },
          ...(object.apiVersion.startsWith('signet.dev/') ? { status: undefined } : {}),
        };
  return isDeepStrictEqual(read(left), read(right));
}
