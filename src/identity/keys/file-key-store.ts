import { join } from 'node:path';
import type { Random } from '../../lib/random.js';
import type { Signer } from '../pki/keys.js';
import { exportPkcs8, generateKeyPair, keyPairFromPkcs8, signerOf } from '../pki/keys.js';
import type { KeyEncryption } from './encryption.js';
import { KeyStoreError } from './errors.js';
import type { FileOps } from './files.js';
import { diskFiles, privateDirectory, reasonOf, replaceFile, temporaryName } from './files.js';
import { damaged, decodeKeyFile, encodeKeyFile, MAX_KEY_FILE_BYTES } from './key-file.js';
import type { KeyStore } from './key-store.js';
import { checkKeyId, isKeyId, keyExists } from './key-store.js';

/** How keys are kept in files. */
export interface FileKeyStoreOptions {
  /** A directory of its own; made with mode 0700 when missing, refused when others can reach it. */
  readonly directory: string;
  readonly random: Random;
  /** Seals each key; without it keys lie in clear, protected by file modes alone. */
  readonly encryption?: KeyEncryption;
  /** The machine's files unless a test says otherwise. */
  readonly files?: FileOps;
}

const SUFFIX = '.key';

/**
 * Keys in files, one each, mode 0600; the format is described at {@link KEY_FORMAT}. A key that lies in clear although
 * a key-encryption key is configured, or that the previous one sealed, is sealed by it when it is next loaded. One
 * process at a time: the journal's lock sees to it.
 */
export function fileKeyStore(options: FileKeyStoreOptions): KeyStore {
  const { directory, random, encryption } = options;
  const files = options.files ?? diskFiles;
  const nameOf = (id: string): string => `${id}${SUFFIX}`;
  const pathOf = (id: string): string => join(directory, nameOf(id));

  // Checked each time: it costs a system call, and modes can change while we run.
  const read = async (id: string): Promise<Uint8Array | undefined> => {
    checkKeyId(id);
    await privateDirectory(directory);
    return attempt(`read key ${id}`, () => files.read(pathOf(id), MAX_KEY_FILE_BYTES));
  };

  const write = async (id: string, pkcs8: Uint8Array): Promise<void> => {
    const file = await encodeKeyFile(id, pkcs8, encryption, random);
    await attempt(`write key ${id}`, () => replaceFile(files, pathOf(id), file));
  };

  return {
    async generate(id, type) {
      if ((await read(id)) !== undefined) throw keyExists(id);
      const pair = await generateKeyPair(type);
      const pkcs8 = exportPkcs8(pair.privateKey);
      try {
        await write(id, pkcs8);
      } finally {
        pkcs8.fill(0);
      }
      return signerOf(pair);
    },

    async load(id): Promise<Signer | undefined> {
      const file = await read(id);
      if (file === undefined) return undefined;
      const { pkcs8, openedBy } = await decodeKeyFile(id, file, encryption);
      try {
        const signer = signerFrom(id, pkcs8);
        if (openedBy !== encryption) await write(id, pkcs8);
        return signer;
      } finally {
        pkcs8.fill(0);
      }
    },

    async remove(id) {
      checkKeyId(id);
      await privateDirectory(directory);
      await attempt(`remove key ${id}`, async () => {
        await files.remove(join(directory, temporaryName(nameOf(id))));
        await files.remove(pathOf(id));
        await files.syncDirectory(directory);
      });
    },

    async list() {
      await privateDirectory(directory);
      const names = await attempt('list keys', () => files.list(directory));
      const ids = new Set<string>();
      for (const name of names) {
        const id = idIn(name) ?? idIn(name.replace(/^\.(.*)\.tmp$/, '$1'));
        if (id !== undefined) ids.add(id);
      }
      return [...ids].sort();
    },
  };
}

function signerFrom(id: string, pkcs8: Uint8Array): Signer {
  try {
    return signerOf(keyPairFromPkcs8(pkcs8));
  } catch (error) {
    damaged(id, 'it holds no private key that Signet signs with', error);
  }
}

function idIn(name: string): string | undefined {
  const id = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : '';
  return isKeyId(id) ? id : undefined;
}

async function attempt<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof KeyStoreError) throw error;
    throw new KeyStoreError('StateIo', `cannot ${what}: ${reasonOf(error)}`, { cause: error });
  }
}
