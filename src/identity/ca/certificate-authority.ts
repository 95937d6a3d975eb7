import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Watched } from '../../lib/watched.js';
import { WatchedValue } from '../../lib/watched.js';
import type { KeyStore } from '../keys/key-store.js';
import type { KeyType } from '../pki/keys.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { parseTrustDomain } from '../spiffe/id.js';
import type { Taints } from './authority-keeper.js';
import { AuthorityKeeper } from './authority-keeper.js';
import type { AuthorityKind, AuthoritySlot } from './authority-set.js';
import { AUTHORITY_KINDS, EMPTY_SET } from './authority-set.js';
import type { CaConfig } from './config.js';
import { checkConfig } from './config.js';
import { CaError } from './errors.js';
import type { Journal, JournalState } from './journal.js';
import { JournalError } from './journal.js';
import type { IssuedJwt, JwtRequest } from './jwt-authority.js';
import { Rotation, runRotation } from './rotation.js';
import { checkJwtRequest, checkX509Request, requireSigner } from './sign-request.js';
import type { IssuedX509, X509Request } from './x509-authority.js';

/** An authority as it is shown to people and programs. */
export interface AuthorityInfo {
  readonly kind: AuthorityKind;
  /** Hex subject key ID of an X.509 authority, key ID of a JWT authority. */
  readonly id: string;
  readonly slot: AuthoritySlot;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly tainted: boolean;
  readonly revoked: boolean;
  readonly keyType: KeyType;
  readonly subject: string;
}

/** What a certificate authority is made of. */
export interface CaOptions {
  readonly trustDomain: string;
  readonly keys: KeyStore;
  /** Closed with the CA. */
  readonly journal: Journal;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly config: CaConfig;
  /**
   * Where several processes sign with the same authorities, only one of them rotates. One that follows begins no new CA
   * and changes nothing before {@link CertificateAuthority.run}; it rotates from then on. False unless said.
   */
  readonly follows?: boolean;
  /**
   * Says why the state may be older than what another process has made of it, or undefined. Nothing is signed then. For
   * a state that this process alone changes it is left out.
   */
  readonly staleness?: () => string | undefined;
  /**
   * The sequence of the last bundle of authorities that are lost for good: a new CA goes on from there, since consumers
   * take a bundle with a lower one for an older one. 0 unless said.
   */
  readonly lastSequence?: number;
  /**
   * For how long all consumers have been able to read a bundle with at least this sequence where it is published;
   * milliseconds, 0 when it is not. Those who watch {@link CertificateAuthority.bundle} are told besides.
   */
  readonly distributedForMs?: (sequence: number) => number;
}

/** The authorities of one trust domain, and what they sign. */
export interface CertificateAuthority {
  readonly trustDomain: string;
  /** The published bundle. An authority signs only after its watchers were told of it. */
  readonly bundle: Watched<TrustBundle>;
  /** Authorities whose work is to be replaced, revoked ones included. */
  readonly taints: Watched<Taints>;
  /** Why the last attempt to rotate failed; undefined when all is well. */
  readonly problem: Watched<SignetError | undefined>;
  /** All that are known, oldest first. */
  authorities(): readonly AuthorityInfo[];
  /** Rejects with CaError or PkiError; no certificate is given out that failed our own check. */
  signX509(request: X509Request): Promise<IssuedX509>;
  /** Rejects with CaError. */
  signJwt(request: JwtRequest): Promise<IssuedJwt>;
  /**
   * Prepares (unless one is prepared), publishes, and activates a new authority of a kind, or of both, without waiting
   * for the schedule. The former one stays in the bundle.
   */
  rotate(kind?: AuthorityKind): Promise<void>;
  /** Prepares and publishes a new authority. */
  prepare(kind: AuthorityKind): Promise<void>;
  /** Activates the prepared authority, which must be published. */
  activate(kind: AuthorityKind): Promise<void>;
  /** Marks an old authority: what it signed is replaced at once. Rejects `AuthorityInUse` for others, with the fix. */
  taint(kind: AuthorityKind, id: string): Promise<AuthorityInfo>;
  /** Takes a tainted authority out of the bundle. Rejects `AuthorityNotTainted` for others, with the fix. */
  revoke(kind: AuthorityKind, id: string): Promise<AuthorityInfo>;
  /**
   * Takes over what another process has saved, also an earlier state that was put back: call it when the shared state has
   * changed. Rejects when the state cannot be read or used; what could have been withdrawn signs no more then.
   */
  follow(): Promise<void>;
  /** Rotates on schedule until the signal is aborted. Failures are logged, shown as {@link problem}, and retried. */
  run(signal: AbortSignal): Promise<void>;
  /**
   * What is made from now on is made by this: the issuer of JWT-SVIDs at once; key types, lifetime and upstream with the
   * next authority that is prepared.
   *
   * @throws CaError `CaConfigInvalid`; the former configuration stays then
   */
  configure(config: CaConfig): void;
  /** Waits for what is under way; signs nothing afterwards. */
  close(): Promise<void>;
}

