import type { KeyEncryption } from '../identity/keys/encryption.js';
import { keyFilesIn } from '../identity/keys/record-key-store.js';
import { requireOpens, resealKeys } from '../identity/keys/reseal.js';
import type { StateContent, StateRecord } from '../identity/keys/state-record.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { type Watched, WatchedValue } from '../lib/watched.js';

/** How the keys of the authorities are sealed. */
export interface Sealing {
  /** Why the key-encryption key that the TrustDomain names is not in force: the one before it goes on. */
  readonly refused: SignetError | undefined;
  /** Why not all keys are sealed by the one in force. */
  readonly unsealed: SignetError | undefined;
}

/** What the sealing of shared authorities works with. */
export interface ClusterSealingOptions {
  /** Where the sealed keys are. */
  readonly record: StateRecord;
  /** What it held when it was last read. */
  readonly seen: () => StateContent | undefined;
  readonly settings: Watched<TrustDomainSettings>;
  /** The key-encryption key that settings name, with the former one; see {@link ClusterCaOptions}. */
  readonly encryption: (
    settings: TrustDomainSettings,
    evidence: () => string | undefined,
  ) => Promise<KeyEncryption>;
  readonly leading: Watched<boolean>;
  /** Whether there are open authorities, which a change of the key must not harm. */
  readonly isOpen: () => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** A KMS may rotate its own key at any time, without a word; it is asked so often. */
const FRESH_FOR_MS = 3_600_000;
const PROBE_BYTES = 32;
const PROBE = Buffer.from('signet key-encryption key probe');

/**
 * Which key-encryption key (KEK) seals the keys of shared authorities, and the change from one to another while they sign:
 * each replica opens with the one that the settings name and with the former one, and the leader seals anew whatever the
 * former one sealed. A KEK that does not open what is there is not taken: what is in memory goes on.
 */
export class ClusterSealing {
  /** The KEK in force, for those who are given one for good. */
  readonly current: KeyEncryption;
  /** Undefined while it is not known: at the start, and from a change on until it is carried out. */
  readonly state = new WatchedValue<Sealing | undefined>(undefined);
  readonly #options: ClusterSealingOptions;
  #inForce: { readonly encryption: KeyEncryption; readonly named: string } | undefined;
  #verified: { readonly encryption: KeyEncryption; readonly files: string; readonly at: number } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting: Promise<void> | undefined;
  #told = '';

  constructor(options: ClusterSealingOptions) {
    this.#options = options;
    this.current = delegate(() => this.#inForce?.encryption);
  }

  /** Looks again at each change, by `look`. */
  watch(look: () => void): void {
    const { settings, leading } = this.#options;
    let named = namedBy(settings.value);
    settings.watch((now) => {
      if (namedBy(now) === named) return;
      named = namedBy(now);
      this.state.set(undefined);
      look();
    });
    leading.watch((isLeading) => {
      this.#verified = undefined;
      // Whoever leads tells of it, and does not know it yet.
      this.state.set(undefined);
      if (isLeading) look();
    });
  }

  /**
   * The KEK to open authorities with. Where none are open yet it is the one that the settings name, whatever it opens. Where
   * some are, one that was changed is taken only when it opens all that is there; one that was not changed may be another all
   * the same, since authorities have begun anew.
   *
   * @throws what the KEK rejects with
   */
  take(evidence: () => string | undefined): Promise<KeyEncryption> {
    return this.#alone(async () => {
      const { settings, encryption, isOpen } = this.#options;
      const named = namedBy(settings.value);
      try {
        const wanted = await encryption(settings.value, evidence);
        if (isOpen()) await this.#prove(wanted);
        this.#inForce = { encryption: wanted, named };
      } catch (thrown) {
        if (!isOpen() || this.#inForce === undefined || this.#inForce.named === named) throw thrown;
      }
      return this.current;
    });
  }

