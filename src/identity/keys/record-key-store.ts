import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import { exportPkcs8, generateKeyPair, keyPairFromPkcs8, signerOf } from '../pki/keys.js';
import type { KeyEncryption } from './encryption.js';
import { KeyStoreError } from './errors.js';
import { damaged, decodeKeyFile, encodeKeyFile, MAX_KEY_FILE_BYTES } from './key-file.js';
import type { KeyStore } from './key-store.js';
import { checkKeyId, isKeyId, keyExists } from './key-store.js';
import type { StateContent, StateRecord } from './state-record.js';

/** How keys are kept in a record. */
export interface RecordKeyStoreOptions {
  readonly record: StateRecord;
  readonly random: Random;
  /** Seals each key: what is in a cluster's store is seen by many. */
  readonly encryption: KeyEncryption;
}

const SUFFIX = '.key';

/** Keys in a record that processes share, each sealed, in the format of {@link KEY_FORMAT}. */
export function recordKeyStore({ record, random, encryption }: RecordKeyStoreOptions): KeyStore {
  return {
    async generate(id, type) {
      checkKeyId(id);
      const pair = await generateKeyPair(type);
      const pkcs8 = exportPkcs8(pair.privateKey);
      try {
        const file = await encodeKeyFile(id, pkcs8, encryption, random);
        await attempt(`write key ${id}`, () =>
          record.update((content) => {
            if (content?.has(nameOf(id)) === true) throw keyExists(id);
            return new Map([...(content ?? []), [nameOf(id), file]]);
          }),
        );
      } finally {
        pkcs8.fill(0);
      }
      return signerOf(pair);
    },

    async load(id) {
      checkKeyId(id);
      const file = (await attempt(`read key ${id}`, () => record.read()))?.get(nameOf(id));
      if (file === undefined) return undefined;
      if (file.length > MAX_KEY_FILE_BYTES) damaged(id, `it has ${file.length} bytes`);
      const { pkcs8, openedBy } = await decodeKeyFile(id, file, encryption);
      try {
        // Nobody but an intruder, or a hand that means well, puts a key there in clear.
        if (openedBy === undefined) damaged(id, 'it is not sealed');
        return signerOf(keyPairFromPkcs8(pkcs8));
      } catch (error) {
        if (error instanceof KeyStoreError) throw error;
        damaged(id, 'it holds no private key that Signet signs with', error);
      } finally {
        pkcs8.fill(0);
      }
    },

    async remove(id) {
      checkKeyId(id);
      const without = (content: StateContent | undefined): StateContent =>
        new Map([...(content ?? [])].filter(([name]) => name !== nameOf(id)));
      if ((await attempt(`read key ${id}`, () => record.read()))?.has(nameOf(id)) !== true) return;
      await attempt(`remove key ${id}`, () => record.update(without));
    },

    async list() {
      const content = await attempt('list keys', () => record.read());
      return [...(content?.keys() ?? [])].flatMap(idIn).sort();
    },
  };
}

/** The key files in a record, by the ids of their keys. */
export function keyFilesIn(content: StateContent | undefined): ReadonlyMap<string, Uint8Array> {
  return new Map(
    [...(content ?? [])].flatMap(([name, file]) => idIn(name).map((id): [string, Uint8Array] => [id, file])),
  );
}

/** What a record holds with other files for these keys: each only where it still has the file that it had. */
export function withKeyFiles(
  content: StateContent,
  changes: ReadonlyMap<string, { readonly from: Uint8Array; readonly to: Uint8Array }>,
): StateContent {
  const changed = new Map(content);
  for (const [id, { from, to }] of changes) {
    const present = content.get(nameOf(id));
    if (present !== undefined && Buffer.compare(present, from) === 0) changed.set(nameOf(id), to);
  }
  return changed;
}

function nameOf(id: string): string {
  return `${id}${SUFFIX}`;
}

function idIn(name: string): string[] {
  const id = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : '';
  return isKeyId(id) ? [id] : [];
}

async function attempt<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof KeyStoreError) throw error;
    throw new KeyStoreError('StateIo', `cannot ${what}: ${SignetError.from(error).message}`, {
      cause: error,
    });
  }
}
