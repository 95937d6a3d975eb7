import type { Clock } from '../../lib/clock.js';
import { TokenBucket } from '../../lib/token-bucket.js';
import { StatusError } from '../../rpc/service.js';

/** What strangers may use of one replica. */
export interface AttestationLimitOptions {
  /** Attestations at one time: each asks the API server. */
  readonly attestations: number;
  /** Attempts of one address that may fail at once, and per minute in the long run. */
  readonly failedBurst: number;
  readonly failedPerMinute: number;
}

export const defaultAttestationLimits: AttestationLimitOptions = {
  attestations: 256,
  // An agent whose pod the server has yet to hear of fails a few times, with growing pauses.
  failedBurst: 30,
  failedPerMinute: 10,
};

/** Addresses that are remembered. */
const MOST_ADDRESSES = 10_000;

/**
 * Keeps those who guess from having the API server review tokens without end. Only what failed counts against an address, so
 * any number of agents may come from one.
 */
export class AttestationLimits {
  readonly #limits: AttestationLimitOptions;
  readonly #clock: Clock;
  readonly #failed = new Map<string, TokenBucket>();
  #underWay = 0;

  constructor(limits: AttestationLimitOptions, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Runs an attestation for a client at this address. Rejects with what it rejects with.
   *
   * @throws StatusError `ResourceExhausted`
   */
  async run<T>(address: string, attest: () => Promise<T>): Promise<T> {
    const { attestations, failedPerMinute } = this.#limits;
    if (this.#underWay >= attestations)
      exhausted(`${this.#underWay} agents are being attested; try again in a moment`);
    if (this.#failed.get(address)?.has(1) === false)
      exhausted(`too many attempts of this address have failed; ${failedPerMinute} a minute are looked at`);
    this.#underWay += 1;
    try {
      return await attest();
    } catch (thrown) {
      this.#bucket(address).take();
      throw thrown;
    } finally {
      this.#underWay -= 1;
    }
  }

  #bucket(address: string): TokenBucket {
    const known = this.#failed.get(address);
    if (known !== undefined) return known;
    if (this.#failed.size >= MOST_ADDRESSES) this.#forget();
    const { failedPerMinute, failedBurst } = this.#limits;
    const fresh = new TokenBucket(this.#clock, failedPerMinute / 60, failedBurst);
    this.#failed.set(address, fresh);
    return fresh;
  }

  /** Those that have recovered, and if there are none, the one that was first. */
  #forget(): void {
    for (const [address, bucket] of this.#failed) if (bucket.full) this.#failed.delete(address);
    const [first] = this.#failed.keys();
    if (first !== undefined && this.#failed.size >= MOST_ADDRESSES) this.#failed.delete(first);
  }
}

function exhausted(message: string): never {
  throw new StatusError('ResourceExhausted', message, { code: 'AttestationLimit' });
}
