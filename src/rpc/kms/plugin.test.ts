import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KmsPluginProgram } from '../../../test/support/kms-plugin.js';
import { MemoryRecord } from '../../../test/support/memory-record.js';
import type { KeyEncryption } from '../../identity/keys/encryption.js';
import { kmsKeyEncryption } from '../../identity/keys/kms-encryption.js';
import { recordKeyStore } from '../../identity/keys/record-key-store.js';
import { systemRandom } from '../../lib/random.js';
import { kmsPluginAt } from './plugin.js';

const coded = (code: string): unknown => expect.objectContaining({ code });
const context = Buffer.from('signet-key/1\0one');

describe('a key-encryption key behind a KMS plugin', () => {
  let folder: string;
  let path: string;
  let plugin: KmsPluginProgram;
  let encryption: KeyEncryption;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kms-'));
    path = join(folder, 'kms.sock');
    plugin = new KmsPluginProgram();
    await plugin.start(path);
    encryption = kmsKeyEncryption(kmsPluginAt(path, systemRandom));
  });
  afterEach(async () => {
    await plugin.stop();
    await rm(folder, { recursive: true });
  });

  it('seals and opens, and is asked whether it is well first', async () => {
    const plain = randomBytes(32);
    const sealed = await encryption.seal(plain, context);
    expect(Buffer.from(sealed).includes(plain)).toBe(false);
    expect(Buffer.from(await encryption.open(sealed, context)).equals(plain)).toBe(true);
    expect(plugin.asked).toEqual(['status', 'encrypt with uid', 'decrypt key-1']);
  });

  it('opens what a former key sealed, and seals with the present one', async () => {
    const plain = randomBytes(32);
    const former = await encryption.seal(plain, context);
    plugin.keys.set('key-2', randomBytes(32));
    plugin.current = 'key-2';
    const sealed = await encryption.seal(plain, context);
    for (const one of [former, sealed])
      expect(Buffer.from(await encryption.open(one, context)).equals(plain)).toBe(true);
    expect(plugin.asked.filter((one) => one.startsWith('decrypt'))).toEqual([
      'decrypt key-1',
      'decrypt key-2',
    ]);
  });

  it('knows whether what is sealed is sealed by the key that the KMS has now', async () => {
    const sealed = await encryption.seal(randomBytes(32), context);
    expect(await encryption.isFresh?.(sealed)).toBe(true);
    plugin.keys.set('key-2', randomBytes(32));
    plugin.current = 'key-2';
    expect(await encryption.isFresh?.(sealed)).toBe(false);
    plugin.healthz = 'the HSM is gone';
    await expect(encryption.isFresh?.(sealed)).rejects.toEqual(coded('KeyEncryptionUnavailable'));
  });

  it('says that it may be the wrong one when a plugin that is well does not open what it should', async () => {
    const sealed = await encryption.seal(randomBytes(32), context);
    plugin.keys.clear();
    await expect(encryption.open(sealed, context)).rejects.toThrow(
      /though it is well.*keyEncryption.previous/,
    );
    plugin.healthz = 'the HSM is gone';
    await expect(encryption.open(sealed, context)).rejects.toThrow(
      /does not decrypt: (?!.*though it is well)/,
    );
  });

  it('opens nothing for another key, nor what was changed', async () => {
    const sealed = await encryption.seal(randomBytes(32), context);
    await expect(encryption.open(sealed, Buffer.from('signet-key/1\0two'))).rejects.toThrow(/something else/);
    const [keyId, , entries] = JSON.parse(Buffer.from(sealed).toString()) as [string, string, unknown];
    const changed = Buffer.from(JSON.stringify([keyId, randomBytes(80).toString('base64'), entries]));
    await expect(encryption.open(changed, context)).rejects.toEqual(coded('KeyEncryptionUnavailable'));
    for (const text of ['', '[]', '["key-1","AA",[1]]', '{}'])
      await expect(encryption.open(Buffer.from(text), context)).rejects.toThrow();
  });

  it('seals nothing while the plugin is unwell, of another version, or breaks the bounds of the API', async () => {
    const refused = async (): Promise<void> => {
      const sealing = encryption.seal(randomBytes(32), context);
      await expect(sealing).rejects.toEqual(coded('KeyEncryptionUnavailable'));
    };
    plugin.healthz = 'the HSM is gone';
    await refused();
    plugin.healthz = 'ok';
    plugin.version = 'v1beta1';
    await refused();
    expect(plugin.asked).toEqual(['status', 'status']);
    plugin.version = 'v2beta1';
    for (const size of [0, 1025]) {
      plugin.ciphertext = Buffer.alloc(size);
      await refused();
    }
  });

  it('keeps authority keys that are neither lost nor damaged while the plugin is down', async () => {
    const record = new MemoryRecord();
    const keys = recordKeyStore({ record, random: systemRandom, encryption });
    await keys.generate('one', 'ec-p256');
    await plugin.stop();
    await expect(keys.load('one')).rejects.toEqual(coded('KeyEncryptionUnavailable'));
    await expect(keys.generate('two', 'ec-p256')).rejects.toEqual(coded('KeyEncryptionUnavailable'));
    expect([...(record.content?.keys() ?? [])]).toEqual(['one.key']);
    await plugin.start(path);
    expect(await keys.load('one')).toBeDefined();
    // The KMS has forgotten the key: that is for its owner to mend.
    plugin.keys.clear();
    await expect(keys.load('one')).rejects.toEqual(coded('KeyEncryptionUnavailable'));
  });
});
