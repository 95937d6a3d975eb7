import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { MemoryRecord } from '../../../test/support/memory-record.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { exportPkcs8, generateKeyPair } from '../pki/keys.js';
import { localKeyEncryption, withPrevious, type KeyEncryption } from './encryption.js';
import { encodeKeyFile } from './key-file.js';
import { kmsKeyEncryption, type KmsPlugin } from './kms-encryption.js';
import { recordKeyStore } from './record-key-store.js';
import { requireOpens, resealKeys } from './reseal.js';

const random = seededRandom(11);
const coded = (code: string): unknown => expect.objectContaining({ code });

/** A KMS with keys of its own: what another one made it refuses, and its key may be rotated. */
function aKms(): KmsPlugin & { rotate(): void; down: boolean } {
  const keys = [random.bytes(32)];
  const present = (): number => keys.length - 1;
  const kms = {
    down: false,
    rotate: () => void keys.push(random.bytes(32)),
    ask<T>(act: () => T): Promise<T> {
      return new Promise((resolve) => {
        if (kms.down) throw new Error('nobody answers');
        resolve(act());
      });
    },
    keyId: () => kms.ask(() => `key-${present()}`),
    encrypt: (plain: Uint8Array) =>
      kms.ask(() => {
        const nonce = random.bytes(12);
        const cipher = createCipheriv('aes-256-gcm', keys[present()] ?? '', nonce);
        const ciphertext = Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
        return { ciphertext, keyId: `key-${present()}`, annotations: {} };
      }),
    decrypt: ({ ciphertext, keyId }: { readonly ciphertext: Uint8Array; readonly keyId: string }) =>
      kms.ask(() => {
        const key = keys[Number(keyId.slice(4))] ?? '';
        const decipher = createDecipheriv('aes-256-gcm', key, ciphertext.subarray(0, 12));
        decipher.setAuthTag(ciphertext.subarray(-16));
        return Buffer.concat([decipher.update(ciphertext.subarray(12, -16)), decipher.final()]);
      }),
  };
  return kms;
}

const former = (previous: KeyEncryption) => () => Promise.resolve(previous);
/** Two local keys, a local one and a KMS, and two KMSes, whose ids are the same. */
const pairs: readonly (readonly [KeyEncryption, KeyEncryption])[] = [
  [localKeyEncryption(random.bytes(32), random), localKeyEncryption(random.bytes(32), random)],
  [localKeyEncryption(random.bytes(32), random), kmsKeyEncryption(aKms())],
  [kmsKeyEncryption(aKms()), localKeyEncryption(random.bytes(32), random)],
  [kmsKeyEncryption(aKms()), kmsKeyEncryption(aKms())],
];
const pair = await generateKeyPair('ec-p256');
const pkcs8 = exportPkcs8(pair.privateKey);

async function recordWith(sealedBy: readonly KeyEncryption[]): Promise<MemoryRecord> {
  const record = new MemoryRecord();
  const content = new Map<string, Uint8Array>([['journal.json', Buffer.from('{"journal":true}')]]);
  for (const [index, kek] of sealedBy.entries())
    content.set(`key-${index}.key`, await encodeKeyFile(`key-${index}`, pkcs8, kek, random));
  record.content = content;
  return record;
}

/** That each key opens with it, and is the one that was sealed. */
async function expectAll(record: MemoryRecord, count: number, encryption: KeyEncryption): Promise<void> {
  await requireOpens(record.content, encryption);
  const keys = recordKeyStore({ record, random, encryption });
  expect(await keys.list()).toHaveLength(count);
  for (const id of await keys.list()) {
    const publicKey = (await keys.load(id))?.publicKey;
    expect(publicKey?.equals(pair.publicKey)).toBe(true);
  }
}

