import { createHash, verify } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { crashingFiles, fullableFiles } from '../../../test/support/faulty-files.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import type { Signer } from '../pki/keys.js';
import { exportSpki } from '../pki/keys.js';
import { localKeyEncryption, withPrevious } from './encryption.js';
import type { FileOps } from './files.js';
import { fileKeyStore } from './file-key-store.js';
import type { KeyStore } from './key-store.js';
import { memoryKeyStore } from './key-store.js';

const random = seededRandom(3);
const encryption = localKeyEncryption(random.bytes(32), random);
const data = Buffer.from('signed');

let base = '';
let directory = '';
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'signet-keys-'));
  directory = join(base, 'keys');
});

const clear = (files?: FileOps): KeyStore =>
  fileKeyStore({ directory, random, ...(files === undefined ? {} : { files }) });
const sealed = (): KeyStore => fileKeyStore({ directory, random, encryption });
const path = (id: string): string => join(directory, `${id}.key`);
const sameKey = (left: Signer | undefined, right: Signer): boolean =>
  left !== undefined && Buffer.compare(exportSpki(left.publicKey), exportSpki(right.publicKey)) === 0;
const coded = (code: string): unknown => expect.objectContaining({ code });

describe.each([
  ['memory', () => memoryKeyStore()],
  ['clear files', () => clear()],
  ['sealed files', () => sealed()],
])('a key store in %s', (_name, open) => {
  it.each(['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as const)('keeps a %s key', async (type) => {
    const store = open();
    const made = await store.generate('one', type);
    const loaded = await store.load('one');
    expect(loaded?.keyType).toBe(type);
    expect(sameKey(loaded, made)).toBe(true);
    const signature = await loaded?.sign(data);
    const digest = type === 'ed25519' ? null : type === 'ec-p384' ? 'sha384' : 'sha256';
    expect(verify(digest, data, made.publicKey, signature ?? data)).toBe(true);
  });

  it('does not know what was never made, and lists and removes what was', async () => {
    const store = open();
    await expect(store.load('one')).resolves.toBeUndefined();
    await store.generate('two', 'ec-p256');
    await store.generate('one', 'ec-p256');
    await expect(store.list()).resolves.toEqual(['one', 'two']);
    await store.remove('one');
    await store.remove('one');
    await expect(store.list()).resolves.toEqual(['two']);
    await expect(store.load('one')).resolves.toBeUndefined();
  });

  it('never makes a second key under an id', async () => {
    const store = open();
    const first = await store.generate('one', 'ec-p256');
    await expect(store.generate('one', 'ec-p256')).rejects.toEqual(coded('KeyExists'));
    expect(sameKey(await store.load('one'), first)).toBe(true);
  });

  it.each(['', '../one', 'a/b', 'One', '-a', 'a'.repeat(65), 'a\0'])('refuses id %j', async (id) => {
    await expect(open().generate(id, 'ec-p256')).rejects.toEqual(coded('KeyIdInvalid'));
  });
});

