import {
  openCertificateAuthority,
  type CaOptions,
  type CertificateAuthority,
} from '../identity/ca/certificate-authority.js';
import { recordJournal } from '../identity/ca/record-journal.js';
import { JournalError } from '../identity/ca/journal.js';
import type { KeyEncryption } from '../identity/keys/encryption.js';
import { recordKeyStore } from '../identity/keys/record-key-store.js';
import type { StateContent, StateRecord } from '../identity/keys/state-record.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { runReflector } from '../store/kubernetes/reflector.js';
import { secretRecord, type SecretRecord } from '../store/kubernetes/secret-record.js';
import { trimObject } from '../store/kubernetes/trim.js';
import { SECRET } from '../store/kubernetes/types.js';
import { caConfigOf } from './ca-config.js';
import { ClusterSealing, type Sealing } from './cluster-sealing.js';

/** What the shared CA of a cluster is made of. */
export interface ClusterCaOptions {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly namespace: string;
  /** Of the Secret that holds authorities and their sealed keys. */
  readonly secretName: string;
  readonly settings: Watched<TrustDomainSettings>;
  /**
   * What seals their keys by these settings, with what sealed them before; made only where `evidence` knows of no authorities,
   * or all keys open by the former one. Asked for again while it rejects, and when the settings have changed.
   */
  readonly encryption: (
    settings: TrustDomainSettings,
    evidence: () => string | undefined,
  ) => Promise<KeyEncryption>;
  /** Takes away the key that seals, when authorities begin anew and no other has it. */
  readonly forgetEncryption: () => Promise<void>;
  readonly leading: Watched<boolean>;
  /** Why there must be authorities already, if anybody has seen some. */
  readonly evidence: () => string | undefined;
  /** The sequence of the last bundle that anybody has seen. */
  readonly lastSequence: () => number;
  /** For how long the bundle with a sequence stands wherever it is published; not waited for unless said. */
  readonly distributedForMs?: (sequence: number) => number;
  /** Why nothing may be signed by the clock as it is. */
  readonly clockProblem: () => SignetError | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The authorities of a cluster, whether they can be used or not. */
export interface ClusterAuthorities {
  /** Undefined until they are open. */
  readonly ca: Watched<CertificateAuthority | undefined>;
  /** Why they are not open, or why what other replicas do cannot be taken over; undefined when all is well. */
  readonly problem: Watched<SignetError | undefined>;
  /** How their keys are sealed; undefined while it is not known. */
  readonly sealing: Watched<Sealing | undefined>;
  /** Why nothing is signed, though they are open: the newest state has not been seen for too long. */
  staleness(): string | undefined;
  /**
   * Opens them. The leader begins them where there never were any; the others wait for that. What is lost or damaged is
   * waited for too, since only an administrator can mend it: see {@link problem}. Resolves when this replica can sign.
   *
   * @throws CaError `CaConfigInvalid`; the signal's reason
   */
  open(signal: AbortSignal): Promise<ClusterCa>;
  /**
   * Makes new authorities in place of those that are lost, on an administrator's word: nobody who trusts the former ones
   * trusts them. Other replicas take them over.
   *
   * @throws SignetError `AuthoritiesNotLost` when there are some
   */
  beginAnew(): Promise<void>;
}

/** A CA whose state is shared, and the following of that state. */
export interface ClusterCa {
  readonly ca: CertificateAuthority;
  /** Takes over what other replicas do, until the signal is aborted. */
  follow(signal: AbortSignal): Promise<void>;
  /** For how long the newest state has not been seen; milliseconds. */
  sinceRead(): number;
}

/** A replica that has not seen the state for so long signs nothing: shorter than a new authority waits to sign. */
export const FRESH_WITHIN_MS = 30_000;
const POLL_MS = 8_000;
const RETRY_MS = 1_000;

/** What only an administrator can mend, and what may be answered by beginning anew. */
const LOST: ReadonlySet<string> = new Set([
  'JournalMissing',
  'JournalDamaged',
  'JournalForeign',
  'AuthorityKeyMismatch',
  'KeyEncryptionUnusable',
  'KeyEncryptionInvalid',
  'KeyEncryptionWrong',
  'KeyDamaged',
]);
/** Errors that go away by themselves: the leader has yet to begin, or the API server cannot be reached. */
const PASSING: ReadonlySet<string> = new Set([
  'JournalIo',
  'StateIo',
  'JournalConflict',
  'KeyEncryptionUnavailable',
  'ClockSkewed',
]);
const WAY_OUT =
  'Restore it from a backup; or, if there is none, ask to begin anew (docs/operations/disaster-recovery.md)';

/** Nothing is read before it is opened. */
export function createClusterCa(options: ClusterCaOptions): ClusterAuthorities {
  return new SharedAuthorities(options);
}

class SharedAuthorities implements ClusterAuthorities {
  readonly ca = new WatchedValue<CertificateAuthority | undefined>(undefined);
  readonly problem = new WatchedValue<SignetError | undefined>(undefined);
  readonly #options: ClusterCaOptions;
  readonly sealing: Watched<Sealing | undefined>;
  readonly #record: SecretRecord;
  readonly #sealing: ClusterSealing;
  readonly #name: string;
  #seen: StateContent | undefined;
  #told = '';