describe('keys that are sealed anew', () => {
  it('all open with the new key-encryption key alone, whatever sealed each, and in one change of the record', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...pairs),
        fc.array(fc.boolean(), { maxLength: 6 }),
        async ([before, after], areNew) => {
          const record = await recordWith(areNew.map((isNew) => (isNew ? after : before)));
          const both = withPrevious(after, former(before));
          await expectAll(record, areNew.length, both);
          const stale = areNew.filter((isNew) => !isNew).length;
          expect(await resealKeys({ record, random, encryption: both })).toBe(stale);
          await expectAll(record, areNew.length, after);
          expect(record.updates).toBe(stale > 0 ? 1 : 0);
          expect(Buffer.from(record.content?.get('journal.json') ?? []).toString()).toBe('{"journal":true}');
          // A second time there is nothing to do.
          expect(await resealKeys({ record, random, encryption: both })).toBe(0);
          if (stale > 0) await expect(requireOpens(record.content, before)).rejects.toThrow();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('open with both as before where it is cut short, at whichever step', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...pairs),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 5 }),
        fc.nat(20),
        async ([before, after], areNew, steps) => {
          const record = await recordWith(areNew.map((isNew) => (isNew ? after : before)));
          const content = record.content;
          let left = steps;
          const orEnd = <T>(act: () => Promise<T>): Promise<T> =>
            left-- > 0 ? act() : Promise.reject(new Error('killed'));
          const dying = withPrevious(
            {
              ...after,
              seal: (plain, context) => orEnd(() => after.seal(plain, context)),
              open: (sealed, context) => orEnd(() => after.open(sealed, context)),
            },
            former({ ...before, open: (sealed, context) => orEnd(() => before.open(sealed, context)) }),
          );
          const isDone = await resealKeys({ record, random, encryption: dying }).then(
            () => true,
            () => false,
          );
          if (!isDone) expect(record.content).toBe(content);
          await expectAll(record, areNew.length, withPrevious(after, former(before)));
          if (isDone) await expectAll(record, areNew.length, after);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('leave what another process makes, changes or removes meanwhile as it is', async () => {
    const [[before, after]] = pairs as [readonly [KeyEncryption, KeyEncryption]];
    const record = await recordWith([before, before, before]);
    const changed = await encodeKeyFile('key-1', pkcs8, before, random);
    const made = await encodeKeyFile('new', pkcs8, before, random);
    record.meanwhile = () => {
      const next = new Map(record.content);
      next.delete('key-0.key');
      next.set('key-1.key', changed).set('new.key', made);
      record.content = next;
    };
    const both = withPrevious(after, former(before));
    await resealKeys({ record, random, encryption: both });
    expect([...(record.content?.keys() ?? [])].sort()).toEqual([
      'journal.json',
      'key-1.key',
      'key-2.key',
      'new.key',
    ]);
    expect(record.content?.get('key-1.key')).toBe(changed);
    expect(record.content?.get('new.key')).toBe(made);
    expect(await resealKeys({ record, random, encryption: both })).toBe(2);
    await expectAll(record, 3, after);
  });

  it('stay as they are where the new key-encryption key does not give back what it seals', async () => {
    const [[before, after]] = pairs as [readonly [KeyEncryption, KeyEncryption]];
    const record = await recordWith([before]);
    const { content } = record;
    const forgetful = { ...after, open: () => Promise.reject(new Error('no right to decrypt')) };
    const liar = { ...after, seal: () => after.seal(random.bytes(32), Buffer.from('signet-key/1\0key-0')) };
    for (const encryption of [forgetful, liar]) {
      const sealing = resealKeys({ record, random, encryption: withPrevious(encryption, former(before)) });
      await expect(sealing).rejects.toThrow();
      expect(record.content).toBe(content);
    }
  });

  it('are none that somebody put there in clear', async () => {
    const [[before, after]] = pairs as [readonly [KeyEncryption, KeyEncryption]];
    const record = await recordWith([before]);
    record.content = new Map([
      ...(record.content ?? []),
      ['clear.key', await encodeKeyFile('clear', pkcs8, undefined, random)],
    ]);
    const encryption = withPrevious(after, former(before));
    await expect(resealKeys({ record, random, encryption })).rejects.toEqual(coded('KeyDamaged'));
    expect(record.updates).toBe(0);
  });

  it('are those, too, that a KMS sealed with a key of its own that it has rotated since', async () => {
    const kms = aKms();
    const encryption = kmsKeyEncryption(kms);
    const record = await recordWith([encryption, encryption]);
    expect(await resealKeys({ record, random, encryption })).toBe(0);
    kms.rotate();
    expect(await resealKeys({ record, random, encryption })).toBe(2);
    expect(await resealKeys({ record, random, encryption })).toBe(0);
    await expectAll(record, 2, encryption);
  });
});

describe('a former key-encryption key', () => {
  const [[before, after]] = pairs as [readonly [KeyEncryption, KeyEncryption]];
  const gone = (): Promise<KeyEncryption> =>
    Promise.reject(Object.assign(new Error('the former one is gone'), { code: 'KeyEncryptionUnusable' }));

  it('may be gone once nothing needs it, and is what is told of while something does', async () => {
    const encryption = withPrevious(after, gone);
    await expectAll(await recordWith([after]), 1, encryption);
    const record = await recordWith([after, before]);
    await expect(requireOpens(record.content, encryption)).rejects.toThrow('the former one is gone');
    await expect(resealKeys({ record, random, encryption })).rejects.toThrow('the former one is gone');
    expect(record.updates).toBe(0);
  });

  it('that is the wrong one is named beside the present one, with what to do', async () => {
    const third = localKeyEncryption(random.bytes(32), random);
    const { content } = await recordWith([before]);
    await expect(requireOpens(content, withPrevious(after, former(third)))).rejects.toMatchObject({
      code: 'KeyEncryptionWrong',
      message: expect.stringMatching(
        new RegExp(
          `sealed by .*${before.id}, and ${after.id} and ${third.id} is .*spec.keyEncryption.previous`,
        ),
      ),
    });
    await expect(requireOpens(content, after)).rejects.toEqual(coded('KeyEncryptionWrong'));
  });

  it('behind a KMS that is down leaves it open whether anything is lost', async () => {
    const kms = aKms();
    const { content } = await recordWith([kmsKeyEncryption(kms)]);
    kms.down = true;
    const encryption = withPrevious(kmsKeyEncryption(aKms()), former(kmsKeyEncryption(kms)));
    await expect(requireOpens(content, encryption)).rejects.toMatchObject({
      code: 'KeyEncryptionUnavailable',
      message: expect.stringMatching(/though it is well.*with the former one.*nobody answers/),
    });
  });
});
