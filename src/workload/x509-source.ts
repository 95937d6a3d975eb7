import { sleep, systemClock, type Clock } from '../lib/clock.js';
import type { SignetError } from '../lib/errors.js';
import { silentLogger, type Logger } from '../lib/logger.js';
import { systemRandom, type Random } from '../lib/random.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { connectRpc, type RpcConnection } from '../rpc/client.js';
import { endpointAddress, type Environment } from './environment.js';
import { WorkloadError } from './errors.js';
import { follow } from './follow.js';
import { readX509Response, type X509Context, type X509Svid } from './x509-svid.js';

export interface X509SourceOptions {
  /** `unix:///path` or `tcp://ip:port`; SPIFFE_ENDPOINT_SOCKET unless said. */
  readonly address?: string;
  /** Where SPIFFE_ENDPOINT_SOCKET is looked up; the process's environment unless said. */
  readonly environment?: Environment;
  /** How long the first SVID is waited for, in milliseconds; 30 s unless said. */
  readonly timeoutMs?: number;
  /** Which SVID to use where there are several; the first unless said. Undefined: none of these. */
  readonly pick?: (svids: readonly X509Svid[]) => X509Svid | undefined;
  /** Ends the wait for the first SVID, and later the source. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}

/** Where TLS gets identity and trust from: always the newest that the Workload API has pushed. */
export interface X509Source {
  /**
   * The SVID to use now.
   *
   * @throws WorkloadError `SvidExpired`, `SvidNotFound`, `SourceClosed`
   */
  svid(): X509Svid;
  /** The bundle of one trust domain: the own, or a foreign one that the operator federated. */
  bundle(trustDomain: string): TrustBundle | undefined;
  /** Every bundle. */
  bundles(): readonly TrustBundle[];
  /** Called after each change. Returns a function that ends it. */
  onUpdate(changed: () => void): () => void;
  /** Milliseconds since the epoch, on the source's clock. */
  now(): number;
  /** Ends the connection. What was handed out stays valid until it expires. */
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * Connects to the Workload API and resolves once the first SVID is there. The source then follows the stream for as
 * long as it lives; when the Workload API goes away, the last SVID serves until it expires.
 *
 * @throws WorkloadError `EndpointMissing`, `WorkloadApiRefused`, `WorkloadApiTimeout`, `SvidNotFound`; the signal's reason
 */
export async function createX509Source(options: X509SourceOptions = {}): Promise<X509Source> {
  const address = endpointAddress(options.address, options.environment);
  const source = new FollowingSource(connectRpc(address), options);
  try {
    await source.first(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, options.signal);
    return source;
  } catch (error) {
    source.close();
    throw error;
  }
}

class FollowingSource implements X509Source {
  readonly #connection: RpcConnection;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #pick: (svids: readonly X509Svid[]) => X509Svid | undefined;
  readonly #closing = new AbortController();
  readonly #watchers = new Set<() => void>();
  readonly #arrived = Promise.withResolvers<undefined>();
  #context: X509Context | undefined;
  #svid: X509Svid | undefined;
  #lastError: SignetError | undefined;

  constructor(connection: RpcConnection, options: X509SourceOptions) {
    this.#connection = connection;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#pick = options.pick ?? ((svids) => svids[0]);
    options.signal?.addEventListener('abort', () => this.close(), {
      once: true,
      signal: this.#closing.signal,
    });
    // A refusal may come before anybody waits for it.
    this.#arrived.promise.catch(() => undefined);
    const api = connection.workloadApi();
    void follow({
      name: 'FetchX509SVID',
      open: (signal) => api.fetchX509Svid({}, { signal }),
      take: (message) => this.#take(readX509Response(message)),
      failed: (error, final) => this.#failed(error, final),
      signal: this.#closing.signal,
      clock: this.#clock,
      random: options.random ?? systemRandom,
      logger: this.#logger,
    });
  }

  async first(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const stop = new AbortController();
    const signals = signal === undefined ? [stop.signal] : [stop.signal, signal];
    const timeout = sleep(this.#clock, timeoutMs, AbortSignal.any(signals)).then(() => {
      const last = this.#lastError;
      const why = last === undefined ? 'nothing was answered' : `the last answer was: ${last.message}`;
      throw new WorkloadError('WorkloadApiTimeout', `no SVID within ${timeoutMs} ms; ${why}`, {
        cause: last,
      });
    });
    try {
      await Promise.race([this.#arrived.promise, timeout]);
    } finally {
      stop.abort();
      timeout.catch(() => undefined);
    }
  }

  #take(context: X509Context): void {
    const picked = this.#pick(context.svids);
    this.#context = context;
    this.#svid = picked;
    if (picked === undefined) {
      const ids = context.svids.map(({ id }) => id.uri).join(', ');
      this.#lastError = new WorkloadError('SvidNotFound', `none of the SVIDs was picked; there are ${ids}`);
      this.#logger.warn('none of the SVIDs was picked', { ids });
    } else {
      this.#lastError = undefined;
      this.#logger.info('an SVID came', { id: picked.id.uri, serial: picked.serial });
      this.#arrived.resolve(undefined);
    }
    for (const watcher of [...this.#watchers]) if (this.#watchers.has(watcher)) watcher();
  }

  #failed(error: SignetError, final: boolean): void {
    this.#lastError = error;
    if (!final) return;
    this.#arrived.reject(
      new WorkloadError('WorkloadApiRefused', `the Workload API refuses for good: ${error.message}`, {
        cause: error,
      }),
    );
  }

  svid(): X509Svid {
    if (this.#closing.signal.aborted) throw new WorkloadError('SourceClosed', 'the source was closed');
    const svid = this.#svid;
    if (svid === undefined) {
      const why = this.#lastError?.message ?? 'nothing has come yet';
      throw new WorkloadError('SvidNotFound', `there is no SVID: ${why}`, { cause: this.#lastError });
    }
    if (svid.notAfter < this.#clock.now()) {
      const why = this.#lastError === undefined ? '' : `: ${this.#lastError.message}`;
      throw new WorkloadError(
        'SvidExpired',
        `the SVID of ${svid.id.uri} is over since ${new Date(svid.notAfter).toISOString()} and no new one came${why}`,
        { cause: this.#lastError },
      );
    }
    return svid;
  }

  bundle(trustDomain: string): TrustBundle | undefined {
    return this.#context?.bundles.get(trustDomain);
  }

  bundles(): readonly TrustBundle[] {
    return [...(this.#context?.bundles.values() ?? [])];
  }

  onUpdate(changed: () => void): () => void {
    // A wrapper of its own, so the same function may be given twice.
    const watcher = (): void => changed();
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  now(): number {
    return this.#clock.now();
  }

  close(): void {
    this.#closing.abort();
    this.#watchers.clear();
    this.#connection.close();
    this.#arrived.reject(new WorkloadError('SourceClosed', 'the source was closed'));
  }
}
