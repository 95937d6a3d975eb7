import type { KeyType } from '../identity/pki/keys.js';
import { svidRevision } from '../identity/registration/containers.js';
import type { Registration } from '../identity/registration/registration.js';
import { Backoff } from '../lib/backoff.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { NodeApi } from '../rpc/node-api.js';
import { RequestIds } from '../rpc/request-id.js';
import type { IssuerTrust } from './issuer-trust.js';
import type { MadeKey } from './key-maker.js';
import type { AgentLimits } from './limits.js';
import { isExpired, lookAgainIn, rotationReason, timeFor, type RotationReason } from './rotation.js';
import { Priority, SigningQueue } from './signing-queue.js';
import { ByteSharing, type CachedSvid, packSvid, sameNames, svidProblem } from './svid.js';
import { signX509Batch, x509BatchSize, type X509Answer } from './x509-batch.js';

/** Why a registration has no fresh SVID, as told to its caller. */
export interface SigningFailure {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export interface X509KeeperOptions {
  readonly api: Pick<NodeApi, 'signX509'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly limits: AgentLimits;
  /** Where a registration does not say. */
  readonly keyType: KeyType;
  readonly makeKey: (type: KeyType) => Promise<MadeKey>;
  /** Called when the SVID of this registration came, changed, or went. */
  readonly onChange: (registration: Registration) => void;
  /** Told of each SVID that comes, whether it is taken or not. */
  readonly onSigned?: (svid: { readonly notBefore: number }) => void;
}

interface Entry {
  registration: Registration;
  svid: CachedSvid | undefined;
  failure: SigningFailure | undefined;
}

/** One look at all SVIDs serves those that fall due within this time, in milliseconds. */
const LOOK_GRANULARITY_MS = 1_000;
/**
 * Keeps an X.509-SVID for every registration: makes the keys, has them signed in batches, renews in time, and drops
 * what must go. It owns the cache; all changes happen in its methods, between two awaits.
 */
export class X509Keeper {
  readonly #options: X509KeeperOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: SigningQueue;
  readonly #sharing = new ByteSharing();
  readonly #unreachable: Backoff;
  readonly #requestIds: RequestIds;
  #batchSize: number;
  #tainted: ReadonlySet<string> = new Set();
  #trust: Pick<IssuerTrust, 'trusts'> | undefined;
  #svids = 0;
  #failing = 0;
  /** As of the last look, and of what came since. */
  #nextExpiry: number | undefined;
  #signal: AbortSignal | undefined;
  #scheduled = false;
  #running = 0;
  #urgentRunning = 0;
  #pausedUntil = 0;
  #wakeTimer: Timer | undefined;
  #lookTimer: Timer | undefined;
  /** When the next look is, in monotonic milliseconds. */
  #lookAt = Infinity;
  #idle: (() => void) | undefined;

  constructor(options: X509KeeperOptions) {
    this.#options = options;
    this.#queue = new SigningQueue(options.limits.signBackoff, options.random);
    this.#unreachable = new Backoff(options.limits.connectBackoff, options.random);
    this.#requestIds = new RequestIds(options.random);
    this.#batchSize = x509BatchSize(options.keyType, options.limits.signBatch);
  }

  /** Signs and renews until `signal` is aborted; resolves when nothing is under way any more. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#schedule();
    this.#look();
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.#wakeTimer?.cancel();
    this.#lookTimer?.cancel();
    if (this.#running + this.#urgentRunning > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    this.#signal = undefined;
  }

  /** A registration that came or changed. `urgent` when a caller is connected for it. */
  upsert(registration: Registration, urgent: boolean): void {
    const entry = this.#entries.get(registration.id);
    // It is the trust domain's, so the newest says it for all.
    this.#batchSize = x509BatchSize(
      registration.keyType ?? this.#options.keyType,
      this.#options.limits.signBatch,
    );
    if (entry === undefined) {
      this.#entries.set(registration.id, { registration, svid: undefined, failure: undefined });
    } else {
      const { svid } = entry;
      const renamed = !sameNames(entry.registration, registration);
      const isSigned = svid !== undefined && svidRevision(entry.registration) === svidRevision(registration);
      entry.registration = registration;
      // Containers came and went: its SVID says nothing of them.
      if (isSigned) return;
      this.#setFailure(entry, undefined);
      // A name that is no longer right must not be shown for another moment; anything else may serve till the new one
      // is there.
      if (renamed && svid !== undefined) this.#setSvid(entry, undefined);
    }
    this.#queue.add(registration.id, urgent ? Priority.RealTime : Priority.Warmup, true);
    this.#schedule();
  }

