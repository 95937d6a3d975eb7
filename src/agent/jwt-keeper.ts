import type { Registration } from '../identity/registration/registration.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Random } from '../lib/random.js';
import type { NodeApi, SignedJwt, SignRefusal } from '../rpc/node-api.js';
import { withTimeout } from './deadline.js';
import type { AgentLimits } from './limits.js';
import { renewalTime, timeFor } from './rotation.js';

/** A JWT-SVID from the cache. Times are wall time, in milliseconds. */
export interface CachedJwt {
  readonly token: string;
  readonly keyId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly receivedAt: number;
  /** In monotonic milliseconds. */
  readonly receivedMonotonic: number;
  readonly renewAt: number;
}

/** The token, or why there is none. */
export type JwtAnswer = ({ readonly ok: true } & CachedJwt) | SignRefusal;

export interface JwtKeeperOptions {
  readonly api: Pick<NodeApi, 'signJwt'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: AgentLimits;
}

interface Kept {
  readonly registrationId: string;
  readonly jwt: CachedJwt;
}

/**
 * JWT-SVIDs by registration and audience set. Renewed on demand from half-life on; the old one serves when that fails
 * while it is valid. Least recently used go first: of the registration when it has too many, of all when all are too
 * many, so that one workload cannot push out the others'.
 */
export class JwtKeeper {
  readonly #options: JwtKeeperOptions;
  /** In order of use, the latest last. */
  readonly #kept = new Map<string, Kept>();
  readonly #byRegistration = new Map<string, Set<string>>();
  readonly #signing = new Map<string, Promise<JwtAnswer>>();
  #tainted: ReadonlySet<string> = new Set();

