import { identityKey } from '../identity/registration/outcome.js';
import type { IdentityRef, Registration } from '../identity/registration/registration.js';

/** An X.509-SVID, as far as statuses tell of it. Times in milliseconds since the epoch, as in the leaf. */
export interface IssuedSvid {
  readonly registrationId: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What is known of the SVIDs of one identity. */
export interface IssuedSum {
  /** Registrations that hold an X.509-SVID which is valid now. */
  readonly count: number;
  /** The first to expire, milliseconds since the epoch; undefined when there is none. */
  readonly nextExpiry: number | undefined;
}

type Validity = Omit<IssuedSvid, 'registrationId'>;

/**
 * The newest X.509-SVID of each registration that anybody has told of: signed here, held by an agent, or known to another
 * replica. In whatever order they are told, the one that was signed last counts.
 */
export class IssuedSvids {
  /** By identity, then by registration. */
  readonly #known = new Map<string, Map<string, Validity>>();

  /** Notes an SVID; false when nothing new was told. */
  note({ id, identity }: Registration, { notBefore, notAfter }: IssuedSvid): boolean {
    const key = identityKey(identity);
    const known = this.#known.get(key) ?? new Map<string, Validity>();
    const before = known.get(id);
    if (before !== undefined && !isLater({ notBefore, notAfter }, before)) return false;
    this.#known.set(key, known.set(id, { notBefore, notAfter }));
    return true;
  }

  get(identity: IdentityRef, registrationId: string): IssuedSvid | undefined {
    const known = this.#known.get(identityKey(identity))?.get(registrationId);
    return known === undefined ? undefined : { registrationId, ...known };
  }

  /** The registration is gone. */
  remove({ id, identity }: Registration): void {
    this.#known.get(identityKey(identity))?.delete(id);
  }

  /** The identity is gone, with all registrations. */
  forget(ref: IdentityRef): void {
    this.#known.delete(identityKey(ref));
  }

  /** What is valid at this time; what is over is forgotten. */
  sum(ref: IdentityRef, now: number): IssuedSum {
    const known = this.#known.get(identityKey(ref)) ?? new Map<string, Validity>();
    let nextExpiry = Number.POSITIVE_INFINITY;
    for (const [id, { notAfter }] of known) {
      if (notAfter <= now) known.delete(id);
      else nextExpiry = Math.min(nextExpiry, notAfter);
    }
    return { count: known.size, nextExpiry: known.size === 0 ? undefined : nextExpiry };
  }

  *all(): Iterable<IssuedSvid> {
    for (const known of this.#known.values())
      for (const [registrationId, validity] of known) yield { registrationId, ...validity };
  }
}

/** Signed later; of two signed together, the one that ends later. */
function isLater(one: Validity, other: Validity): boolean {
  return one.notBefore === other.notBefore ? one.notAfter > other.notAfter : one.notBefore > other.notBefore;
}
