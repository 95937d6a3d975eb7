import type { RegistrationDelta } from '../identity/registration/outcome.js';
import type { RegistrationIndex } from '../identity/registration/registration-index.js';
import type { IdentityRef } from '../identity/registration/registration.js';
import type { Clock } from '../lib/clock.js';
import type { IdentityStatusWriter } from './identity-status-writer.js';
import type { IssuedSvid, IssuedSvids } from './issued-svids.js';

/** Who has told of which X.509-SVIDs. */
export interface SvidLedger {
  /** Notes an SVID that was signed here, or that another replica knows of. */
  note(svid: IssuedSvid): void;
  /** Notes what the agent of a node says that it holds: only what its node may hold is believed, and no longer than it may. */
  held(nodeName: string, svids: readonly IssuedSvid[]): void;
  all(): Iterable<IssuedSvid>;
  /** The IDs of the registrations of all. */
  keys(): Iterable<string>;
  /** What is known of one registration. */
  get(registrationId: string): IssuedSvid | undefined;
  /** Calls `onNote` with the registration of each SVID that was not known before. Returns what ends the watch. */
  watch(onNote: (registrationId: string) => void): () => void;
}

/** Clocks of two machines may differ by so much; milliseconds. */
const CLOCK_SKEW_MS = 10 * 60_000;

/** What statuses are told of SVIDs: of registrations that there are, and of nothing else. */
export class Ledger implements SvidLedger {
  readonly #index: RegistrationIndex;
  readonly #issued: IssuedSvids;
  readonly #statuses: Pick<IdentityStatusWriter, 'issued'>;
  readonly #clock: Clock;
  readonly #watchers = new Set<(registrationId: string) => void>();

  constructor(
    index: RegistrationIndex,
    issued: IssuedSvids,
    statuses: Pick<IdentityStatusWriter, 'issued'>,
    clock: Clock,
  ) {
    this.#index = index;
    this.#issued = issued;
    this.#statuses = statuses;
    this.#clock = clock;
  }

  note(svid: IssuedSvid): void {
    const registration = this.#index.get(svid.registrationId);
    if (registration === undefined || svid.notAfter <= this.#clock.now()) return;
    if (!this.#issued.note(registration, svid)) return;
    this.#statuses.issued(registration.identity);
    for (const watcher of [...this.#watchers]) watcher(svid.registrationId);
  }

  held(nodeName: string, svids: readonly IssuedSvid[]): void {
    const now = this.#clock.now();
    for (const svid of svids) {
      const registration = this.#index.get(svid.registrationId);
      if (registration === undefined || (registration.nodeName !== '' && registration.nodeName !== nodeName))
        continue;
      const latest = now + registration.x509TtlSeconds * 1000 + CLOCK_SKEW_MS;
      if (svid.notBefore <= now + CLOCK_SKEW_MS && svid.notAfter <= latest) this.note(svid);
    }
  }

  *all(): Iterable<IssuedSvid> {
    yield* this.#issued.all();
  }

  *keys(): Iterable<string> {
    for (const { registrationId } of this.#issued.all()) yield registrationId;
  }

  get(registrationId: string): IssuedSvid | undefined {
    const registration = this.#index.get(registrationId);
    return registration === undefined ? undefined : this.#issued.get(registration.identity, registrationId);
  }

  watch(onNote: (registrationId: string) => void): () => void {
    const watcher = (registrationId: string): void => onNote(registrationId);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** What a change of the index took away. */
  removed({ removed, changed }: RegistrationDelta): void {
    if (removed.length === 0) return;
    const kept = new Set(changed.map(({ id }) => id));
    for (const registration of removed) if (!kept.has(registration.id)) this.#issued.remove(registration);
  }

  forget(ref: IdentityRef): void {
    this.#issued.forget(ref);
  }
}
