import { sleep, systemClock, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import { silentLogger, type Logger } from '../lib/logger.js';
import { systemRandom, type Random } from '../lib/random.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import { parseJwtSvidUnverified, verifyJwtSvid, type JwtSvid } from '../identity/spiffe/jwt-svid.js';
import { connectRpc, type RpcConnection, type WorkloadApiClient } from '../rpc/client.js';
import { endpointAddress, type Environment } from './environment.js';
import { WorkloadError } from './errors.js';
import { follow, isFinal } from './follow.js';

export interface JwtSourceOptions {
  /** `unix:///path` or `tcp://ip:port`; SPIFFE_ENDPOINT_SOCKET unless said. */
  readonly address?: string;
  /** Where SPIFFE_ENDPOINT_SOCKET is looked up; the process's environment unless said. */
  readonly environment?: Environment;
  /** How long one answer is waited for, in milliseconds; 30 s unless said. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}

/** JWT-SVIDs of our own, and the means to check those of others. */
export interface JwtSource {
  /**
   * A token for these audiences, from the cache until half of its life is over. Where the Workload API cannot give a
   * new one then, the old one serves until shortly before its end.
   *
   * @throws WorkloadError `WorkloadApiRefused`, `WorkloadApiTimeout`, `WorkloadApiAnswerInvalid`, `SourceClosed`; RpcError
   */
  fetch(audience: string | readonly string[], options?: { readonly spiffeId?: string }): Promise<JwtSvid>;
  /**
   * Checks a token that somebody presents to us as `audience`, against the bundles of the Workload API.
   *
   * @throws JwtSvidError; WorkloadError as above
   */
  validate(token: string, audience: string): Promise<JwtSvid>;
  /** The keys of one trust domain, once they have come. */
  bundle(trustDomain: string): TrustBundle | undefined;
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** More audiences than that and a program is using them as something else. */
const MAX_CACHED = 256;
/** A token that ends sooner may end on its way. */
const LAST_MOMENT_MS = 5000;

/** Connects on first use. Throws WorkloadError `EndpointMissing`. */
export function createJwtSource(options: JwtSourceOptions = {}): JwtSource {
  return new CachingSource(connectRpc(endpointAddress(options.address, options.environment)), options);
}

interface Cached {
  readonly svid: JwtSvid;
  /** When a new one is due; milliseconds since the epoch. */
  readonly halfLife: number;
}

class CachingSource implements JwtSource {
  readonly #connection: RpcConnection;
  readonly #api: WorkloadApiClient;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  readonly #cache = new Map<string, Cached>();
  readonly #fetching = new Map<string, Promise<JwtSvid>>();
  #bundles: ReadonlyMap<string, TrustBundle> | undefined;
  #following: PromiseWithResolvers<undefined> | undefined;
  #lastError: SignetError | undefined;

  constructor(connection: RpcConnection, options: JwtSourceOptions) {
    this.#connection = connection;
    this.#api = connection.workloadApi();
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#logger = options.logger ?? silentLogger;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  async fetch(
    audience: string | readonly string[],
    options: { readonly spiffeId?: string } = {},
  ): Promise<JwtSvid> {
    this.#assertOpen();
    const audiences = typeof audience === 'string' ? [audience] : [...new Set(audience)].sort();
    const spiffeId = options.spiffeId ?? '';
    const key = JSON.stringify([spiffeId, audiences]);
    const cached = this.#cache.get(key);
    if (cached !== undefined && this.#clock.now() < cached.halfLife) return cached.svid;
    let fetching = this.#fetching.get(key);
    if (fetching === undefined) {
      fetching = this.#fetch(audiences, spiffeId).finally(() => this.#fetching.delete(key));
      this.#fetching.set(key, fetching);
    }
    try {
      const svid = await fetching;
      this.#keep(key, svid);
      return svid;
    } catch (error) {
      if (cached === undefined || this.#clock.now() >= cached.svid.expiresAt - LAST_MOMENT_MS) throw error;
      this.#logger.warn('no new JWT-SVID; the old one serves on', { error: SignetError.from(error).message });
      return cached.svid;
    }
  }

  async #fetch(audience: readonly string[], spiffeId: string): Promise<JwtSvid> {
    const signal = this.#closing.signal;
    try {
      const response = await this.#api.fetchJwtsvid(
        { audience: [...audience], spiffeId },
        { signal, deadlineMs: this.#timeoutMs },
      );
      const token = response.svids[0]?.svid;
      if (token === undefined)
        throw new WorkloadError('WorkloadApiAnswerInvalid', 'the answer holds no JWT-SVID');
      const svid = parseJwtSvidUnverified(token);
      if (!audience.every((wanted) => svid.audience.includes(wanted))) {
        throw new WorkloadError(
          'WorkloadApiAnswerInvalid',
          'the JWT-SVID is not for the audience that was asked for',
        );
      }
      return svid;
    } catch (error) {
      this.#assertOpen();
      if (!isFinal(error)) throw error;
      const why = SignetError.from(error).message;
      throw new WorkloadError('WorkloadApiRefused', `the Workload API refuses for good: ${why}`, {
        cause: error,
      });
    }
  }

  #keep(key: string, svid: JwtSvid): void {
    const now = this.#clock.now();
    const from = Math.min(svid.issuedAt ?? now, now);
    this.#cache.delete(key);
    this.#cache.set(key, { svid, halfLife: from + (svid.expiresAt - from) / 2 });
    const oldest = this.#cache.keys().next();
    if (this.#cache.size > MAX_CACHED && oldest.done !== true) this.#cache.delete(oldest.value);
  }

  async validate(token: string, audience: string): Promise<JwtSvid> {
    await this.#haveBundles();
    return verifyJwtSvid({
      token,
      audience,
      bundles: (trustDomain) => this.#bundles?.get(trustDomain),
      now: this.#clock.now(),
    });
  }

  bundle(trustDomain: string): TrustBundle | undefined {
    return this.#bundles?.get(trustDomain);
  }

  /** Follows the bundles from the first time that they are needed. */
  async #haveBundles(): Promise<void> {
    this.#assertOpen();
    if (this.#bundles !== undefined) return;
    this.#following ??= this.#follow();
    const stop = new AbortController();
    const timeout = sleep(this.#clock, this.#timeoutMs, stop.signal).then(() => {
      const why = this.#lastError?.message ?? 'nothing was answered';
      throw new WorkloadError('WorkloadApiTimeout', `no JWT bundles within ${this.#timeoutMs} ms: ${why}`, {
        cause: this.#lastError,
      });
    });
    try {
      await Promise.race([this.#following.promise, timeout]);
    } finally {
      stop.abort();
      timeout.catch(() => undefined);
    }
  }

  #follow(): PromiseWithResolvers<undefined> {
    const arrived = Promise.withResolvers<undefined>();
    arrived.promise.catch(() => undefined);
    void follow({
      name: 'FetchJWTBundles',
      open: (signal) => this.#api.fetchJwtBundles({}, { signal }),
      take: ({ bundles }) => {
        this.#bundles = readBundles(bundles);
        this.#lastError = undefined;
        arrived.resolve(undefined);
      },
      failed: (error, final) => {
        this.#lastError = error;
        if (!final) return;
        // The next one who needs the bundles tries again.
        this.#following = undefined;
        arrived.reject(
          new WorkloadError('WorkloadApiRefused', `the Workload API refuses for good: ${error.message}`, {
            cause: error,
          }),
        );
      },
      signal: this.#closing.signal,
      clock: this.#clock,
      random: this.#random,
      logger: this.#logger,
    });
    return arrived;
  }

  #assertOpen(): void {
    if (this.#closing.signal.aborted) throw new WorkloadError('SourceClosed', 'the source was closed');
  }

  close(): void {
    this.#closing.abort();
    this.#connection.close();
    this.#cache.clear();
    this.#following?.reject(new WorkloadError('SourceClosed', 'the source was closed'));
  }
}

function readBundles(documents: Readonly<Record<string, Uint8Array>>): ReadonlyMap<string, TrustBundle> {
  const bundles = new Map<string, TrustBundle>();
  for (const [id, document] of Object.entries(documents)) {
    const { trustDomain } = parseSpiffeId(id);
    bundles.set(trustDomain, parseBundleDocument(trustDomain, document));
  }
  return bundles;
}