describe('key files', () => {
  it('are closed to others, in a directory closed to others', async () => {
    await clear().generate('one', 'ec-p256');
    expect((await stat(path('one'))).mode & 0o777).toBe(0o600);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
  });

  it('hold no private key in clear when sealed', async () => {
    const pkcs8Header = Buffer.from('308187020100301306072a8648ce3d0201', 'hex');
    await clear().generate('one', 'ec-p256');
    const open = JSON.parse(await readFile(path('one'), 'utf8')) as { pkcs8: string };
    expect(Buffer.from(open.pkcs8, 'base64').subarray(0, pkcs8Header.length)).toEqual(pkcs8Header);

    await sealed().generate('two', 'ec-p256');
    const text = await readFile(path('two'), 'utf8');
    const fields = JSON.parse(text) as Record<string, string>;
    expect(Object.keys(fields)).toEqual(['format', 'id', 'kek', 'dek', 'sealed']);
    for (const value of Object.values(fields))
      expect(Buffer.from(value, 'base64').indexOf(pkcs8Header.subarray(0, 8))).toBe(-1);
  });

  it('are sealed on the next load once a key-encryption key is configured', async () => {
    const made = await clear().generate('one', 'ec-p256');
    expect(sameKey(await sealed().load('one'), made)).toBe(true);
    await expect(readFile(path('one'), 'utf8')).resolves.not.toContain('pkcs8');
    expect(sameKey(await sealed().load('one'), made)).toBe(true);
  });

  it('need the key-encryption key that sealed them', async () => {
    await sealed().generate('one', 'ec-p256');
    await expect(clear().load('one')).rejects.toMatchObject({
      code: 'KeyEncryptionMissing',
      message: expect.stringContaining(encryption.id),
    });
    const other = localKeyEncryption(random.bytes(32), random);
    const wrong = fileKeyStore({ directory, random, encryption: other });
    await expect(wrong.load('one')).rejects.toMatchObject({
      code: 'KeyEncryptionWrong',
      message: expect.stringMatching(new RegExp(`${encryption.id}.*${other.id}`)),
    });
    // A liar that goes by the right name opens nothing either.
    const liar = fileKeyStore({ directory, random, encryption: { ...other, id: encryption.id } });
    await expect(liar.load('one')).rejects.toEqual(coded('KeyDamaged'));
    await expect(liar.generate('one', 'ec-p256')).rejects.toEqual(coded('KeyExists'));
  });

  it('are sealed on the next load by the key-encryption key that took the place of another', async () => {
    const made = await sealed().generate('one', 'ec-p256');
    const next = localKeyEncryption(random.bytes(32), random);
    const both = withPrevious(next, () => Promise.resolve(encryption));
    expect(sameKey(await fileKeyStore({ directory, random, encryption: both }).load('one'), made)).toBe(true);
    const alone = fileKeyStore({ directory, random, encryption: next });
    expect(sameKey(await alone.load('one'), made)).toBe(true);
    await expect(sealed().load('one')).rejects.toEqual(coded('KeyEncryptionWrong'));
    const before = await readFile(path('one'));
    await fileKeyStore({ directory, random, encryption: both }).load('one');
    expect(await readFile(path('one'))).toEqual(before);
  });

  it('may not be exchanged for one another', async () => {
    for (const store of [clear(), sealed()]) {
      await store.generate('one', 'ec-p256');
      await store.generate('two', 'ec-p256');
      await writeFile(path('one'), await readFile(path('two')));
      await expect(store.load('one')).rejects.toMatchObject({
        code: 'KeyDamaged',
        message: expect.stringContaining('another key'),
      });
      await writeFile(path('one'), (await readFile(path('two'), 'utf8')).replace('"two"', '"one"'));
      if (store !== undefined && (await readFile(path('one'), 'utf8')).includes('sealed'))
        await expect(store.load('one')).rejects.toEqual(coded('KeyDamaged'));
      await store.remove('one');
      await store.remove('two');
    }
  });

  it.each([
    ['clear', clear],
    ['sealed', sealed],
  ])('%s: cut short anywhere, are an error that shows nothing and changes nothing', async (_name, open) => {
    await open().generate('one', 'ec-p256');
    const whole = await readFile(path('one'));
    const secret = (JSON.parse(whole.toString()) as Record<string, string>)['pkcs8'] ?? 'no such text';
    for (let size = 0; size < whole.length - 2; size += 7) {
      await writeFile(path('one'), whole.subarray(0, size));
      const error: unknown = await open()
        .load('one')
        .catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'KeyDamaged' });
      expect(JSON.stringify(error) + String(error)).not.toContain(secret.slice(0, 16));
      await expect(readFile(path('one'))).resolves.toEqual(whole.subarray(0, size));
    }
  });

  it.each([
    ['clear', clear],
    ['sealed', sealed],
  ])('%s: changed in one character, never give another key', async (_name, open) => {
    const made = await open().generate('one', 'ec-p256');
    const whole = await readFile(path('one'), 'utf8');
    for (let at = 0; at < whole.length; at += 3) {
      const other = whole[at] === 'A' ? 'B' : 'A';
      await writeFile(path('one'), whole.slice(0, at) + other + whole.slice(at + 1));
      const result = await open()
        .load('one')
        .catch((error: unknown) => error);
      // Base64 has spare bits at its end; a change there is none of the key.
      if (result instanceof Error) expect(result).toMatchObject({ code: expect.stringMatching(/^Key/) });
      else expect(sameKey(result as Signer, made)).toBe(true);
    }
  });

  it('are refused when others can reach them, with the fix', async () => {
    await clear().generate('one', 'ec-p256');
    for (const mode of [0o640, 0o604, 0o620, 0o602]) {
      await chmod(path('one'), mode);
      await expect(clear().load('one')).rejects.toMatchObject({
        code: 'StateUnsafe',
        message: expect.stringContaining(`chmod 600 ${path('one')}`),
      });
    }
    await chmod(path('one'), 0o600);
    await expect(clear().load('one')).resolves.toBeDefined();
  });

  it('are refused as links and as anything but files', async () => {
    await clear().generate('one', 'ec-p256');
    await symlink(path('one'), path('link'));
    await expect(clear().load('link')).rejects.toEqual(coded('StateUnsafe'));
    await mkdir(path('folder'));
    await expect(clear().load('folder')).rejects.toEqual(coded('StateUnsafe'));
  });

  it('that hold something else than a private key are damaged', async () => {
    await clear().generate('one', 'ec-p256');
    const fields = JSON.parse(await readFile(path('one'), 'utf8')) as Record<string, string>;
    const junk = Buffer.from('no key at all');
    const sha256 = createHash('sha256').update(junk).digest('hex');
    await writeFile(path('one'), JSON.stringify({ ...fields, pkcs8: junk.toString('base64'), sha256 }));
    await expect(clear().load('one')).rejects.toEqual(coded('KeyDamaged'));
  });

  it('are not read beyond a bound', async () => {
    await clear().list();
    await writeFile(path('big'), Buffer.alloc(100_000, ' '), { mode: 0o600 });
    await expect(clear().load('big')).rejects.toMatchObject({
      code: 'KeyDamaged',
      message: expect.stringContaining('100000 bytes'),
    });
  });
});

