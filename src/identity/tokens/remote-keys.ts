import { Backoff } from '../../lib/backoff.js';
import type { Clock, Timer } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { freshFor } from './cache-control.js';
import { discoveryUrl, readDiscovery } from './discovery.js';
import type { FetchBudget } from './fetch-budget.js';
import type { FetchDocument, FetchedDocument, TrustAnchors } from './fetch-document.js';
import type { IssuerKeys, KeysStatus } from './issuer-keys.js';
import { idsOf } from './issuer-keys.js';
import type { KeySet } from './key-set.js';
import { readKeySet } from './key-set.js';

/** The largest document that is read, in bytes. */
export const MAX_DOCUMENT_BYTES = 256 * 1024;
/** How long discovery and keys may take together. */
const FETCH_TIMEOUT_MS = 10_000;
/** Keys are fetched again when this share of their life is over. */
const REFRESH_AT = 0.75;
const RETRY = { initialMs: 1000, maxMs: 60_000 };
/** An issuer without keys is asked again soon. */
const EMPTY_LIFETIME_MS = 60_000;
/** How long the address from a discovery document serves. */
const DISCOVERED_FOR_MS = 60 * 60_000;
/** More callers than that do not wait for one fetch; they are refused at once. */
const MAX_WAITING = 1000;

export interface RemoteKeysOptions {
  readonly issuer: string;
  /** Undefined: the address comes by discovery. */
  readonly jwksUri: string | undefined;
  readonly trust: TrustAnchors | undefined;
  readonly fetch: FetchDocument;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly budget: FetchBudget;
  /** How long keys serve after the last fetch that worked. */
  readonly maxStaleMs: number;
  /** Called whenever keys have come, and when they serve no more. */
  readonly onKeys: () => void;
}

interface Fetched {
  readonly keys: KeySet;
  readonly freshMs: number;
}

/**
 * Keys that an issuer publishes: fetched at once, again in the background before they are stale, and, within bounds, when
 * a token names a key that is unknown. One fetch at a time, shared by all who wait. While the issuer cannot be reached the
 * last keys serve, until their bound.
 */
export class RemoteKeys implements IssuerKeys {
  readonly #options: RemoteKeysOptions;
  readonly #backoff: Backoff;
  #keys: KeySet | undefined;
  #fetchedAt = 0;
  #problem = '';
  /** Whether the log has said that the keys serve no more. */
  #saidUnavailable = false;
  #discovered: { readonly uri: string; readonly at: number } | undefined;
  #inFlight: Promise<void> | undefined;
  #abort = new AbortController();
  #timer: Timer | undefined;
  #lastOnDemand: number | undefined;
  #waiting = 0;
  #closed = false;

  constructor(options: RemoteKeysOptions) {
    this.#options = options;
    this.#backoff = new Backoff(RETRY, options.random);
    void this.#refresh();
  }

  get usable(): KeySet | undefined {
    return this.#closed || this.#age > this.#options.maxStaleMs ? undefined : this.#keys;
  }

