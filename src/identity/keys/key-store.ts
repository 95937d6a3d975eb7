import type { KeyType, Signer } from '../pki/keys.js';
import { generateKeyPair, signerOf } from '../pki/keys.js';
import { KeyStoreError } from './errors.js';

/**
 * Where the private keys of authorities live. A key is used, never handed out. An id is used once: a key that cannot
 * be read is an error, never a reason to make another under the same id.
 */
export interface KeyStore {
  /** Makes a key that outlives this process (where the store is durable) before it resolves. Rejects `KeyExists`. */
  generate(id: string, type: KeyType): Promise<Signer>;
  /** The key, or undefined when none was ever completed under this id. Rejects with KeyStoreError when there is one that cannot be read. */
  load(id: string): Promise<Signer | undefined>;
  /** Removes the key and whatever a crash left of it. Removing what is not there does nothing. */
  remove(id: string): Promise<void>;
  /** All ids, those that a crash left half-made included, so that they can be removed. */
  list(): Promise<string[]>;
}

const KEY_ID = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** Throws KeyStoreError `KeyIdInvalid` unless the id may name a key, and so a file: it cannot climb out of a directory. */
export function checkKeyId(id: string): void {
  if (KEY_ID.test(id)) return;
  throw new KeyStoreError(
    'KeyIdInvalid',
    `key id ${JSON.stringify(id.slice(0, 64))} must have 1 to 64 of a-z, 0-9 and "-", and not begin with "-"`,
  );
}

/** Whether a text may name a key. */
export function isKeyId(id: string): boolean {
  return KEY_ID.test(id);
}

/** Keys that end with the process. */
export function memoryKeyStore(): KeyStore {
  const keys = new Map<string, Signer>();
  return {
    async generate(id, type) {
      checkKeyId(id);
      const signer = signerOf(await generateKeyPair(type));
      if (keys.has(id)) throw keyExists(id);
      keys.set(id, signer);
      return signer;
    },
    load: (id) => Promise.resolve(keys.get(id)),
    remove(id) {
      keys.delete(id);
      return Promise.resolve();
    },
    list: () => Promise.resolve([...keys.keys()].sort()),
  };
}

/** The error of an id that is used already. */
export function keyExists(id: string): KeyStoreError {
  return new KeyStoreError('KeyExists', `a key with id ${id} exists already; ids are never used twice`);
}
