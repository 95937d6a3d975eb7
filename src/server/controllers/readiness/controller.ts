import { podFacts } from '../../../cluster/pod-facts.js';
import type { PodFacts, Registration } from '../../../identity/registration/registration.js';
import type { Clock, Timer } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Watched } from '../../../lib/watched.js';
import { isLater } from '../../../store/kubernetes/resource-version.js';
import type { Store, StoreChange, StoredObject } from '../../../store/store.js';
import type { SvidLedger } from '../../svid-ledger.js';
import { createController, type Controller, type ReconcileOutcome } from '../controller.js';
import { IDENTITY_CONDITION, planReadiness, type IdentityCondition, type ReadinessFacts } from './plan.js';

/** A condition as a pod's status has it. */
export interface PodCondition extends IdentityCondition {
  readonly type: string;
  /** RFC 3339. */
  readonly lastTransitionTime: string;
}

/** What the controller is made of. */
export interface ReadinessControllerOptions {
  /** Has Pods with our gates and conditions, and the identities. */
  readonly store: Pick<Store, 'list' | 'get' | 'subscribe'>;
  /** What is known of who gets what. */
  readonly registrations: {
    /** False until all has been read. */
    readonly ready: Watched<boolean>;
    /** Those of a pod that are in force. */
    forPod(uid: string): readonly Registration[];
    explainPod(uid: string): string;
  };
  readonly svids: Pick<SvidLedger, 'get' | 'watch'>;
  /** Changes when a registration may have come into force, or not be any more, without a change in the store. */
  readonly inForce: Watched<unknown>;
  readonly refusals: {
    get(registrationId: string): string | undefined;
    watch(onRefused: (registrationId: string) => void): () => void;
  };
  readonly hasAgent: (nodeName: string) => boolean;
  readonly leading: Watched<boolean>;
  /** For so long after a term of leading has begun, it is not known what SVIDs there are. Milliseconds. */
  readonly settleMs: number;
  /**
   * Writes a condition into the status of a pod; nothing else of it. Resolves with the version that the pod has then;
   * rejects with `ApiNotFound` or `ApiConflict` when there is no such pod any more.
   */
  readonly write: (pod: PodFacts, condition: PodCondition) => Promise<string>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

/** A pod that has the gate. */
interface Gated {
  readonly uid: string;
  /** When it was first known to have a node; monotonic. */
  readonly since: number;
  /** Ends of the SVIDs that were known, by registration: the ledger forgets those that are over. */
  readonly ends: Map<string, number>;
  /** What was written and the store may not show yet. */
  written?: { readonly condition: PodCondition; readonly version: string };
}

/** Writes at once: a thousand pods that start together are told of within a second. */
const PARALLEL = 16;
const READ_MS = 1_000;
const SELECTING: ReadonlySet<string> = new Set(['WorkloadIdentity', 'ClusterWorkloadIdentity', 'Namespace']);

/**
 * Tells pods that wait for their identity (readiness gate `signet.dev/identity`) when they have it, and why not. It runs on
 * every replica: whichever signs for a pod tells it at once, and the leader tells what is missing. Close it when it has run.
 */
export function createReadinessController(options: ReadinessControllerOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const teller = new ReadinessTeller(options);
  return { controller: teller.controller, close: () => teller.close() };
}

class ReadinessTeller {
  readonly controller: Controller;
  readonly #options: ReadinessControllerOptions;
  readonly #gated = new Map<string, Gated>();
  readonly #keys = new Map<string, string>();
  readonly #ends: (() => void)[];
  #leadsSince: number | undefined;
  #settling: Timer | undefined;

