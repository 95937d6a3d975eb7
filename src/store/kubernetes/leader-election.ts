import { sleep, type Clock, type Timer } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { WatchedValue, type Watched } from '../../lib/watched.js';
import { ApiError } from './api-error.js';
import type { ApiRequest, KubernetesApi } from './api.js';
import { missingRule } from './rbac.js';
import { apiVersionOf, collectionPath, objectPath } from './resource-type.js';
import { LEASE } from './types.js';
import { objectOf, type ApiObject } from './watch.js';

/** What an election is made of. Times in milliseconds. */
export interface LeaderElectionOptions {
  readonly api: Pick<KubernetesApi, 'send'>;
  readonly namespace: string;
  /** Of the Lease. */
  readonly name: string;
  /** Of this process, and of no other that ever was: the pod's name and something random. */
  readonly identity: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How long the others wait after the last sign of life of a leader; 10 s unless said. */
  readonly leaseMs?: number;
  /** A leader that cannot renew for so long stops leading; well below `leaseMs`; 6 s unless said. */
  readonly renewWithinMs?: number;
  /** Between attempts; 2 s unless said. */
  readonly retryMs?: number;
}

/** Who leads, as this process knows. */
export interface LeaderElection {
  /** Whether this process leads. False at the latest `renewWithinMs` after the last renewal. */
  readonly leading: Watched<boolean>;
  /** Identity of the leader, if one is known. */
  readonly leader: Watched<string | undefined>;
  /** Takes part until the signal is aborted; a leader then gives the lease back, so that the next need not wait. */
  run(signal: AbortSignal): Promise<void>;
}

const LEASE_MS = 10_000;
const RENEW_WITHIN_MS = 6_000;
const RETRY_MS = 2_000;

interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

type LeaseObject = ApiObject & { readonly spec?: LeaseSpec };

/**
 * Elects one leader by a Lease, as client-go does: a lease is never judged by the clock of who wrote it, only by how long
 * it has not changed as seen here, so clocks may differ by any amount. A leader stops to lead by its own monotonic clock
 * before anybody else may take the lease.
 */
export function createLeaderElection(options: LeaderElectionOptions): LeaderElection {
  return new Election(options);
}

/** Whether this process leads. A process that was stopped for a while knows that its time is over before any timer fires. */
class Term implements Watched<boolean> {
  until = Number.NEGATIVE_INFINITY;
  readonly #clock: Clock;
  readonly #said = new WatchedValue(false);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get value(): boolean {
    return this.#said.value && this.#clock.monotonic() < this.until;
  }

  /** What watchers were told. */
  get said(): boolean {
    return this.#said.value;
  }

  say(leads: boolean): void {
    this.#said.set(leads);
  }

  watch(onChange: (leads: boolean) => void): () => void {
    return this.#said.watch(onChange);
  }
}