  constructor(options: JwtKeeperOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** How many of these must be signed: neither fresh in the cache nor being signed. `audience` as from {@link audienceSet}. */
  misses(registrations: readonly Registration[], audience: readonly string[]): number {
    return registrations.filter((registration) => {
      const key = keyOf(registration, audience);
      return !this.#isFresh(this.#valid(key)) && !this.#signing.has(key);
    }).length;
  }

  /**
   * A JWT-SVID for each, in order. Those that are missing are signed in one request; the same question asked twice at
   * a time is asked once, under the name of the first. `stop` ends the agent, not a single call: others may wait for the same
   * answer.
   */
  async fetch(
    registrations: readonly Registration[],
    audience: readonly string[],
    stop: AbortSignal,
    requestId?: string,
  ): Promise<readonly JwtAnswer[]> {
    const missing: Registration[] = [];
    for (const registration of registrations) {
      const key = keyOf(registration, audience);
      if (!this.#isFresh(this.#valid(key)) && !this.#signing.has(key)) missing.push(registration);
    }
    if (missing.length > 0) this.#startSigning(missing, audience, stop, requestId);
    return Promise.all(
      registrations.map(async (registration) => {
        const key = keyOf(registration, audience);
        const signing = this.#signing.get(key);
        const answer = signing === undefined ? undefined : await signing;
        if (answer?.ok === true) return answer;
        // Not fresh any more, but good until it expires.
        const kept = this.#valid(key);
        if (kept !== undefined) return { ok: true, ...this.#use(key, kept) } as const;
        return (
          answer ?? refusal('SigningFailed', 'the JWT-SVID was dropped while it was being fetched', true)
        );
      }),
    );
  }

  /** A registration that is no more or has changed: its tokens go. */
  remove(registrationId: string): void {
    for (const key of this.#byRegistration.get(registrationId) ?? []) this.#kept.delete(key);
    this.#byRegistration.delete(registrationId);
  }

  /** Tokens signed by these keys are not served any more. */
  taint(keyIds: readonly string[]): void {
    this.#tainted = new Set(keyIds);
    for (const [key, { jwt }] of this.#kept) if (this.#tainted.has(jwt.keyId)) this.#drop(key);
  }

  /** Whether tokens signed by this key are not served any more: whoever keeps one must drop it. */
  isTainted(keyId: string): boolean {
    return this.#tainted.has(keyId);
  }

  #startSigning(
    missing: readonly Registration[],
    audience: readonly string[],
    stop: AbortSignal,
    requestId: string | undefined,
  ): void {
    const answers = this.#sign(missing, audience, stop, requestId);
    for (const [index, registration] of missing.entries()) {
      const key = keyOf(registration, audience);
      const answer = answers.then((all) => {
        this.#signing.delete(key);
        const one = all[index];
        if (one === undefined)
          return refusal('SigningFailed', 'the server did not answer for this identity', true);
        if (!one.ok) return one;
        if (one.expiresAt <= this.#options.clock.now())
          return refusal(
            'SvidExpired',
            'the server signed a JWT-SVID that is expired already; compare the clocks',
            true,
          );
        if (this.#tainted.has(one.keyId))
          return refusal('AuthorityTainted', 'the server signed with a key that is tainted', true);
        return { ok: true, ...this.#keep(key, registration, one) } as const;
      });
      this.#signing.set(key, answer);
    }
  }

  /** Never rejects: a failure of the whole is a refusal for each. */
  async #sign(
    missing: readonly Registration[],
    audience: readonly string[],
    stop: AbortSignal,
    requestId: string | undefined,
  ): Promise<readonly (SignedJwt | SignRefusal)[]> {
    const { api, clock, limits } = this.#options;
    const requests = missing.map(({ id }) => ({ registrationId: id, audience }));
    try {
      return await withTimeout(clock, limits.requestTimeoutMs, stop, 'signing', (signal) =>
        api.signJwt(requests, signal, requestId),
      );
    } catch (error) {
      const { code, message } = SignetError.from(error);
      return missing.map(() => refusal(code, message, true));
    }
  }

  #keep(key: string, registration: Registration, signed: SignedJwt): CachedJwt {
    const { clock, random, limits } = this.#options;
    const now = clock.now();
    const validity = { signedAt: signed.issuedAt, notAfter: signed.expiresAt };
    const jwt = {
      token: signed.token,
      keyId: signed.keyId,
      issuedAt: signed.issuedAt,
      expiresAt: signed.expiresAt,
      receivedAt: now,
      receivedMonotonic: clock.monotonic(),
      renewAt: renewalTime(validity, now, random.fraction()),
    };
    let own = this.#byRegistration.get(registration.id);
    if (own === undefined) this.#byRegistration.set(registration.id, (own = new Set()));
    own.add(key);
    this.#kept.set(key, { registrationId: registration.id, jwt });
    if (own.size > limits.maxJwtSvidsPerRegistration) this.#dropFirst(own);
    if (this.#kept.size > limits.maxJwtSvids) this.#dropFirst(this.#kept.keys());
    return jwt;
  }

  /** The kept one while it is good, however old. */
  #valid(key: string): CachedJwt | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    if (!isJwtExpired(kept.jwt, this.#options.clock)) return kept.jwt;
    this.#drop(key);
    return undefined;
  }

  #isFresh(jwt: CachedJwt | undefined): boolean {
    if (jwt === undefined) return false;
    const { clock } = this.#options;
    // Issued in the future: the clock was set back, and who verifies may think so too.
    return timeOf(jwt, clock) < jwt.renewAt && clock.now() >= Math.min(jwt.issuedAt, jwt.receivedAt);
  }

  #use(key: string, jwt: CachedJwt): CachedJwt {
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      const own = this.#byRegistration.get(kept.registrationId);
      own?.delete(key);
      own?.add(key);
    }
    return jwt;
  }

  #drop(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#kept.delete(key);
    const own = this.#byRegistration.get(kept.registrationId);
    own?.delete(key);
    if (own?.size === 0) this.#byRegistration.delete(kept.registrationId);
  }

  #dropFirst(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#drop(key);
      return;
    }
  }
}

/** Whether it is past its end, or has been here for as long as it lives. */
export function isJwtExpired(jwt: CachedJwt, clock: Pick<Clock, 'now' | 'monotonic'>): boolean {
  return timeOf(jwt, clock) >= jwt.expiresAt;
}

function timeOf(jwt: CachedJwt, clock: Pick<Clock, 'now' | 'monotonic'>): number {
  return timeFor({ signedAt: jwt.issuedAt, receivedMonotonic: jwt.receivedMonotonic }, clock);
}

/** The audiences as a set in its one written order: the cache's key, and what is asked for. */
export function audienceSet(audience: readonly string[]): readonly string[] {
  return [...new Set(audience)].sort();
}

function keyOf(registration: Registration, audience: readonly string[]): string {
  return JSON.stringify([registration.id, registration.revision, ...audience]);
}

function refusal(code: string, message: string, retryable: boolean): SignRefusal {
  return { ok: false, code, message, retryable };
}
