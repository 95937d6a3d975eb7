import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { ApplyFailure } from '../../../store/kubernetes/applied-report.js';
import type { AppliedSet } from '../../../store/kubernetes/applied-set.js';
import type { Store, StoredObject } from '../../../store/store.js';
import type { EventRecorder } from '../controller-events.js';
import type { ReconcileResult, ReconcileRun } from '../controller.js';
import { meshOf, type PolicyKey } from './desired-objects.js';
import type { MeshRendering } from './mesh-rendering.js';

/** What applies objects. */
export interface MeshObjectsOptions {
  readonly store: Store;
  /** Of the meshes that are rendered for, by name. */
  readonly renderings: ReadonlyMap<string, MeshRendering>;
  readonly objects: Pick<AppliedSet, 'apply'>;
  readonly events: EventRecorder;
  readonly logger: Logger;
  /** Whether it is certain that nothing is rendered for this mesh any more. */
  readonly mayPrune: (mesh: string) => boolean;
  /** Something else may be said of these policies. */
  readonly tell: (policies: Iterable<PolicyKey>) => void;
}

/** When an owner is looked at again though nothing is heard. Milliseconds. */
const RETRY_MS = { soon: 1_000, failed: 5_000, forbidden: 15_000 } as const;
/** Tries before it is said that objects of a kind have not been read. */
const UNREAD_TRIES = 10;

/** Brings the objects of meshes in line with what is rendered, owner by owner, and knows what failed. */
export class MeshObjects {
  readonly #options: MeshObjectsOptions;
  /** Owners whose objects are to be applied. */
  readonly #pending = new Set<string>();
  readonly #running = new Set<string>();
  /** Policies of which is told once an owner's objects are applied. */
  readonly #waiting = new Map<string, Set<PolicyKey>>();
  readonly #failures = new Map<string, ReadonlyMap<PolicyKey, readonly ApplyFailure[]>>();
  readonly #unread = new Map<string, number>();
  /** What was said already: once for a mesh, not for each object. */
  readonly #said = new Map<string, string>();

  constructor(options: MeshObjectsOptions) {
    this.#options = options;
  }

  /** The owner's objects are other than before: until they are applied, nothing is known of them. */
  expect(owner: string): void {
    this.#pending.add(owner);
  }

