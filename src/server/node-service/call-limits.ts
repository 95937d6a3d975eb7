import { TokenBucket } from '../../lib/token-bucket.js';
import type { Clock } from '../../lib/clock.js';
import { StatusError } from '../../rpc/service.js';

/** What one agent may use of one replica. */
export interface AgentCallLimits {
  /** Batches that are signed at one time. */
  readonly signing: number;
  /** Streams of each kind: a new connection's opens before the old one's ends. */
  readonly streams: number;
  /** Renewals of its own SVID per second, and how many at once: each has a token reviewed. */
  readonly renewalsPerSecond: number;
  readonly renewalBurst: number;
  /** SVIDs per second, and how many at once: 500 pods that start together, with some IDs each. */
  readonly svidsPerSecond: number;
  readonly svidBurst: number;
  /** Explanations per second, and how many at once: each looks at every identity. */
  readonly explanationsPerSecond: number;
  readonly explanationBurst: number;
  /** Acknowledgements of revocations per second, and how many at once: agents send one for several. */
  readonly acknowledgementsPerSecond: number;
  readonly acknowledgementBurst: number;
}

export const defaultAgentCallLimits: AgentCallLimits = {
  signing: 4,
  streams: 4,
  renewalsPerSecond: 1,
  renewalBurst: 20,
  svidsPerSecond: 1_000,
  svidBurst: 20_000,
  explanationsPerSecond: 50,
  explanationBurst: 500,
  acknowledgementsPerSecond: 10,
  acknowledgementBurst: 100,
};

/** Agents that are remembered without an open call. */
const MOST_AGENTS = 20_000;

interface Use {
  signing: number;
  readonly streams: Map<string, number>;
  readonly renewals: TokenBucket;
  readonly svids: TokenBucket;
  readonly explanations: TokenBucket;
  readonly acknowledgements: TokenBucket;
}

/** Keeps each agent within its share, so that one that runs wild costs the others nothing. */
export class CallLimits {
  readonly #limits: AgentCallLimits;
  readonly #clock: Clock;
  readonly #uses = new Map<string, Use>();

  constructor(limits: AgentCallLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Runs a signing of `count` SVIDs.
   *
   * @throws StatusError `ResourceExhausted`
   */
  async signing<T>(nodeName: string, count: number, sign: () => Promise<T>): Promise<T> {
    const use = this.#of(nodeName);
    if (use.signing >= this.#limits.signing)
      exhausted(`agent of ${nodeName} has ${use.signing} batches under way; wait for one`);
    if (!use.svids.take(count))
      exhausted(`agent of ${nodeName} asks for more than ${this.#limits.svidsPerSecond} SVIDs per second`);
    use.signing += 1;
    try {
      return await sign();
    } finally {
      use.signing -= 1;
    }
  }

  /**
   * Counts a stream of a kind; the function returned ends it.
   *
   * @throws StatusError `ResourceExhausted`
   */
  stream(nodeName: string, kind: string): () => void {
    const { streams } = this.#of(nodeName);
    const open = streams.get(kind) ?? 0;
    if (open >= this.#limits.streams)
      exhausted(`agent of ${nodeName} has ${open} ${kind} streams open; close one`);
    streams.set(kind, open + 1);
    return () => {
      const left = (streams.get(kind) ?? 1) - 1;
      if (left === 0) streams.delete(kind);
      else streams.set(kind, left);
    };
  }

  /**
   * Counts a renewal of the agent's own SVID.
   *
   * @throws StatusError `ResourceExhausted`
   */
  renewing(nodeName: string): void {
    if (!this.#of(nodeName).renewals.take())
      exhausted(
        `agent of ${nodeName} renews its SVID more than ${this.#limits.renewalsPerSecond} times per second`,
      );
  }

  /**
   * Counts an explanation.
   *
   * @throws StatusError `ResourceExhausted`
   */
  explaining(nodeName: string): void {
    if (!this.#of(nodeName).explanations.take())
      exhausted(
        `agent of ${nodeName} asks for more than ${this.#limits.explanationsPerSecond} explanations per second`,
      );
  }

  /**
   * Counts an acknowledgement.
   *
   * @throws StatusError `ResourceExhausted`
   */
  acknowledging(nodeName: string): void {
    if (!this.#of(nodeName).acknowledgements.take())
      exhausted(
        `agent of ${nodeName} acknowledges more than ${this.#limits.acknowledgementsPerSecond} times per second`,
      );
  }

  #of(nodeName: string): Use {
    const known = this.#uses.get(nodeName);
    if (known !== undefined) return known;
    if (this.#uses.size >= MOST_AGENTS) this.#forgetIdle();
    const { svidsPerSecond, svidBurst, explanationsPerSecond, explanationBurst } = this.#limits;
    const { acknowledgementsPerSecond, acknowledgementBurst } = this.#limits;
    const use: Use = {
      signing: 0,
      streams: new Map(),
      renewals: new TokenBucket(this.#clock, this.#limits.renewalsPerSecond, this.#limits.renewalBurst),
      svids: new TokenBucket(this.#clock, svidsPerSecond, svidBurst),
      explanations: new TokenBucket(this.#clock, explanationsPerSecond, explanationBurst),
      acknowledgements: new TokenBucket(this.#clock, acknowledgementsPerSecond, acknowledgementBurst),
    };
    this.#uses.set(nodeName, use);
    return use;
  }

  #forgetIdle(): void {
    // A bucket that is not full yet is kept: to be forgotten would fill it.
    for (const [nodeName, { signing, streams, renewals, svids }] of this.#uses)
      if (signing === 0 && streams.size === 0 && renewals.full && svids.full) this.#uses.delete(nodeName);
  }
}

function exhausted(message: string): never {
  throw new StatusError('ResourceExhausted', message, { code: 'AgentLimit' });
}
