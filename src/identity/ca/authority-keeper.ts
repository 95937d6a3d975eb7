import type { Clock } from '../../lib/clock.js';
import { BugError, SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Watched } from '../../lib/watched.js';
import { WatchedValue } from '../../lib/watched.js';
import type { KeyStore } from '../keys/key-store.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { formatBundleDocument } from '../spiffe/bundle-document.js';
import type { Authority, AuthorityKind, AuthoritySet } from './authority-set.js';
import {
  activateAuthority,
  AUTHORITY_KINDS,
  discardPrepared,
  inSlot,
  isTimely,
  markPublished,
  prepareAuthority,
  trustedJwtAuthorities,
  trustedRoots,
} from './authority-set.js';
import type { CaSettings } from './config.js';
import { CaError } from './errors.js';
import type { Journal, JournalState } from './journal.js';
import { encodeJournal } from './journal-codec.js';
import type { JwtSigner } from './jwt-authority.js';
import { jwtAuthorityKey, jwtSigner, mintJwtAuthority } from './jwt-authority.js';
import type { X509Signer } from './x509-authority.js';
import { mintX509Authority, x509Signer } from './x509-authority.js';

/** IDs of authorities whose work is to be replaced. */
export interface Taints {
  /** Hex subject key IDs. */
  readonly x509: readonly string[];
  /** Key IDs. */
  readonly jwt: readonly string[];
}

/** What the keeper works with. */
export interface KeeperOptions {
  readonly trustDomain: string;
  /** At the start; see {@link AuthorityKeeper.configure}. */
  readonly settings: CaSettings;
  readonly keys: KeyStore;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly distributedForMs?: (sequence: number) => number;
}

/**
 * Carries the state machine of authority-set.ts out into the world: key store, journal, published bundle, signers.
 *
 * Every change goes the same way and in this order: journal, then memory, then the bundle, then keys that are no
 * longer needed. A crash between two of them leaves what the next start finishes, and a failure of the first leaves
 * everything as it was. A signer is made only of an authority that the published bundle holds.
 *
 * Its methods must not run concurrently; {@link openCertificateAuthority} sees to it.
 */
export class AuthorityKeeper {
  readonly #options: KeeperOptions;
  readonly #bundle: WatchedValue<TrustBundle>;
  readonly #taints: WatchedValue<Taints>;
  readonly #publishedAt = new Map<string, number>();
  readonly #signers: { x509?: X509Signer; jwt?: JwtSigner } = {};
  #settings: CaSettings;
  #version: number;
  #set: AuthoritySet;
  #delivered = false;

  constructor(options: KeeperOptions, state: JournalState) {
    this.#options = options;
    this.#settings = options.settings;
    this.#version = state.version;
    this.#set = state.set;
    this.#bundle = new WatchedValue(this.#bundleOf(state.set));
    this.#taints = new WatchedValue(taintsOf(state.set));
    // Whoever begins to watch finds this value: nobody is left to be told.
    this.#noteDelivery();
  }

  get set(): AuthoritySet {
    return this.#set;
  }

  get settings(): CaSettings {
    return this.#settings;
  }

  /** For all that is made from now on. What there is stays as it was made; the bundle tells of it with the next delivery. */
  configure(settings: CaSettings): void {
    this.#settings = settings;
  }

  get bundle(): Watched<TrustBundle> {
    return this.#bundle;
  }

  get taints(): Watched<Taints> {
    return this.#taints;
  }

  get x509Signer(): X509Signer | undefined {
    return this.#signers.x509;
  }

  get jwtSigner(): JwtSigner | undefined {
    return this.#signers.jwt;
  }

  /**
   * For how long consumers have been able to have the bundle with the authority: since this process delivers it, and since
   * it stands wherever it is published; by a clock that does not jump, milliseconds.
   */
  publishedForMs(authority: Authority): number {
    const since = this.#publishedAt.get(authority.id);
    if (since === undefined) return 0;
    const delivered = this.#options.clock.monotonic() - since;
    // Every later bundle holds it too, as long as it is in the set.
    return Math.min(delivered, this.#options.distributedForMs?.(this.#set.sequence) ?? delivered);
  }

  /**
   * Takes over a state that another process has saved, its bundle first, then its signers. One with a lower version is
   * what somebody has put back from a backup, or begun anew. Nothing is written and no key removed, since that is for the
   * process that saved it.
   *
   * @throws CaError `AuthorityKeyMismatch` or `PublishFailed`, KeyStoreError
   */
  async follow(state: JournalState): Promise<void> {
    if (state.version !== this.#version || !sameState(state, this.#state())) {
      this.#version = state.version;
      this.#set = state.set;
    }
    // Also when nothing is new: what failed half-way the last time is made up for.
    this.#deliver();
    try {
      await this.#alignSigners();
    } catch (error) {
      this.#dropFormerSigners();
      throw error;
    }
  }

  /** Whoever saved the newer state may have had a reason to let an authority sign no more. */
  #dropFormerSigners(): void {
    const signs = (kind: AuthorityKind): boolean =>
      this.#signers[kind]?.authority.id === inSlot(this.#set, kind, 'active')?.id;
    if (!signs('x509')) delete this.#signers.x509;
    if (!signs('jwt')) delete this.#signers.jwt;
  }

