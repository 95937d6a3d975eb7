import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { crashingFiles, fullableFiles } from '../../../test/support/faulty-files.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemRandom } from '../../lib/random.js';
import type { FileOps } from '../keys/files.js';
import type { Authority } from './authority-set.js';
import { openFileJournal } from './file-journal.js';
import type { Journal, JournalState } from './journal.js';
import { memoryJournal } from './journal.js';
import { decodeJournal, encodeJournal } from './journal-codec.js';
import type { ProcessTable } from './processes.js';

const random = seededRandom(5);
let directory = '';
let log = recordingLogger();
beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'signet-journal-')), 'state');
  log = recordingLogger();
});

/** Every opening is a process of its own, and all before it are dead. */
let pid = 0;
function processes(): ProcessTable {
  const own = ++pid;
  return {
    self: () => Promise.resolve({ pid: own, startTime: 's', bootId: 'b', pidNamespace: 'n' }),
    state: (other) => Promise.resolve(other.pid < pid ? 'dead' : 'alive'),
  };
}
const open = (files?: FileOps): Promise<Journal> =>
  openFileJournal({
    directory,
    clock: new FakeClock(),
    random: systemRandom,
    logger: log,
    processes: processes(),
    ...(files === undefined ? {} : { files }),
  });

const base = { published: true, tainted: false, revoked: false, notBefore: 1000, notAfter: 2000 } as const;
const x509: Authority = {
  kind: 'x509',
  id: 'ab',
  keyId: 'x509-1',
  keyType: 'ec-p256',
  subject: 'CN=a',
  slot: 'active',
  ...base,
  certificate: random.bytes(600),
  intermediates: [random.bytes(600), random.bytes(10)],
  roots: [random.bytes(500)],
};
const jwt: Authority = {
  kind: 'jwt',
  id: 'k',
  keyId: 'jwt-1',
  keyType: 'rsa-2048',
  subject: 'RS256 key',
  slot: 'old',
  ...base,
  tainted: true,
  spki: random.bytes(90),
};
const state = (version: number, sequence = version): JournalState => ({
  version,
  trustDomain: 'example.org',
  set: { sequence, authorities: [x509, jwt] },
});
const main = (): string => join(directory, 'journal.json');
const copy = (): string => join(directory, 'journal.copy.json');

describe('the format', () => {
  it('gives back what was written', () => {
    expect(decodeJournal(encodeJournal(state(7)))).toEqual(state(7));
  });

  it('is never taken for whole when it is cut short or changed', () => {
    const whole = encodeJournal(state(7));
    for (let size = 0; size < whole.length - 1; size += 11)
      expect(() => decodeJournal(whole.subarray(0, size))).toThrow();
    for (let at = 0; at < whole.length - 1; at += 5) {
      const changed = Buffer.from(whole);
      changed[at] = changed[at] === 0x30 ? 0x31 : 0x30;
      expect(() => decodeJournal(changed)).toThrow();
    }
  });

  it.each<[string, JournalState]>([
    ['two active', { ...state(1), set: { sequence: 1, authorities: [x509, { ...x509, id: 'cd' }] } }],
    [
      'active and unpublished',
      { ...state(1), set: { sequence: 1, authorities: [{ ...x509, published: false }] } },
    ],
    ['active and tainted', { ...state(1), set: { sequence: 1, authorities: [{ ...x509, tainted: true }] } }],
  ])('refuses a state that can never be: %s', (_name, impossible) => {
    expect(() => decodeJournal(encodeJournal(impossible))).toThrow(/authorit/);
  });
});

describe.each([
  ['memory', () => Promise.resolve(memoryJournal())],
  ['files', () => open()],
])('a journal in %s', (_name, make) => {
  it('loads what was saved last', async () => {
    const journal = await make();
    await expect(journal.load()).resolves.toBeUndefined();
    await journal.save(state(1), 0);
    await journal.save(state(2), 1);
    await expect(journal.load()).resolves.toEqual(state(2));
  });

  it('refuses to write over what it has not seen', async () => {
    const journal = await make();
    await journal.save(state(1), 0);
    await expect(journal.save(state(1), 0)).rejects.toMatchObject({ code: 'JournalConflict' });
    await expect(journal.save(state(3), 2)).rejects.toMatchObject({ code: 'JournalConflict' });
    await expect(journal.save(state(3), 1)).rejects.toMatchObject({ code: 'JournalConflict' });
    await expect(journal.load()).resolves.toEqual(state(1));
  });
});

