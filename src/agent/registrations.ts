import type { PodRegistrationSubject, Registration } from '../identity/registration/registration.js';
import { SignetError } from '../lib/errors.js';
import type { Watched } from '../lib/watched.js';
import type { SyncUpdate } from '../rpc/node-api.js';

/** What an update did. */
export interface RegistrationChanges {
  /** New or different. */
  readonly changed: readonly Registration[];
  readonly removed: readonly Registration[];
}

/**
 * The identities of one workload in the order it gets them; the first is its default (Workload API §5.2.1): the one
 * whose hint is `default`, then namespaced before cluster-wide, then by name.
 */
function inOrder(one: Registration, other: Registration): number {
  return (
    rank(one) - rank(other) ||
    compare(one.identity.name, other.identity.name) ||
    compare(one.spiffeId.uri, other.spiffeId.uri) ||
    compare(one.id, other.id)
  );
}

function rank(registration: Registration): number {
  if (registration.hint === 'default') return 0;
  return registration.identity.kind === 'WorkloadIdentity' ? 1 : 2;
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** The UID by which the node knows a pod: the cgroups and volumes of a static pod have that of its own. */
export function uidOnNode({ staticUid, uid }: PodRegistrationSubject): string {
  return staticUid ?? uid;
}

const none: readonly Registration[] = [];

/** The registrations of this node, by ID, by pod, and those for processes. */
export class NodeRegistrations {
  readonly #nodeName: string;
  readonly #most: number;
  readonly #byId = new Map<string, Registration>();
  readonly #byPod = new Map<string, readonly Registration[]>();
  readonly #podWatchers = new Set<(pods: ReadonlyMap<string, unknown>) => void>();
  readonly #processById = new Map<string, Registration>();
  #processes: readonly Registration[] = none;

  /** UIDs of the pods that have a registration, as keys; live, read it when told of a change. */
  readonly pods: Watched<ReadonlyMap<string, unknown>>;

  constructor(nodeName: string, most: number) {
    this.#nodeName = nodeName;
    this.#most = most;
    const byPod = this.#byPod;
    const watchers = this.#podWatchers;
    this.pods = {
      get value() {
        return byPod;
      },
      watch: (onChange) => {
        const watcher = (pods: ReadonlyMap<string, unknown>): void => onChange(pods);
        watchers.add(watcher);
        return () => watchers.delete(watcher);
      },
    };
  }

  /**
   * Takes an update in. All of it or nothing: what cannot be taken makes the connection fail, never a part go missing.
   *
   * @throws SignetError `SyncInvalid`
   */
  apply(update: SyncUpdate): RegistrationChanges {
    this.#check(update);
    const gone = update.snapshot ? new Set(this.#byId.keys()) : new Set(update.removed);
    for (const registration of update.upserts) gone.delete(registration.id);
    const pods = new Set<string>();
    let processes = false;
    const touch = (registration: Registration): void => {
      if (registration.subject.kind === 'pod') pods.add(uidOnNode(registration.subject));
      else processes = true;
    };
    const removed: Registration[] = [];
    for (const id of gone) {
      const registration = this.#byId.get(id);
      if (registration === undefined) continue;
      this.#byId.delete(id);
      this.#processById.delete(id);
      removed.push(registration);
      touch(registration);
    }
    const changed: Registration[] = [];
    for (const registration of update.upserts) {
      const before = this.#byId.get(registration.id);
      if (before?.revision === registration.revision) continue;
      this.#byId.set(registration.id, registration);
      if (registration.subject.kind === 'process') this.#processById.set(registration.id, registration);
      else this.#processById.delete(registration.id);
      changed.push(registration);
      touch(registration);
      if (before !== undefined) touch(before);
    }
    this.#reindex(pods, processes, changed);
    return { changed, removed };
  }

  get(id: string): Registration | undefined {
    return this.#byId.get(id);
  }

  /** The registrations of a pod by the UID that it has on the node, the default first. The same array until they change. */
  forPod(uid: string): readonly Registration[] {
    return this.#byPod.get(uid) ?? none;
  }

  /** Registrations for processes on the shared socket, in order. */
  get processes(): readonly Registration[] {
    return this.#processes;
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): Iterable<Registration> {
    return this.#byId.values();
  }

  #check(update: SyncUpdate): void {
    const size = update.snapshot ? update.upserts.length : this.#byId.size + update.upserts.length;
    if (size > this.#most)
      throw new SignetError(
        'SyncInvalid',
        `the server sent more than ${this.#most} registrations for this node`,
      );
    for (const { id, nodeName } of update.upserts)
      if (nodeName !== '' && nodeName !== this.#nodeName)
        throw new SignetError(
          'SyncInvalid',
          `the server sent registration ${id} of node ${nodeName}; this is node ${this.#nodeName}`,
        );
  }

  #reindex(pods: ReadonlySet<string>, processes: boolean, changed: readonly Registration[]): void {
    const added = new Map<string, Registration[]>();
    for (const registration of changed) {
      // Said twice in one update: the last word counts.
      if (registration.subject.kind !== 'pod' || this.#byId.get(registration.id) !== registration) continue;
      const uid = uidOnNode(registration.subject);
      const list = added.get(uid);
      if (list === undefined) added.set(uid, [registration]);
      else list.push(registration);
    }
    let podsChanged = false;
    for (const uid of pods) {
      const before = this.#byPod.get(uid);
      // Old entries that are still the present ones, and the new ones: a pod's own identities, never the world.
      const kept = (before ?? none).filter((one) => this.#byId.get(one.id) === one);
      const now = [...kept, ...(added.get(uid) ?? none)].sort(inOrder);
      if (now.length === 0) this.#byPod.delete(uid);
      else this.#byPod.set(uid, now);
      podsChanged ||= (before === undefined) !== (now.length === 0);
    }
    if (processes) this.#processes = [...this.#processById.values()].sort(inOrder);
    if (podsChanged) for (const watcher of [...this.#podWatchers]) watcher(this.#byPod);
  }
}
