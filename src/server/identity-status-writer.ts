import {
  identityKey,
  type IdentityOutcome,
  identityTitle,
  type RegistrationDelta,
} from '../identity/registration/outcome.js';
import type { IdentityRef, Registration } from '../identity/registration/registration.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { IdentityStatus } from '../resources/identity.js';
import type { Store } from '../store/store.js';
import { identityStatus, type IssuedSvids } from './identity-status.js';

/** Statuses follow at a distance: the way of an identity to its workload must not wait for them. Milliseconds. */
const OUTCOME_DELAY = 50;
/** SVIDs are renewed all the time; people look at when they expire far less often. */
const ISSUED_DELAY = 5_000;
const RETRY_FIRST = 1_000;
const RETRY_LAST = 60_000;
/** Writes at once: enough to be quick, few enough to spare the API server. */
const PARALLEL = 16;

/** What the writer is made of. */
export interface IdentityStatusWriterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly outcome: (ref: IdentityRef) => IdentityOutcome | undefined;
}

/** Writes the statuses of identities whose outcome or SVIDs changed: gathered, level-triggered, retried until written. */
export class IdentityStatusWriter {
  readonly #options: IdentityStatusWriterOptions;
  readonly #dirty = new Map<string, IdentityRef>();
  /** By identity, then by registration: when its SVID expires. */
  readonly #issued = new Map<string, Map<string, number>>();
  #timer: { readonly timer: Timer; readonly due: number } | undefined;
  #writing: Promise<void> | undefined;
  #retries = 0;
  #closed = false;

  constructor(options: IdentityStatusWriterOptions) {
    this.#options = options;
  }

  /** Notes what a change of the index did. */
  changed({ removed, changed, outcomes }: RegistrationDelta): void {
    if (removed.length > 0) {
      const kept = new Set(changed.map(({ id }) => id));
      for (const { id, identity } of removed)
        if (!kept.has(id)) this.#issued.get(identityKey(identity))?.delete(id);
    }
    for (const ref of outcomes) this.#dirty.set(identityKey(ref), ref);
    if (outcomes.length > 0) this.#arm(OUTCOME_DELAY);
  }

  issued({ id, identity }: Registration, notAfter: number): void {
    const key = identityKey(identity);
    const known = this.#issued.get(key);
    if (known === undefined) this.#issued.set(key, new Map([[id, notAfter]]));
    else known.set(id, notAfter);
    this.#dirty.set(key, identity);
    this.#arm(ISSUED_DELAY);
  }

  /** The identity is gone: nothing is written of it any more. */
  forget(ref: IdentityRef): void {
    const key = identityKey(ref);
    this.#dirty.delete(key);
    this.#issued.delete(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.timer.cancel();
    await this.#writing;
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
      const written = await Promise.all(refs.slice(at, at + PARALLEL).map((ref) => this.#write(ref)));
      failed += written.filter((ok) => !ok).length;
    }
    this.#retries = failed === 0 ? 0 : Math.min(this.#retries + 1, 16);
  }

  async #write(ref: IdentityRef): Promise<boolean> {
    const { store, clock, logger, outcome } = this.#options;
    const key = ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
    const current = outcome(ref);
    if (current === undefined || store.get(ref.kind, key) === undefined) return true;
    const previous = store.status(ref.kind, key) as IdentityStatus | undefined;
    const now = clock.now();
    const status = identityStatus(current, this.#svids(ref, now), previous, now);
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

  #svids(ref: IdentityRef, now: number): IssuedSvids {
    const known = this.#issued.get(identityKey(ref));
    if (known === undefined) return { count: 0, nextExpiry: undefined };
    let nextExpiry = Number.POSITIVE_INFINITY;
    for (const [id, notAfter] of known) {
      if (notAfter <= now) known.delete(id);
      else nextExpiry = Math.min(nextExpiry, notAfter);
    }
    return { count: known.size, nextExpiry: known.size === 0 ? undefined : nextExpiry };
  }
}
