import { readFile } from 'node:fs/promises';
import {
  localKeyEncryption,
  parseLocalKey,
  SECRET_BYTES,
  type KeyEncryption,
} from '../identity/keys/encryption.js';
import { kmsKeyEncryption } from '../identity/keys/kms-encryption.js';
import { SignetError } from '../lib/errors.js';
import type { Random } from '../lib/random.js';
import { kmsPluginAt } from '../rpc/kms/plugin.js';
import { ApiError } from '../store/kubernetes/api-error.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import type { ObjectRef } from '../store/kubernetes/resource-type.js';
import { SECRET } from '../store/kubernetes/types.js';

const ENTRY = 'key';

/** The KMS plugin that TrustDomain `spec.keyEncryption.kms.socket` names; reached when it is needed. */
export function keyEncryptionFromKms(socket: string, random: Random): KeyEncryption {
  return kmsKeyEncryption(kmsPluginAt(socket, random));
}

/**
 * The key-encryption key in a file, as `local.keyFile` of a field of the TrustDomain names it.
 *
 * @throws SignetError `KeyEncryptionUnusable`
 */
export async function keyEncryptionFromFile(
  file: string,
  field: string,
  random: Random,
): Promise<KeyEncryption> {
  try {
    return localKeyEncryption(parseLocalKey(await readFile(file)), random);
  } catch (thrown) {
    const { message } = SignetError.from(thrown);
    throw new SignetError('KeyEncryptionUnusable', `${field}.local.keyFile ${file}: ${message}`, {
      cause: thrown,
    });
  }
}

/**
 * The key-encryption key in a Secret, and nothing else in its place.
 *
 * @throws ApiError, KeyStoreError `KeyEncryptionInvalid`, SignetError `KeyEncryptionUnusable`
 */
export async function keyEncryptionInSecret(
  writer: Pick<ObjectWriter, 'get'>,
  ref: ObjectRef,
  random: Random,
): Promise<KeyEncryption> {
  const stored = await read(writer, ref);
  if (stored === undefined) throw gone(ref);
  return localKeyEncryption(parseLocalKey(stored), random);
}

/**
 * The key-encryption key in a Secret, which is made when there is none. It keeps apart who may read the authorities' Secret
 * and who may use what is in it; whoever may read both has the keys, so a KMS is better.
 *
 * @throws ApiError, KeyStoreError `KeyEncryptionInvalid`, SignetError `KeyEncryptionUnusable`
 */
export async function keyEncryptionFromSecret(
  writer: Pick<ObjectWriter, 'get' | 'create'>,
  ref: ObjectRef,
  random: Random,
  /** Whether it may have sealed keys already: then one that is gone is not replaced by another. */
  isUsed: () => Promise<boolean>,
): Promise<KeyEncryption> {
  const stored = await read(writer, ref);
  if (stored !== undefined) return localKeyEncryption(parseLocalKey(stored), random);
  if (await isUsed()) throw gone(ref);
  const data = { [ENTRY]: Buffer.from(random.bytes(SECRET_BYTES)).toString('base64') };
  const labels = { 'app.kubernetes.io/managed-by': 'signet', 'app.kubernetes.io/part-of': 'signet' };
  try {
    await writer.create(SECRET, { metadata: { ...ref, labels }, type: 'Opaque', immutable: true, data } as {
      readonly metadata: ObjectRef;
    });
  } catch (thrown) {
    // Another replica was faster; its key is the one.
    if (ApiError.from(thrown).code !== 'ApiConflict') throw thrown;
  }
  const made = await read(writer, ref);
  if (made === undefined)
    throw new SignetError(
      'KeyEncryptionUnusable',
      `Secret ${ref.namespace}/${ref.name} is gone as soon as it was made`,
    );
  return localKeyEncryption(parseLocalKey(made), random);
}

function gone({ namespace, name }: ObjectRef): SignetError {
  return new SignetError(
    'KeyEncryptionUnusable',
    `Secret ${namespace}/${name} is gone, and authority keys are sealed with the key in it; restore it from a backup`,
  );
}

async function read(writer: Pick<ObjectWriter, 'get'>, ref: ObjectRef): Promise<Uint8Array | undefined> {
  try {
    const { data } = (await writer.get(SECRET, ref)) as { readonly data?: Readonly<Record<string, string>> };
    return Buffer.from(data?.[ENTRY] ?? '', 'base64');
  } catch (thrown) {
    if (ApiError.from(thrown).code === 'ApiNotFound') return undefined;
    throw thrown;
  }
}
