import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Random } from '../../lib/random.js';
import { KeyStoreError } from './errors.js';

/**
 * A key-encryption key (KEK): seals the small data keys under which private keys lie at rest. Asynchronous, so that it
 * may live in another place (Vault, a cloud's KMS); the data key is all that it ever sees.
 */
export interface KeyEncryption {
  /** Names the KEK, e.g. `local:1a2b3c4d`. Written beside what it sealed. Says nothing about the key's bytes. */
  readonly id: string;
  /** Seals `plain` so that it opens only together with the same `context`. */
  seal(plain: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  /** Opens what {@link seal} made. Rejects if the KEK, the context or any bit differs. */
  open(sealed: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  /**
   * Whether what it sealed is sealed as it would be now: a KMS may have rotated its own key since. Always, where this is
   * not said. Rejects when it cannot be known now.
   */
  isFresh?(sealed: Uint8Array): Promise<boolean>;
  /**
   * The one that sealed before it, and opens what it sealed then. Asked for only when something does not open otherwise,
   * so that one which nothing needs any more may be gone. Rejects with the reason when it cannot be used.
   */
  previous?(): Promise<KeyEncryption | undefined>;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** The size of a data key and of a local KEK, in bytes. */
export const SECRET_BYTES = 32;

/**
 * AES-256-GCM (NIST SP 800-38D): nonce, ciphertext, tag. The nonce is random, so one key may seal at most 2^32 times:
 * a data key seals once, a KEK some times a day.
 */
export function sealBytes(key: Uint8Array, plain: Uint8Array, context: Uint8Array, random: Random): Buffer {
  const nonce = random.bytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(context);
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** The reverse of {@link sealBytes}. Throws when the key, the context or any bit differs. */
export function openBytes(key: Uint8Array, sealed: Uint8Array, context: Uint8Array): Buffer {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) throw new Error('the sealed data is too short');
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(context);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  return Buffer.concat([
    decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES)),
    decipher.final(),
  ]);
}

/**
 * A KEK that this program holds itself: 32 random bytes, e.g. from a file on another volume than the state.
 *
 * @throws KeyStoreError `KeyEncryptionInvalid`
 */
export function localKeyEncryption(secret: Uint8Array, random: Random): KeyEncryption {
  if (secret.length !== SECRET_BYTES) {
    throw new KeyStoreError(
      'KeyEncryptionInvalid',
      `the key-encryption key has ${secret.length} bytes; it must have ${SECRET_BYTES} (make one with: openssl rand ${SECRET_BYTES})`,
    );
  }
  if (secret.every((byte) => byte === secret[0])) {
    throw new KeyStoreError(
      'KeyEncryptionInvalid',
      'the key-encryption key is one byte repeated; make one with: openssl rand 32',
    );
  }
  const key = Uint8Array.from(secret);
  // A name that tells two KEKs apart, by a one-way function of its own so that it helps nobody to find the key.
  const name = createHmac('sha256', key).update('signet key-encryption key name').digest('hex').slice(0, 8);
  return {
    id: `local:${name}`,
    seal: (plain, context) => Promise.resolve(sealBytes(key, plain, context, random)),
    open: (sealed, context) =>
      new Promise((resolve) => {
        resolve(openBytes(key, sealed, context));
      }),
  };
}

/** A KEK that takes the place of another: it alone seals, and what the former one sealed opens. */
export function withPrevious(present: KeyEncryption, previous: () => Promise<KeyEncryption>): KeyEncryption {
  return { ...present, previous };
}

/**
 * A local KEK as it stands in a file: 32 raw bytes, or their base64 text with or without a newline at the end.
 *
 * @throws KeyStoreError `KeyEncryptionInvalid`
 */
export function parseLocalKey(file: Uint8Array): Uint8Array {
  if (file.length === SECRET_BYTES) return file;
  const text = Buffer.from(file).toString('latin1').trim();
  if (/^[A-Za-z0-9+/]{43}=$/.test(text)) return Buffer.from(text, 'base64');
  throw new KeyStoreError(
    'KeyEncryptionInvalid',
    `the key-encryption key file has ${file.length} bytes; it must hold 32 raw bytes or their base64 text (make one with: openssl rand 32)`,
  );
}