describe('a journal in files', () => {
  it('survives a restart, closed to others', async () => {
    const first = await open();
    await first.save(state(1), 0);
    await first.close();
    expect((await stat(main())).mode & 0o777).toBe(0o600);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    await expect((await open()).load()).resolves.toEqual(state(1));
    expect(log.lines).toEqual([]);
  });

  it('refuses a directory that others can reach', async () => {
    await (await open()).close();
    await chmod(directory, 0o755);
    await expect(open()).rejects.toMatchObject({
      code: 'StateUnsafe',
      message: expect.stringContaining(`chmod 700 ${directory}`),
    });
  });

  it.each(['cut short', 'empty', 'gone', 'other bytes'])(
    'recovers from its copy when the main file is %s, and says so',
    async (damage) => {
      const first = await open();
      await first.save(state(1), 0);
      await first.close();
      const whole = await readFile(main());
      if (damage === 'gone') await rm(main());
      else if (damage === 'empty') await writeFile(main(), '');
      else if (damage === 'cut short') await writeFile(main(), whole.subarray(0, 200));
      else await writeFile(main(), Buffer.alloc(500, 7));

      const journal = await open();
      const recovered = await journal.load();
      // The lost state may have been one ahead, and its bundle sequence in use.
      expect(recovered).toEqual(state(3, 3));
      expect(log.lines).toEqual([
        expect.stringMatching(/^warn the CA journal was damaged and has been recovered/),
      ]);
      await journal.save(state(4), 3);
      await expect((await open()).load()).resolves.toEqual(state(4));
    },
  );

  it('mends a damaged copy', async () => {
    const first = await open();
    await first.save(state(1), 0);
    await writeFile(copy(), 'x');
    await expect((await open()).load()).resolves.toEqual(state(1));
    expect(log.lines).toEqual([expect.stringContaining('copy of the CA journal was damaged')]);
    await expect(readFile(copy())).resolves.toEqual(await readFile(main()));
  });

  it('is an error that names both files when both are damaged, and changes neither', async () => {
    const first = await open();
    await first.save(state(1), 0);
    await writeFile(main(), 'x');
    await writeFile(copy(), '');
    const journal = await open();
    await expect(journal.load()).rejects.toMatchObject({
      code: 'JournalDamaged',
      message: expect.stringMatching(/journal\.json: .*journal\.copy\.json: it is empty.*backup/),
    });
    await expect(journal.save(state(1), 0)).rejects.toMatchObject({ code: 'JournalDamaged' });
    await expect(readFile(main(), 'utf8')).resolves.toBe('x');
  });

  it('does not read a journal of a later format', async () => {
    await (await open()).close();
    const later = encodeJournal(state(1)).toString().replace('signet-journal/1', 'signet-journal/2');
    await writeFile(main(), later, { mode: 0o600 });
    await expect((await open()).load()).rejects.toMatchObject({
      code: 'JournalDamaged',
      message: expect.stringContaining('signet-journal/2'),
    });
  });

  it('keeps the old state when the disk is full, and goes on when there is room', async () => {
    const files = fullableFiles();
    const journal = await open(files);
    await journal.save(state(1), 0);
    files.full = true;
    await expect(journal.save(state(2), 1)).rejects.toMatchObject({
      code: 'JournalIo',
      message: expect.stringContaining('disk is full'),
    });
    await expect(journal.load()).resolves.toEqual(state(1));
    expect((await readdir(directory)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    files.full = false;
    await journal.save(state(2), 1);
    await expect((await open()).load()).resolves.toEqual(state(2));
  });

  it('loses nothing that was saved when the process dies at any step of a save', async () => {
    const seen = new Set<number>();
    for (const when of ['after', 'torn'] as const) {
      for (let at = 0; ; at++) {
        directory = join(await mkdtemp(join(tmpdir(), 'signet-journal-')), 'state');
        await (await open()).save(state(1), 0);
        const files = crashingFiles({ at, when });
        let saved = 1;
        try {
          const journal = await open(files);
          for (const version of [2, 3]) {
            await journal.save(state(version), version - 1);
            saved = version;
          }
        } catch {
          expect(files.crashed).toBe(true);
        }
        if (!files.crashed) break;
        const restarted = await open();
        const found = await restarted.load();
        expect(found).toEqual(state(found?.version ?? -1));
        expect([saved, saved + 1]).toContain(found?.version);
        seen.add(found?.version ?? -1);
        await restarted.save(state((found?.version ?? 0) + 1), found?.version ?? 0);
      }
    }
    expect([...seen].sort()).toEqual([1, 2, 3]);
    // No damage was seen: every file that had its name was whole.
    expect(log.lines).toEqual([]);
  });
});