  /** Whether objects of the policy are still to be applied; it is told when they are. */
  isPending(policy: PolicyKey): boolean {
    let pending = false;
    for (const { desired } of this.#options.renderings.values())
      for (const owner of desired.ownersOf(policy)) {
        if (!this.#pending.has(owner) && !this.#running.has(owner)) continue;
        pending = true;
        const waiting = this.#waiting.get(owner);
        if (waiting === undefined) this.#waiting.set(owner, new Set([policy]));
        else waiting.add(policy);
      }
    return pending;
  }

  /** What of a policy's objects in one mesh is not as it should be. */
  failuresOf({ desired }: MeshRendering, policy: PolicyKey): readonly ApplyFailure[] {
    return [...desired.ownersOf(policy)].flatMap((owner) => this.#failures.get(owner)?.get(policy) ?? []);
  }

  /** Nothing is rendered for the mesh any more. */
  forget(mesh: string): void {
    for (const owners of [this.#failures, this.#unread, this.#waiting, this.#pending])
      for (const owner of owners.keys()) if (meshOf(owner) === mesh) owners.delete(owner);
    this.#said.delete(mesh);
  }

  /** Applies what an owner is to have, and prunes the rest. */
  async reconcile(owner: string, { signal }: ReconcileRun): Promise<ReconcileResult | undefined> {
    const { renderings, objects, mayPrune } = this.#options;
    const mesh = meshOf(owner);
    const rendering = renderings.get(mesh);
    // What is not rendered yet must not be taken for what is not wanted.
    if (signal.aborted || (rendering === undefined ? !mayPrune(mesh) : !rendering.done)) return undefined;
    this.#pending.delete(owner);
    this.#running.add(owner);
    try {
      const desired = rendering?.desired.of(owner, (policy) => this.#find(policy)?.metadata.uid) ?? [];
      const { failures } = await objects.apply(owner, desired);
      const real = failures.filter(({ code }) => code !== 'NamespaceGone');
      if (this.#isUnread(owner, real)) {
        this.#pending.add(owner);
        return { requeueAfterMs: RETRY_MS.soon };
      }
      if (rendering !== undefined) this.#note(rendering, owner, real);
      return retryOf(real);
    } catch (thrown) {
      this.#pending.add(owner);
      throw SignetError.from(thrown);
    } finally {
      this.#running.delete(owner);
      if (!this.#pending.has(owner)) this.#wake(owner);
    }
  }

  /** At the beginning the kinds are still being read: that is no failure, unless it lasts. */
  #isUnread(owner: string, failures: readonly ApplyFailure[]): boolean {
    if (!failures.some(({ code }) => code === 'NotSynced')) {
      this.#unread.delete(owner);
      return false;
    }
    const tries = (this.#unread.get(owner) ?? 0) + 1;
    this.#unread.set(owner, tries);
    return tries < UNREAD_TRIES;
  }

  #note({ desired, mesh }: MeshRendering, owner: string, failures: readonly ApplyFailure[]): void {
    const byPolicy = new Map<PolicyKey, ApplyFailure[]>();
    const shared: ApplyFailure[] = [];
    for (const failure of failures) {
      const policies = desired.policiesOf(owner, failure.object);
      if (policies.length === 0) shared.push(failure);
      for (const policy of policies) byPolicy.set(policy, [...(byPolicy.get(policy) ?? []), failure]);
    }
    const before = this.#failures.get(owner);
    if (byPolicy.size === 0) this.#failures.delete(owner);
    else this.#failures.set(owner, byPolicy);
    const concerned = new Set([...(before?.keys() ?? []), ...byPolicy.keys()]);
    this.#options.tell([...concerned].filter((key) => !isSame(before?.get(key), byPolicy.get(key))));
    this.#say(mesh.name, failures, shared);
  }

  /** Tells the log, and whoever looks at the TrustDomain: what RBAC lacks, and what fails of objects of no policy. */
  #say(mesh: string, failures: readonly ApplyFailure[], shared: readonly ApplyFailure[]): void {
    const [first] = [...failures.filter(({ code }) => code === 'Forbidden'), ...shared];
    if (first === undefined) {
      if (failures.length === 0 && !this.#hasFailures(mesh)) this.#said.delete(mesh);
      return;
    }
    const { code, object, message } = first;
    // Of each object the API server says the same in other words.
    const text = code === 'Forbidden' ? (message.split(' (')[0] ?? message) : `${object}: ${message}`;
    if (this.#said.get(mesh) === text) return;
    this.#said.set(mesh, text);
    const { logger, store, events } = this.#options;
    logger.warn('objects of a mesh cannot be applied', { mesh, object, code, reason: text });
    const [trustDomain] = store.list('TrustDomain');
    if (trustDomain === undefined) return;
    events.record({
      regarding: referenceTo(trustDomain),
      ...{ type: 'Warning', reason: `Mesh${code}`, action: 'Apply', note: `${mesh}: ${text}` },
    });
  }

  #hasFailures(mesh: string): boolean {
    return [...this.#failures.keys()].some((owner) => meshOf(owner) === mesh);
  }

  #wake(owner: string): void {
    const waiting = this.#waiting.get(owner);
    this.#waiting.delete(owner);
    if (waiting !== undefined) this.#options.tell(waiting);
  }

  #find(policy: PolicyKey): StoredObject | undefined {
    const slash = policy.indexOf('/');
    return this.#options.store.get(policy.slice(0, slash), policy.slice(slash + 1));
  }
}

/** As an event names an object. */
export function referenceTo({ apiVersion, kind, metadata: { namespace, name, uid } }: StoredObject): {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
  readonly uid: string;
} {
  return { apiVersion, kind, ...(namespace === undefined ? {} : { namespace }), name, uid };
}

function retryOf(failures: readonly ApplyFailure[]): ReconcileResult | undefined {
  const codes = new Set(failures.filter(({ retry }) => retry).map(({ code }) => code));
  if (codes.size === 0) return undefined;
  return {
    requeueAfterMs: codes.size === 1 && codes.has('Forbidden') ? RETRY_MS.forbidden : RETRY_MS.failed,
  };
}

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
