import { type Grant, isRegistration, isSame, type ReadyIdentity } from './grants.js';
import type { Registration } from './registration.js';

/** What a pod got, by identity: very many may select it. */
export class KnownGrants<Identity extends ReadyIdentity> {
  readonly #registrations = new Map<
    string,
    { readonly grant: Grant<Identity>; readonly result: Registration }
  >();
  readonly #failures = new Map<Identity, Grant<Identity>>();

  constructor(grants: readonly Grant<Identity>[]) {
    for (const grant of grants) {
      const { identity, result } = grant;
      if (isRegistration(result)) this.#registrations.set(result.id, { grant, result });
      else this.#failures.set(identity, grant);
    }
  }

  registration(id: string): Registration | undefined {
    return this.#registrations.get(id)?.result;
  }

  /** The grant that the pod had already when it is the same; else the new one, with the old registration if that is. */
  keepSame(grant: Grant<Identity>): Grant<Identity> {
    const { identity, result } = grant;
    if (isRegistration(result)) {
      const old = this.#registrations.get(result.id);
      if (old === undefined || !isSame(old.result, result)) return grant;
      return old.grant.identity === identity ? old.grant : { identity, result: old.result };
    }
    const old = this.#failures.get(identity);
    if (old === undefined || isRegistration(old.result)) return grant;
    return old.result.reason === result.reason && old.result.message === result.message ? old : grant;
  }
}
