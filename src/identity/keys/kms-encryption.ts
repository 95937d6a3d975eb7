import { createHash, timingSafeEqual } from 'node:crypto';
import { SignetError } from '../../lib/errors.js';
import type { KeyEncryption } from './encryption.js';
import { KeyStoreError } from './errors.js';

/** What a Kubernetes KMS v2 plugin makes of a plaintext (KEP-3299): all of it is needed to decrypt. */
export interface KmsCiphertext {
  readonly ciphertext: Uint8Array;
  /** Of the key that encrypted; the plugin changes it when its key is rotated. */
  readonly keyId: string;
  readonly annotations: Readonly<Record<string, Uint8Array>>;
}

/** A KMS plugin. Its methods reject with SignetError when it cannot be reached or refuses. */
export interface KmsPlugin {
  encrypt(plaintext: Uint8Array): Promise<KmsCiphertext>;
  decrypt(sealed: KmsCiphertext): Promise<Uint8Array>;
  /** The id of the key that it encrypts with now. Rejects when it is not well. */
  keyId(): Promise<string>;
}

/** The API's bounds, in bytes. */
const MAX_CIPHERTEXT = 1024;
const MAX_KEY_ID = 1024;
const MAX_ANNOTATIONS = 32 * 1024;
const DIGEST_BYTES = 32;

/**
 * A KEK in a KMS, behind a Kubernetes KMS v2 plugin: the key never leaves it. Its API knows no context, so the context's
 * SHA-256 is sealed with what it protects, and compared when it is opened. What a key sealed that the KMS has rotated since
 * still opens, as long as the KMS keeps it: each piece says which key it was.
 *
 * All methods reject with KeyStoreError `KeyEncryptionUnavailable` when the plugin cannot do it now.
 */
export function kmsKeyEncryption(plugin: KmsPlugin): KeyEncryption {
  return {
    id: 'kms:v2',
    async seal(plain, context) {
      const whole = Buffer.concat([digestOf(context), plain]);
      try {
        const sealed = await asked('encrypt', () => plugin.encrypt(whole));
        check(sealed);
        return encode(sealed);
      } finally {
        whole.fill(0);
      }
    },
    async open(bytes, context) {
      const sealed = decode(bytes);
      const whole = Buffer.from(await decrypted(plugin, sealed));
      try {
        const digest = digestOf(context);
        if (whole.length < DIGEST_BYTES || !timingSafeEqual(whole.subarray(0, DIGEST_BYTES), digest))
          throw new Error('it was sealed for something else');
        return Uint8Array.from(whole.subarray(DIGEST_BYTES));
      } finally {
        whole.fill(0);
      }
    },
    isFresh: async (bytes) => decode(bytes).keyId === (await asked('tell its key', () => plugin.keyId())),
  };
}

async function decrypted(plugin: KmsPlugin, sealed: KmsCiphertext): Promise<Uint8Array> {
  try {
    return await asked('decrypt', () => plugin.decrypt(sealed));
  } catch (thrown) {
    const isWell = await plugin.keyId().then(
      () => true,
      () => false,
    );
    if (!isWell) throw thrown;
    const { message } = SignetError.from(thrown);
    throw unavailable(
      `${message}, though it is well; if another KMS sealed it, name that one as the former one (spec.keyEncryption.previous)`,
      thrown,
    );
  }
}

async function asked<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (thrown) {
    throw unavailable(`the KMS plugin does not ${what}: ${SignetError.from(thrown).message}`, thrown);
  }
}

/** What breaks the API's bounds now may be truncated later. */
function check({ ciphertext, keyId, annotations }: KmsCiphertext): void {
  if (ciphertext.length === 0 || ciphertext.length > MAX_CIPHERTEXT)
    throw unavailable(
      `the KMS plugin answers with ${ciphertext.length} bytes; 1 to ${MAX_CIPHERTEXT} are allowed`,
    );
  if (keyId === '' || Buffer.byteLength(keyId) > MAX_KEY_ID)
    throw unavailable('the KMS plugin names no key, or one with more than 1 kB');
  let size = 0;
  for (const [name, value] of Object.entries(annotations)) size += Buffer.byteLength(name) + value.length;
  if (size > MAX_ANNOTATIONS) throw unavailable(`the KMS plugin answers with ${size} bytes of annotations`);
}

function unavailable(message: string, cause?: unknown): KeyStoreError {
  return new KeyStoreError('KeyEncryptionUnavailable', message, cause === undefined ? undefined : { cause });
}

function encode({ ciphertext, keyId, annotations }: KmsCiphertext): Uint8Array {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  const entries = Object.entries(annotations).map(([name, value]) => [name, base64(value)]);
  return Buffer.from(JSON.stringify([keyId, base64(ciphertext), entries]));
}

/** Throws for what {@link encode} did not make. */
function decode(bytes: Uint8Array): KmsCiphertext {
  const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
  const [keyId, ciphertext, entries] = Array.isArray(value) ? (value as readonly unknown[]) : [];
  if (typeof keyId !== 'string' || typeof ciphertext !== 'string' || !Array.isArray(entries))
    throw new Error('it is no data of a KMS plugin');
  const annotations = (entries as readonly (readonly unknown[])[]).map(([name, text]) => {
    if (typeof name !== 'string' || typeof text !== 'string') throw new Error('it has a damaged annotation');
    return [name, Buffer.from(text, 'base64')] as const;
  });
  return {
    keyId,
    ciphertext: Buffer.from(ciphertext, 'base64'),
    annotations: Object.fromEntries(annotations),
  };
}

function digestOf(context: Uint8Array): Buffer {
  return createHash('sha256').update(context).digest();
}