describe('a key directory', () => {
  it.each([0o755, 0o750, 0o770, 0o701])('of mode %o is refused with the fix', async (mode) => {
    await mkdir(directory);
    await chmod(directory, mode);
    const acts = [
      () => clear().list(),
      () => clear().generate('one', 'ec-p256'),
      () => clear().load('one'),
      () => clear().remove('one'),
    ];
    for (const act of acts)
      await expect(act()).rejects.toMatchObject({
        code: 'StateUnsafe',
        message: expect.stringContaining(`chmod 700 ${directory}`),
      });
  });

  it('must be a directory', async () => {
    await writeFile(directory, '');
    await expect(clear().list()).rejects.toEqual(coded('StateUnsafe'));
  });

  it('that cannot be made is an error that says why', async () => {
    directory = join(base, 'missing', 'keys');
    await expect(clear().list()).rejects.toMatchObject({
      code: 'StateIo',
      message: expect.stringContaining('ENOENT'),
    });
  });
});

describe('a crash or a full disk while a key is made', () => {
  it('leaves the whole key or none, and what it leaves can be removed', async () => {
    const outcomes = new Set<string>();
    for (const when of ['after', 'torn'] as const) {
      for (let at = 0; ; at++) {
        directory = join(base, `${when}-${at}`);
        const files = crashingFiles({ at, when });
        const made = await clear(files)
          .generate('one', 'ec-p256')
          .catch(() => undefined);
        if (!files.crashed) break;
        expect(made).toBeUndefined();
        const restarted = clear();
        const left = await restarted.load('one');
        outcomes.add(left === undefined ? 'none' : 'whole');
        if ((await readdir(directory)).length > 0) await expect(restarted.list()).resolves.toEqual(['one']);
        await restarted.remove('one');
        await expect(readdir(directory)).resolves.toEqual([]);
      }
    }
    expect([...outcomes].sort()).toEqual(['none', 'whole']);
  });

  it('names the full disk and leaves nothing behind', async () => {
    const files = fullableFiles();
    files.full = true;
    await expect(clear(files).generate('one', 'ec-p256')).rejects.toMatchObject({
      code: 'StateIo',
      message: expect.stringContaining('disk is full'),
    });
    await expect(readdir(directory)).resolves.toEqual([]);
    files.full = false;
    await expect(clear(files).generate('one', 'ec-p256')).resolves.toBeDefined();
  });
});
