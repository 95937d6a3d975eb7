import { join } from 'node:path';
import type { KeyEncryptionSource, TrustDomainSettings } from '../cluster/trust-domain.js';
import { openCertificateAuthority, type CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { openFileJournal } from '../identity/ca/file-journal.js';
import { withPrevious, type KeyEncryption } from '../identity/keys/encryption.js';
import { fileKeyStore } from '../identity/keys/file-key-store.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { keyEncryptionFromFile, keyEncryptionFromKms } from './cluster-key.js';
import { caConfigOf } from './ca-config.js';

/** Where a CA keeps its state, and what it works with. */
export interface OpenCaOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * Opens the CA of a trust domain whose state is in a directory.
 *
 * @throws CaError, JournalError or KeyStoreError; SignetError `KeyEncryptionUnusable`
 */
export async function openCa(
  settings: TrustDomainSettings,
  { directory, clock, random, logger }: OpenCaOptions,
): Promise<CertificateAuthority> {
  const encryption = await keyEncryption(settings, random);
  // Opened first: it locks the directory, so a second process never touches the keys.
  const journal = await openFileJournal({ directory, clock, random, logger });
  try {
    return await openCertificateAuthority({
      trustDomain: settings.name,
      keys: fileKeyStore({
        directory: join(directory, 'keys'),
        random,
        ...(encryption === undefined ? {} : { encryption }),
      }),
      journal,
      clock,
      random,
      logger,
      config: caConfigOf(settings),
    });
  } catch (error) {
    await journal.close();
    throw error;
  }
}

async function keyEncryption(
  { keyEncryption: source, previousKeyEncryption: former }: TrustDomainSettings,
  random: Random,
): Promise<KeyEncryption | undefined> {
  if (source === undefined) return undefined;
  const present = await keyEncryptionAt(source, 'spec.keyEncryption', random);
  if (former === undefined) return present;
  return withPrevious(present, () => keyEncryptionAt(former, 'spec.keyEncryption.previous', random));
}

async function keyEncryptionAt(
  source: KeyEncryptionSource,
  field: string,
  random: Random,
): Promise<KeyEncryption> {
  if ('socket' in source) return keyEncryptionFromKms(source.socket, random);
  if ('keyFile' in source) return keyEncryptionFromFile(source.keyFile, field, random);
  throw new SignetError(
    'KeyEncryptionUnusable',
    `${field}.builtIn is a Secret of a cluster, and here is none; write local or kms, or leave keyEncryption out`,
  );
}
