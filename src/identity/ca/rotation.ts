import { Backoff } from '../../lib/backoff.js';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { WatchedValue } from '../../lib/watched.js';
import type { AuthorityKeeper } from './authority-keeper.js';
import type { AuthorityKind } from './authority-set.js';
import {
  AUTHORITY_KINDS,
  discardPrepared,
  inSlot,
  retireAuthorities,
  revokeAuthority,
  taintAuthority,
} from './authority-set.js';
import type { JournalState } from './journal.js';
import { CaError } from './errors.js';
import type { Moment } from './schedule.js';
import { nextDecisionIn, shouldActivate, shouldDiscard, shouldPrepare, shouldRetire } from './schedule.js';

/** The wall clock is looked at at least this often, since it may jump while a timer runs; milliseconds. */
const LONGEST_SLEEP_MS = 30_000;
const SHORTEST_SLEEP_MS = 100;
const RETRY = { initialMs: 1000, maxMs: LONGEST_SLEEP_MS };

/** All that changes authorities, on schedule or by hand: one at a time. */
export class Rotation {
  readonly #keeper: AuthorityKeeper;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #problem: WatchedValue<SignetError | undefined>;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;
  #endSleep: (() => void) | undefined;

  constructor(
    keeper: AuthorityKeeper,
    clock: Clock,
    logger: Logger,
    problem: WatchedValue<SignetError | undefined>,
  ) {
    this.#keeper = keeper;
    this.#clock = clock;
    this.#logger = logger;
    this.#problem = problem;
  }

