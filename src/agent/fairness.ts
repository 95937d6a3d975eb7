import type { Clock } from '../lib/clock.js';
import { StatusError } from '../rpc/service.js';
import type { AgentLimits } from './limits.js';
import { TokenBucket } from '../lib/token-bucket.js';

/** Who a limit is for: a pod, or everything that runs under one uid on the shared socket. */
export interface Party {
  /** One per party, e.g. `pod/<uid>` or `uid/1000`. */
  readonly fairnessKey: string;
  readonly kind: 'pod' | 'process';
}

interface Account {
  streams: number;
  holders: number;
  readonly calls: TokenBucket;
  readonly jwt: TokenBucket;
}

/** Above so many accounts, those that owe nothing are forgotten. */
const SWEEP_ABOVE = 1_024;

/** Keeps one caller from using up what is there for all. Every refusal names the bound that was met. */
export class Fairness {
  readonly #limits: AgentLimits;
  readonly #clock: Clock;
  readonly #accounts = new Map<string, Account>();
  #sweepAbove = SWEEP_ABOVE;
  #streams = 0;
  #holders = 0;

  constructor(limits: AgentLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get streams(): number {
    return this.#streams;
  }

  /** How many parties are accounted for. */
  get parties(): number {
    return this.#accounts.size;
  }

  get holders(): number {
    return this.#holders;
  }

  /** Counts a call. @throws StatusError ResourceExhausted */
  call(party: Party): void {
    if (this.#account(party).calls.take()) return;
    throw new StatusError(
      'ResourceExhausted',
      `too many calls: ${this.#limits.callsPerSecond} per second are allowed for one ${nameOf(party)}`,
    );
  }

  /** Counts an open stream; call what it returns when the stream ends. @throws StatusError ResourceExhausted */
  openStream(party: Party): () => void {
    const account = this.#account(party);
    const most = party.kind === 'pod' ? this.#limits.maxStreamsPerPod : this.#limits.maxStreamsPerUid;
    if (account.streams >= most)
      throw new StatusError(
        'ResourceExhausted',
        `too many open streams: ${most} are allowed for one ${nameOf(party)}`,
      );
    if (this.#streams >= this.#limits.maxStreams)
      throw new StatusError(
        'ResourceExhausted',
        `the agent has ${this.#limits.maxStreams} open streams and takes no more`,
      );
    account.streams++;
    this.#streams++;
    return once(() => {
      account.streams--;
      this.#streams--;
    });
  }

  /** Counts a caller that is held; call what it returns when it is not any more. @throws StatusError Unavailable */
  hold(party: Party): () => void {
    const account = this.#account(party);
    // Unavailable, not ResourceExhausted: nothing is wrong with the caller, and it should come again.
    if (account.holders >= this.#limits.maxHoldersPerSubject || this.#holders >= this.#limits.maxHolders)
      throw new StatusError('Unavailable', 'too many callers wait for an identity already; try again');
    account.holders++;
    this.#holders++;
    return once(() => {
      account.holders--;
      this.#holders--;
    });
  }

  /** Counts JWT-SVIDs that must be signed. @throws StatusError ResourceExhausted */
  signJwt(party: Party, count: number): void {
    if (this.#account(party).jwt.take(count)) return;
    throw new StatusError(
      'ResourceExhausted',
      `too many new JWT-SVIDs: ${this.#limits.jwtPerSecond} per second are allowed for one ${nameOf(party)}; keep and reuse a token while it is valid`,
    );
  }

  #account(party: Party): Account {
    let account = this.#accounts.get(party.fairnessKey);
    if (account === undefined) {
      this.#sweep();
      const { callsPerSecond, callBurst, jwtPerSecond, jwtBurst } = this.#limits;
      account = {
        streams: 0,
        holders: 0,
        calls: new TokenBucket(this.#clock, callsPerSecond, callBurst),
        jwt: new TokenBucket(this.#clock, jwtPerSecond, jwtBurst),
      };
      this.#accounts.set(party.fairnessKey, account);
    }
    return account;
  }

  #sweep(): void {
    if (this.#accounts.size < this.#sweepAbove) return;
    for (const [key, account] of this.#accounts)
      if (account.streams === 0 && account.holders === 0 && account.calls.full && account.jwt.full)
        this.#accounts.delete(key);
    // Twice what is left, so that the cost of sweeping stays constant per account.
    this.#sweepAbove = Math.max(SWEEP_ABOVE, this.#accounts.size * 2);
  }
}

function nameOf(party: Party): string {
  return party.kind === 'pod' ? 'pod' : 'user ID';
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}
