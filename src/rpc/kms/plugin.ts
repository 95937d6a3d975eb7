import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import { connectUnix, type TypedClient } from '../client.js';
import { KeyManagementServiceService } from '../gen/kms/api.js';

/** What a plugin made of a plaintext. */
export interface KmsSealed {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Readonly<Record<string, Uint8Array>>;
}

/** A Kubernetes KMS v2 plugin. Its methods reject with RpcError, or SignetError `KmsUnwell`. */
export interface KmsPluginClient {
  encrypt(plaintext: Uint8Array): Promise<KmsSealed>;
  decrypt(sealed: KmsSealed): Promise<Uint8Array>;
  /** The id of the key that it encrypts with now. */
  keyId(): Promise<string>;
}

/** The API server waits as long (`timeout` of an EncryptionConfiguration). */
const DEADLINE_MS = 3_000;
const MAX_MESSAGE_BYTES = 64 * 1024;
const VERSIONS: readonly string[] = ['v2', 'v2beta1'];

/**
 * The plugin at an absolute path. It is asked some times a day, so each call has a connection of its own: nothing is held
 * that could be stale or would have to be closed. Before anything is encrypted, it is asked whether it is well.
 */
export function kmsPluginAt(path: string, random: Random): KmsPluginClient {
  const ask = async <T>(
    act: (client: TypedClient<typeof KeyManagementServiceService>) => Promise<T>,
  ): Promise<T> => {
    const connection = connectUnix(path, { deadlineMs: DEADLINE_MS, maxMessageBytes: MAX_MESSAGE_BYTES });
    try {
      return await act(connection.client(KeyManagementServiceService));
    } finally {
      connection.close();
    }
  };
  const newUid = (): string => Buffer.from(random.bytes(16)).toString('hex');
  return {
    encrypt: (plaintext) =>
      ask(async (client) => {
        await statusOf(client);
        return client.encrypt({ plaintext: Buffer.from(plaintext), uid: newUid() });
      }),
    decrypt: ({ ciphertext, keyId, annotations }) =>
      ask(async (client) => {
        const { plaintext } = await client.decrypt({
          ...{ ciphertext: Buffer.from(ciphertext), keyId, uid: newUid() },
          annotations: Object.fromEntries(
            Object.entries(annotations).map(([name, value]) => [name, Buffer.from(value)]),
          ),
        });
        return plaintext;
      }),
    keyId: () => ask(async (client) => (await statusOf(client)).keyId),
  };
}

/** What it says of itself, when it is well. */
async function statusOf(
  client: TypedClient<typeof KeyManagementServiceService>,
): Promise<{ readonly keyId: string }> {
  const { version, healthz, keyId } = await client.status({});
  if (!VERSIONS.includes(version))
    throw new SignetError('KmsUnwell', `it speaks version ${JSON.stringify(version.slice(0, 20))}, not v2`);
  if (healthz !== 'ok')
    throw new SignetError('KmsUnwell', `it says ${JSON.stringify(healthz.slice(0, 200))}`);
  return { keyId };
}
