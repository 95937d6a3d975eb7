import { identityKey, type IdentityOutcome, identityTitle } from '../identity/registration/outcome.js';
import type { IdentityRef } from '../identity/registration/registration.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { IdentityStatus } from '../resources/identity.js';
import type { Store } from '../store/store.js';
import type { Watched } from '../lib/watched.js';
import { identityStatus } from './identity-status.js';
import type { IssuedSvids } from './issued-svids.js';

/** Statuses follow at a distance: the way of an identity to its workload must not wait for them. Milliseconds. */
const OUTCOME_DELAY = 50;
/** SVIDs are renewed all the time; people look at when they expire far less often. */
const ISSUED_DELAY = 5_000;
const RETRY_FIRST = 1_000;
const RETRY_LAST = 60_000;
/** The longest time between two looks for SVIDs that are over: the wall clock may jump. */
const LONGEST_LOOK = 30_000;
/** Writes at once: enough to be quick, few enough to spare the API server. */
const PARALLEL = 16;

/** What the writer is made of. */
export interface IdentityStatusWriterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly outcome: (ref: IdentityRef) => IdentityOutcome | undefined;
  /** All identities there are. */
  readonly all: () => Iterable<IdentityRef>;
  readonly issued: IssuedSvids;
  /** Nothing is written while this is false; it is always true unless given. */
  readonly leading?: Watched<boolean>;
  /**
   * For so long after a term of leading has begun, it is not known what SVIDs there are: agents and other replicas have yet
   * to tell. Milliseconds; 0 unless said.
   */
  readonly settleMs?: number;
}

/** Writes the statuses of identities whose outcome or SVIDs changed: gathered, level-triggered, retried until written. */
export class IdentityStatusWriter {
  readonly #options: IdentityStatusWriterOptions;
  readonly #dirty = new Map<string, IdentityRef>();
  /** When the first SVID of an identity ends, as last said. */
  readonly #ends = new Map<string, { readonly ref: IdentityRef; readonly at: number }>();
  readonly #unwatch: () => void;
  /** Whether we were told that we lead: what becomes dirty then is written, if not now, then when we know that we still do. */
  #active: boolean;
  /** Monotonic. */
  #settledAt = Number.NEGATIVE_INFINITY;
  #settling: Timer | undefined;
  #look: Timer | undefined;
  #timer: { readonly timer: Timer; readonly due: number } | undefined;
  #writing: Promise<void> | undefined;
  #retries = 0;
  #closed = false;

