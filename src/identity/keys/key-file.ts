import { createHash, timingSafeEqual } from 'node:crypto';
import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import type { KeyEncryption } from './encryption.js';
import { openBytes, sealBytes, SECRET_BYTES } from './encryption.js';
import { KeyStoreError } from './errors.js';

/**
 * The format of a key file, version 1: one JSON object, UTF-8, a newline at the end.
 *
 *     { "format": "signet-key/1", "id": "<key id>", "pkcs8": "<base64>", "sha256": "<hex>" }
 *
 * without a key-encryption key (KEK): PKCS#8 (RFC 5208) of the private key, and the SHA-256 of those bytes, which
 * tells a damaged file from a whole one. With a KEK, envelope encryption:
 *
 *     { "format": "signet-key/1", "id": "<key id>", "kek": "<KEK id>", "dek": "<base64>", "sealed": "<base64>" }
 *
 * `sealed` is AES-256-GCM (12 bytes nonce, ciphertext, 16 bytes tag) of the PKCS#8 under a data key of its own;
 * `dek` is that data key as the KEK sealed it. Both are bound to the context `signet-key/1` NUL key id: a file that is
 * renamed, or whose parts come from two files, does not open. The id must be the one in the file's name.
 */
export const KEY_FORMAT = 'signet-key/1';
/** The largest key file that is read, in bytes: RSA 4096 sealed takes about 5,000. */
export const MAX_KEY_FILE_BYTES = 32 * 1024;

/** A key file as bytes. `pkcs8` stays the caller's. */
export async function encodeKeyFile(
  id: string,
  pkcs8: Uint8Array,
  encryption: KeyEncryption | undefined,
  random: Random,
): Promise<Uint8Array> {
  const lines =
    encryption === undefined
      ? { format: KEY_FORMAT, id, pkcs8: base64(pkcs8), sha256: sha256(pkcs8).toString('hex') }
      : { format: KEY_FORMAT, id, kek: encryption.id, ...(await seal(id, pkcs8, encryption, random)) };
  return Buffer.from(`${JSON.stringify(lines)}\n`);
}

async function seal(
  id: string,
  pkcs8: Uint8Array,
  encryption: KeyEncryption,
  random: Random,
): Promise<{ dek: string; sealed: string }> {
  const dek = random.bytes(SECRET_BYTES);
  try {
    const sealed = sealBytes(dek, pkcs8, contextOf(id), random);
    return { dek: base64(await encryption.seal(dek, contextOf(id))), sealed: base64(sealed) };
  } finally {
    dek.fill(0);
  }
}

/**
 * The private key in a key file, as PKCS#8, and which key-encryption key opened it: `encryption` itself, its previous
 * one, or none where it lay there in clear. Of two with one id the present one is tried first: what is sealed says itself
 * whether it was the right one.
 *
 * @throws KeyStoreError `KeyDamaged`, `KeyEncryptionMissing`, `KeyEncryptionWrong`, `KeyEncryptionUnavailable`; what the
 *   previous one, when it is needed, rejects with
 */
export async function decodeKeyFile(
  id: string,
  file: Uint8Array,
  encryption: KeyEncryption | undefined,
): Promise<{ pkcs8: Uint8Array; openedBy: KeyEncryption | undefined }> {
  const fields = parse(id, file);
  if (fields['id'] !== id) damaged(id, 'it belongs to another key');
  if (typeof fields['pkcs8'] === 'string') {
    const pkcs8 = bytes(id, 'pkcs8', fields);
    const expected = Buffer.from(typeof fields['sha256'] === 'string' ? fields['sha256'] : '', 'hex');
    const actual = sha256(pkcs8);
    if (expected.length !== actual.length || !timingSafeEqual(expected, actual))
      damaged(id, 'its checksum differs');
    return { pkcs8, openedBy: undefined };
  }
  const kek = fields['kek'];
  if (typeof kek !== 'string') damaged(id, 'it has neither "pkcs8" nor "kek"');
  if (encryption === undefined) {
    throw new KeyStoreError(
      'KeyEncryptionMissing',
      `key ${id} is sealed by key-encryption key ${kek.slice(0, 128)}, and none is configured; configure that one`,
    );
  }
  const { dek, openedBy } = await openDataKey(id, bytes(id, 'dek', fields), kek, encryption);
  try {
    return { pkcs8: openBytes(dek, bytes(id, 'sealed', fields), contextOf(id)), openedBy };
  } catch (error) {
    if (error instanceof KeyStoreError) throw error;
    damaged(id, 'it was changed after it was sealed', error);
  } finally {
    dek.fill(0);
  }
}

