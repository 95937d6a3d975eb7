import { sleep, type Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import { WatchedValue, type Watched } from '../../lib/watched.js';
import type { Store } from '../store.js';
import type { KubernetesApi } from './api.js';
import { listAll } from './list.js';
import { statusOf } from './object-status.js';
import { collectionPath, objectPath } from './resource-type.js';
import { trimObject } from './trim.js';
import { signetType } from './types.js';
import type { ApiObject } from './watch.js';

/** What the ownership of a cluster is made of. Times in milliseconds. */
export interface ClusterOwnerOptions {
  readonly api: Pick<KubernetesApi, 'send'>;
  /** Holds TrustDomains and Namespaces. */
  readonly store: Pick<Store, 'synced' | 'list' | 'get' | 'status'>;
  /** This installation: `namespace/name` of its Lease. */
  readonly installation: string;
  /** Whether this replica leads the installation. */
  readonly leading: Watched<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** An owner that does not answer for so long is taken to be gone; a minute and a half unless said. */
  readonly takeOverMs?: number;
  /** Between questions to an owner that answers; half a minute unless said. */
  readonly askEveryMs?: number;
}

/** Which installation owns the cluster: one alone may write what is of the whole cluster. */
export interface ClusterOwner {
  /** Whether this replica leads the installation that owns the cluster, as the API server itself has said in this term. */
  readonly leading: Watched<boolean>;
  /** Why this installation may not serve; undefined when it may. */
  readonly problem: Watched<string | undefined>;
  /**
   * Takes part until the signal is aborted.
   *
   * @throws SignetError `ClusterOwnedByAnother` when another installation has taken over while this one was away
   */
  run(signal: AbortSignal): Promise<void>;
}

const TRUST_DOMAIN = signetType('TrustDomain');
const LOOK_MS = 1_000;
const TAKE_OVER_MS = 90_000;
const ASK_EVERY_MS = 30_000;
/** Its own field manager: what a whole status is written by must not give it away. */
const FIELD_MANAGER = 'signet-installation';

/** The part of a TrustDomain's status that this is about. */
interface OwnedStatus {
  /** The installation that owns the cluster. */
  readonly servedBy?: string;
  /** Another one that asks whether the owner is there; the owner answers by taking the field away. */
  readonly contender?: string;
  readonly conditions?: unknown;
}

/**
 * Settles by the TrustDomain's status which of several installations serves a cluster. The first one claims it; another
 * one asks whether the owner is still there, and takes over when it is not: at once when the owner's namespace is gone,
 * else when nobody has answered for a long time. No clock is compared, and nothing is written while there is one alone.
 */
export function createClusterOwner(options: ClusterOwnerOptions): ClusterOwner {
  return new Ownership(options);
}

/** True while this replica leads and the API server has confirmed in this term that its installation owns the cluster. */
class OwnedTerm implements Watched<boolean> {
  readonly #leading: Watched<boolean>;
  readonly #said = new WatchedValue(false);

  constructor(leading: Watched<boolean>) {
    this.#leading = leading;
  }

  get value(): boolean {
    return this.#said.value && this.#leading.value;
  }

  get said(): boolean {
    return this.#said.value;
  }

  say(leads: boolean): void {
    if (leads !== this.#said.value) this.#said.set(leads);
  }

  watch(onChange: (leads: boolean) => void): () => void {
    return this.#said.watch(onChange);
  }
}

class Ownership implements ClusterOwner {
  readonly leading: OwnedTerm;
  readonly problem = new WatchedValue<string | undefined>('it is not known yet which installation owns it');
  readonly #options: ClusterOwnerOptions;
  readonly #takeOverMs: number;
  readonly #askEveryMs: number;
  /** This installation has owned the cluster while this process ran. */
  #owned = false;
  /** Since when the question is unanswered. */
  #askedAt: number | undefined;
  #answeredAt = Number.NEGATIVE_INFINITY;
  /** Since when nobody is said to own it, where somebody did. */
  #vacantAt: number | undefined;
  #other: string | undefined;
  #wake: () => void = () => undefined;
  #complaint = '';

  constructor(options: ClusterOwnerOptions) {
    this.#options = options;
    this.#takeOverMs = options.takeOverMs ?? TAKE_OVER_MS;
    this.#askEveryMs = options.askEveryMs ?? ASK_EVERY_MS;
    this.leading = new OwnedTerm(options.leading);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, leading } = this.#options;
    const unwatch = leading.watch((leads) => {
      // What was confirmed in one term says nothing of the next: the process may have been away between them.
      this.leading.say(false);
      if (leads) this.#wake();
    });
    try {
      while (!signal.aborted) {
        const turn = new AbortController();
        const end = (): void => turn.abort();
        signal.addEventListener('abort', end, { once: true });
        this.#wake = end;
        await this.#look(signal);
        await sleep(clock, LOOK_MS, turn.signal).catch(() => undefined);
        signal.removeEventListener('abort', end);
      }
    } finally {
      unwatch();
      this.leading.say(false);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { store, leading, installation } = this.#options;
    const name = this.#trustDomain();
    if (name === undefined) return;
    const status = (store.status('TrustDomain', name) ?? {}) as OwnedStatus;
    this.#heed(status.servedBy);
    // Servers of an older version, or an older CRD, tell of no owner: whoever follows them serves beside them as ever.
    if (status.servedBy === undefined && status.conditions !== undefined && !leading.value) this.#serve();
    if (!leading.value || this.leading.said) return;
    try {
      if (status.servedBy === undefined || status.servedBy === installation)
        await this.#confirm(name, signal);
      else await this.#contest(name, status, status.servedBy, signal);
      this.#complaint = '';
    } catch (thrown) {
      if (!signal.aborted) this.#failed(SignetError.from(thrown));
    }
  }

  #failed(error: SignetError): void {
    const { code, message } = error;
    if (code === 'ClusterOwnedByAnother') throw error;
    // Somebody else has written it meanwhile: it is looked at again.
    if (code === 'ApiConflict' || code === 'ApiNotFound') return;
    if (code !== this.#complaint)
      this.#options.logger.warn(
        'it cannot be settled which installation owns the cluster; it is tried again',
        { code, reason: message },
      );
    this.#complaint = code;
  }

  /** The TrustDomain that servers run for: the only one, or of several the one that this installation serves. */
  #trustDomain(): string | undefined {
    const { store, installation } = this.#options;
    if (!store.synced.value) return undefined;
    const names = store.list('TrustDomain').map(({ metadata }) => metadata.name);
    if (names.length === 1) return names[0];
    return names.find(
      (name) => (store.status('TrustDomain', name) as OwnedStatus | undefined)?.servedBy === installation,
    );
  }

  /** What the owner means for this replica, whether it leads or not. */
  #heed(owner: string | undefined): void {
    const { installation, logger } = this.#options;
    if (owner === undefined) return;
    if (owner === installation) {
      this.#owned = true;
      this.#other = undefined;
      this.#serve();
      return;
    }
    if (this.#owned)
      throw new SignetError(
        'ClusterOwnedByAnother',
        `installation ${owner} has taken over the cluster while this one (${installation}) was away; this process ends, and waits when it starts again`,
      );
    if (this.#other === owner) return;
    this.#other = owner;
    const text = `another installation, ${owner}, owns this cluster; this one (${installation}) serves nothing until that one is gone. Uninstall one of them`;
    logger.warn(text, { owner, installation });
    this.problem.set(text);
  }

  #serve(): void {
    if (this.problem.value !== undefined) this.problem.set(undefined);
  }

  /** Makes sure, by the API server itself, that the cluster is ours, or claims it when it is nobody's. */
  async #confirm(name: string, signal: AbortSignal): Promise<void> {
    const { leading, installation, clock } = this.#options;
    const present = await this.#read(name, signal);
    if (present === undefined || !leading.value) return;
    const { servedBy } = (statusOf(present) ?? {}) as OwnedStatus;
    if (servedBy !== undefined && servedBy !== installation) {
      this.#heed(servedBy);
      return;
    }
    if (servedBy === undefined) {
      // Its owner may just have to write it anew: somebody has deleted the TrustDomain and made it again.
      this.#vacantAt ??= clock.monotonic();
      if (this.#other !== undefined && clock.monotonic() - this.#vacantAt < this.#takeOverMs) return;
      await this.#claim(present, signal);
    }
    this.#begin();
  }

  async #contest(name: string, seen: OwnedStatus, owner: string, signal: AbortSignal): Promise<void> {
    const { store, installation } = this.#options;
    this.#vacantAt = undefined;
    const [namespace = ''] = owner.split('/');
    const next = store.get('Namespace', namespace) === undefined ? 'claim' : this.#judge(seen.contender);
    if (next === 'wait') return;
    const present = await this.#read(name, signal);
    const live = (present === undefined ? undefined : statusOf(present)) as OwnedStatus | undefined;
    // What the watch has yet to show changes everything.
    if (present === undefined || live?.servedBy !== owner || live.contender !== seen.contender) return;
    if (next === 'ask') {
      await this.#patch(present, { contender: installation }, signal);
      return;
    }
    await this.#claim(present, signal);
    this.#begin();
  }

  /** What follows from how long a question has been open, or was answered. */
  #judge(contender: string | undefined): 'ask' | 'claim' | 'wait' {
    const { installation, clock } = this.#options;
    const now = clock.monotonic();
    if (contender === installation) {
      this.#askedAt ??= now;
      return now - this.#askedAt >= this.#takeOverMs ? 'claim' : 'wait';
    }
    // A third one asks: its answer is ours too.
    if (contender !== undefined) return 'wait';
    if (this.#askedAt !== undefined) this.#answeredAt = now;
    this.#askedAt = undefined;
    return now - this.#answeredAt >= this.#askEveryMs ? 'ask' : 'wait';
  }

  async #claim(present: ApiObject, signal: AbortSignal): Promise<void> {
    const { installation, logger } = this.#options;
    const { servedBy: former } = (statusOf(present) ?? {}) as OwnedStatus;
    await this.#patch(present, { servedBy: installation, contender: null }, signal);
    if (former === undefined) logger.info('this installation owns the cluster', { installation });
    else
      logger.warn('this installation takes over the cluster from one that is gone', { installation, former });
  }

  #begin(): void {
    const { leading, installation } = this.#options;
    this.#askedAt = undefined;
    this.#vacantAt = undefined;
    this.#owned = true;
    this.#heed(installation);
    if (leading.value) this.leading.say(true);
  }

  /** As the API server has it now, not as a watch has shown it. */
  async #read(name: string, signal: AbortSignal): Promise<ApiObject | undefined> {
    const query = { fieldSelector: `metadata.name=${name}` };
    const path = collectionPath(TRUST_DOMAIN, undefined);
    const { objects } = await listAll(this.#options.api, path, { query }, trimObject, signal);
    return objects[0];
  }

  /** If nobody has written the object since it was read. */
  async #patch({ metadata }: ApiObject, status: object, signal: AbortSignal): Promise<void> {
    const { name, uid, resourceVersion } = metadata;
    await this.#options.api.send({
      method: 'PATCH',
      path: objectPath(TRUST_DOMAIN, { namespace: '', name }, 'status'),
      query: { fieldManager: FIELD_MANAGER },
      contentType: 'application/merge-patch+json',
      body: { metadata: { uid, resourceVersion }, status },
      signal,
    });
  }
}