  /** A registration that is no more: its SVID is not served from here on. */
  remove(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#setSvid(entry, undefined);
    this.#setFailure(entry, undefined);
    this.#entries.delete(id);
    this.#queue.remove(id);
  }

  /** A server is there: what waited for one goes on, and what was refused for good is asked once more: this one may know better. */
  reconnected(): void {
    this.#unreachable.reset();
    this.#pausedUntil = 0;
    for (const [id, entry] of this.#entries)
      if (entry.failure?.retryable === false) this.#queue.add(id, Priority.Warmup, true);
    this.#schedule();
  }

  /** The wall clock was set: SVIDs are judged anew, and what was no good by the time as it was is asked for again. */
  clockSet(): void {
    this.#queue.wakeAll();
    this.reconnected();
    this.#look();
  }

  /** A caller waits for these. */
  urge(ids: Iterable<string>): void {
    for (const id of ids) this.#queue.urge(id);
    if (this.#queue.hasReady(this.#options.clock.monotonic(), Priority.RealTime)) this.#schedule();
  }

  /** The SVID to serve; never an expired one. */
  svid(id: string): CachedSvid | undefined {
    const svid = this.#entries.get(id)?.svid;
    if (svid === undefined || !isExpired(svid, this.#options.clock)) return svid;
    // The clock jumped, or the machine slept, and no timer has noticed: somebody asks, so it is not left for the next look.
    this.#queue.add(id, Priority.Warmup);
    this.#schedule();
    return undefined;
  }

  /** Why signing failed the last time, if it did. */
  failure(id: string): SigningFailure | undefined {
    return this.#entries.get(id)?.failure;
  }

  /**
   * What is replaced at once from here on: what these authorities signed, by subject key ID (hex), and what is not trusted (all is,
   * unless said).
   */
  judge(tainted: readonly string[], trust?: Pick<IssuerTrust, 'trusts'>): void {
    this.#tainted = new Set(tainted);
    this.#trust = trust;
    this.#look();
  }

  /** SVIDs that are served no more from here on, by serial number (lower-case hex): each is signed anew. */
  revoke(serials: readonly string[]): void {
    const revoked = new Set(serials);
    if (revoked.size === 0) return;
    for (const [id, entry] of this.#entries) {
      if (entry.svid === undefined || !revoked.has(entry.svid.serial)) continue;
      this.#setSvid(entry, undefined);
      this.#queue.add(id, Priority.RealTime, true);
      this.#options.logger.warn('an X.509-SVID is revoked; another is signed', { registration: id });
      this.#options.onChange(entry.registration);
    }
    this.#schedule();
  }

  /** Numbers for health and metrics. */
  stats(): {
    registrations: number;
    svids: number;
    queued: number;
    failing: number;
    nextExpiry: number | undefined;
  } {
    return {
      registrations: this.#entries.size,
      svids: this.#svids,
      queued: this.#queue.size,
      failing: this.#failing,
      nextExpiry: this.#nextExpiry,
    };
  }

  /** The only places where these two change, so that counting them costs nothing. */
  #setSvid(entry: Entry, svid: CachedSvid | undefined): void {
    this.#svids += Number(svid !== undefined) - Number(entry.svid !== undefined);
    entry.svid = svid;
  }

  #setFailure(entry: Entry, failure: SigningFailure | undefined): void {
    this.#failing += Number(failure !== undefined) - Number(entry.failure !== undefined);
    entry.failure = failure;
  }

  /** Looks at every SVID: what is due goes to the queue, what has expired goes away. */
  #look(): void {
    this.#lookTimer?.cancel();
    if (this.#signal === undefined || this.#signal.aborted) return;
    const { clock } = this.#options;
    let firstMs: number | undefined;
    let nextExpiry: number | undefined;
    for (const [id, entry] of this.#entries) {
      const { svid } = entry;
      if (svid === undefined) continue;
      const reason = this.#reasonOf(svid);
      if (reason !== undefined)
        this.#queue.add(id, reason === 'expired' ? Priority.Warmup : Priority.Background);
      if (reason === 'expired') {
        this.#setSvid(entry, undefined);
        this.#options.logger.warn('an X.509-SVID expired before it could be renewed', {
          registration: id,
          reason: entry.failure?.message,
        });
        this.#options.onChange(entry.registration);
        continue;
      }
      if (nextExpiry === undefined || svid.notAfter < nextExpiry) nextExpiry = svid.notAfter;
      const event = reason === undefined ? Math.min(svid.renewAt, svid.notAfter) : svid.notAfter;
      const eventMs = event - timeFor(svid, clock);
      if (firstMs === undefined || eventMs < firstMs) firstMs = eventMs;
    }
    this.#nextExpiry = nextExpiry;
    this.#armLook(clock.monotonic() + lookAgainIn(firstMs, LOOK_GRANULARITY_MS));
    this.#schedule();
  }