  /** Throws CaError `CaClosed`. */
  requireOpen(): void {
    if (this.#closed) throw new CaError('CaClosed', 'the certificate authority is closed');
  }

  /**
   * Does whatever is due now. What fails for one kind does not keep the other from its rotation; the first failure is
   * returned, logged when it is new, and shown.
   */
  tick(): Promise<SignetError | undefined> {
    return this.#alone(async () => {
      const failures: SignetError[] = [];
      if (this.#closed) return undefined;
      const attempt = async (act: () => Promise<void>): Promise<void> => {
        try {
          await act();
        } catch (error) {
          failures.push(SignetError.from(error));
        }
      };
      for (const kind of AUTHORITY_KINDS) await attempt(() => this.#prepareIfDue(kind));
      await attempt(() => this.#keeper.publish());
      for (const kind of AUTHORITY_KINDS) await attempt(() => this.#activateIfDue(kind));
      await attempt(() => this.#retireIfDue());
      this.#report(failures[0]);
      return failures[0];
    });
  }

  async #prepareIfDue(kind: AuthorityKind): Promise<void> {
    const keeper = this.#keeper;
    const now = this.#clock.now();
    if (shouldDiscard(keeper.set, kind, now)) {
      this.#logger.warn('a prepared authority is not valid by the clock as it stands now; it is dropped', {
        kind,
        authority: inSlot(keeper.set, kind, 'prepared')?.id,
      });
      await keeper.commit(discardPrepared(keeper.set, kind));
    }
    if (shouldPrepare(keeper.set, kind, now)) await keeper.prepare(kind, true);
  }

  async #activateIfDue(kind: AuthorityKind): Promise<void> {
    if (shouldActivate(this.#keeper.set, kind, this.#moment())) await this.#keeper.activate(kind);
  }

  async #retireIfDue(): Promise<void> {
    const now = this.#clock.now();
    await this.#keeper.commit(retireAuthorities(this.#keeper.set, (one) => shouldRetire(one, now)));
  }

  /** Prepares, publishes and activates at once. */
  rotate(kind: AuthorityKind): Promise<void> {
    return this.#byHand(async () => {
      const keeper = this.#keeper;
      if (shouldDiscard(keeper.set, kind, this.#clock.now()))
        await keeper.commit(discardPrepared(keeper.set, kind));
      if (inSlot(keeper.set, kind, 'prepared') === undefined) await keeper.prepare(kind, false);
      await keeper.publish();
      await keeper.activate(kind);
    });
  }

  prepare(kind: AuthorityKind): Promise<void> {
    return this.#byHand(async () => {
      await this.#keeper.prepare(kind, false);
      await this.#keeper.publish();
    });
  }

  activate(kind: AuthorityKind): Promise<void> {
    return this.#byHand(() => this.#keeper.activate(kind));
  }

  taint(kind: AuthorityKind, id: string): Promise<void> {
    return this.#byHand(async () => {
      await this.#keeper.commit(taintAuthority(this.#keeper.set, kind, id));
      this.#logger.warn('authority tainted: what it signed is being replaced', { kind, authority: id });
    });
  }

  revoke(kind: AuthorityKind, id: string): Promise<void> {
    return this.#byHand(async () => {
      await this.#keeper.commit(revokeAuthority(this.#keeper.set, kind, id));
      this.#logger.warn('authority revoked: what it signed is trusted no more', { kind, authority: id });
    });
  }

  /** Takes over what another process has saved, if it is newer. */
  follow(load: () => Promise<JournalState | undefined>): Promise<void> {
    return this.#alone(async () => {
      if (this.#closed) return;
      const state = await load();
      if (state !== undefined) await this.#keeper.follow(state);
    });
  }

  /**
   * Begins to rotate what another process has rotated until now: its newest state, and what it left undone. A failure is
   * returned, logged when it is new, and shown.
   */
  takeUp(load: () => Promise<JournalState | undefined>): Promise<SignetError | undefined> {
    return this.#alone(async () => {
      if (this.#closed) return undefined;
      try {
        const state = await load();
        if (state !== undefined) await this.#keeper.follow(state);
        await this.#keeper.takeUp();
        return undefined;
      } catch (error) {
        const failure = SignetError.from(error);
        this.#report(failure);
        return failure;
      }
    });
  }

  get isOpen(): boolean {
    return !this.#closed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#endSleep?.();
    await this.#last.catch(() => undefined);
  }

  /** Tells the loop that the clock is not what its timer was set by. After a failure the loop waits nevertheless. */
  wake(): void {
    if (this.#problem.value === undefined) this.#endSleep?.();
  }

  /** How long the loop may sleep after a tick that succeeded, milliseconds. */
  get pauseMs(): number {
    const next = nextDecisionIn(this.#keeper.set, this.#moment());
    return Math.max(SHORTEST_SLEEP_MS, Math.min(LONGEST_SLEEP_MS, next));
  }

  /** Sleeps until the time is up, the signal is aborted, the loop is woken, or the CA is closed. */
  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        signal.removeEventListener('abort', end);
        this.#endSleep = undefined;
        resolve();
      };
      const timer = this.#clock.after(ms, end);
      signal.addEventListener('abort', end, { once: true });
      this.#endSleep = end;
    });
  }

  #moment(): Moment {
    return {
      now: this.#clock.now(),
      publishedForMs: (authority) => this.#keeper.publishedForMs(authority),
      publishDelayMs: this.#keeper.settings.publishDelayMs,
    };
  }

  #report(failure: SignetError | undefined): void {
    const before = this.#problem.value;
    if (failure?.message === before?.message) return;
    if (failure === undefined) this.#logger.info('the CA has recovered');
    else
      this.#logger.error('the CA could not do what is due', { code: failure.code, reason: failure.message });
    this.#problem.set(failure);
  }

  #byHand(act: () => Promise<void>): Promise<void> {
    return this.#alone(async () => {
      this.requireOpen();
      await act();
    });
  }

  /** One after the other, in the order of the calls. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

/**
 * Ticks until the signal is aborted or the CA is closed: when something is due, at least every 30 seconds, and soon
 * after a failure. `takeUp` comes before the first tick, until it succeeds.
 */
export async function runRotation(
  rotation: Rotation,
  random: Random,
  signal: AbortSignal,
  takeUp?: () => Promise<SignetError | undefined>,
): Promise<void> {
  const backoff = new Backoff(RETRY, random);
  let isTakenUp = takeUp === undefined;
  while (!signal.aborted && rotation.isOpen) {
    let failure = isTakenUp ? undefined : await takeUp?.();
    isTakenUp ||= failure === undefined;
    failure ??= await rotation.tick();
    if (!rotation.isOpen) return;
    if (failure === undefined) backoff.reset();
    const pause = failure === undefined ? rotation.pauseMs : Math.min(backoff.next(), LONGEST_SLEEP_MS);
    await rotation.sleep(pause, signal);
  }
}