class Election implements LeaderElection {
  readonly leading: Term;
  readonly leader = new WatchedValue<string | undefined>(undefined);
  readonly #options: LeaderElectionOptions;
  readonly #leaseMs: number;
  readonly #renewWithinMs: number;
  readonly #retryMs: number;
  /** The lease as last seen, and since when it has been so. */
  #seen: { readonly lease: LeaseObject; readonly at: number } | undefined;
  /** Ends leading when the lease could not be renewed in time. */
  #end: Timer | undefined;
  #lastComplaint = '';

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.leading = new Term(options.clock);
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#renewWithinMs = options.renewWithinMs ?? RENEW_WITHIN_MS;
    this.#retryMs = options.retryMs ?? RETRY_MS;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    while (!signal.aborted) {
      await this.#try(signal);
      // Spread, so that candidates do not ask together.
      const pause = this.#retryMs * (this.leading.value ? 1 : 1 + 0.2 * random.fraction());
      await sleep(clock, pause, signal).catch(() => undefined);
    }
    await this.#giveBack();
  }

  /** One attempt to get or keep the lease. */
  async #try(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const sentAt = clock.monotonic();
    try {
      if (await this.#take(signal)) this.#leadUntil(sentAt + this.#renewWithinMs);
      else this.#stopLeading();
      this.#lastComplaint = '';
    } catch (thrown) {
      const { code, message } = ApiError.from(thrown);
      // Somebody was faster, or has deleted the lease meanwhile: the next attempt will read who holds it.
      if (code === 'ApiConflict' || code === 'ApiNotFound') return;
      if (code !== this.#lastComplaint && !signal.aborted) {
        const help =
          code === 'ApiForbidden'
            ? `; ${missingRule(LEASE, ['get', 'create', 'update'], this.#options.namespace)}`
            : '';
        logger.warn(`the lease cannot be had or kept; it is tried again${help}`, { code, reason: message });
      }
      this.#lastComplaint = code;
    }
  }

  /** An answer that came late may have nothing left to lead. While the next attempt hangs, the timer ends it. */
  #leadUntil(end: number): void {
    const { clock } = this.#options;
    this.#end?.cancel();
    // A process that stood still: who looked meanwhile has seen it lead no longer, and is to be told that it does again.
    if (!this.leading.value) this.#lead(false);
    const left = end - clock.monotonic();
    if (left > 0) this.#end = clock.after(left, () => this.#lead(false));
    this.leading.until = end;
    this.#lead(left > 0);
  }

  #stopLeading(): void {
    this.#end?.cancel();
    this.#lead(false);
  }

  /** Whether the lease is ours now. */
  async #take(signal: AbortSignal): Promise<boolean> {
    const { identity, namespace, name } = this.#options;
    const held = this.#seen?.lease;
    if (this.leading.value && held?.spec?.holderIdentity === identity) {
      try {
        await this.#put(held, signal);
        return true;
      } catch (thrown) {
        const { code } = ApiError.from(thrown);
        // Somebody has written it, or deleted it: who holds it is to be read at once.
        if (code !== 'ApiConflict' && code !== 'ApiNotFound') throw thrown;
      }
    }
    let lease: LeaseObject;
    try {
      lease = await this.#send({ method: 'GET', path: this.#path, signal });
    } catch (thrown) {
      if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
      // Whoever held it goes on to lead for a while, if it was deleted by hand.
      if (held !== undefined && this.#isTaken(held)) return false;
      const path = collectionPath(LEASE, namespace);
      const body = this.#leaseObject({ name, namespace }, undefined);
      this.#note(await this.#send({ method: 'POST', path, body, signal }));
      return true;
    }
    this.#note(lease);
    if (this.#isTaken(lease)) return false;
    await this.#put(lease, signal);
    return true;
  }

  /** Whether another holds the lease, and may still lead: by how long the holder itself says, as seen here. */
  #isTaken({ spec }: LeaseObject): boolean {
    const { clock, identity } = this.#options;
    const holder = spec?.holderIdentity ?? '';
    if (holder === '' || holder === identity) return false;
    // A lease of nonsense is not a lease for ever.
    const seconds = spec?.leaseDurationSeconds ?? 0;
    const durationMs = seconds > 0 && seconds <= 3600 ? seconds * 1000 : this.#leaseMs;
    return clock.monotonic() - (this.#seen?.at ?? clock.monotonic()) < durationMs;
  }

  /** Makes the lease ours, or ours again. With the version that was read: of two that try, one gets a conflict. */
  async #put(lease: LeaseObject, signal: AbortSignal): Promise<void> {
    const body = this.#leaseObject(lease.metadata, lease.spec);
    this.#note(await this.#send({ method: 'PUT', path: this.#path, body, signal }));
  }

  get #path(): string {
    const { namespace, name } = this.#options;
    return objectPath(LEASE, { namespace, name });
  }

  async #send(request: Pick<ApiRequest, 'method' | 'path' | 'body' | 'signal'>): Promise<LeaseObject> {
    const timeoutMs = Math.max(1_000, this.#renewWithinMs / 3);
    const answer = await this.#options.api.send({ ...request, timeoutMs, urgent: true });
    const lease = objectOf(answer);
    if (lease === undefined)
      throw new ApiError('ApiAnswerUnusable', `${request.path}: the answer is no Lease`);
    return lease;
  }

  #note(lease: LeaseObject): void {
    const known = this.#seen?.lease.metadata;
    const { uid, resourceVersion } = lease.metadata;
    if (known?.uid !== uid || known.resourceVersion !== resourceVersion)
      this.#seen = { lease, at: this.#options.clock.monotonic() };
    const holder = lease.spec?.holderIdentity;
    const leader = holder === undefined || holder === '' ? undefined : holder;
    if (leader !== this.leader.value) this.leader.set(leader);
  }

  #leaseObject(metadata: object, before: LeaseSpec | undefined): object {
    const { clock, identity } = this.#options;
    const now = `${new Date(clock.now()).toISOString().slice(0, -1)}000Z`;
    const kept = before?.holderIdentity === identity;
    return {
      apiVersion: apiVersionOf(LEASE),
      kind: LEASE.kind,
      metadata,
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
        acquireTime: kept ? (before.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: (before?.leaseTransitions ?? 0) + (kept || before === undefined ? 0 : 1),
      },
    };
  }

  #lead(leads: boolean): void {
    if (leads === this.leading.said) return;
    const { logger, identity } = this.#options;
    logger.info(leads ? 'this replica leads' : 'this replica leads no longer', { identity });
    this.leading.say(leads);
  }

  async #giveBack(): Promise<void> {
    const held = this.leading.said ? this.#seen?.lease : undefined;
    this.#stopLeading();
    if (held === undefined) return;
    const free = (lease: LeaseObject): Promise<LeaseObject> => {
      const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 };
      const body = {
        ...{ apiVersion: apiVersionOf(LEASE), kind: LEASE.kind },
        ...{ metadata: lease.metadata, spec },
      };
      return this.#send({ method: 'PUT', path: this.#path, body });
    };
    try {
      await free(held).catch(async (thrown: unknown) => {
        if (ApiError.from(thrown).code !== 'ApiConflict') throw thrown;
        // A renewal that was under way has come through after all.
        const lease = await this.#send({ method: 'GET', path: this.#path });
        if (lease.spec?.holderIdentity === this.#options.identity) await free(lease);
      });
      this.leader.set(undefined);
    } catch {
      // Then the next leader waits for the lease to run out, no more.
    }
  }
}