  /** Starts batches soon: after the caller has said all that it has to say, so that it goes into one batch. */
  #schedule(): void {
    if (this.#scheduled || this.#signal === undefined || this.#signal.aborted) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#startBatches();
    });
  }

  #startBatches(): void {
    const signal = this.#signal;
    if (signal === undefined || signal.aborted) return;
    const { clock, limits } = this.#options;
    const now = clock.monotonic();
    this.#wakeTimer?.cancel();
    if (now >= this.#pausedUntil) {
      while (this.#running < limits.signConcurrency && this.#queue.hasReady(now)) {
        this.#running++;
        // Callers that wait get a batch of their own: it comes back sooner than one filled up with others.
        const least = this.#queue.hasReady(now, Priority.RealTime) ? Priority.RealTime : Priority.Background;
        const ids = this.#queue.take(this.#batchSize, now, least);
        void this.#runBatch(ids, signal, () => this.#running--);
      }
      // A caller that waits does not wait for the batches that are under way.
      while (this.#urgentRunning < 1 && this.#queue.hasReady(now, Priority.RealTime)) {
        this.#urgentRunning++;
        const ids = this.#queue.take(this.#batchSize, now, Priority.RealTime);
        void this.#runBatch(ids, signal, () => this.#urgentRunning--);
      }
    }
    const next = this.#queue.hasReady(now) ? this.#pausedUntil : this.#queue.nextReadyAt;
    if (next !== undefined && next > now)
      this.#wakeTimer = clock.after(Math.max(next, this.#pausedUntil) - now, () => this.#startBatches());
  }

  async #runBatch(ids: readonly string[], signal: AbortSignal, finished: () => void): Promise<void> {
    const requestId = this.#requestIds.next();
    try {
      await this.#signBatch(ids, signal, requestId);
    } catch (error) {
      // The batch as a whole: nothing is known of any of its registrations.
      const { clock, logger } = this.#options;
      for (const id of ids) this.#queue.release(id);
      if (!signal.aborted) {
        const delay = this.#unreachable.next();
        this.#pausedUntil = clock.monotonic() + delay;
        const { code, message } = SignetError.from(error);
        logger.warn('signing X.509-SVIDs failed', {
          registrations: ids.length,
          code,
          error: message,
          requestId,
          retryInMs: Math.round(delay),
        });
      }
    } finally {
      finished();
      if (signal.aborted && this.#running + this.#urgentRunning === 0) this.#idle?.();
      else this.#schedule();
    }
  }

  async #signBatch(ids: readonly string[], signal: AbortSignal, requestId: string): Promise<void> {
    const registrations = ids.flatMap((id) => this.#entries.get(id)?.registration ?? []);
    const answers = await signX509Batch(this.#options, registrations, requestId, signal);
    if (answers.length > 0) this.#unreachable.reset();
    for (const answer of answers) this.#settle(answer, requestId);
  }

  /** Takes one answer in. */
  #settle({ registration: asked, key, result }: X509Answer, requestId: string): void {
    const entry = this.#entries.get(asked.id);
    if (entry === undefined) return;
    const { clock, random, logger, onChange } = this.#options;
    const now = clock.now();
    if (result.ok) this.#options.onSigned?.(result);
    const spiffeId = entry.registration.spiffeId.uri;
    // An answer to a question that was asked before the registration changed; the queue asks again.
    const outdated = svidRevision(entry.registration) !== svidRevision(asked);
    if (outdated && !sameNames(entry.registration, asked)) {
      this.#queue.done(asked.id);
      return;
    }
    const problem = result.ok ? svidProblem(result, { spki: key.spki, spiffeId }, now) : undefined;
    if (!result.ok || problem !== undefined) {
      const failure: SigningFailure = result.ok
        ? { code: 'SvidInvalid', message: '', ...problem, retryable: true }
        : { code: result.code, message: result.message, retryable: result.retryable };
      this.#setFailure(entry, failure);
      this.#queue.refused(asked.id, clock.monotonic(), failure.retryable);
      logger.warn('no X.509-SVID for a registration', {
        registration: asked.id,
        spiffeId,
        code: failure.code,
        error: failure.message,
        retryable: failure.retryable,
        requestId,
      });
      onChange(entry.registration);
      return;
    }
    const svid = packSvid(
      result,
      { spiffeId, revision: asked.revision, pkcs8: key.pkcs8 },
      { now, monotonic: clock.monotonic(), fraction: random.fraction(), sharing: this.#sharing },
    );
    this.#setSvid(entry, svid);
    this.#setFailure(entry, undefined);
    if (this.#nextExpiry === undefined || svid.notAfter < this.#nextExpiry) this.#nextExpiry = svid.notAfter;
    if (this.#tainted.has(result.authorityId) || !this.#isTrusted(svid)) {
      // Better than none, but to be replaced: with back-off, since the server signs with a tainted authority, or the bundle is
      // behind it.
      this.#queue.refused(asked.id, clock.monotonic(), true);
    } else this.#queue.done(asked.id);
    this.#lookBefore(svid);
    onChange(entry.registration);
  }

  /** Why it is to be replaced, if it is. */
  #reasonOf(svid: CachedSvid): RotationReason | 'untrusted' | undefined {
    const reason = rotationReason(svid, this.#options.clock, this.#tainted);
    return reason ?? (this.#isTrusted(svid) ? undefined : 'untrusted');
  }

  #isTrusted(svid: CachedSvid): boolean {
    return this.#trust?.trusts(svid, timeFor(svid, this.#options.clock)) ?? true;
  }

  /** Moves the next look forward when this SVID is due before it. */
  #lookBefore(svid: CachedSvid): void {
    const { clock } = this.#options;
    const firstMs = Math.min(svid.renewAt, svid.notAfter) - timeFor(svid, clock);
    const at = clock.monotonic() + lookAgainIn(firstMs, LOOK_GRANULARITY_MS);
    if (at < this.#lookAt) this.#armLook(at);
  }

  #armLook(at: number): void {
    const { clock } = this.#options;
    this.#lookTimer?.cancel();
    this.#lookAt = at;
    this.#lookTimer = clock.after(at - clock.monotonic(), () => this.#look());
  }
}