  get #age(): number {
    return this.#options.clock.monotonic() - this.#fetchedAt;
  }

  get problem(): string {
    if (this.#closed) return 'the validator is closed';
    if (this.#keys === undefined) return this.#problem === '' ? 'they have not come yet' : this.#problem;
    return `they came ${Math.round(this.#age / 60_000)} minutes ago and count no more: ${this.#problem}`;
  }

  wait(missing: 'keys' | 'key'): (() => Promise<void>) | undefined {
    if (this.#closed || this.#waiting >= MAX_WAITING) return undefined;
    // Without keys there is a retry at its own pace: no caller may hurry it.
    if (this.#inFlight === undefined && (missing === 'keys' || !this.#mayFetchOnDemand())) return undefined;
    return async () => {
      this.#waiting++;
      try {
        await (this.#inFlight ?? this.#fetchOnDemand());
      } finally {
        this.#waiting--;
      }
    };
  }

  #mayFetchOnDemand(): boolean {
    const { clock, budget } = this.#options;
    const last = this.#lastOnDemand;
    return (last === undefined || clock.monotonic() - last >= budget.coolDownMs) && budget.available;
  }

  #fetchOnDemand(): Promise<void> {
    if (this.#closed || !this.#mayFetchOnDemand()) return Promise.resolve();
    this.#lastOnDemand = this.#options.clock.monotonic();
    this.#options.budget.take();
    return this.#refresh();
  }

  status(): KeysStatus {
    const { usable } = this;
    const problem = this.#problem === '' ? {} : { problem: this.#problem };
    const age = this.#keys === undefined ? {} : { ageMs: this.#age };
    return {
      state: this.#state(),
      keyIds: idsOf(usable),
      skipped: usable?.skipped ?? [],
      ...problem,
      ...age,
    };
  }

  #state(): KeysStatus['state'] {
    if (this.usable !== undefined) return this.#problem === '' ? 'ready' : 'stale';
    return this.#keys === undefined && this.#problem === '' && !this.#closed ? 'starting' : 'unavailable';
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#abort.abort(new Error('the validator is closed'));
  }

  /** Never rejects. */
  #refresh(): Promise<void> {
    this.#timer?.cancel();
    this.#inFlight ??= this.#attempt().then((delayMs) => {
      this.#inFlight = undefined;
      if (!this.#closed) this.#timer = this.#options.clock.after(delayMs, () => void this.#refresh());
    });
    return this.#inFlight;
  }

  /** One fetch; gives the time until the next one. */
  async #attempt(): Promise<number> {
    const abort = new AbortController();
    this.#abort = abort;
    const timeout = this.#options.clock.after(FETCH_TIMEOUT_MS, () =>
      abort.abort(new Error(`no complete answer within ${FETCH_TIMEOUT_MS / 1000} s`)),
    );
    try {
      return this.#accept(await this.#download(abort.signal));
    } catch (error) {
      return this.#fail((abort.signal.aborted ? abort.signal.reason : error) as Error);
    } finally {
      timeout.cancel();
    }
  }

  async #download(signal: AbortSignal): Promise<Fetched> {
    const uri = this.#options.jwksUri ?? (await this.#discover(signal));
    try {
      return await this.#get(uri, signal, ({ body, cacheControl }) => ({
        keys: readKeySet(readJson(body), this.#keys),
        freshMs: freshFor(cacheControl),
      }));
    } catch (error) {
      // It may have moved.
      this.#discovered = undefined;
      throw error;
    }
  }

  async #discover(signal: AbortSignal): Promise<string> {
    const { issuer, clock } = this.#options;
    const known = this.#discovered;
    if (known !== undefined && clock.monotonic() - known.at < DISCOVERED_FOR_MS) return known.uri;
    const uri = await this.#get(discoveryUrl(issuer), signal, ({ body }) =>
      readDiscovery(readJson(body), issuer),
    );
    this.#discovered = { uri, at: clock.monotonic() };
    return uri;
  }

  async #get<T>(url: string, signal: AbortSignal, read: (document: FetchedDocument) => T): Promise<T> {
    const { fetch, trust } = this.#options;
    const options = { signal, maxBytes: MAX_DOCUMENT_BYTES, ...(trust === undefined ? {} : { trust }) };
    try {
      return read(await fetch(url, options));
    } catch (error) {
      throw new Error(`${url}: ${(error as Error).message}`, { cause: error });
    }
  }

  #accept({ keys, freshMs }: Fetched): number {
    if (this.#closed) return 0;
    const { logger, issuer, clock, random, onKeys } = this.#options;
    const before = this.#keys;
    this.#keys = keys;
    this.#fetchedAt = clock.monotonic();
    this.#backoff.reset();
    if (this.#problem !== '') logger.info('the keys of the token issuer are available again', { issuer });
    this.#problem = '';
    this.#saidUnavailable = false;
    if (before === undefined || changed(before, keys)) {
      const fields = { issuer, keys: idsOf(keys), skipped: keys.skipped };
      if (keys.keys.size > 0) logger.info('the token issuer has new keys', fields);
      // It vouches for nothing then, which is its right; more often it is a mistake.
      else
        logger.warn('the token issuer publishes no key that can serve: all its tokens are refused', fields);
    }
    onKeys();
    const life = keys.keys.size > 0 ? freshMs : Math.min(freshMs, EMPTY_LIFETIME_MS);
    // Not all agents at the same time.
    return life * REFRESH_AT * (1 - 0.2 * random.fraction());
  }

  #fail(error: Error): number {
    if (this.#closed) return 0;
    const { logger, issuer, onKeys } = this.#options;
    const first = this.#problem === '';
    this.#problem = error.message;
    const fields = { issuer, reason: error.message };
    if (this.usable === undefined && !this.#saidUnavailable) {
      this.#saidUnavailable = true;
      onKeys();
      logger.error('the keys of the token issuer are not available: its tokens are refused', fields);
    } else if (first)
      logger.warn('the keys of the token issuer cannot be refreshed; the last ones serve', fields);
    else logger.debug('the keys of the token issuer still cannot be refreshed', fields);
    return this.#backoff.next();
  }
}

function changed(before: KeySet, after: KeySet): boolean {
  return before.keys.symmetricDifference(after.keys).size > 0;
}

function readJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new Error('the document is no JSON');
  }
}
