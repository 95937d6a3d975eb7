import type { Registration } from '../../identity/registration/registration.js';
import { Backoff } from '../../lib/backoff.js';
import { ClockWatch } from '../../lib/clock-watch.js';
import type { Clock } from '../../lib/clock.js';
import type { Random } from '../../lib/random.js';
import type { SignRefusal } from '../../rpc/node-api.js';
import { isJwtExpired, type CachedJwt, type JwtAnswer, type JwtKeeper } from '../jwt-keeper.js';
import type { AgentLimits } from '../limits.js';

export interface TokensOptions {
  readonly jwt: JwtKeeper;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: AgentLimits;
  readonly audiences: readonly string[];
  /** Aborted when the files are not followed any more. */
  readonly stop: AbortSignal;
  /** A token came, or was refused. */
  readonly onChange: () => void;
}

/** The tokens of one identity. */
export interface TokenLook {
  /** By audience. */
  readonly tokens: ReadonlyMap<string, CachedJwt>;
  /** Audiences without a token, with the last refusal if there was one. */
  readonly missing: readonly { readonly audience: string; readonly refusal: SignRefusal | undefined }[];
  /** When to look again, in milliseconds from now. */
  readonly lookInMs: number;
}

interface Kept {
  readonly spiffeId: string;
  readonly backoff: Backoff;
  jwt: CachedJwt | undefined;
  refusal: SignRefusal | undefined;
  fetching: boolean;
  /** Revision of the registration that was asked for last. */
  revision: string;
  /** Not before, in monotonic milliseconds. */
  retryAt: number;
}

/**
 * JWT-SVIDs that nobody asks for: they are in files, so they are renewed in time by themselves. Asking never holds up
 * who looks: what comes, comes by {@link TokensOptions.onChange}.
 */
export class Tokens {
  readonly #options: TokensOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #watch: ClockWatch;

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#watch = new ClockWatch(options.clock);
  }

  /** What there is, and whatever is missing or due is asked for. */
  look(registration: Registration): TokenLook {
    const { clock } = this.#options;
    if (this.#watch.wasSet()) this.#askAgain();
    const tokens = new Map<string, CachedJwt>();
    const missing = [];
    let lookInMs = Infinity;
    for (const audience of this.#options.audiences) {
      if (!allows(registration, audience)) {
        missing.push({ audience, refusal: notAllowed(registration, audience) });
        continue;
      }
      const kept = this.#of(registration, audience);
      if (this.#isDue(kept, registration, audience)) this.#ask(kept, registration, audience);
      if (kept.jwt === undefined) missing.push({ audience, refusal: kept.refusal });
      else {
        tokens.set(audience, kept.jwt);
        lookInMs = Math.min(
          lookInMs,
          Math.max(kept.jwt.renewAt - clock.now(), kept.retryAt - clock.monotonic()),
        );
      }
      if (kept.retryAt > clock.monotonic()) lookInMs = Math.min(lookInMs, kept.retryAt - clock.monotonic());
    }
    return { tokens, missing, lookInMs: Math.max(0, lookInMs) };
  }

  /** What was refused, or no good by the time as it was, is asked for without waiting any longer. */
  #askAgain(): void {
    for (const kept of this.#kept.values()) {
      kept.backoff.reset();
      kept.retryAt = 0;
    }
  }

  /** Forgets the tokens of all other registrations. */
  keepOnly(registrations: readonly Registration[]): void {
    const keys = new Set(
      registrations.flatMap(({ id }) => this.#options.audiences.map((audience) => keyOf(id, audience))),
    );
    for (const key of this.#kept.keys()) if (!keys.has(key)) this.#kept.delete(key);
  }

  /** What is kept of this audience, without a token that must not be used any more. */
  #of({ id, spiffeId, revision }: Registration, audience: string): Kept {
    const { clock, jwt, limits, random } = this.#options;
    const key = keyOf(id, audience);
    let kept = this.#kept.get(key);
    if (kept?.spiffeId !== spiffeId.uri) {
      kept = {
        spiffeId: spiffeId.uri,
        backoff: new Backoff(limits.signBackoff, random),
        jwt: undefined,
        refusal: undefined,
        fetching: false,
        revision,
        retryAt: 0,
      };
      this.#kept.set(key, kept);
    }
    if (kept.jwt !== undefined && (isJwtExpired(kept.jwt, clock) || jwt.isTainted(kept.jwt.keyId)))
      kept.jwt = undefined;
    return kept;
  }

  #isDue(kept: Kept, registration: Registration, audience: string): boolean {
    const { clock, jwt } = this.#options;
    if (kept.fetching) return false;
    if (kept.revision !== registration.revision) return true;
    if (clock.monotonic() < kept.retryAt) return false;
    return (
      kept.jwt === undefined || clock.now() >= kept.jwt.renewAt || jwt.misses([registration], [audience]) > 0
    );
  }

  #ask(kept: Kept, registration: Registration, audience: string): void {
    const { jwt, stop, clock, onChange } = this.#options;
    kept.fetching = true;
    kept.revision = registration.revision;
    const take = (answer: JwtAnswer | undefined): void => {
      kept.fetching = false;
      if (answer?.ok === true && answer.token !== kept.jwt?.token) {
        kept.jwt = answer;
        kept.refusal = undefined;
        kept.retryAt = 0;
        kept.backoff.reset();
      } else {
        // Refused, or the old one again because it could not be renewed.
        if (answer?.ok === false) kept.refusal = answer;
        kept.retryAt = clock.monotonic() + kept.backoff.next();
      }
      onChange();
    };
    jwt.fetch([registration], [audience], stop).then(
      ([answer]) => take(answer),
      () => take(undefined),
    );
  }
}

function keyOf(id: string, audience: string): string {
  return JSON.stringify([id, audience]);
}

function allows({ audiences }: Registration, audience: string): boolean {
  return audiences.length === 0 || audiences.includes(audience);
}

function notAllowed({ spiffeId, audiences }: Registration, audience: string): SignRefusal {
  return {
    ok: false,
    code: 'AudienceNotAllowed',
    message: `${spiffeId.uri} may have tokens for ${audiences.join(', ')} only, not for ${audience}: add it to the audiences of its identity, or take it out of jwtAudiences`,
    retryable: false,
  };
}
