import { hash } from 'node:crypto';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { systemRandom } from '../../lib/random.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { isSignedBy } from './algorithms.js';
import type { RegisteredClaims } from './claims.js';
import { checkAudience, checkTimes, readClaims } from './claims.js';
import type { FetchDocument } from './fetch-document.js';
import { checkHeader } from './header-check.js';
import type { IssuerSettings } from './issuer-config.js';
import type { KeysStatus } from './issuer-keys.js';
import type { Issuer, Wait } from './issuers.js';
import { findKey, issuerFinder, openIssuers } from './issuers.js';
import type { JsonObject } from './json.js';
import { checkLength, takeApart } from './jws.js';
import type { VerificationKey } from './key-set.js';
import { publishedIssuers, type PublishedIssuer } from './published.js';
import type { TokenRefusalCode } from './refusal.js';
import { refuse, TOKEN_REFUSAL_CODES, TokenRefusal } from './refusal.js';
import type { CacheBounds } from './token-cache.js';
import { TokenCache } from './token-cache.js';

/** A token whose signature, times, issuer and audience have been checked. */
export interface VerifiedToken {
  /** The issuer as configured: its `iss`, or the ID of the trust domain for JWT-SVIDs. */
  readonly issuer: string;
  readonly subject: string;
  /** All of the token's audiences, ours among them. */
  readonly audiences: readonly string[];
  /** All claims, as in the token; deep-frozen. */
  readonly claims: JsonObject;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly issuedAt?: number;
  /** The key that signed it: its `kid`, or its thumbprint where the issuer gives none. */
  readonly keyId: string;
}

/** The answer. `reason` is for people and holds nothing of the token. */
export type TokenResult =
  | { readonly ok: true; readonly token: VerifiedToken }
  | { readonly ok: false; readonly code: TokenRefusalCode; readonly reason: string };

export interface TokenValidatorOptions {
  /** From {@link readTokenIssuers}. */
  readonly issuers: readonly IssuerSettings[];
  readonly clock: Clock;
  readonly fetch: FetchDocument;
  readonly logger: Logger;
  readonly random?: Random;
  /** The trust bundles, for issuers of kind `spiffe`. */
  readonly bundles?: (trustDomain: string) => TrustBundle | undefined;
  /** Why a token is revoked, or undefined. Asked for each answer, also from the cache, so it must be quick. */
  readonly revoked?: (token: VerifiedToken) => string | undefined;
  /** How long an issuer's last keys serve while it cannot be reached; 24 h unless said. */
  readonly maxStaleMs?: number;
  /** How long after a fetch for an unknown key no other one is made for this issuer; 30 s unless said. */
  readonly unknownKeyCoolDownMs?: number;
  /** How many such fetches all issuers together may need within a cool-down; 20 unless said. */
  readonly unknownKeyFetches?: number;
  /** Bounds of the cache of verified tokens; 4096 tokens of 4 Mi characters together unless said. */
  readonly cache?: CacheBounds;
  /** Called whenever an issuer's keys have come, and when they serve no more. */
  readonly onKeys?: () => void;
}

export interface TokenValidatorStatus {
  readonly issuers: readonly ({ readonly issuer: string } & KeysStatus)[];
  readonly cache: { readonly entries: number; readonly characters: number; readonly hits: number };
  readonly valid: number;
  readonly refused: Readonly<Record<TokenRefusalCode, number>>;
}

/** Validates tokens of end users. */
export interface TokenValidator {
  /** Never rejects. Waits only while the keys of the issuer are being fetched, which is bounded in time and number. */
  validate(token: string): Promise<TokenResult>;
  /** The same, from what is in memory; undefined when the answer needs a fetch. */
  validateCached(token: string): TokenResult | undefined;
  status(): TokenValidatorStatus;
  /** What others need to verify the same tokens, with the keys as they are now. */
  published(): readonly PublishedIssuer[];
  /** Stops fetching, and refuses from then on what depends on fetched keys. */
  close(): void;
}

const DAY_MS = 24 * 60 * 60_000;
const DEFAULT_COOL_DOWN_MS = 30_000;
const DEFAULT_FETCHES = 20;
const DEFAULT_CACHE: CacheBounds = { entries: 4096, weight: 4 * 1024 * 1024 };

/** Begins to fetch the keys of all issuers at once. */
export function createTokenValidator(options: TokenValidatorOptions): TokenValidator {
  return new CachingValidator(options);
}

interface Verified {
  readonly result: TokenResult & { readonly ok: true };
  readonly times: RegisteredClaims;
  readonly issuer: Issuer;
  readonly key: VerificationKey;
}

class CachingValidator implements TokenValidator {
  readonly #clock: Clock;
  readonly #revoked: (token: VerifiedToken) => string | undefined;
  readonly #issuers: readonly Issuer[];
  readonly #issuerOf: (claims: RegisteredClaims) => Issuer;
  readonly #cache: TokenCache<Verified>;
  readonly #refused = Object.fromEntries(TOKEN_REFUSAL_CODES.map((code) => [code, 0])) as Record<
    TokenRefusalCode,
    number
  >;
  #valid = 0;
  #hits = 0;