  /**
   * Takes the KEK that the settings name, if it is another one and can be taken; and, where this replica leads, seals anew
   * what it does not seal yet. What fails is told in {@link state}, and tried again at the next look. Looks that wait for one
   * another are one: a KMS that hangs piles up nothing.
   */
  look(evidence: () => string | undefined): Promise<void> {
    this.#waiting ??= this.#alone(async () => {
      this.#waiting = undefined;
      const named = namedBy(this.#options.settings.value);
      const refused = await outcome(() => this.#change(named, evidence));
      const isLeader = this.#options.leading.value;
      const unsealed = refused === undefined && isLeader ? await outcome(() => this.#sealAll()) : undefined;
      // What was found is of no interest when it was another question.
      if (named !== namedBy(this.#options.settings.value) || isLeader !== this.#options.leading.value) return;
      this.#tell(refused, unsealed);
    });
    return this.#waiting;
  }

  async #change(named: string, evidence: () => string | undefined): Promise<void> {
    const { settings, encryption, logger } = this.#options;
    if (this.#inForce?.named === named) return;
    const wanted = await encryption(settings.value, evidence);
    await this.#prove(wanted);
    this.#inForce = { encryption: wanted, named };
    logger.info('authority keys are sealed by another key-encryption key from now on', { kek: wanted.id });
  }

  /** That it seals and gives back, and that all keys open, by it or by the former one. */
  async #prove(wanted: KeyEncryption): Promise<void> {
    const { random, record } = this.#options;
    const probe = random.bytes(PROBE_BYTES);
    const back = await wanted.open(await wanted.seal(probe, PROBE), PROBE);
    if (Buffer.compare(back, probe) !== 0)
      throw new SignetError('KeyEncryptionUnavailable', `${wanted.id} does not give back what it seals`);
    try {
      await requireOpens(await record.read(), wanted);
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      if (code !== 'KeyEncryptionUnavailable' || wanted.previous !== undefined) throw thrown;
      // It has just sealed and opened: it is there, and it is not the one.
      throw new SignetError('KeyEncryptionWrong', message, { cause: thrown });
    }
  }

  async #sealAll(): Promise<void> {
    const { record, seen, random, clock, logger } = this.#options;
    const encryption = this.#inForce?.encryption;
    if (encryption === undefined || this.#isVerified(encryption, seen())) return;
    const keys = await resealKeys({ record, random, encryption });
    if (keys > 0) {
      logger.info('authority keys are sealed anew', { keys, kek: encryption.id });
      // The former one opens nothing here: a key that has come meanwhile waits for the next look.
      await requireOpens(await record.read(), { ...encryption, previous: () => Promise.resolve(undefined) });
    }
    this.#verified = { encryption, files: filesOf(seen()), at: clock.monotonic() };
  }

  #isVerified(encryption: KeyEncryption, content: StateContent | undefined): boolean {
    const verified = this.#verified;
    return (
      verified?.encryption === encryption &&
      verified.files === filesOf(content) &&
      this.#options.clock.monotonic() - verified.at < FRESH_FOR_MS
    );
  }

  #tell(refused: SignetError | undefined, unsealed: SignetError | undefined): void {
    const { logger } = this.#options;
    const shown =
      refused &&
      new SignetError(
        refused.code,
        `spec.keyEncryption is not in force, and the key-encryption key before it goes on: ${refused.message}. Name the key that sealed before under spec.keyEncryption.previous, or write again what stood there: a server that starts now may not be able to sign`,
        { cause: refused },
      );
    const problem = shown ?? unsealed;
    const text = problem?.message ?? '';
    if (text !== this.#told && problem !== undefined)
      logger.error('the key-encryption key cannot be changed yet', { code: problem.code, reason: text });
    this.#told = text;
    const next = { refused: shown, unsealed };
    if (wordsOf(next) !== wordsOf(this.state.value)) this.state.set(next);
  }

  /** One after the other, in the order of the calls. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

async function outcome(act: () => Promise<void>): Promise<SignetError | undefined> {
  try {
    await act();
    return undefined;
  } catch (thrown) {
    return SignetError.from(thrown);
  }
}

/** What settings say of key-encryption keys. */
function namedBy({ keyEncryption, previousKeyEncryption }: TrustDomainSettings): string {
  return JSON.stringify([keyEncryption, previousKeyEncryption]);
}

function filesOf(content: StateContent | undefined): string {
  const files = [...keyFilesIn(content)].map(([id, file]) => [id, Buffer.from(file).toString('base64')]);
  return JSON.stringify(files);
}

function wordsOf(sealing: Sealing | undefined): string {
  return JSON.stringify(sealing && [sealing.refused?.message, sealing.unsealed?.message]);
}

/** Whichever is in force when it is asked. */
function delegate(present: () => KeyEncryption | undefined): KeyEncryption {
  const one = (): KeyEncryption => {
    const encryption = present();
    if (encryption === undefined)
      throw new SignetError('KeyEncryptionUnavailable', 'no key-encryption key is known yet');
    return encryption;
  };
  return {
    get id() {
      return one().id;
    },
    seal: (plain, context) => one().seal(plain, context),
    open: (sealed, context) => one().open(sealed, context),
    previous: async () => one().previous?.(),
  };
}