async function openDataKey(
  id: string,
  sealed: Uint8Array,
  kek: string,
  encryption: KeyEncryption,
): Promise<{ dek: Uint8Array; openedBy: KeyEncryption }> {
  const known: string[] = [];
  const failures: SignetError[] = [];
  try {
    for await (const one of withFormer(encryption)) {
      known.push(one.id);
      if (one.id !== kek) continue;
      try {
        return { dek: await one.open(sealed, contextOf(id)), openedBy: one };
      } catch (error) {
        failures.push(whyShut(id, one, error));
      }
    }
  } catch (error) {
    // That the former one cannot be used is what is wrong, unless the present one should have opened it.
    failures.push(SignetError.from(error));
  }
  const [first, second] = failures;
  if (first === undefined) {
    throw new KeyStoreError(
      'KeyEncryptionWrong',
      `key ${id} is sealed by key-encryption key ${kek.slice(0, 128)}, and ${known.join(' and ')} is configured; configure the one that sealed it, or name it as the former one (spec.keyEncryption.previous)`,
    );
  }
  if (second === undefined) throw first;
  throw new SignetError(first.code, `${first.message}; and with the former one: ${second.message}`, {
    cause: first,
  });
}

async function* withFormer(encryption: KeyEncryption): AsyncGenerator<KeyEncryption, void, void> {
  yield encryption;
  const former = await encryption.previous?.();
  if (former !== undefined) yield former;
}

/** A KEK that is not there now says nothing of the file. */
function whyShut(id: string, { id: kek }: KeyEncryption, error: unknown): SignetError {
  return error instanceof KeyStoreError
    ? error
    : damage(id, `key-encryption key ${kek} does not open its data key`, error);
}

/** The data key of a key file, as its key-encryption key sealed it. Throws KeyStoreError `KeyDamaged`. */
export function sealedDataKey(id: string, file: Uint8Array): Uint8Array {
  return bytes(id, 'dek', parse(id, file));
}

type Fields = Readonly<Record<string, unknown>>;

function parse(id: string, file: Uint8Array): Fields {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(file).toString('utf8'));
  } catch {
    // The parser's own message may quote the file, and so the key.
    damaged(id, file.length === 0 ? 'it is empty' : 'it is cut short or no JSON');
  }
  if (typeof value !== 'object' || value === null) damaged(id, 'it is no JSON object');
  const fields = value as Fields;
  if (fields['format'] !== KEY_FORMAT) damaged(id, `its format is not "${KEY_FORMAT}"`);
  return fields;
}

function bytes(id: string, name: string, fields: Fields): Buffer {
  const text = fields[name];
  if (typeof text !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(text))
    damaged(id, `"${name}" is no base64 text`);
  return Buffer.from(text, 'base64');
}

/** Throws KeyStoreError `KeyDamaged`. */
export function damaged(id: string, why: string, cause?: unknown): never {
  throw damage(id, why, cause);
}

function damage(id: string, why: string, cause: unknown): KeyStoreError {
  return new KeyStoreError(
    'KeyDamaged',
    `the file of key ${id} cannot be used: ${why}. Restore it from a backup; it is never replaced by a new key`,
    cause === undefined ? undefined : { cause },
  );
}

function contextOf(id: string): Uint8Array {
  return Buffer.from(`${KEY_FORMAT}\0${id}`);
}

function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest();
}