  constructor(options: TokenValidatorOptions) {
    this.#clock = options.clock;
    this.#revoked = options.revoked ?? (() => undefined);
    this.#cache = new TokenCache(options.cache ?? DEFAULT_CACHE);
    this.#issuers = openIssuers({
      issuers: options.issuers,
      clock: options.clock,
      fetch: options.fetch,
      logger: options.logger,
      random: options.random ?? systemRandom,
      bundles: options.bundles ?? (() => undefined),
      maxStaleMs: options.maxStaleMs ?? DAY_MS,
      unknownKeyCoolDownMs: options.unknownKeyCoolDownMs ?? DEFAULT_COOL_DOWN_MS,
      unknownKeyFetches: options.unknownKeyFetches ?? DEFAULT_FETCHES,
      onKeys: () => {
        this.#cache.sweep((entry) => this.#serves(entry));
        options.onKeys?.();
      },
    });
    this.#issuerOf = issuerFinder(this.#issuers);
  }

  async validate(token: string): Promise<TokenResult> {
    const first = this.#decide(token, true);
    if (typeof first !== 'function') return first;
    await first();
    return this.#decide(token, false);
  }

  validateCached(token: string): TokenResult | undefined {
    const result = this.#decide(token, true);
    return typeof result === 'function' ? undefined : result;
  }

  status(): TokenValidatorStatus {
    return {
      issuers: this.#issuers.map(({ name, keys }) => ({ issuer: name, ...keys.status() })),
      cache: { entries: this.#cache.size, characters: this.#cache.weight, hits: this.#hits },
      valid: this.#valid,
      refused: { ...this.#refused },
    };
  }

  published(): readonly PublishedIssuer[] {
    return publishedIssuers(this.#issuers);
  }

  close(): void {
    for (const { keys } of this.#issuers) keys.close();
  }

  #decide(token: string, mayWait: false): TokenResult;
  #decide(token: string, mayWait: boolean): TokenResult | Wait;
  #decide(token: string, mayWait: boolean): TokenResult | Wait {
    try {
      checkLength(token);
      const id = digest(token);
      const result = this.#known(id) ?? this.#verify(token, id, mayWait);
      if (typeof result !== 'function') this.#valid++;
      return result;
    } catch (error) {
      if (!(error instanceof TokenRefusal)) throw error;
      this.#refused[error.code]++;
      return { ok: false, code: error.code, reason: error.message };
    }
  }

  /** The answer for a token that was verified before. */
  #known(id: string): TokenResult | undefined {
    const entry = this.#cache.get(id);
    if (entry === undefined) return undefined;
    if (!this.#serves(entry)) {
      this.#cache.delete(id);
      return undefined;
    }
    checkTimes(entry.times, entry.issuer.settings, this.#clock.now());
    this.#checkRevoked(entry.result.token);
    this.#hits++;
    return entry.result;
  }

  /** Whether a verified token may be answered from the cache: its key still counts, and it has not expired. */
  #serves({ issuer, key, times }: Verified): boolean {
    return issuer.keys.usable?.keys.has(key) === true && this.#clock.now() < times.expiresAt;
  }

  #verify(token: string, id: string, mayWait: boolean): TokenResult | Wait {
    const { header, claims, signingInput, signature } = takeApart(token);
    const registered = readClaims(claims);
    const issuer = this.#issuerOf(registered);
    const { settings } = issuer;
    checkHeader(header, settings);
    checkAudience(registered.audiences, settings);
    checkTimes(registered, settings, this.#clock.now());
    // Only now, so that keys are fetched for tokens that could be valid, and for no others.
    const key = findKey(issuer, header, mayWait);
    if (typeof key === 'function') return key;
    if (!isSignedBy(header.algorithm, key.key, signingInput, signature))
      refuse('TokenBadSignature', 'the signature of the token is wrong');
    const result = { ok: true, token: verifiedToken(issuer, registered, claims, key) } as const;
    this.#checkRevoked(result.token);
    this.#cache.set(id, { result, times: registered, issuer, key }, token.length);
    return result;
  }

  #checkRevoked(token: VerifiedToken): void {
    const reason = this.#revoked(token);
    if (reason !== undefined) refuse('TokenRevoked', `the token is revoked: ${reason}`);
  }
}

function verifiedToken(
  issuer: Issuer,
  { subject, audiences, expiresAt, issuedAt }: RegisteredClaims,
  claims: JsonObject,
  { keyId }: VerificationKey,
): VerifiedToken {
  return Object.freeze({
    ...{ issuer: issuer.name, subject, audiences, claims, expiresAt, keyId },
    ...(issuedAt === undefined ? {} : { issuedAt }),
  });
}

/** Tokens are kept by their digest alone, so that a heap dump of the cache holds no credentials. */
function digest(token: string): string {
  return hash('sha256', token, 'base64');
}
