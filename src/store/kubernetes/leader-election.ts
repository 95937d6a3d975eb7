import { sleep, type Clock, type Timer } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { WatchedValue, type Watched } from '../../lib/watched.js';
import { ApiError } from './api-error.js';
import type { KubernetesApi } from './api.js';
import { apiVersionOf, collectionPath, objectPath } from './resource-type.js';
import { LEASE } from './types.js';
import { objectOf, type ApiObject } from './watch.js';

/** What an election is made of. Times in milliseconds. */
export interface LeaderElectionOptions {
  readonly api: KubernetesApi;
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

class Election implements LeaderElection {
  readonly leading = new WatchedValue(false);
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
      // Somebody was faster: who, the next attempt will tell.
      if (code === 'ApiConflict') return;
      if (message !== this.#lastComplaint && !signal.aborted)
        logger.warn('the lease cannot be had or kept; it is tried again', { code, reason: message });
      this.#lastComplaint = message;
    }
  }

  /** An answer that came late may have nothing left to lead. While the next attempt hangs, the timer ends it. */
  #leadUntil(end: number): void {
    const { clock } = this.#options;
    this.#end?.cancel();
    const left = end - clock.monotonic();
    if (left > 0) this.#end = clock.after(left, () => this.#lead(false));
    this.#lead(left > 0);
  }

  #stopLeading(): void {
    this.#end?.cancel();
    this.#lead(false);
  }

  /** Whether the lease is ours now. */
  async #take(signal: AbortSignal): Promise<boolean> {
    const { api, clock, identity, namespace, name } = this.#options;
    const timeoutMs = Math.max(1_000, this.#renewWithinMs / 2);
    const request = { signal, timeoutMs };
    const path = objectPath(LEASE, { namespace, name });
    let lease: LeaseObject;
    try {
      lease = leaseOf(await api.send({ ...request, method: 'GET', path }), path);
    } catch (thrown) {
      if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
      const collection = collectionPath(LEASE, namespace);
      const body = this.#leaseObject({ name, namespace }, undefined);
      this.#note(leaseOf(await api.send({ ...request, method: 'POST', path: collection, body }), path));
      return true;
    }
    this.#note(lease);
    const holder = lease.spec?.holderIdentity ?? '';
    if (holder !== '' && holder !== identity) {
      // By how long the holder itself says; a lease of nonsense is not a lease for ever.
      const seconds = lease.spec?.leaseDurationSeconds ?? 0;
      const durationMs = seconds > 0 && seconds <= 3600 ? seconds * 1000 : this.#leaseMs;
      if (clock.monotonic() - (this.#seen?.at ?? clock.monotonic()) < durationMs) return false;
    }
    const body = this.#leaseObject(lease.metadata, lease.spec);
    // With the version that was read: of two that try, one gets a conflict.
    this.#note(leaseOf(await api.send({ ...request, method: 'PUT', path, body }), path));
    return true;
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
    if (leads === this.leading.value) return;
    const { logger, identity } = this.#options;
    logger.info(leads ? 'this replica leads' : 'this replica leads no longer', { identity });
    this.leading.set(leads);
  }

  async #giveBack(): Promise<void> {
    const held = this.leading.value ? this.#seen?.lease : undefined;
    this.#stopLeading();
    if (held === undefined) return;
    const { api, namespace, name } = this.#options;
    const body = {
      apiVersion: apiVersionOf(LEASE),
      kind: LEASE.kind,
      metadata: held.metadata,
      spec: { ...held.spec, holderIdentity: '', leaseDurationSeconds: 1 },
    };
    const path = objectPath(LEASE, { namespace, name });
    // Without it the next leader waits for the lease to run out, no more.
    await api.send({ method: 'PUT', path, body, timeoutMs: 2_000 }).catch(() => undefined);
  }
}

function leaseOf(answer: unknown, path: string): LeaseObject {
  const lease = objectOf(answer);
  if (lease === undefined) throw new ApiError('ApiAnswerUnusable', `${path}: the answer is no Lease`);
  return lease;
}
