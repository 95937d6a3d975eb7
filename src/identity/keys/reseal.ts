import { timingSafeEqual } from 'node:crypto';
import type { Random } from '../../lib/random.js';
import type { KeyEncryption } from './encryption.js';
import { KeyStoreError } from './errors.js';
import { damaged, decodeKeyFile, encodeKeyFile, MAX_KEY_FILE_BYTES, sealedDataKey } from './key-file.js';
import { keyFilesIn, withKeyFiles } from './record-key-store.js';
import type { StateContent, StateRecord } from './state-record.js';

/*
 * The key-encryption key (KEK) of keys in a record is changed in two steps that any crash may come between: whoever reads
 * the record opens with the present one and with the former, and then every key is sealed anew by the present one.
 */

/** What is needed to seal keys anew. */
export interface ResealOptions {
  readonly record: StateRecord;
  readonly random: Random;
  /** The KEK that all keys shall be sealed by; what the others are sealed by is its previous one. */
  readonly encryption: KeyEncryption;
}

/**
 * Seals anew each key of a record that the KEK did not seal, or would seal otherwise now, in one change of the record, and
 * returns how many there were. Nothing takes the place of a key file before it was opened by the KEK alone and held the same
 * key. A key that another process removes or changes meanwhile is left to it. Until it resolves the record is as it was.
 *
 * @throws KeyStoreError, or what the record or the previous KEK rejects with
 */
export async function resealKeys({ record, random, encryption }: ResealOptions): Promise<number> {
  const changes = new Map<string, { readonly from: Uint8Array; readonly to: Uint8Array }>();
  for (const [id, from] of keyFilesIn(await record.read())) {
    const to = await sealedAnew(id, from, encryption, random);
    if (to !== undefined) changes.set(id, { from, to });
  }
  if (changes.size === 0) return 0;
  await record.update((content) => {
    if (content === undefined) throw new KeyStoreError('StateIo', 'the record of the keys is gone');
    return withKeyFiles(content, changes);
  });
  return changes.size;
}

/**
 * Whether all keys in a record open.
 *
 * @throws KeyStoreError, or what the previous KEK rejects with: why the first that does not open does not
 */
export async function requireOpens(
  content: StateContent | undefined,
  encryption: KeyEncryption,
): Promise<void> {
  for (const [id, file] of keyFilesIn(content)) (await decodeKeyFile(id, file, encryption)).pkcs8.fill(0);
}

/** Undefined where it is sealed as it should be. */
async function sealedAnew(
  id: string,
  file: Uint8Array,
  encryption: KeyEncryption,
  random: Random,
): Promise<Uint8Array | undefined> {
  const { pkcs8, openedBy } = await decodeKeyFile(id, file, encryption);
  try {
    // Nobody but an intruder puts a key there in clear: it is not to look like one of ours.
    if (openedBy === undefined) damaged(id, 'it is not sealed');
    if (openedBy === encryption && (await isFresh(id, file, encryption))) return undefined;
    const sealed = await encodeKeyFile(id, pkcs8, encryption, random);
    await check(id, sealed, pkcs8, encryption);
    return sealed;
  } finally {
    pkcs8.fill(0);
  }
}

async function isFresh(id: string, file: Uint8Array, encryption: KeyEncryption): Promise<boolean> {
  return (await encryption.isFresh?.(sealedDataKey(id, file))) ?? true;
}

/** A KEK that seals and does not open, e.g. of a KMS that may not decrypt, must not get hold of the last copy of a key. */
async function check(
  id: string,
  sealed: Uint8Array,
  pkcs8: Uint8Array,
  encryption: KeyEncryption,
): Promise<void> {
  const opened = await decodeKeyFile(id, sealed, encryption);
  const isSame = opened.pkcs8.length === pkcs8.length && timingSafeEqual(opened.pkcs8, pkcs8);
  opened.pkcs8.fill(0);
  if (isSame && opened.openedBy === encryption && sealed.length <= MAX_KEY_FILE_BYTES) return;
  throw new KeyStoreError(
    'KeyEncryptionUnavailable',
    `key-encryption key ${encryption.id} does not give back what it seals; key ${id} stays as it is sealed`,
  );
}