  /**
   * Takes up what an earlier process left: signers of active authorities, and no keys that nothing refers to.
   *
   * @throws CaError `AuthorityKeyMismatch`, KeyStoreError, JournalError
   */
  async takeUp(): Promise<void> {
    const { keys, logger } = this.#options;
    await this.#alignSigners();
    for (const kind of AUTHORITY_KINDS) {
      const prepared = inSlot(this.#set, kind, 'prepared');
      if (prepared !== undefined && (await keys.load(prepared.keyId)) === undefined) {
        logger.warn('the key of a prepared authority is gone; another is prepared', {
          kind,
          authority: prepared.id,
        });
        await this.commit(discardPrepared(this.#set, kind));
      }
    }
    const needed = neededKeys(this.#set);
    for (const id of await keys.list()) if (!needed.has(id)) await this.#removeKey(id);
  }

  /**
   * Makes a new authority and saves it as prepared. With `mustOutlive`, one that would end no later than the active
   * one is refused, since rotating to it would gain nothing.
   */
  async prepare(kind: AuthorityKind, mustOutlive: boolean): Promise<void> {
    const { keys, trustDomain, random, clock, logger } = this.#options;
    const settings = this.#settings;
    const now = clock.now();
    if (kind === 'x509' && mustOutlive) await this.#checkUpstreamLife(now);
    const known = new Set(await keys.list());
    const options = { trustDomain, settings, keys, random, now };
    try {
      const authority = kind === 'x509' ? await mintX509Authority(options) : await mintJwtAuthority(options);
      await this.commit(prepareAuthority(this.#set, authority));
      logger.info('authority prepared', { kind, authority: authority.id });
    } finally {
      // Not only after an error here: a save that failed may yet have taken hold, and then the key is needed.
      const needed = neededKeys(this.#set);
      for (const id of await keys.list().catch(() => []))
        if (!known.has(id) && !needed.has(id)) await this.#removeKey(id);
    }
  }

  async #checkUpstreamLife(now: number): Promise<void> {
    const { upstream } = this.#settings;
    const active = inSlot(this.#set, 'x509', 'active');
    if (upstream === undefined || active === undefined || !isTimely(active, now)) return;
    const last = await upstream.lastNotAfter(now);
    if (last > active.notAfter) return;
    throw new CaError(
      'UpstreamExpiring',
      `the ${upstream.name} upstream authority ends at ${new Date(last).toISOString()}, no later than the active authority that it signed; renew the upstream authority`,
    );
  }

  /**
   * Gives the present bundle to those who have not had it, and records that its authorities are published.
   *
   * @throws CaError `PublishFailed` when a subscriber threw: then nothing in it may be used yet
   */
  async publish(): Promise<void> {
    this.#deliver();
    await this.commit(markPublished(this.#set, this.#bundle.value.sequence));
    await this.#alignSigners();
  }

  /** The prepared authority signs from now on. */
  async activate(kind: AuthorityKind): Promise<void> {
    const { clock, logger } = this.#options;
    const next = activateAuthority(this.#set, kind, clock.now());
    const active = inSlot(next, kind, 'active');
    if (active === undefined) throw new BugError(`activation left no active ${kind} authority`);
    // Made before the state is saved: a key that is unreadable must show while the old authority still signs.
    const signer = await this.#signerOf(active);
    await this.commit(next);
    this.#use(signer);
    logger.info('authority activated', { kind, authority: active.id });
  }

  /**
   * Saves the next set and lets it take effect. After a rejection the old one is in force, unless it is `PublishFailed`:
   * then the new one is, and {@link publish} tries again.
   */
  async commit(next: AuthoritySet): Promise<void> {
    if (next === this.#set) return;
    const { journal, trustDomain, logger } = this.#options;
    const state: JournalState = { version: this.#version + 1, trustDomain, set: next };
    try {
      await journal.save(state, this.#version);
    } catch (error) {
      // A rename may succeed before an error, and then the new state is in force; or somebody else's is.
      const present = await journal.load().catch(() => undefined);
      const tookHold = present !== undefined && sameState(present, state);
      if (!tookHold) {
        if (present !== undefined && present.version !== this.#version) await this.#adopt(present);
        throw error;
      }
      logger.warn('the CA journal reported a failure, but has the new state', {
        reason: SignetError.from(error).message,
      });
    }
    await this.#adopt(state);
  }

  #state(): JournalState {
    return { version: this.#version, trustDomain: this.#options.trustDomain, set: this.#set };
  }

  async #adopt(state: JournalState): Promise<void> {
    const before = neededKeys(this.#set);
    this.#version = state.version;
    this.#set = state.set;
    const after = neededKeys(state.set);
    for (const keyId of before) if (!after.has(keyId)) await this.#removeKey(keyId);
    this.#deliver();
  }

  /** Puts bundle and taints where they can be seen. */
  #deliver(): void {
    const bundle = this.#bundleOf(this.#set);
    try {
      if (!this.#delivered || !isSameBundle(bundle, this.#bundle.value)) {
        this.#delivered = false;
        this.#bundle.set(bundle);
        this.#noteDelivery();
      }
      const taints = taintsOf(this.#set);
      if (!sameTaints(taints, this.#taints.value)) this.#taints.set(taints);
    } catch (cause) {
      throw new CaError(
        'PublishFailed',
        `bundle ${bundle.sequence} could not be given to all who watch it: ${SignetError.from(cause).message}`,
        { cause },
      );
    }
  }

  #noteDelivery(): void {
    this.#delivered = true;
    const now = this.#options.clock.monotonic();
    const present = new Set(this.#set.authorities.map(({ id }) => id));
    for (const id of present) if (!this.#publishedAt.has(id)) this.#publishedAt.set(id, now);
    for (const id of this.#publishedAt.keys()) if (!present.has(id)) this.#publishedAt.delete(id);
  }

  #bundleOf(set: AuthoritySet): TrustBundle {
    return {
      trustDomain: this.#options.trustDomain,
      x509Authorities: trustedRoots(set),
      jwtAuthorities: trustedJwtAuthorities(set).map(jwtAuthorityKey),
      sequence: set.sequence,
      refreshHintSeconds: this.#settings.refreshHintSeconds,
    };
  }

  /** Signers follow the state where they have lost it: at the start, or after a change that failed half-way. */
  async #alignSigners(): Promise<void> {
    for (const kind of AUTHORITY_KINDS) {
      const active = inSlot(this.#set, kind, 'active');
      if (active === undefined || this.#signers[kind]?.authority.id === active.id) continue;
      this.#use(await this.#signerOf(active));
    }
  }

  async #signerOf(authority: Authority): Promise<X509Signer | JwtSigner> {
    const { keys, random } = this.#options;
    const key = await keys.load(authority.keyId);
    if (key === undefined) {
      throw new CaError(
        'AuthorityKeyMismatch',
        `the key of ${authority.kind} authority ${authority.id} (key ${authority.keyId}) is gone; restore it from a backup`,
      );
    }
    return authority.kind === 'x509'
      ? x509Signer(authority, key, random)
      : jwtSigner(authority, key, random, () => this.#settings.jwtIssuer);
  }

  /** The last gate: whatever went wrong above, nothing signs that the published bundle does not hold. */
  #use(signer: X509Signer | JwtSigner): void {
    const { authority } = signer;
    const bundle = this.#bundle.value;
    const trusted =
      authority.kind === 'x509'
        ? authority.roots.some((root) =>
            bundle.x509Authorities.some((der) => Buffer.compare(der, root) === 0),
          )
        : bundle.jwtAuthorities.some(({ keyId }) => keyId === authority.id);
    if (!trusted || !this.#delivered)
      throw new BugError(`${authority.kind} authority ${authority.id} is not published`);
    if (signer.kind === 'x509') this.#signers.x509 = signer;
    else this.#signers.jwt = signer;
  }

  async #removeKey(id: string): Promise<void> {
    try {
      await this.#options.keys.remove(id);
    } catch (error) {
      // It signs nothing any more; the next start tries again.
      this.#options.logger.warn('an authority key that is no longer needed could not be removed', {
        name: id,
        reason: SignetError.from(error).message,
      });
    }
  }
}

/** Keys of authorities that sign or will sign; the others are destroyed, so that nobody can steal them later. */
function neededKeys(set: AuthoritySet): Set<string> {
  return new Set(set.authorities.filter(({ slot }) => slot !== 'old').map(({ keyId }) => keyId));
}

function taintsOf(set: AuthoritySet): Taints {
  const of = (kind: AuthorityKind): string[] =>
    set.authorities.filter((one) => one.kind === kind && one.tainted).map(({ id }) => id);
  return { x509: of('x509'), jwt: of('jwt') };
}

function sameState(left: JournalState, right: JournalState): boolean {
  return Buffer.compare(encodeJournal(left), encodeJournal(right)) === 0;
}

/** A sequence names a content, until a state is put back from a backup and goes another way from there. */
function isSameBundle(left: TrustBundle, right: TrustBundle): boolean {
  return left.sequence === right.sequence && formatBundleDocument(left) === formatBundleDocument(right);
}

function sameTaints(left: Taints, right: Taints): boolean {
  return left.x509.join() === right.x509.join() && left.jwt.join() === right.jwt.join();
}