  constructor(options: ReadinessControllerOptions) {
    const { store, registrations, svids, refusals, leading, inForce } = options;
    this.#options = options;
    this.controller = createController({
      ...options,
      ...{ name: 'readiness', concurrency: PARALLEL },
      reconcile: (key) => this.#reconcile(key),
    });
    this.#ends = [
      store.subscribe((changes) => changes.forEach((change) => this.#changed(change))),
      svids.watch((id) => this.#told(id)),
      refusals.watch((id) => this.#told(id)),
      registrations.ready.watch(() => this.#all()),
      inForce.watch(() => this.#all()),
      leading.watch((leads) => this.#led(leads)),
    ];
    for (const pod of store.list('Pod')) this.#put(keyOf(pod), pod);
    this.#led(leading.value);
  }

  close(): void {
    this.#settling?.cancel();
    for (const end of this.#ends.splice(0)) end();
  }

  #led(leads: boolean): void {
    const { clock, settleMs } = this.#options;
    this.#settling?.cancel();
    this.#leadsSince = leads ? clock.monotonic() : undefined;
    this.#settling = leads ? clock.after(settleMs, () => this.#all()) : undefined;
  }

  #changed({ kind, key, after }: StoreChange): void {
    if (kind === 'Pod') {
      if (after === undefined) this.#remove(key);
      else this.#put(key, after);
    } else if (SELECTING.has(kind)) {
      const { namespace } = after?.metadata ?? {};
      this.#all(kind === 'WorkloadIdentity' ? (namespace ?? key.split('/')[0]) : undefined);
    }
  }

  #put(key: string, pod: StoredObject): void {
    const before = this.#gated.get(key);
    const uid = pod.metadata.uid;
    if (!waits(pod)) {
      this.#remove(key);
      return;
    }
    if (before?.uid !== uid) {
      this.#remove(key);
      this.#gated.set(key, { uid, since: this.#options.clock.monotonic(), ends: new Map() });
      this.#keys.set(uid, key);
    }
    this.controller.enqueue(key);
  }

  #remove(key: string): void {
    const gated = this.#gated.get(key);
    if (gated === undefined) return;
    this.#gated.delete(key);
    this.#keys.delete(gated.uid);
  }

  /** Something is new of a registration, whose ID begins with its pod's uid. */
  #told(registrationId: string): void {
    const key = this.#keys.get(registrationId.split('/', 1)[0] ?? '');
    if (key !== undefined) this.controller.enqueue(key);
  }

  #all(namespace?: string): void {
    for (const key of this.#gated.keys())
      if (namespace === undefined || key.startsWith(`${namespace}/`))
        this.controller.enqueue(key, 'background');
  }

  async #reconcile(key: string): Promise<{ readonly requeueAfterMs: number } | undefined> {
    const { store, registrations, clock } = this.#options;
    const gated = this.#gated.get(key);
    const object = store.get('Pod', key);
    const pod = object === undefined ? undefined : podFacts(object);
    if (gated === undefined || object === undefined || pod?.uid !== gated.uid) return undefined;
    if (!registrations.ready.value) return { requeueAfterMs: READ_MS };
    const present = presentCondition(gated, object);
    const { condition, againAfterMs } = planReadiness(this.#factsOf(gated, pod, present));
    if (condition !== undefined && !isSame(condition, present)) {
      const since = present?.status === condition.status ? present.lastTransitionTime : undefined;
      const lastTransitionTime = since ?? new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
      await this.#write(gated, pod, { type: IDENTITY_CONDITION, ...condition, lastTransitionTime });
    }
    return againAfterMs === undefined ? undefined : { requeueAfterMs: againAfterMs };
  }

  #factsOf(gated: Gated, pod: PodFacts, present: IdentityCondition | undefined): ReadinessFacts {
    const { registrations, svids, refusals, hasAgent, settleMs, clock } = this.#options;
    const now = clock.monotonic();
    const inForce = registrations.forPod(pod.uid);
    for (const id of [...gated.ends.keys()])
      if (!inForce.some((registration) => registration.id === id)) gated.ends.delete(id);
    return {
      registrations: inForce,
      notAfterOf(id) {
        const known = svids.get(id)?.notAfter;
        if (known !== undefined) gated.ends.set(id, known);
        return known ?? gated.ends.get(id);
      },
      explain: () => registrations.explainPod(pod.uid),
      refusal: (id) => refusals.get(id),
      nodeName: pod.nodeName,
      hasAgent: hasAgent(pod.nodeName),
      present,
      leads: this.#leadsSince !== undefined && now - this.#leadsSince >= settleMs,
      knownForMs: now - gated.since,
      now: clock.now(),
    };
  }

  async #write(gated: Gated, pod: PodFacts, condition: PodCondition): Promise<void> {
    const { write, logger } = this.#options;
    try {
      gated.written = { condition, version: await write(pod, condition) };
    } catch (thrown) {
      const { code } = SignetError.from(thrown);
      // Gone, or another pod of the same name by now, which is looked at in its turn.
      if (code === 'ApiNotFound' || code === 'ApiConflict') return;
      throw thrown;
    }
    const { status, reason } = condition;
    logger.debug('a pod is told of its identity', { pod: `${pod.namespace}/${pod.name}`, status, reason });
  }
}

/** Whether a pod has the gate, a node, and something that runs. */
function waits(pod: StoredObject): boolean {
  const { spec } = pod as {
    readonly spec?: { readonly readinessGates?: readonly { readonly conditionType?: string }[] };
  };
  if (spec?.readinessGates?.some(({ conditionType }) => conditionType === IDENTITY_CONDITION) !== true)
    return false;
  const { deletionTimestamp } = pod.metadata as { readonly deletionTimestamp?: string };
  const facts = podFacts(pod);
  return facts !== undefined && facts.nodeName !== '' && deletionTimestamp === undefined;
}

/** What was written last, or else what the store shows. */
function presentCondition({ written }: Gated, object: StoredObject): PodCondition | undefined {
  const { resourceVersion } = object.metadata as { readonly resourceVersion?: string };
  if (written !== undefined && (resourceVersion === undefined || isLater(written.version, resourceVersion)))
    return written.condition;
  const { status } = object as { readonly status?: { readonly conditions?: readonly PodCondition[] } };
  return status?.conditions?.find(({ type }) => type === IDENTITY_CONDITION);
}

function isSame(one: IdentityCondition, other: IdentityCondition | undefined): boolean {
  return one.status === other?.status && one.reason === other.reason && one.message === other.message;
}

function keyOf({ metadata }: StoredObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}