  constructor(options: ClusterCaOptions) {
    const { writer, namespace, secretName: name, settings, leading, clock, random, logger } = options;
    this.#options = options;
    const record = secretRecord(writer, { namespace, name }, clock);
    this.#record = { ...record, read: async () => (this.#seen = await record.read()) };
    this.#name = `Secret ${namespace}/${name}`;
    this.#sealing = new ClusterSealing({
      ...{ settings, leading, clock, random, logger, encryption: options.encryption },
      record: this.#existing(() => this.#evidence()),
      seen: () => this.#seen,
      isOpen: () => this.ca.value !== undefined,
    });
    this.sealing = this.#sealing.state;
  }

  staleness(): string | undefined {
    const skewed = this.#options.clockProblem();
    if (skewed !== undefined) return skewed.message;
    const age = this.#record.sinceRead();
    if (age <= FRESH_WITHIN_MS) return undefined;
    return `${this.#name} has not been read for ${Math.round(age / 1000)} s`;
  }

  async open(signal: AbortSignal): Promise<ClusterCa> {
    const { clock, leading } = this.#options;
    for (;;) {
      try {
        this.#requireClock();
        const ca = await this.#open({ follows: true });
        this.#tell(undefined);
        this.ca.set(ca);
        this.#options.settings.watch((settings) => this.#configure(ca, settings));
        this.#sealing.watch(() => void this.#reseal(ca));
        void this.#sealing.look(() => this.#evidence());
        return {
          ca,
          follow: (until) => this.#followAll(ca, until),
          sinceRead: () => this.#record.sinceRead(),
        };
      } catch (thrown) {
        const error = SignetError.from(thrown);
        if (error.code === 'CaConfigInvalid') throw error;
        const isNew = error.code === 'JournalMissing' && this.#evidence() === undefined;
        if (isNew && leading.value) {
          // It is opened again as one that others may change.
          await this.#begin({}).catch((failed: unknown) => this.#tell(SignetError.from(failed)));
          if (this.problem.value === undefined) continue;
        } else this.#tell(error, isNew);
      }
      await sleep(clock, RETRY_MS, signal);
    }
  }

  #configure(ca: CertificateAuthority, settings: TrustDomainSettings): void {
    try {
      ca.configure(caConfigOf(settings));
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      this.#options.logger.error('the authorities go on as they were configured', { code, reason: message });
    }
  }

  /** What begins by a clock that is off is not valid yet, or too long: no authority does. */
  #requireClock(): void {
    const skewed = this.#options.clockProblem();
    if (skewed !== undefined) throw skewed;
  }

  async beginAnew(): Promise<void> {
    this.#requireClock();
    const { writer, namespace, secretName: name, logger, lastSequence, forgetEncryption } = this.#options;
    const problem = await this.#loss();
    if (problem === undefined)
      throw new SignetError(
        'AuthoritiesNotLost',
        `there are authorities, in ${this.#name}; to replace those that sign, rotate`,
      );
    logger.warn('authorities begin anew, as asked', { lost: problem.code, reason: problem.message });
    const sequence = Math.max(lastSequence(), this.ca.value?.bundle.value.sequence ?? 0);
    await writer.remove(SECRET, { namespace, name });
    if (problem.code.startsWith('KeyEncryption')) await forgetEncryption();
    await this.#begin({ evidence: () => undefined, lastSequence: sequence });
    if (this.ca.value !== undefined) await this.#follow(this.ca.value);
  }

  /** What is lost of the state as it is now: what was restored meanwhile is not to be thrown away. */
  async #loss(): Promise<SignetError | undefined> {
    try {
      await (await this.#open({ follows: true })).close();
      return undefined;
    } catch (thrown) {
      const error = SignetError.from(thrown);
      if (LOST.has(error.code)) return error;
      throw error;
    }
  }

  async #begin(how: Partial<CaOptions> & { readonly evidence?: () => undefined }): Promise<void> {
    await (await this.#open({ follows: false, ...how })).close();
  }

  async #open(
    how: Partial<CaOptions> & { readonly evidence?: () => string | undefined },
  ): Promise<CertificateAuthority> {
    const { clock, random, logger, settings, distributedForMs } = this.#options;
    const { evidence = () => this.#evidence(), ...others } = how;
    const record = this.#record;
    const encryption = await this.#sealing.take(evidence);
    return openCertificateAuthority({
      ...{ clock, random, logger },
      trustDomain: settings.value.name,
      keys: recordKeyStore({ record: this.#existing(evidence), random, encryption }),
      journal: recordJournal({ record, name: this.#name, evidence }),
      config: caConfigOf(settings.value),
      staleness: () => this.staleness(),
      ...(distributedForMs === undefined ? {} : { distributedForMs }),
      ...others,
    });
  }

  /** A new key must not make a new Secret in place of one that is lost: restoring it would meet another one. */
  #existing(evidence: () => string | undefined): StateRecord {
    return {
      read: () => this.#record.read(),
      update: (change) =>
        this.#record.update((content) => {
          const why = content === undefined ? evidence() : undefined;
          if (why !== undefined) throw new JournalError('JournalMissing', `${this.#name} is gone: ${why}`);
          return change(content);
        }),
    };
  }

  /** A server that holds authorities knows that there were some, whatever became of all that it has written. */
  #evidence(): string | undefined {
    const held = this.ca.value?.authorities().length ?? 0;
    return held > 0 ? `this server still holds ${held} of them` : this.#options.evidence();
  }

  #tell(problem: SignetError | undefined, isNew = false): void {
    const { logger } = this.#options;
    const text = problem?.message ?? '';
    if (text !== this.#told) {
      if (problem === undefined) logger.info('the authorities are as they should be');
      else if (isNew || PASSING.has(problem.code))
        logger.info('waiting for the authorities', { reason: text });
      else
        logger.error('the authorities cannot be used', {
          code: problem.code,
          reason: problem.message,
          help: WAY_OUT,
        });
    }
    this.#told = text;
    const shown =
      problem !== undefined && LOST.has(problem.code) && !isNew
        ? new SignetError(problem.code, `${problem.message}. ${WAY_OUT}`, { cause: problem })
        : problem;
    if (shown?.message !== this.problem.value?.message) this.problem.set(shown);
  }

  async #follow(ca: CertificateAuthority): Promise<void> {
    try {
      await ca.follow().catch(async (thrown: unknown) => {
        if (!SignetError.from(thrown).code.startsWith('KeyEncryption')) throw thrown;
        // Another replica may have begun anew with another key, or sealed all by the one that is named now.
        await this.#sealing.take(() => this.#evidence());
        await ca.follow();
      });
      this.#tell(this.#options.clockProblem());
    } catch (thrown) {
      this.#tell(SignetError.from(thrown));
    }
    // Not waited for: a KMS that hangs must not keep this replica from seeing the newest state.
    void this.#sealing.look(() => this.#evidence());
  }

  /** What did not open by the former key may open by the one that is named now. */
  async #reseal(ca: CertificateAuthority): Promise<void> {
    await this.#sealing.look(() => this.#evidence());
    await this.#follow(ca);
  }

  async #followAll(ca: CertificateAuthority, until: AbortSignal): Promise<void> {
    const { api, namespace, clock, random, logger, secretName } = this.#options;
    const follow = (): void => void this.#follow(ca);
    const watching = runReflector(
      {
        ...{ api, type: SECRET, namespace, clock, random, logger },
        sink: { replace: follow, put: follow, remove: follow },
        fieldSelector: `metadata.name=${secretName}`,
        // That it has changed is all that is wanted of it.
        metadataOnly: true,
        trim: trimObject,
      },
      until,
    );
    while (!until.aborted) {
      await sleep(clock, POLL_MS, until).catch(() => undefined);
      if (!until.aborted) await this.#follow(ca);
    }
    await watching;
  }
}