/**
 * Opens the CA on its state, or begins a new one where there is none. When this resolves, both kinds of authority are
 * active and published, or were once and the log says why they are not now.
 *
 * @throws CaError, JournalError or KeyStoreError; `JournalMissing` when it follows and there is no state yet
 */
export async function openCertificateAuthority(options: CaOptions): Promise<CertificateAuthority> {
  const trustDomain = parseTrustDomain(options.trustDomain);
  const settings = checkConfig(options.config);
  const follows = options.follows ?? false;
  const loaded = await options.journal.load();
  if (loaded === undefined && follows)
    throw new JournalError('JournalMissing', 'there are no authorities yet: the leader makes them');
  const state = loaded === undefined ? await begin(options, trustDomain) : checkOwner(loaded, trustDomain);
  const keeper = new AuthorityKeeper({ ...options, trustDomain, settings }, state);

  const problem = new WatchedValue<SignetError | undefined>(undefined);
  const rotation = new Rotation(keeper, options.clock, options.logger, problem);
  if (follows) {
    await keeper.follow(state);
    return assemble(options, trustDomain, keeper, rotation, problem);
  }
  await keeper.takeUp();
  await rotation.tick();
  if (keeper.x509Signer === undefined || keeper.jwtSigner === undefined) {
    throw problem.value ?? new SignetError('Internal', 'the CA has no authority to sign with');
  }
  return assemble(options, trustDomain, keeper, rotation, problem);
}

/** The first state. Saved before any key is made, so that keys without a journal always mean that one was lost. */
async function begin(options: CaOptions, trustDomain: string): Promise<JournalState> {
  const keys = await options.keys.list();
  if (keys.length > 0) {
    throw new JournalError(
      'JournalMissing',
      `the key store holds ${keys.length} authority keys, but the CA's journal is gone; restore it from a backup, or empty the key store to begin with new authorities`,
    );
  }
  const set = { ...EMPTY_SET, sequence: options.lastSequence ?? EMPTY_SET.sequence };
  const state: JournalState = { version: 1, trustDomain, set };
  await options.journal.save(state, 0);
  return state;
}

function checkOwner(state: JournalState, trustDomain: string): JournalState {
  if (state.trustDomain === trustDomain) return state;
  throw new JournalError(
    'JournalForeign',
    `the state belongs to trust domain "${state.trustDomain}", not "${trustDomain}"; use another state directory, or that name`,
  );
}

function assemble(
  options: CaOptions,
  trustDomain: string,
  keeper: AuthorityKeeper,
  rotation: Rotation,
  problem: Watched<SignetError | undefined>,
): CertificateAuthority {
  const { clock } = options;
  const load = async (): Promise<JournalState | undefined> => {
    const state = await options.journal.load();
    return state === undefined ? undefined : checkOwner(state, trustDomain);
  };
  const requireFresh = (): void => {
    const why = options.staleness?.();
    if (why !== undefined)
      throw new CaError('StateStale', `nothing is signed, since the authorities may have changed: ${why}`);
  };
  const find = (kind: AuthorityKind, id: string): AuthorityInfo => {
    const found = infos(keeper).find((info) => info.kind === kind && info.id === id);
    if (found === undefined) throw new SignetError('Internal', `${kind} authority ${id} is gone`);
    return found;
  };
  return {
    trustDomain,
    bundle: keeper.bundle,
    taints: keeper.taints,
    problem,
    authorities: () => infos(keeper),

    async signX509(request) {
      checkX509Request(request, trustDomain);
      rotation.requireOpen();
      requireFresh();
      const now = clock.now();
      return requireSigner(keeper.x509Signer, now, rotation).sign(request, now);
    },

    async signJwt(request) {
      checkJwtRequest(request, trustDomain);
      rotation.requireOpen();
      requireFresh();
      const now = clock.now();
      return requireSigner(keeper.jwtSigner, now, rotation).sign(request, now);
    },

    async rotate(kind) {
      for (const one of kind === undefined ? AUTHORITY_KINDS : [kind]) await rotation.rotate(one);
    },
    prepare: (kind) => rotation.prepare(kind),
    activate: (kind) => rotation.activate(kind),
    async taint(kind, id) {
      await rotation.taint(kind, id);
      return find(kind, id);
    },
    async revoke(kind, id) {
      await rotation.revoke(kind, id);
      return find(kind, id);
    },
    follow: () => rotation.follow(load),
    async run(signal) {
      // Another process may have led since the last time.
      const takeUp = options.follows === true ? () => rotation.takeUp(load) : undefined;
      await runRotation(rotation, options.random, signal, takeUp);
    },
    configure: (config) => keeper.configure(checkConfig(config)),
    async close() {
      await rotation.close();
      await options.journal.close();
    },
  };
}

function infos(keeper: AuthorityKeeper): AuthorityInfo[] {
  return keeper.set.authorities.map(
    ({ kind, id, slot, notBefore, notAfter, tainted, revoked, keyType, subject }) => ({
      kind,
      id,
      slot,
      notBefore,
      notAfter,
      tainted,
      revoked,
      keyType,
      subject,
    }),
  );
}