  constructor(options: IdentityStatusWriterOptions) {
    this.#options = options;
    const { leading } = options;
    this.#active = leading === undefined;
    this.#unwatch =
      leading?.watch((leads) => (leads ? this.#begin() : this.#pause())) ?? ((): void => undefined);
    if (leading?.value === true) this.#begin();
  }

  /** Notes that the outcomes of these have changed, or may have. */
  changed(refs: readonly IdentityRef[]): void {
    this.#mark(refs, OUTCOME_DELAY);
  }

  /** Notes that the SVIDs of this one have changed. */
  issued(ref: IdentityRef): void {
    this.#mark([ref], ISSUED_DELAY);
  }

  /** The identity is gone: nothing is written of it any more. */
  forget(ref: IdentityRef): void {
    const key = identityKey(ref);
    this.#dirty.delete(key);
    this.#ends.delete(key);
  }

  async close(): Promise<void> {
    this.#unwatch();
    this.#pause();
    this.#closed = true;
    await this.#writing;
  }

  get #leads(): boolean {
    return this.#options.leading?.value ?? true;
  }

  /** A term begins: nothing is known of what the leader before has written last. */
  #begin(): void {
    this.#active = true;
    const { clock, settleMs = 0, all } = this.#options;
    this.#settledAt = clock.monotonic() + settleMs;
    this.#mark([...all()], OUTCOME_DELAY);
    this.#settling?.cancel();
    if (settleMs > 0)
      this.#settling = clock.after(settleMs, () => {
        this.#mark([...all()], OUTCOME_DELAY);
      });
  }

  #pause(): void {
    this.#active = false;
    for (const timer of [this.#timer?.timer, this.#settling, this.#look]) timer?.cancel();
    this.#timer = undefined;
    this.#look = undefined;
    this.#dirty.clear();
    this.#ends.clear();
  }

  #mark(refs: readonly IdentityRef[], delay: number): void {
    if (refs.length === 0 || !this.#active) return;
    for (const ref of refs) this.#dirty.set(identityKey(ref), ref);
    this.#arm(delay);
  }

  #arm(delay: number): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    const due = clock.monotonic() + delay;
    if (this.#timer !== undefined) {
      if (this.#timer.due <= due) return;
      this.#timer.timer.cancel();
    }
    const timer = clock.after(delay, () => {
      this.#timer = undefined;
      this.#writing ??= this.#flush().finally(() => {
        this.#writing = undefined;
        if (this.#dirty.size === 0) return;
        if (this.#retries > 0) this.#arm(this.#retryDelay());
        // What became dirty while a timer found the writes still going on.
        else if (this.#timer === undefined) this.#arm(OUTCOME_DELAY);
      });
    });
    this.#timer = { timer, due };
  }

  #retryDelay(): number {
    return Math.min(RETRY_LAST, RETRY_FIRST * 2 ** (this.#retries - 1));
  }

  async #flush(): Promise<void> {
    const refs = [...this.#dirty.values()];
    this.#dirty.clear();
    let failed = 0;
    for (let at = 0; at < refs.length && !this.#closed; at += PARALLEL) {
      const some = refs.slice(at, at + PARALLEL);
      const written = await Promise.all(some.map((ref) => this.#write(ref)));
      failed += written.filter((ok) => !ok).length;
    }
    this.#retries = failed === 0 ? 0 : Math.min(this.#retries + 1, 16);
  }

  async #write(ref: IdentityRef): Promise<boolean> {
    const { store, clock, logger, outcome } = this.#options;
    if (!this.#leads) {
      // Not known to lead at this moment; if it is over, we are told, and all of this is forgotten.
      if (this.#active) this.#dirty.set(identityKey(ref), ref);
      return false;
    }
    const key = ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
    const current = outcome(ref);
    if (current === undefined || store.get(ref.kind, key) === undefined) return true;
    const previous = store.status(ref.kind, key) as IdentityStatus | undefined;
    const now = clock.now();
    const settled = clock.monotonic() >= this.#settledAt;
    const issued = settled ? this.#options.issued.sum(ref, now) : undefined;
    this.#endsAt(ref, issued?.nextExpiry);
    const status = identityStatus(current, issued, previous, now);
    if (JSON.stringify(status) === JSON.stringify(previous)) return true;
    try {
      await store.writeStatus(ref.kind, key, status);
      this.#tell(ref, status, previous);
      return true;
    } catch (thrown) {
      logger.warn('status could not be written; it is tried again', {
        kind: ref.kind,
        key,
        error: SignetError.from(thrown).message,
      });
      this.#dirty.set(identityKey(ref), ref);
      return false;
    }
  }

  /** Where nobody reads statuses (`signet dev`), the log says the same, once per turn. */
  #tell(ref: IdentityRef, status: IdentityStatus, previous: IdentityStatus | undefined): void {
    const now = status.conditions?.[0];
    const before = previous?.conditions?.[0];
    if (now === undefined || (now.status === before?.status && now.reason === before.reason)) return;
    const fields = { identity: identityTitle(ref), reason: now.reason, detail: now.message };
    if (now.status === 'False') this.#options.logger.warn('an identity is not given as asked', fields);
    else if (before?.status === 'False')
      this.#options.logger.info('an identity is given as asked again', fields);
  }

  /** The status is due again when the first SVID ends, if it is not renewed before. */
  #endsAt(ref: IdentityRef, at: number | undefined): void {
    const key = identityKey(ref);
    if (at === undefined) this.#ends.delete(key);
    else {
      this.#ends.set(key, { ref, at });
      this.#look ??= this.#options.clock.after(LONGEST_LOOK, () => this.#lookForEnded());
    }
  }

  #lookForEnded(): void {
    const { clock } = this.#options;
    const now = clock.now();
    this.#look = undefined;
    this.#mark(
      [...this.#ends.values()].filter(({ at }) => at <= now).map(({ ref }) => ref),
      OUTCOME_DELAY,
    );
    if (this.#ends.size > 0) this.#look = clock.after(LONGEST_LOOK, () => this.#lookForEnded());
  }
}
