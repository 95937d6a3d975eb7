import { openCertificateAuthority, type CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { JournalError } from '../identity/ca/journal.js';
import { recordJournal } from '../identity/ca/record-journal.js';
import type { KeyEncryption } from '../identity/keys/encryption.js';
import { recordKeyStore } from '../identity/keys/record-key-store.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { runReflector } from '../store/kubernetes/reflector.js';
import { secretRecord } from '../store/kubernetes/secret-record.js';
import { trimObject } from '../store/kubernetes/trim.js';
import { SECRET } from '../store/kubernetes/types.js';

/** What the shared CA of a cluster is made of. */
export interface ClusterCaOptions {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly namespace: string;
  /** Of the Secret that holds authorities and their sealed keys. */
  readonly secretName: string;
  readonly settings: TrustDomainSettings;
  readonly encryption: KeyEncryption;
  readonly leading: Watched<boolean>;
  /** Why there must be authorities already, if anybody has seen some. */
  readonly evidence: () => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
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

/**
 * Opens the CA. The leader begins it where there is none; the others wait for that. Resolves when this replica can sign.
 *
 * @throws CaError, JournalError or KeyStoreError for what waiting does not mend; the signal's reason
 */
export async function openClusterCa(options: ClusterCaOptions, signal: AbortSignal): Promise<ClusterCa> {
  const { clock, random, logger, namespace, secretName: name, settings } = options;
  const record = secretRecord(options.writer, { namespace, name }, clock);
  const open = (follows: boolean): Promise<CertificateAuthority> =>
    openCertificateAuthority({
      ...{ clock, random, logger, follows },
      trustDomain: settings.name,
      keys: recordKeyStore({ record, random, encryption: options.encryption }),
      journal: recordJournal({ record, name: `Secret ${namespace}/${name}`, evidence: options.evidence }),
      config: {
        x509KeyType: settings.keyTypes.x509Authority,
        jwtKeyType: settings.keyTypes.jwtAuthority,
        authorityTtlSeconds: settings.ttlSeconds.authority,
        ...(settings.jwtIssuer === undefined ? {} : { jwtIssuer: settings.jwtIssuer }),
      },
      staleness: () =>
        record.sinceRead() <= FRESH_WITHIN_MS
          ? undefined
          : `Secret ${namespace}/${name} has not been read for ${Math.round(record.sinceRead() / 1000)} s`,
    });
  const ca = await openWhenThere(options, open, signal);
  const follow = async (): Promise<void> => {
    try {
      await ca.follow();
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      logger.warn('the authorities of the other replicas cannot be taken over', { code, reason: message });
    }
  };
  return {
    ca,
    sinceRead: () => record.sinceRead(),
    async follow(until) {
      const sink = { replace: () => void follow(), put: () => void follow(), remove: () => void follow() };
      const watching = runReflector(
        {
          ...{ api: options.api, type: SECRET, namespace, clock, random, logger, sink },
          fieldSelector: `metadata.name=${name}`,
          // That it has changed is all that is wanted of it.
          metadataOnly: true,
          trim: trimObject,
        },
        until,
      );
      while (!until.aborted) {
        await sleep(clock, POLL_MS, until).catch(() => undefined);
        if (!until.aborted) await follow();
      }
      await watching;
    },
  };
}

/** Errors that may go away by themselves: the leader has yet to begin, or the API server cannot be reached. */
function isWorthWaiting(error: SignetError, evidence: string | undefined): boolean {
  if (error instanceof JournalError && error.code === 'JournalMissing') return evidence === undefined;
  return ['JournalIo', 'StateIo', 'JournalConflict'].includes(error.code);
}

async function openWhenThere(
  { clock, logger, leading, evidence }: ClusterCaOptions,
  open: (follows: boolean) => Promise<CertificateAuthority>,
  signal: AbortSignal,
): Promise<CertificateAuthority> {
  let told = '';
  for (;;) {
    try {
      return await open(true);
    } catch (thrown) {
      const error = SignetError.from(thrown);
      if (!isWorthWaiting(error, evidence())) throw error;
      if (error.code === 'JournalMissing' && leading.value) {
        // It is opened again as one that others may change.
        await (await open(false)).close();
        continue;
      }
      if (error.message !== told) logger.info('waiting for the authorities', { reason: error.message });
      told = error.message;
    }
    await sleep(clock, RETRY_MS, signal);
  }
}
